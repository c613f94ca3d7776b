"""A slice of time in a turn of the reactor, for small work of which there may be much.

When a thousand requests may go on at once, each takes a moment, and all of them hold everybody else up. Whoever has
such work asks before each piece whether the slice is over, and if it is goes on in another turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

SLICE = 0.01
"""Seconds of work in one turn of the reactor."""
KEYS_AT_ONCE = 500
"""Keys of state that are made, merged or told in one turn: some milliseconds."""


class Slice:
    """See the module. Its owner renews it when it goes on in another turn."""

    __slots__ = ("_left", "_seconds")

    def __init__(self, seconds: Callable[[], float]) -> None:
        """*seconds*: the reactor's."""
        self._seconds = seconds
        self._left = SLICE

    @property
    def over(self) -> bool:
        """Whether more is for another turn."""
        return self._left <= 0

    def renew(self) -> None:
        """Begin anew."""
        self._left = SLICE

    def run(self, work: Callable[[], object]) -> None:
        """Do a piece of the work. Raises what it does."""
        began = self._seconds()
        try:
            work()
        finally:
            self._left -= self._seconds() - began


def batches(items: Iterable[T], size: int = KEYS_AT_ONCE) -> Iterator[list[T]]:
    """Yield *items* by *size*, for one turn of the reactor each."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch
