"""Strategies: which of the ready credentials is next.

A set of credentials is an int here, bit *i* for the *i*-th of its provider in the order of the file. The operations
that a choice needs (and, shift, count) then cost some tenths of a microsecond for ten thousand credentials, and no
strategy has to be told when a credential comes or goes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

from zope.interface import implementer

from claudeproxyd.interfaces import ISelector

_WORD = (1 << 60) - 1


def lowest(bits: int) -> int:
    """The index of the lowest set bit of *bits*, which is not 0."""
    low = bits & _WORD
    if low:
        return (low & -low).bit_length() - 1
    return (bits & -bits).bit_length() - 1


class Rotation:
    """Goes round through whatever is ready, in the order of the file."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = 0

    def choose(self, ready: int) -> int:
        """The first of *ready* from where the last choice left off."""
        later = ready >> self._next
        index = self._next + lowest(later) if later else lowest(ready)
        self._next = index + 1
        return index


@implementer(ISelector)
class RoundRobin(Rotation):
    """Each in turn."""

    __slots__ = ()


@implementer(ISelector)
class FillFirst:
    """The first in the order of the file; the next one only when that is not ready."""

    __slots__ = ()

    def choose(self, ready: int) -> int:
        """The first of *ready*."""
        return lowest(ready)


class Loads:
    """Credentials of one provider by how many attempts each has under way."""

    __slots__ = ("_sets", "levels")

    def __init__(self) -> None:
        self._sets: dict[int, int] = {}
        self.levels: list[int] = []
        """The numbers under way that any credential has, ascending."""

    def at(self, level: int) -> int:
        """The set of those that have *level* under way."""
        return self._sets[level]

    def add(self, index: int, level: int) -> None:
        """A credential that is new here."""
        if level in self._sets:
            self._sets[level] |= 1 << index
        else:
            self._sets[level] = 1 << index
            insort(self.levels, level)

    def move(self, index: int, old: int, new: int) -> None:
        """A credential has *new* under way instead of *old*."""
        rest = self._sets[old] ^ (1 << index)
        if rest:
            self._sets[old] = rest
        else:
            del self._sets[old]
            self.levels.remove(old)
        self.add(index, new)


@implementer(ISelector)
class LeastBusy:
    """The one with the fewest attempts under way; ties in turn."""

    __slots__ = ("_loads", "_rotation")

    def __init__(self, loads: Loads) -> None:
        self._loads = loads
        self._rotation = Rotation()

    def choose(self, ready: int) -> int:
        """One of the idlest of *ready*."""
        loads = self._loads
        for level in loads.levels:
            idlest = loads.at(level) & ready
            if idlest:
                return self._rotation.choose(idlest)
        raise AssertionError("a ready credential without a load")


@implementer(ISelector)
class Weighted:
    """In proportion to the weights, without runs.

    Credentials of one weight form a class and take turns in it. Among the classes goes the smooth weighted round-robin
    that nginx made known: each is credited with the weight of its ready credentials, the richest is chosen and pays
    what all were credited with. The work grows with the number of different weights, and not of credentials.
    """

    __slots__ = ("_classes", "_credit")

    def __init__(self, classes: Sequence[tuple[int, int]]) -> None:
        """*classes*: each weight, and the set of those who have it."""
        self._classes = [(weight, members, Rotation()) for weight, members in classes]
        self._credit = [0] * len(classes)

    def choose(self, ready: int) -> int:
        """One of *ready*, by weight."""
        credit = self._credit
        total = 0
        best = -1
        chosen = 0
        for number, (weight, members, _) in enumerate(self._classes):
            here = members & ready
            if here:
                share = weight * here.bit_count()
                total += share
                credit[number] += share
                if best < 0 or credit[number] > credit[best]:
                    best, chosen = number, here
        credit[best] -= total
        return self._classes[best][2].choose(chosen)
