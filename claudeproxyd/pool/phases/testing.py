"""Find out whether less load makes a place fail less. Pure."""

from __future__ import annotations

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.phases import DOWN, EXCUSED, AnyGate, Condition, Phase

#: Seconds between two looks at a test, and after which it must come to an end.
TEST = 0.5
TEST_MOST = 1.5
#: Seconds from which a first guess at a rate can be made.
LEAST = 0.05


class Testing(Phase):
    """See the package."""

    __slots__ = ("_bad", "_before", "_ended", "_floor", "_judged", "_lone", "_mark", "_taken", "_young", "held")
    condition = Condition.TESTING

    def __init__(self, gate: AnyGate, known: float) -> None:
        """*known*: what was carried up to now."""
        self.held = gate.condition is not Condition.FREE
        gate.known = max(known, 1.0)
        self._mark = gate.newest
        """Older leases are not of the test."""
        self._before = gate.share
        self._floor: float = 1.0
        self._young: dict[int, float] = {}
        """Leases that are too young to be judged, and when they were granted."""
        self._ended: dict[int, bool] = {}
        """Leases among them that are back, and whether they failed. None counts before those that were granted earlier:
        passes may be back before failures, or the reverse."""
        self._judged = 0
        self._bad = 0
        """How many of the judged ones failed."""
        self._taken = 0
        """Attempts granted, less those that failed."""
        self._lone: int | None = None
        """One that went though all slots were held, to learn anything at all: -1 until it goes."""

    def begin(self, gate: AnyGate, now: float) -> None:
        gate.limit = max(1, min(gate.in_flight, int(0.85 * gate.known) if self.held else gate.known))
        gate.due = now + TEST

    def granted(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        self._young[serial] = now
        self._taken += 1
        if self._lone == -1:
            self._lone = serial

    def left(self, gate: AnyGate, serial: int) -> None:
        self._young.pop(serial, None)

    def passed(self, gate: AnyGate, serial: int, now: float) -> None:
        if serial > self._mark and gate.limit < gate.known / 4 and 4 * self._bad <= self._judged:
            gate.limit += 1
        if serial in self._young:
            self._ended[serial] = False
        self._judge(gate, now)

    def failed(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        if serial == self._lone and gate.in_flight:
            # It was more than there was room for, so that says nothing.
            self._young.pop(serial, None)
            self._taken -= 1
            gate.limit = max(1.0, gate.in_flight)
        elif serial > self._mark:
            self._taken -= 1
            if serial in self._young:
                self._ended[serial] = True
            else:
                self._bad += 1
            gate.limit = max(self._floor, min(gate.limit, gate.in_flight))
        else:
            gate.limit = max(1.0, min(gate.limit, gate.in_flight))
            self._floor = max(1, gate.limit // 2)
            self._before = max(self._before, gate.share)
        self._judge(gate, now)

    def _ripen(self, gate: AnyGate, now: float) -> None:
        """Count in the order of the grants: what is old enough, and passed if it has not failed. Or what is back."""
        ripe = now - 2 * gate.cost
        while self._young:
            serial = next(iter(self._young))
            if self._young[serial] > ripe and not (gate.slow and serial in self._ended):
                return
            del self._young[serial]
            self._judged += 1
            self._bad += self._ended.pop(serial, False)

    def _judge(self, gate: AnyGate, now: float) -> None:
        self._ripen(gate, now)
        judged, bad, before = self._judged, self._bad, self._before
        sample = 6 / min(before, 0.5)
        if self._is_down(gate):
            gate.go_down(now, held=self.held)
        elif gate.crowd:
            if judged >= 8:
                gate.be_free(now)
        elif (
            bad >= 4
            and judged >= 6
            and bad > 0.7 * before * judged
            and (bad < EXCUSED * judged or (judged >= 16 and bad < DOWN * judged))
        ):
            self._excuse(gate, now)
        elif (judged >= sample and bad <= before * judged / 4) or (
            judged >= 2 * sample and bad <= 0.4 * before * judged
        ):
            gate.hold(now)

    def _is_down(self, gate: AnyGate) -> bool:
        """Return whether nearly everything fails."""
        judged, bad = self._judged, self._bad
        if gate.in_flight:
            return judged >= 8 and ((bad >= DOWN * judged and gate.share >= 0.65) or bad == judged >= 10)
        if bad == judged:
            return bad >= (1 if gate.share >= 0.9 else 4)
        return gate.limit <= max(1.0, gate.known / 8) and bad >= 3 and bad >= 0.75 * judged and gate.share >= 0.65

    def _excuse(self, gate: AnyGate, now: float) -> None:
        """Less load does not help: it is chance, or it is counted by time."""
        if gate.kind is Kind.QUOTA and not gate.slow and now >= max(gate.unpaced_until, gate.since + LEAST):
            gate.pace(self._taken / (now - gate.since), now)
        else:
            gate.excuse(now)

    def tick(self, gate: AnyGate, now: float) -> bool:
        self._judge(gate, now)
        if gate.phase is not self:
            return True
        gate.due = now + TEST
        if gate.crowd:
            gate.be_free(now)
        elif not self._bad and (
            self._judged * self._before >= 3 or (self._judged and now - gate.since >= max(TEST_MOST, 4 * gate.cost))
        ):
            gate.hold(now)
        elif not self._judged and not self._young:
            # Long answers hold all slots: one more may go.
            gate.limit = gate.in_flight + 1
            self._lone = -1
        elif self._judged >= 6 and now - gate.since >= max(TEST_MOST, 4 * gate.cost):
            if self._bad <= 0.4 * self._before * self._judged:
                gate.hold(now)
            elif self._bad < EXCUSED * self._judged:
                self._excuse(gate, now)
        return True
