"""Only a probe goes now and then, until one does not fail. Pure."""

from __future__ import annotations

from math import inf

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.pace import LEAST
from claudeproxyd.pool.phases import AnyGate, Condition, Phase

#: Seconds between two probes of a place that is down: at first, after some seconds, and after an hour.
PROBE_FIRST = 0.1
PROBE = 0.5
PROBE_LAST = 30.0
#: Seconds for which answers that were under way when it went down still show that it lives: long ones come for minutes.
OLD_NEWS = 2.0
#: Seconds between two steps on the way up again.
STEP = 0.05
#: Seconds after which a place that is down and that nobody wants is forgotten.
UNWANTED = 600.0


class Down(Phase):
    """See the package. A probe is waited for, may go, is out, or did not fail and has let others in behind it."""

    __slots__ = (
        "_alive",
        "_began",
        "_may_probe",
        "_news",
        "_probed",
        "_probes",
        "_ramping",
        "_stumbles",
        "_taken",
        "_tolerance",
        "held",
    )
    condition = Condition.DOWN

    def __init__(self, *, held: bool, tolerance: float = 0.0) -> None:
        """*held*: there was a limit before, which holds again afterwards; *tolerance*: what was excused before."""
        self.held = held
        self._tolerance = tolerance
        self._may_probe = False
        self._probes: dict[int, float] = {}
        """Probes that are out, the oldest first, and when they went."""
        self._ramping = False
        self._stumbles = 0
        """Failures since the first of them went."""
        self._taken = 0
        """Attempts that were granted since then, and did not fail."""

    def begin(self, gate: AnyGate, now: float) -> None:
        self._news = gate.newest_failed
        """Leases up to that one say nothing of now."""
        self._probed = self._began = now
        self._alive = gate.last_pass
        """When something passed for the last time before it was down, or a probe did."""
        self._rest(gate, now)

    def _rest(self, gate: AnyGate, now: float) -> None:
        """Let the next probe go a while after the last one; where failures are slow, beside it."""
        gate.limit = gate.in_flight
        self._may_probe = False
        out = now - max(self._alive, min(gate.last_pass, gate.since + OLD_NEWS))
        pause = max(PROBE_FIRST, min(out / 8, PROBE), min(out / 120, PROBE_LAST))
        gate.due = min(max(now, self._probed + pause, gate.not_before), self._silent_at(gate))

    def _silent_at(self, gate: AnyGate) -> float:
        """Return when the oldest probe will have passed unless it has failed; infinite where none is out."""
        return next(iter(self._probes.values()), inf) + gate.look

    def _let_probe(self, gate: AnyGate, due: float) -> None:
        self._may_probe = True
        gate.limit = gate.in_flight + 1
        gate.due = min(due, self._silent_at(gate))

    def granted(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        self._taken += 1
        if self._ramping:
            return
        if not self._probes:
            self._began = now
            self._stumbles = 0
            self._taken = 1
        self._probes[serial] = self._probed = now
        self._rest(gate, now)

    def left(self, gate: AnyGate, serial: int) -> None:
        if self._probes.pop(serial, None) is not None and not self._ramping:
            # A probe that says nothing: the next one goes at once.
            self._let_probe(gate, inf)
        else:
            self._one_less(gate)

    def passed(self, gate: AnyGate, serial: int, now: float) -> None:
        self._probes.pop(serial, None)
        if serial > self._news:
            self._alive = now
            self._ramp(gate, serial, 2, now)
        else:
            self._one_less(gate)

    def _one_less(self, gate: AnyGate) -> None:
        """One from before is over: its slot is not filled again."""
        if self._may_probe:
            gate.limit = gate.in_flight + 1
        elif not self._ramping:
            gate.limit = min(gate.limit, gate.in_flight)

    def failed(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        probed = self._probes.pop(serial, None) is not None
        self._news = max(self._news, serial)
        if not self._ramping and (self._may_probe or not probed):
            self._one_less(gate)
            return
        self._taken -= 1
        self._stumbles += 1
        if not self._ramping or gate.in_flight < 3:
            self._ramping = False
            self._rest(gate, now)
        elif self._stumbles >= 2:
            # It lives, but does not take all.
            elapsed = now - self._began
            if gate.kind is Kind.QUOTA and elapsed >= LEAST and self._taken > 0:
                gate.pace(self._taken / elapsed, now)
            else:
                gate.test(gate.known, now)

    def tick(self, gate: AnyGate, now: float) -> bool:
        if self._ramping or now >= self._silent_at(gate) - 1e-9:
            gate.last_pass = self._alive = now
            oldest = next(iter(self._probes), gate.over)
            self._ramp(gate, oldest, 3 * max(gate.limit, gate.in_flight) + 1, now)
        elif self._may_probe:
            # Nobody has wanted it for long.
            return False
        else:
            self._let_probe(gate, now + UNWANTED)
        return True

    def _ramp(self, gate: AnyGate, serial: int, more: float, now: float) -> None:
        """That lease was let in, so as many more may go.

        It is over when they are as many as before and the last step let in all who wanted to: behind it may wait many
        more than ever were under way.
        """
        gate.over = max(gate.over, serial)
        if not self._ramping or gate.due == inf:
            gate.due = now + STEP
        self._ramping = True
        self._may_probe = False
        self._probes.clear()
        holds_back = gate.in_flight >= gate.limit
        gate.limit = max(gate.limit, gate.in_flight) + more
        if holds_back or gate.limit < gate.known:
            return
        if self.held:
            gate.limit = gate.known
            gate.hold(now)
        else:
            gate.be_free(now, self._tolerance)
