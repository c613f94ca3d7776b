"""Long work on the reactor, with turns for everybody else in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from claudeproxyd.slices import SLICE
from claudeproxyd.sockets import NEXT_TURN

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.steps import Result, Steps


async def in_turns(steps: Steps[Result], clock: IReactorTime) -> Result:
    """What *steps* come to; raises what they do. What is short is done at once."""
    until = clock.seconds() + SLICE
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Result = done.value
            return result
        if clock.seconds() >= until:
            await deferLater(clock, NEXT_TURN)
            until = clock.seconds() + SLICE
