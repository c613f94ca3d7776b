"""An issuer that signs tokens, and the place where it publishes its keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64encode
from twisted.internet.defer import Deferred

from claudeproxyd.config.schema import IssuerSection

URL = "https://login.example.com"
NOW = 1_800_000_000.0
#: Making them takes long.
RSA = RSAKey.generate_key(2048)
OTHER_RSA = RSAKey.generate_key(2048)
EC = ECKey.generate_key("P-256")

Key = RSAKey | ECKey


def section(**changes: Any) -> IssuerSection:
    """An issuer as it is configured."""
    return IssuerSection(**{"url": URL, "audience": "claudeproxyd", "leeway": 0.0, **changes})


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token says; None takes a claim out."""
    said = {"iss": URL, "aud": "claudeproxyd", "sub": "ann", "iat": NOW, "exp": NOW + 3600, **changes}
    return {name: value for name, value in said.items() if value is not None}


def token(key: Key = RSA, kid: str | None = "1", header: Mapping[str, Any] | None = None, **changes: Any) -> str:
    """A token that *key* has signed."""
    head: dict[str, Any] = {"alg": "ES256" if isinstance(key, ECKey) else "RS256", **(header or {})}
    if kid is not None:
        head["kid"] = kid
    return jwt.encode(head, claims(**changes), key, registry=JWSRegistry(None, [head["alg"]], False))


def raw(header: Any, payload: Any, signature: bytes = b"signature") -> str:
    """Something of a token's form. Bytes are taken as they are."""
    parts = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload))
    return b".".join(map(urlsafe_b64encode, (*parts, signature))).decode()


def published(*keys: tuple[str | None, Key], **more: Any) -> bytes:
    """A key set, by key ids."""
    entries = [{**key.as_dict(private=False), **({} if kid is None else {"kid": kid}), **more} for kid, key in keys]
    return json.dumps({"keys": entries}).encode()


class Publisher:
    """Fetches what the test says, when the test says so."""

    def __init__(self, document: bytes | Exception = b"") -> None:
        self.document = document or published(("1", RSA))
        self.at_once = True
        self.asked = 0
        self.pending: list[Deferred[bytes]] = []

    async def __call__(self) -> bytes:
        self.asked += 1
        if not self.at_once:
            self.pending.append(Deferred())
            return await self.pending[-1]
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    def answer(self, document: bytes | Exception = b"") -> None:
        """Let the fetch that is under way end."""
        what = document or self.document
        (pending,) = self.pending
        self.pending.clear()
        if isinstance(what, Exception):
            pending.errback(what)
        else:
            pending.callback(what)
