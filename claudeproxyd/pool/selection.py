"""Strategies: which of the ready credentials is next.

A set of credentials is an int here, bit *i* for the *i*-th of its provider in the order of the file. The operations
that a choice needs (and, shift, count) then cost some tenths of a microsecond for ten thousand credentials, and no
strategy has to be told when a credential comes or goes.
"""

from __future__ import annotations

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

    __slots__ = ("lowest", "sets")

    def __init__(self) -> None:
        self.sets: list[int] = [0]
        """By the number under way: the set of those that have as many."""
        self.lowest = 0
        """The fewest that any credential has under way."""

    def add(self, index: int, level: int) -> None:
        """A credential that is new here."""
        self.sets += [0] * (level + 1 - len(self.sets))
        self.sets[level] |= 1 << index
        if level < self.lowest or not self.sets[self.lowest]:
            self.lowest = level

    def move(self, index: int, old: int, new: int) -> None:
        """A credential has *new* under way instead of *old*, which is one more or one less."""
        sets = self.sets
        bit = 1 << index
        sets[old] ^= bit
        if new == len(sets):
            sets.append(bit)
        else:
            sets[new] |= bit
        if new < self.lowest or not sets[self.lowest]:
            self.lowest = new


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
        level = loads.lowest
        idlest = loads.sets[level] & ready
        while not idlest:
            level += 1
            idlest = loads.sets[level] & ready
        return self._rotation.choose(idlest)


@implementer(ISelector)
class Weighted:
    """In proportion to the weights, and never a whole turn off.

    Credentials of one weight form a class and take turns in it. Among the classes it goes by deadlines: each turn
    credits a class with the weight of its ready credentials, and the one that is chosen pays what all were credited
    with. Of those that have something to their credit, the one is chosen whose next turn would be overdue first. That
    keeps each within one turn of its share at any moment (Tijdeman, The chairman assignment problem, 1980), which a
    choice of the richest does not. The work grows with the number of different weights, and not of credentials.
    """

    __slots__ = ("_classes", "_credit")

    def __init__(self, classes: Sequence[tuple[int, int]]) -> None:
        """*classes*: each weight, and the set of those who have it."""
        self._classes = [(weight, members, Rotation()) for weight, members in classes]
        self._credit = [0] * len(classes)

    def choose(self, ready: int) -> int:
        """One of *ready*, by weight."""
        credit = self._credit
        here = []
        total = 0
        for number, (weight, members, _) in enumerate(self._classes):
            among = members & ready
            if among:
                share = weight * among.bit_count()
                total += share
                credit[number] += share
                here.append((number, share, among))
        chosen = here[0]
        if len(here) > 1:
            earned = [each for each in here if credit[each[0]] > 0]
            if earned:
                chosen = min(earned, key=lambda each: (total - credit[each[0]]) / each[1])
            else:  # those whose turn it would be are not ready
                chosen = max(here, key=lambda each: credit[each[0]])
        number, _, among = chosen
        credit[number] -= total
        return self._classes[number][2].choose(among)
