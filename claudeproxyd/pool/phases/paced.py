"""As many as a place takes in a second go. Pure."""

from __future__ import annotations

from math import inf

from claudeproxyd.pool.pace import Pace
from claudeproxyd.pool.phases import EXCUSED, AnyGate, Condition, Phase

#: Seconds for which a place is not paced again that refused too much at the pace that was measured.
UNPACED = 30.0
#: Refusals from which is seen that it is not time that is counted.
REFUSALS = 8
#: Seconds without a refusal after which a pace is given up.
QUIET = 15.0


class Paced(Phase):
    """See the package."""

    __slots__ = ("_carried", "_crowding", "_pace", "_refusals", "_refused_at")
    condition = Condition.PACED
    held = True

    def __init__(self, rate: float, now: float) -> None:
        """*rate*: what it took in a second."""
        self._pace = Pace(rate, now)
        self._crowding: dict[int, int] = {}
        """Leases, and how many were under way with each."""
        self._forget()

    def _forget(self) -> None:
        """Begin to compare anew at how many under way it took and refused."""
        self._carried = 0
        self._refused_at = 1 << 30
        self._refusals = 0

    @property
    def rate(self) -> float:
        """Attempts a second, as measured."""
        return self._pace.rate

    def begin(self, gate: AnyGate, now: float) -> None:
        gate.limit = inf
        gate.due = now + QUIET

    def granted(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        self._pace.take(1, now)
        self._crowding[serial] = gate.in_flight

    def left(self, gate: AnyGate, serial: int) -> None:
        self._crowding.pop(serial, None)

    def passed(self, gate: AnyGate, serial: int, now: float) -> None:
        self._carried = max(self._carried, self._crowding.pop(serial, 0))

    def failed(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        crowding = self._crowding.pop(serial, None)
        if crowding is not None:
            self._refused_at = min(self._refused_at, crowding)
            self._refusals += 1
        if not self._pace.refused(1, now, shared=gate.shared):
            gate.unpaced_until = now + UNPACED
            if gate.share < EXCUSED:
                # Few were let through, and as much was refused: less does not help, as a test would find.
                gate.excuse(now)
            else:
                gate.test(gate.peak, now)
        elif self._refusals >= REFUSALS:
            if self._refused_at >= max(2, 0.8 * self._carried):
                # Always when so many were under way, and never with fewer: it counts those after all.
                gate.limit = self._refused_at - 1
                gate.hold(now)
            self._forget()

    def tick(self, gate: AnyGate, now: float) -> bool:
        gate.due = now + QUIET
        if self._pace.quiet(now) >= QUIET:
            gate.be_free(now)
        return True

    def wait(self, size: int, now: float) -> float:
        return self._pace.wait(1, now)
