"""Measure how much a place takes in a second, where it counts by time and not by what is under way. Pure.

A bucket that refills refuses when it is empty. Between two refusals it was empty, took what it took, and was empty
again: so what was taken, over the time between, is its rate, however deep it is. The pace is that rate, and grows for
as long as nothing is refused.
"""

from __future__ import annotations

#: Seconds between two refusals from which a rate is measured; refusals that are closer are one.
LEAST = 0.5
#: The pace grows by this share of the rate for each second without a refusal, and by as much for its square.
GROWTH = 0.05
#: Likewise, as long as the rate has not been measured properly.
GROWTH_UNSURE = 0.5
#: A place that counts by time refuses no larger share of what it takes, once its rate is known.
MOST = 0.15
#: The share of a measured rate that is kept where somebody else draws on the same bucket.
YIELD = 0.85
#: Seconds of the rate that may be saved up.
DEPTH = 0.1


class Pace:
    """See the module. The cost of an attempt is in whatever unit the caller uses."""

    __slots__ = ("_at", "_growth", "_lost", "_refused_at", "_saved", "_taken", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = max(rate, 0.1)
        """Units a second."""
        self._growth = GROWTH_UNSURE
        self._saved = 0.0
        self._at = now
        self._taken = 0.0
        """Since the last measurement, less what was refused."""
        self._lost = 0.0
        """Cost that was refused since then."""
        self._refused_at = now

    def at(self, now: float) -> float:
        """Return the pace at that moment, in units a second."""
        quiet = now - self._refused_at
        return self.rate * (1 + self._growth * quiet * (1 + quiet))

    def _save(self, now: float) -> float:
        pace = self.at(now)
        self._saved = min(self._saved + (now - self._at) * pace, max(1.0, DEPTH * pace))
        self._at = now
        return pace

    def wait(self, cost: float, now: float) -> float:
        """Return the seconds until an attempt of that cost may go."""
        pace = self._save(now)
        # What costs more than may be saved up goes when all is saved, and leaves a debt.
        missing = min(cost, max(1.0, DEPTH * pace)) - self._saved
        return missing / pace if missing > 1e-9 else 0.0

    def take(self, cost: float, now: float) -> None:
        """An attempt goes."""
        self._save(now)
        self._saved -= cost
        self._taken += cost

    def refused(self, cost: float, now: float, *, shared: bool = False) -> bool:
        """An attempt was refused. False when that is no matter of pace: too much is, at the pace that was measured.

        *shared*: somebody else draws on the same bucket, and is left some of it.
        """
        self._save(now)
        self._taken -= cost
        self._lost += cost
        self._saved = min(self._saved + cost, 0.0)
        elapsed = now - self._refused_at
        if elapsed < LEAST:
            return True
        measured = max(self._taken, 0.0) / elapsed
        unsure = self._growth == GROWTH_UNSURE
        plausible = measured > 0 and (unsure or (measured >= self.rate / 2 and self._lost <= MOST * self._taken + 2))
        self.rate += (measured - self.rate) / (1 if unsure else 2)
        if shared:
            self.rate *= YIELD
        self._growth = GROWTH
        self._taken = self._lost = 0.0
        self._refused_at = now
        return plausible

    def quiet(self, now: float) -> float:
        """Return the seconds since it was refused for the last time."""
        return now - self._refused_at
