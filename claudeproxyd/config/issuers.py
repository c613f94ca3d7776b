"""Checks ``[[issuers]]``: where keys come from, and what claims make of a token's holder."""

from __future__ import annotations

import re
from itertools import permutations
from typing import TYPE_CHECKING, Annotated
from urllib.parse import SplitResult

import msgspec

from claudeproxyd.config.endpoints import is_loopback
from claudeproxyd.config.providers import check_ca_file, check_proxy, parsed_url
from claudeproxyd.globs import oddity
from claudeproxyd.json_guards import UNREADABLE

if TYPE_CHECKING:
    from claudeproxyd.config.config_paths import ConfigPath
    from claudeproxyd.config.diagnostics import Diagnostics
    from claudeproxyd.config.merging import SourceMap
    from claudeproxyd.config.schema import Config, IssuerSection

ADDRESSES = ("email", "phone_number")
"""Claims that go from one person to another: who had the address before must not be who has it now."""
CHANGING = ("preferred_username", "upn", "unique_name", "name", "nickname")
"""Claims that people change."""


_SEPARATORS = re.compile("[./]")
"""Between the parts of a claim's path, and of those that are URLs."""


class _KeySet(msgspec.Struct):
    keys: Annotated[list[dict[str, object]], msgspec.Meta(min_length=1)]


def check_issuers(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Check each issuer, and that no two of them can name two people alike."""
    for index, section in enumerate(config.issuers):
        at = source_map.at("issuers", index)
        _check(section, at, diagnostics)
        if any(section.url == other.url for other in config.issuers[:index]):
            diagnostics.error(at / "url", "is there already", "several audiences are a list in one section")
    for (_, one), (index, other) in permutations(enumerate(config.issuers), 2):
        if other.prefix.startswith(one.prefix):
            what = f"could give people the names of those of {one.url}"
            diagnostics.error(source_map.at("issuers", index, "prefix"), what, 'such as "staff:", another for each')


def _check(section: IssuerSection, at: ConfigPath, diagnostics: Diagnostics) -> None:
    try:
        check_url(section.url)
        if "?" in section.url:
            raise ValueError("must hold no query")
    except ValueError as error:
        diagnostics.error(at / "url", str(error), "such as https://login.example.com")
    if section.jwks_url:
        try:
            check_url(section.jwks_url)
        except ValueError as error:
            diagnostics.error(at / "jwks_url", str(error), "such as https://login.example.com/keys")
    if section.jwks is not None and section.jwks_url:
        diagnostics.error(at / "jwks", "stands beside jwks_url", "leave one or the other out")
    if section.jwks is not None and section.jwks.known:
        try:
            msgspec.json.decode(section.jwks.reveal(), type=_KeySet)
        except UNREADABLE:
            diagnostics.error(at / "jwks", "is no JSON Web Key Set", 'such as { file = "keys.json" }')
    audiences = [section.audience] if isinstance(section.audience, str) else section.audience
    if not audiences or not all(audiences):
        hint = "a token for another service would let in"
        diagnostics.error(at / "audience", "must not be empty", hint)
    if not section.algorithms:
        diagnostics.error(at / "algorithms", "must not be empty", 'such as ["RS256", "ES256"]')
    _check_name(section, at, diagnostics)
    for index, glob in enumerate(section.models):
        if why := oddity(glob):
            diagnostics.warn(at / "models" / index, why, "globs know *, ? and [abc]; several are several strings")
    for table in ("labels", "require"):
        for name, value in getattr(section, table).items():
            if not name or not value:
                diagnostics.error(at / table / name, "must not be empty")
    if section.hold < section.refresh:
        diagnostics.error(at / "hold", "must not be less than refresh", "the keys would be good now and then")
    check_proxy(section.proxy, at / "proxy", diagnostics)
    if section.ca_file:
        check_ca_file(section.ca_file, at / "ca_file", diagnostics)


def _check_name(section: IssuerSection, at: ConfigPath, diagnostics: Diagnostics) -> None:
    if not section.name:
        diagnostics.error(at / "name", "must name a claim", 'such as "sub"')
    elif _SEPARATORS.split(section.name)[-1] in ADDRESSES:
        hint = f'name = "sub", and labels = {{ mail = "{section.name}" }} to see it'
        diagnostics.error(at / "name", "names an address, which may be another person's tomorrow", hint)
    elif _SEPARATORS.split(section.name)[-1] in CHANGING:
        diagnostics.warn(at / "name", "names a claim that people change, and that others may take", 'name = "sub"')
    if not section.prefix.isprintable():
        diagnostics.error(at / "prefix", "must be printable")


def check_url(text: str) -> SplitResult:
    """Return the URL of an issuer, or of its keys, which may have a query. Raises ValueError, in operators' words."""
    address, _, query = text.partition("?")
    url = parsed_url(address)
    if not query.isascii() or not query.isprintable() or " " in query or "#" in query:
        raise ValueError("must hold no blanks, no fragment and only ASCII")
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        raise ValueError("is not encrypted: whoever sits between could let anybody in")
    return url
