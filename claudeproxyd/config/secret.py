"""A secret in memory: shown by nobody, compared in constant time."""

from __future__ import annotations

import hashlib


class Secret:
    """A value that never reaches a log, an error or a ``repr``."""

    __slots__ = ("_digest", "_value")

    def __init__(self, value: str | None, digest: str = "") -> None:
        self._value = value
        self._digest = digest or hashlib.sha256((value or "").encode()).hexdigest()

    def reveal(self) -> str:
        """The value itself. Raises ValueError where only its digest was configured."""
        if self._value is None:
            raise ValueError("only the digest of this secret is known")
        return self._value

    @property
    def digest(self) -> str:
        """Its SHA-256, in hexadecimal."""
        return self._digest

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)
