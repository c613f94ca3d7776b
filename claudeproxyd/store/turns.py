"""State by parts, each in a turn of the reactor of its own: a daemon may have a hundred thousand keys of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.task import deferLater

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")


async def by_turns(clock: IReactorTime, parts: Iterable[T]) -> AsyncIterator[T]:
    """Yield each of *parts*: the first at once, and each of the others in a later turn, in which it is made."""
    for part in parts:
        yield part
        await deferLater(clock, 0)
