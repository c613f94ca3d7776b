"""Where an issuer publishes its keys: by OpenID Connect discovery, at a URL, or in a file."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from claudeproxyd.config.issuers import check_url
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.secrets.endpoint import response_of
from claudeproxyd.secrets.reread import reread

if TYPE_CHECKING:
    from claudeproxyd.config.schema import IssuerSection

FetchKeys = Callable[[], Coroutine[Deferred[object], object, bytes]]
"""Brings a key set as it is published now. Raises ValueError or AttemptFailed, in words for the log."""

_DISCOVERY = "/.well-known/openid-configuration"


class _Discovered(msgspec.Struct):
    issuer: str
    jwks_uri: str


def fetcher(section: IssuerSection, http: HTTPClient) -> FetchKeys:
    """Return what fetches the keys of that issuer."""

    async def from_file() -> bytes:
        assert section.jwks is not None
        return reread(section.jwks, "jwks").reveal().encode()

    async def from_url() -> bytes:
        return await _get(http, section.jwks_url)

    async def discovered() -> bytes:
        return await _get(http, await _jwks_uri(http, section.url))

    if section.jwks is not None:
        return from_file
    return from_url if section.jwks_url else discovered


async def _jwks_uri(http: HTTPClient, issuer: str) -> str:
    """Return where *issuer* says that its keys are. Raises ValueError where it is another, or says what is unsafe."""
    try:
        found = msgspec.json.decode(await _get(http, issuer.rstrip("/") + _DISCOVERY), type=_Discovered)
    except UNREADABLE:
        raise ValueError("its discovery document is none") from None
    if found.issuer != issuer:
        raise ValueError(f"its discovery document is that of {found.issuer[:200]!r}: name that in url")
    try:
        check_url(found.jwks_uri)
    except ValueError as error:
        raise ValueError(f"the jwks_uri of its discovery document {error}") from None
    return found.jwks_uri


async def _get(http: HTTPClient, url: str) -> bytes:
    asked = http.get(url, allow_redirects=False, headers=Headers({"accept": ["application/json"]}))
    status, body = await response_of(asked, url)
    if status != 200:
        raise ValueError(f"{url} says {status}")
    return body
