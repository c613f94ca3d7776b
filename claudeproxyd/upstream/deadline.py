"""A deadline that moves with every read."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from claudeproxyd.turnstile import Turnstile

#: Seconds that the timer sleeps at most. Never much more than a kept connection's own wait: another timer would come
#: with each request that ends.
MAX_TIMER_DELAY = 30.0


class Deadline:
    """Calls *expired* once the deadline has passed, and leaves its one timer alone when the deadline moves back.

    The timer may fire too early, and then looks at the deadline again, but never too late. Where many pass at one
    moment, of an upstream that hangs, they are acted on in slices.
    """

    __slots__ = ("_at", "_clock", "_expired", "_timer", "_timer_at", "_turnstile")

    def __init__(self, clock: IReactorTime, expired: Callable[[], object], turnstile: Turnstile) -> None:
        """*turnstile* is shared by those that may pass together."""
        self._clock = clock
        self._expired: Callable[[], object] | None = expired
        self._turnstile = turnstile
        self._at = inf
        self._timer: IDelayedCall | None = None
        self._timer_at = inf

    def set(self, seconds: float) -> None:
        """Move the deadline to *seconds* from now."""
        at = self._at = self._clock.seconds() + seconds
        if at < self._timer_at:
            self._arm(seconds)

    def clear(self) -> None:
        """Have no deadline for now."""
        self._at = inf

    def stop(self) -> None:
        """Cancel the timer and let go of *expired*, which holds whoever holds this; it cannot be set again."""
        self._at = inf
        self._expired = None
        self._turnstile.leave(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def enter(self) -> None:
        """Act on it, unless it has moved since its timer fired. Called by the turnstile."""
        left = self._at - self._clock.seconds()
        if left <= 0:
            assert self._expired is not None
            self._expired()
        elif left < inf:
            self._arm(left)

    def _arm(self, seconds: float) -> None:
        seconds = min(seconds, MAX_TIMER_DELAY)
        self._timer_at = self._clock.seconds() + seconds
        if self._timer is not None:
            self._timer.cancel()  # to move it forward, the reactor would search all timers that there are
        self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        self._timer_at = inf
        if self._at < inf:
            self._turnstile.admit(self)
