"""Which credential a session's prompt cache lives at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

C = TypeVar("C")


class Affinities(Generic[C]):
    """(session, model) → credential: bounded, the longest unused goes first; each ends after *ttl* seconds of rest."""

    def __init__(self, ttl: float, bound: int) -> None:
        self.ttl = ttl
        self._bound = bound
        self._bonds: OrderedDict[tuple[str, str], tuple[C, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._bonds)

    def __iter__(self) -> Iterator[tuple[tuple[str, str], C, float]]:
        """All of them, with the moment of their last use; the longest unused first."""
        return ((key, bound, used) for key, (bound, used) in self._bonds.items())

    def find(self, session: str, model: str, now: float) -> tuple[C, float] | None:
        """Where that session is at home, and since when unused; None where it is not."""
        bond = self._bonds.get((session, model))
        if bond is None:
            return None
        if now - bond[1] > self.ttl:
            del self._bonds[session, model]
            return None
        return bond

    def bind(self, session: str, model: str, to: C, now: float) -> None:
        """It was served there just now."""
        key = (session, model)
        bonds = self._bonds
        bonds[key] = (to, now)
        bonds.move_to_end(key)
        if len(bonds) > self._bound:
            bonds.popitem(last=False)
