"""Which credential a session's prompt cache lives at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

C = TypeVar("C")


class Bond(Generic[C]):
    """Where one session is at home for one model."""

    __slots__ = ("home", "told", "used")

    def __init__(self, home: C, now: float) -> None:
        self.home = home
        self.used = now
        """When it was last served there."""
        self.told = now
        """When that was last told to whoever keeps it elsewhere."""


class Affinities(Generic[C]):
    """(session, model) → credential: bounded, the longest unused goes first; each ends after *ttl* seconds of rest."""

    def __init__(self, ttl: float, bound: int, changed: Callable[[str, str, Bond[C] | None], None]) -> None:
        """*changed* is told a session, a model, and where they are at home now; None: nowhere."""
        self.ttl = ttl
        self._bound = bound
        self._changed = changed
        self._bonds: OrderedDict[tuple[str, str], Bond[C]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._bonds)

    def __iter__(self) -> Iterator[tuple[tuple[str, str], Bond[C]]]:
        """All of them, the longest unused first."""
        return iter(self._bonds.items())

    def find(self, session: str, model: str, now: float) -> Bond[C] | None:
        """Where that session is at home, if anywhere."""
        bond = self._bonds.get((session, model))
        if bond is not None and now - bond.used > self.ttl:
            self._forget((session, model))
            return None
        return bond

    def bind(self, session: str, model: str, home: C, now: float) -> None:
        """It was served there just now."""
        key = (session, model)
        bonds = self._bonds
        bond = bonds.get(key)
        if bond is not None and bond.home is home and now - bond.told <= self.ttl / 4:
            bond.used = now
            bonds.move_to_end(key)
            return
        bonds[key] = bond = Bond(home, now)
        bonds.move_to_end(key)
        self._changed(session, model, bond)
        oldest = next(iter(bonds))
        if len(bonds) > self._bound or now - bonds[oldest].used > self.ttl:
            self._forget(oldest)

    def _forget(self, key: tuple[str, str]) -> None:
        del self._bonds[key]
        self._changed(*key, None)
