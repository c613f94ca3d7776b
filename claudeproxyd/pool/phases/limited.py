"""As many as a place carries may be under way. Pure."""

from __future__ import annotations

from math import inf

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.pace import LEAST
from claudeproxyd.pool.phases import AnyGate, Condition, Phase

#: The share of attempts that may fail within a learned limit before there is a test.
TOLERANCE_HELD = 0.1
#: Seconds between two tries for more than the limit, at most; where as many were refused before, so many pass between.
DOUBT = 3.0
#: Where somebody else uses the place, too: seconds for which a tenth of a limit is given back, at each second refusal.
YIELD = 1.0
#: Seconds after which what was taken at a lower limit no longer counts.
STALE = 2.0
#: So many must pass after a refusal before there is a try for more than was ever carried.
PASSES = 8


class Limited(Phase):
    """See the package."""

    __slots__ = (
        "_beyond",
        "_ended",
        "_mark",
        "_passes",
        "_since",
        "_step",
        "_sure",
        "_taken",
        "_tried",
        "_went",
        "_yielded",
    )
    condition = Condition.LIMITED
    held = True

    def __init__(self) -> None:
        self._step = 1
        """How many more the next try lets go."""
        self._beyond = 0
        """How many more may go now."""
        self._went = 0
        """How many did."""
        self._tried: set[int] = set()
        """Leases among them that have not passed yet."""
        self._mark = -1
        """The newest lease when something was refused: what is older is no news."""
        self._passes = 0
        """Since a try was refused."""
        self._yielded = False
        self._taken = 0
        """Attempts granted lately, less those refused."""

    def begin(self, gate: AnyGate, now: float) -> None:
        gate.limit = max(gate.limit if gate.limit < inf else gate.in_flight, 1)
        gate.forgive(TOLERANCE_HELD)
        self._since = self._ended = self._sure = now
        self._mark = gate.newest
        self._arm(gate, now)

    def _pause(self) -> float:
        """Return the seconds between two tries: the longer the limit has held, the more."""
        return max(0.1, min((self._ended - self._sure) / 8, DOUBT))

    def _arm(self, gate: AnyGate, now: float) -> None:
        """Try for more, in a while, when all slots are taken."""
        if gate.in_flight < gate.limit or (gate.limit >= gate.known and self._passes < PASSES):
            return
        when = self._ended + self._pause()
        if when > now:
            gate.due = when
            return
        room = gate.known - gate.limit
        self._beyond = int(min(self._step, room)) if room >= 1 else self._step
        gate.limit += self._beyond

    def granted(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        self._taken += 1
        beyond = gate.in_flight - (gate.limit - self._beyond)
        if self._beyond and beyond > self._went:
            if not self._went:
                gate.due = now + gate.look
            self._went = int(beyond)
            self._tried.add(serial)
        elif not self._beyond and gate.due == inf:
            self._arm(gate, now)

    def passed(self, gate: AnyGate, serial: int, now: float) -> None:
        self._passes += 1
        if serial in self._tried:
            self._tried.remove(serial)
            if not self._tried and gate.slow:
                self._succeeded(gate, now)

    def failed(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        self._taken -= 1
        if serial <= self._mark:
            return
        if self._went:
            self._mark = gate.newest
            gate.known = gate.limit - self._beyond
            self._step = 1
            self._passes = 0
            self._yielded = gate.shared and not self._yielded
            if self._yielded:
                # Whoever came later finds room, and what is still free then is taken back.
                self._step = max(1, int(gate.known / 10))
                self._end(gate, gate.known - self._step, now + YIELD * min(1.0, gate.known / 10))
            else:
                self._end(gate, gate.known, now)
        elif gate.charge():
            elapsed = now - self._since
            if gate.kind is Kind.QUOTA and now >= gate.unpaced_until and elapsed >= LEAST and self._taken > 0:
                gate.pace(self._taken / elapsed, now)
            else:
                gate.test(gate.limit, now)

    def tick(self, gate: AnyGate, now: float) -> bool:
        if self._went:
            self._succeeded(gate, now)
        elif not self._beyond:
            self._arm(gate, now)
        return True

    def _succeeded(self, gate: AnyGate, now: float) -> None:
        """Raise the limit: none of those that went beyond it was refused."""
        limit = gate.limit - self._beyond + self._went
        quick = self._pause() <= 0.1
        self._sure = now - (now - self._sure) / 4
        self._step = self._step * 2 if limit < gate.known or quick else 1
        if now - self._since > STALE:
            self._since = now
            self._taken = 0
        self._end(gate, limit, now)

    def _end(self, gate: AnyGate, limit: float, now: float) -> None:
        """A try is over."""
        gate.limit = limit
        self._beyond = self._went = 0
        self._tried.clear()
        self._ended = now
        gate.due = inf
        self._arm(gate, now)
