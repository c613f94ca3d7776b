"""Lets requests in, for so much time in each turn of the reactor that streams under way go on between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from claudeproxyd.slices import SLICE, Slice
from claudeproxyd.sockets import NEXT_TURN

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

WINDOW = 2 * SLICE
"""Seconds after which a slice is renewed where nobody waits: so much later it is another turn, or a short one."""


class Visitor(Protocol):
    """A connection on which there is a request, or some of one; or a request that is all there."""

    def enter(self) -> None:
        """Deal with what was read. Called by the turnstile, once for each time that it was asked."""


class Turnstile:
    """Requests that are all there when the reactor looks would be one turn of it, a second long where they are many.

    Those that have to wait go on in the next turns, in the order in which they came.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._slice = Slice(clock.seconds)
        self._renew_at = 0.0
        self._waiting: dict[Visitor, None] = {}
        self._turn: IDelayedCall | None = None

    def admit(self, visitor: Visitor) -> bool:
        """Let *visitor* enter now, or wait for its turn. Return whether it has entered."""
        if not self._waiting and self._clock.seconds() >= self._renew_at:
            self._renew()
        if self._waiting or self._slice.over:
            self.wait(visitor)
            return False
        self._run(visitor)
        return True

    def wait(self, visitor: Visitor) -> None:
        """Let *visitor* enter in a later turn."""
        self._waiting[visitor] = None
        if self._turn is None:
            self._turn = self._clock.callLater(NEXT_TURN, self._go_on)

    def leave(self, visitor: Visitor) -> None:
        """*visitor* waits no more, if it did."""
        self._waiting.pop(visitor, None)

    def _run(self, visitor: Visitor) -> None:
        self._slice.run(visitor.enter)
        if self._slice.over:
            # What took longer than the window is no reason for more of it in this turn.
            self._renew_at = self._clock.seconds() + WINDOW

    def _renew(self) -> None:
        self._renew_at = self._clock.seconds() + WINDOW
        self._slice.renew()

    def _go_on(self) -> None:
        self._turn = None
        self._renew()
        try:
            while self._waiting and not self._slice.over:
                visitor = next(iter(self._waiting))
                del self._waiting[visitor]
                self._run(visitor)
        finally:  # a fault of ours is the visitor's alone
            if self._waiting and self._turn is None:
                self._turn = self._clock.callLater(NEXT_TURN, self._go_on)
