"""Strategies, which choose among the ready credentials.

A set of credentials is an int here, bit *i* for the *i*-th of its provider in the order of the file. The operations
that a choice needs (and, shift, count) then cost some tenths of a microsecond for ten thousand credentials, and no
strategy has to be told when a credential comes or goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from claudeproxyd.interfaces import ISelector

#: Bits that are searched as a small int, before the whole set is.
_WORD_MASK = (1 << 60) - 1


def lowest(bits: int) -> int:
    """Return the index of the lowest set bit of *bits*, which is not 0."""
    low = bits & _WORD_MASK
    if low:
        return (low & -low).bit_length() - 1
    return (bits & -bits).bit_length() - 1


class Rotation:
    """A round through the credentials that are ready, in the order of the file."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = 0

    def choose(self, ready: int) -> int:
        """Return the first of *ready* after the last choice, else the first of all."""
        later = ready >> self._next
        index = self._next + lowest(later) if later else lowest(ready)
        self._next = index + 1
        return index


@implementer(ISelector)
class RoundRobin(Rotation):
    """The strategy that takes each in turn."""

    __slots__ = ()


@implementer(ISelector)
class FillFirst:
    """The strategy that takes the first in the order of the file, and the next only when that is not ready."""

    __slots__ = ()

    def choose(self, ready: int) -> int:
        """Return the first of *ready*."""
        return lowest(ready)


class Loads:
    """The credentials of one provider by the number of attempts that each has under way."""

    __slots__ = ("lowest", "sets")

    def __init__(self) -> None:
        self.sets: list[int] = [0]
        """At index *n*, the set of credentials with *n* attempts under way."""
        self.lowest = 0
        """The fewest attempts that any credential has under way."""

    def add(self, index: int, level: int) -> None:
        """Add a credential with *level* attempts under way."""
        self.sets += [0] * (level + 1 - len(self.sets))
        self.sets[level] |= 1 << index
        if level < self.lowest or not self.sets[self.lowest]:
            self.lowest = level

    def move(self, index: int, old: int, new: int) -> None:
        """Move a credential from *old* attempts under way to *new*, one more or one less."""
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
    """The strategy that takes the one with the fewest attempts under way, and equals in turn."""

    __slots__ = ("_loads", "_rotation")

    def __init__(self, loads: Loads) -> None:
        self._loads = loads
        self._rotation = Rotation()

    def choose(self, ready: int) -> int:
        """Return one of *ready* with the fewest attempts under way."""
        loads = self._loads
        level = loads.lowest
        idlest = loads.sets[level] & ready
        while not idlest:
            level += 1
            idlest = loads.sets[level] & ready
        return self._rotation.choose(idlest)


@implementer(ISelector)
class Weighted:
    """The strategy that takes each in proportion to its weight, and is never a whole turn off.

    Credentials of one weight form a class and take turns in it. Classes are chosen by deadlines: each turn credits a
    class with the weight of its ready credentials, and the chosen one pays what all were credited with. Among the
    classes with a positive credit, the one is chosen whose next turn would be overdue first. That keeps each within one
    turn of its share at any moment (Tijdeman, The chairman assignment problem, 1980), which a choice of the highest
    credit does not. The work grows with the number of different weights, and not of credentials.
    """

    __slots__ = ("_classes", "_credit")

    def __init__(self, classes: Sequence[tuple[int, int]]) -> None:
        """Begin without credit. *classes*: each weight, and the set of credentials that have it."""
        self._classes = [(weight, members, Rotation()) for weight, members in classes]
        self._credit = [0] * len(classes)

    def choose(self, ready: int) -> int:
        """Return one of *ready*, by weight."""
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
            else:  # the classes whose turn it would be are not ready
                chosen = max(here, key=lambda each: credit[each[0]])
        number, _, among = chosen
        credit[number] -= total
        return self._classes[number][2].choose(among)
