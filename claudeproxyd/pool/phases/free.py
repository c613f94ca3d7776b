"""Nothing is held back. Pure."""

from __future__ import annotations

from math import inf

from claudeproxyd.pool.phases import DOWN, AnyGate, Condition, Phase

#: The share of attempts that may fail before there is a test.
TOLERANCE = 0.25
#: Seconds after which a share can be compared with what was excused.
SETTLED = 10.0
#: Seconds without a failure after which a free gate is dropped.
IDLE = 60.0


class Free(Phase):
    """See the package."""

    __slots__ = ("_base",)
    condition = Condition.FREE

    def __init__(self, tolerance: float = 0.0) -> None:
        """*tolerance*: what a test has excused."""
        self._base = tolerance

    def begin(self, gate: AnyGate, now: float) -> None:
        gate.limit = inf
        base, self._base = self._base, DOWN if gate.crowd else TOLERANCE
        gate.forgive(max(base, self._base))
        gate.due = now + IDLE

    def granted(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        if gate.tolerance > self._base and gate.share < (gate.tolerance - 0.1) / 2.5 and now - gate.since > SETTLED:
            # Less than half of what was excused, and not because failures are slower than grants.
            gate.tolerance = self._base

    def failed(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        if gate.charge():
            gate.test(gate.peak, now)

    def tick(self, gate: AnyGate, now: float) -> bool:
        gate.due = gate.last_failure + IDLE
        return gate.due > now
