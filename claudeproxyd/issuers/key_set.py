"""The public keys of an issuer, and what is signed by one of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from claudeproxyd.issuers.tokens import MAX_TOKEN_BYTES, UnverifiedToken
from claudeproxyd.json_guards import UNREADABLE

MAX_KEYS = 64
"""Of one set. Issuers have two or three."""
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
MAX_EXPONENT_BITS = 64
"""Of an RSA key: all have 17. With two thousand a check takes 4 ms, and any stranger's token has as many as there are
keys of its id."""

PublicKey = RSAKey | ECKey

_KINDS: dict[str, type[RSAKey] | type[ECKey]] = {"RSA": RSAKey, "EC": ECKey}
_ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
}
"""By algorithm RSA, or the curve that its keys are on."""
_MEMBERS = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")
"""What is taken of a key: never what is private."""


class _Document(msgspec.Struct):
    keys: list[dict[str, object]]


class _Registry(jws.JWSRegistry):
    """Takes headers as large as our tokens, with whatever else in them: who does not know a member leaves it."""

    max_header_length = MAX_TOKEN_BYTES


class KeySet:
    """A set of public keys, as it was published. Of other kinds, too weak or too slow ones are left out."""

    def __init__(self, document: bytes) -> None:
        """*document*: a JSON Web Key Set. Raises ValueError where it is none, or holds no key that is of use."""
        try:
            published = msgspec.json.decode(document, type=_Document).keys
        except UNREADABLE:
            raise ValueError("is no JSON Web Key Set") from None
        if len(published) > MAX_KEYS:
            raise ValueError(f"holds more than {MAX_KEYS} keys")
        self._keys = tuple(key for key in map(_key, published) if key is not None)
        if not self._keys:
            raise ValueError("holds no public key that tokens can be checked by")
        self.thumbprints = frozenset(key.thumbprint() for key in self._keys)
        """Of its keys, by RFC 7638."""

    def __len__(self) -> int:
        return len(self._keys)

    def algorithms(self, allowed: Sequence[str] = tuple(_ALGORITHMS)) -> list[str]:
        """Return those of the *allowed* algorithms that some key is for."""
        return [name for name in allowed if any(_is_for(key, name) for key in self._keys)]

    def signer(self, token: UnverifiedToken, algorithms: Sequence[str]) -> str | None:
        """Return the thumbprint of the key that *token* is signed by; None where that is none of these.

        The token's algorithm is one of *algorithms*. No header but ``alg`` and ``kid`` is looked at: whoever forges a
        token writes where its key is to be found.
        """
        registry = _Registry(algorithms=algorithms, strict_check_header=False)
        for key in self._candidates(token):
            try:
                jws.deserialize_compact(token.text, key, registry=registry)
            except (JoseError, ValueError):
                continue
            return key.thumbprint()
        return None

    def _candidates(self, token: UnverifiedToken) -> Iterator[PublicKey]:
        """Yield the keys that the token names; where it names none, the only one that there is."""
        kid = token.header.get("kid")
        if kid is not None:
            yield from (key for key in self._keys if key.kid == kid)
        elif len(self._keys) == 1:
            yield self._keys[0]


def _key(published: dict[str, object]) -> PublicKey | None:
    members: dict[str, str | list[str]] = {
        name: value for name in _MEMBERS if isinstance(value := published.get(name), str)
    }
    kind = _KINDS.get(str(published.get("kty")))
    verifies = published.get("key_ops", ["verify"])
    if kind is None or members.get("use", "sig") != "sig" or not (isinstance(verifies, list) and "verify" in verifies):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # of keys that are too short, which are not taken
            key = kind.import_key(members)
    except Exception:  # it comes from outside: the parsers of numbers and of curves raise what they like
        return None
    return None if isinstance(key, RSAKey) and not _is_usual(key) else key


def _is_for(key: PublicKey, algorithm: str) -> bool:
    kind = "RSA" if isinstance(key, RSAKey) else key.curve_name
    return kind == _ALGORITHMS[algorithm] and key.get("alg") in (None, algorithm)


def _is_usual(key: RSAKey) -> bool:
    return (
        MIN_RSA_BITS <= key.raw_value.key_size <= MAX_RSA_BITS
        and key.public_key.public_numbers().e.bit_length() <= MAX_EXPONENT_BITS
    )
