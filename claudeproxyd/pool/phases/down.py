"""Only a probe goes now and then, until one does not fail. Pure."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.pace import LEAST
from claudeproxyd.pool.phases import Condition, Phase

if TYPE_CHECKING:
    from claudeproxyd.pool.gate import Gate

#: Seconds between two probes of a place that is down: at first, after some seconds, and after an hour.
PROBE_FIRST = 0.1
PROBE = 0.5
PROBE_LAST = 30.0
#: Seconds between two steps on the way up again.
STEP = 0.05
#: Seconds after which a place that is down and that nobody wants is forgotten.
UNWANTED = 600.0


class Down(Phase):
    """See the package. A probe is waited for, may go, is out, or did not fail and has let others in behind it."""

    __slots__ = ("_began", "_held", "_mark", "_may_probe", "_probing", "_ramping", "_stumbles", "_taken")
    condition = Condition.DOWN

    def __init__(self, *, held: bool) -> None:
        """*held*: there was a limit before, which holds again afterwards."""
        self._held = held
        self._may_probe = False
        self._probing: float | None = None
        """When the oldest probe went that is out."""
        self._ramping = False
        self._stumbles = 0
        """Failures since then."""
        self._taken = 0
        """What was granted since then, and did not fail."""

    def begin(self, gate: Gate[Any], now: float) -> None:
        self._mark = gate.newest
        self._pause(gate, now)

    def _pause(self, gate: Gate[Any], now: float) -> None:
        """The next probe may go in a while."""
        gate.limit = gate.in_flight
        self._may_probe = False
        self._probing = None
        self._ramping = False
        gate.due = max(now + self._between(gate, now), gate.not_before)

    @staticmethod
    def _between(gate: Gate[Any], now: float) -> float:
        """Seconds between two probes."""
        out = now - gate.last_pass
        return max(PROBE_FIRST, min(out / 8, PROBE), min(out / 120, PROBE_LAST))

    def _let_probe(self, gate: Gate[Any]) -> None:
        self._may_probe = True
        gate.limit = gate.in_flight + 1

    def granted(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        self._taken += 1
        if self._ramping:
            return
        self._may_probe = False
        if self._probing is None:
            self._probing = self._began = now
            self._stumbles = 0
            self._taken = 1
        # Where failures are slow the next one goes beside it.
        gate.due = min(self._probing + gate.look, now + max(self._between(gate, now), PROBE))

    def left(self, gate: Gate[Any], serial: int) -> None:
        if serial > self._mark and self._probing is not None and not self._ramping:
            # A probe that says nothing: the next one goes at once.
            self._probing = None
            gate.due = inf
            self._let_probe(gate)
        else:
            self._one_less(gate)

    def passed(self, gate: Gate[Any], serial: int, now: float) -> None:
        if serial > self._mark:
            self._ramp(gate, 2, now)
        else:
            self._one_less(gate)

    def _one_less(self, gate: Gate[Any]) -> None:
        """One from before is over: its slot is not filled again."""
        if self._may_probe:
            gate.limit = gate.in_flight + 1
        elif not self._ramping:
            gate.limit = min(gate.limit, gate.in_flight)

    def failed(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        if serial <= self._mark:
            self._one_less(gate)
            return
        self._taken -= 1
        self._stumbles += 1
        if gate.in_flight < 3 or not self._ramping:
            if not gate.in_flight:
                self._mark = gate.newest
            self._pause(gate, now)
        elif self._stumbles >= 2:
            # It lives, but does not take all.
            elapsed = now - self._began
            if gate.kind is Kind.QUOTA and elapsed >= LEAST and self._taken > 0:
                gate.pace(self._taken / elapsed, now)
            else:
                gate.test(gate.known, now)

    def tick(self, gate: Gate[Any], now: float) -> bool:
        if self._ramping or (self._probing is not None and now >= self._probing + gate.look - 1e-9):
            gate.last_pass = now
            self._ramp(gate, 3 * max(gate.limit, gate.in_flight) + 1, now)
        elif self._may_probe:
            # Nobody has wanted it for long.
            return False
        else:
            gate.due = now + UNWANTED
            self._let_probe(gate)
        return True

    def _ramp(self, gate: Gate[Any], more: float, now: float) -> None:
        """So many more may go; when they are as many as before, it is over."""
        if not self._ramping or gate.due == inf:
            gate.due = now + STEP
        self._ramping = True
        self._may_probe = False
        gate.limit = max(gate.limit, gate.in_flight) + more
        if gate.limit < gate.known:
            return
        if self._held:
            gate.limit = gate.known
            gate.hold(now)
        else:
            gate.be_free(now)
