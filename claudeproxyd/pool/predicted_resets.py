"""Credentials whose own answers said that a limit is used up, until it is reset. Pure."""

from __future__ import annotations

from claudeproxyd.pool.deadlines import DeadlineHeap
from claudeproxyd.pool.scopes import PooledCredential

#: Resets that one choice looks after; a later one has the others.
MAX_RESETS_PER_CHOICE = 16


class PredictedResets:
    """The credentials of one model that are expected to be refused, and until when each is."""

    __slots__ = ("_deadlines", "_until", "mask")

    def __init__(self) -> None:
        self.mask = 0
        """The set of these credentials; some may have been reset since."""
        self._until: dict[PooledCredential, float] = {}
        self._deadlines: DeadlineHeap[PooledCredential] = DeadlineHeap(
            lambda when, pooled: self._until.get(pooled) == when
        )

    def add(self, pooled: PooledCredential, until: float) -> None:
        """Expect *pooled* to be rate-limited until that moment."""
        self._until[pooled] = until
        self._deadlines.put(until, pooled)
        self.mask |= 1 << pooled.index

    def mask_at(self, now: float) -> int:
        """Return the set of credentials that are still expected to be refused."""
        for pooled in self._deadlines.due(now, MAX_RESETS_PER_CHOICE):
            del self._until[pooled]
            self.mask &= ~(1 << pooled.index)
        return self.mask

    def rebuild(self) -> None:
        """Number the credentials anew after a reload."""
        self._until = {pooled: until for pooled, until in self._until.items() if pooled.index >= 0}
        self.mask = sum(1 << pooled.index for pooled in self._until)
