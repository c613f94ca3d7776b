"""Whom the claims of a token make of its holder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from claudeproxyd.globs import is_costly, matches
from claudeproxyd.issuers.tokens import refused_token
from claudeproxyd.observe.scrub import scrub
from claudeproxyd.principals import Principal

if TYPE_CHECKING:
    from claudeproxyd.config.schema import IssuerSection

MAX_NAME_CHARACTERS = 255
"""OpenID Connect allows no more in ``sub``."""
MAX_MODELS = 100
"""Globs in one token."""


def principal_of(claims: Mapping[str, object], section: IssuerSection) -> Principal:
    """Return who holds a token with these claims, by what *section* says of them. Raises ClaudeError 401 or 403."""
    name = _word(claim(claims, section.name))
    if not name:
        raise refused_token(f"its claim {section.name} names nobody")
    for path, glob in section.require.items():
        if not any(matches(word, (glob,)) for word in _texts(claim(claims, path))):
            raise refused_token(f"its claim {path} has to be {glob}", 403)
    labels = {label: _word(claim(claims, path)) for label, path in section.labels.items()}
    return Principal(
        section.prefix + name,
        {label: word for label, word in labels.items() if word},
        _models(claims, section),
        section.max_concurrency,
    )


def claim(claims: object, path: str) -> object:
    """Return the claim of that path, None where there is none. ``groups.0`` is the first of a list.

    A name may have dots of its own, as those that are URLs do: what is there in full goes first.
    """
    if isinstance(claims, list):
        index, _, rest = path.partition(".")
        if not (index.isascii() and index.isdigit()) or len(index) > 4 or int(index) >= len(claims):
            return None
        return claim(claims[int(index)], rest) if rest else claims[int(index)]
    if not isinstance(claims, dict):
        return None
    if path in claims:
        return claims[path]
    at = path.find(".")
    while at >= 0:
        if path[:at] in claims and (found := claim(claims[path[:at]], path[at + 1 :])) is not None:
            return found
        at = path.find(".", at + 1)
    return None


def _models(claims: Mapping[str, object], section: IssuerSection) -> tuple[str, ...]:
    value = claim(claims, section.models_claim) if section.models_claim else None
    if value is None:
        return tuple(section.models)
    return tuple(islice((glob for glob in filter(None, map(_word, _texts(value))) if not is_costly(glob)), MAX_MODELS))


def _texts(value: object) -> Iterator[str]:
    """Yield what is in a claim that may have several: a list, or words with blanks between, as ``scope`` has."""
    values = value.split() if isinstance(value, str) else value if isinstance(value, list) else [value]
    return filter(None, map(_text, values))


def _text(value: object) -> str:
    """Return a claim as a text; '' for what is none."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (str, int)) else ""


def _word(value: object) -> str:
    """Return a claim as it may be shown: in logs, in figures, on pages. '' for what is no such word."""
    word = _text(value)
    if not word.isprintable() or not word.strip() or len(word) > MAX_NAME_CHARACTERS or scrub(word) != word:
        return ""
    return word
