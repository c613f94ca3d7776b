"""JSON Web Tokens as strangers send them: told apart from keys, and read within bounds. Nothing here is proved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from joserfc.util import urlsafe_b64decode

from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError, Refusal

MAX_TOKEN_BYTES = 16_384
"""Those of Entra ID with two hundred groups in them have half of that."""

_BEGINNING = b"ey"
"""Of ``{"`` and ``{ `` in base64url."""


def refused_token(why: str, status: int = 401) -> ClaudeError:
    """Return the refusal of a token, of which *why* quotes nothing: "it has expired" …"""
    # Not "your token: …": in the log what follows such a word is masked.
    what = f"Your token is not accepted by this gateway: {why}"
    return ClaudeError(status, what, headers=[DO_NOT_RETRY], refusal=Refusal.UNKNOWN_KEY)


@dataclass(frozen=True)
class UnverifiedToken:
    """What a token says of itself. Whoever sent it may have written that."""

    text: str = field(repr=False)
    header: Mapping[str, object] = field(repr=False)
    claims: Mapping[str, object] = field(repr=False)

    @property
    def issuer(self) -> object:
        """Who is said to have issued it."""
        return self.claims.get("iss")


def is_token(value: bytes) -> bool:
    """Whether *value* is a JSON Web Token and no key: it has three parts, the first of which is a header.

    A key that is minted has no dots.
    """
    if value.count(b".") != 2 or not value.startswith(_BEGINNING):
        return False
    if len(value) > MAX_TOKEN_BYTES:
        return True
    try:
        return "alg" in _object(value.partition(b".")[0])
    except ValueError:
        return False


def read_token(value: bytes) -> UnverifiedToken:
    """Return what a token says. Raises ClaudeError where it is too large, or breaks a rule for all tokens."""
    if len(value) > MAX_TOKEN_BYTES:
        raise refused_token(f"it is larger than {MAX_TOKEN_BYTES} bytes")
    head, _, rest = value.partition(b".")
    try:
        text, header, claims = value.decode("ascii"), _object(head), _object(rest.partition(b".")[0])
    except ValueError:
        raise refused_token("it cannot be read") from None
    if "crit" in header or "b64" in header:
        raise refused_token("its header asks for what this gateway does not do (crit)")
    return UnverifiedToken(text, header, claims)


def _object(segment: bytes) -> dict[str, object]:
    """Return a part of a token. Raises ValueError, also for a member that is there twice: others take the other."""
    try:
        text = urlsafe_b64decode(segment).decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    return value


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
