"""A secret in memory: never shown, compared in constant time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from hmac import compare_digest


class Secret:
    """A value that never reaches a log, an error or a ``repr``."""

    __slots__ = ("_digest", "_value", "path", "variable")

    def __init__(self, value: str | None, digest: str = "", *, path: str = "", variable: str = "") -> None:
        self._value = value
        self._digest = digest or hashlib.sha256((value or "").encode()).hexdigest()
        self.path = path
        """The absolute path of the file that it was read from, so that a source can read it again; or ''."""
        self.variable = variable
        """The environment variable that it was taken from, or ''."""

    def reveal(self) -> str:
        """Return the value itself. Raises ValueError where only its digest was configured."""
        if self._value is None:
            raise ValueError("only the digest of this secret is known")
        return self._value

    @property
    def known(self) -> bool:
        """Whether the value can be revealed, and not only compared."""
        return self._value is not None

    @property
    def digest(self) -> str:
        """Its SHA-256, in hexadecimal."""
        return self._digest

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        """Compare value and file: the value is read again from its file."""
        return isinstance(other, Secret) and compare_digest(self._digest, other._digest) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self._digest)


def secrets_within(value: object) -> Iterator[Secret]:
    """Yield every secret of a section, of its tables and its lists."""
    if isinstance(value, Secret):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from secrets_within(getattr(value, each.name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from secrets_within(item)
    elif isinstance(value, dict):
        yield from secrets_within(list(value.values()))
