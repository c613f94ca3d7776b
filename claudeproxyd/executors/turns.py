"""Long work on the reactor, with turns for everybody else in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.internet.task import Cooperator

from claudeproxyd.slices import SLICE
from claudeproxyd.sockets import NEXT_TURN

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.steps import Result, Steps


class Turns:
    """The long work of all requests: of each turn of the reactor it takes one slice, however many have some.

    The process has one of these.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._cooperator = Cooperator(self._begin_slice, partial(clock.callLater, NEXT_TURN))
        self._waiting = 0

    async def run(self, steps: Steps[Result]) -> Result:
        """What *steps* come to; raises what they do. What is short is done at once, unless others wait already."""
        is_over = self._begin_slice()
        while not self._waiting and not is_over():
            try:
                next(steps)
            except StopIteration as done:
                at_once: Result = done.value
                return at_once
        result: list[Result] = []
        task = self._cooperator.cooperate(_keeping(steps, result))
        self._waiting += 1
        try:
            await task.whenDone()
        except CancelledError:
            task.stop()
            raise
        finally:
            self._waiting -= 1
        return result[0]

    def _begin_slice(self) -> Callable[[], bool]:
        """Return what tells whether the slice that begins now is over."""
        until = self._clock.seconds() + SLICE
        return lambda: self._clock.seconds() >= until


def _keeping(steps: Steps[Result], result: list[Result]) -> Iterator[None]:
    """Do *steps*, and leave in *result* what they come to."""
    result.append((yield from steps))
