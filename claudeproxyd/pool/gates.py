"""All gates: told of leases, of failures that pass by themselves, and of the time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf

from claudeproxyd.outcomes.types import Kind, Outcome, Scope
from claudeproxyd.pool.deadlines import DeadlineHeap
from claudeproxyd.pool.lease import Lease
from claudeproxyd.pool.model_credentials import ModelCredentials
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.provider_credentials import ProviderCredentials
from claudeproxyd.pool.scopes import ModelOnCredential, ScopeGate
from claudeproxyd.pool.selection import lowest

#: The fewest credentials of a model that get a gate for all of them together: an outage is then seen once.
MIN_CROWD_CREDENTIALS = 2
#: The least that a failure says for its request, at a scope where hardly anything fails.
MIN_ODDS = 0.02
#: The kinds of outcome that are not the upstream's doing: a gate learns nothing from them.
_IGNORED_KINDS = (Kind.CANCELLED, Kind.INTERNAL)


def gates_on(pair: ModelOnCredential) -> list[ScopeGate]:
    """Return the gates that an attempt with *pair* passes through."""
    model, pooled = pair.model, pair.pooled
    gates = (model.provider.gate, model.gate, model.crowd_scope.gate, pooled.gate, model.gates.get(pooled))
    return [gate for gate in gates if gate is not None]


class Gates:
    """See the module. Made and driven by the candidates, which ask it only about providers that have a gate."""

    def __init__(self, providers: Mapping[str, ProviderCredentials]) -> None:
        """Begin without gates. *providers*: by name, as they are at any time."""
        self._providers = providers
        self.timers: DeadlineHeap[ScopeGate] = DeadlineHeap(lambda when, one: one.due == when and one.scope.gate is one)
        self.max_cooldown = inf
        """Seconds: the cap on the time that an upstream may ask for."""
        self.shared_until = -inf
        """The moment until which another daemon is taken to use the same credentials."""

    def __iter__(self) -> Iterator[ScopeGate]:
        """Yield all gates."""
        for provider in list(self._providers.values()):
            for gate in (provider.gate, *(pooled.gate for pooled in provider.credentials)):
                if gate is not None:
                    yield gate
            for model in provider.models():
                for gate in (model.gate, model.crowd_scope.gate, *model.gates.values()):
                    if gate is not None:
                        yield gate

    def granted(self, lease: Lease) -> None:
        """Count an attempt that begins."""
        for gate in gates_on(lease.pair):
            gate.granted(lease.serial, lease.request.size, lease.granted)
            self._changed(gate)

    def began(self, lease: Lease, now: float) -> None:
        """Count an attempt whose answer has begun."""
        for gate in gates_on(lease.pair):
            gate.began(lease.serial, now - lease.granted, now)
            self._changed(gate)

    def _changed(self, gate: ScopeGate) -> None:
        """Bring the sets and the deadline heap up to date with *gate*."""
        gate.scope.update()
        if gate.due != gate.armed:
            gate.armed = gate.due
            if gate.due != inf:
                self.timers.put(gate.due, gate)

    def in_pace(self, model: ModelCredentials, ready: int, size: int, now: float) -> int:
        """Return those of *ready* with which an attempt of *size* bytes would not come too soon.

        The gates of the others are due when it would not.
        """
        for gate in (model.provider.gate, model.gate):
            if gate is not None and self._too_soon(gate, size, now):
                return 0
        paced = model.paced & ready
        while paced:
            index = lowest(paced)
            paced &= paced - 1
            gate = model.gates[model.provider.credentials[index]]
            if self._too_soon(gate, size, now):
                ready &= ~(1 << index)
        return ready

    def _too_soon(self, gate: ScopeGate, size: int, now: float) -> bool:
        wait = gate.wait(size, now)
        if wait:
            gate.due = min(gate.due, now + wait)
            self._changed(gate)
        return wait > 0

    def begin(self, lease: Lease, outcome: Outcome, newest: int, now: float) -> None:
        """Make the gates that a failure which passes by itself needs. *newest* is the newest lease's number."""
        model = lease.pair.model
        scopes = [lease.scope(outcome)]
        if outcome.scope is Scope.MODEL and model.serving.bit_count() >= MIN_CROWD_CREDENTIALS:
            scopes.append(model.crowd_scope)
        for scope in scopes:
            if scope.gate is None:
                # The lease itself is counted: the gate is told in a moment how it ended, as of all that are out.
                scope.attach_gate(ScopeGate(scope, scope.in_flight + 1, newest, now, crowd=scope.crowd))

    def released(self, lease: Lease, outcome: Outcome, now: float) -> ScopeGate | None:
        """Tell all gates on its way how a lease ended. Return one that went down, or came up again."""
        scope = lease.scope(outcome)
        turned = None
        for gate in gates_on(lease.pair):
            was_down = gate.condition is Condition.DOWN
            gate.shared = now < self.shared_until
            if outcome.kind in _IGNORED_KINDS:
                gate.left(lease.serial)
            elif outcome.passing and (gate is scope.gate or (gate.crowd and outcome.scope is Scope.MODEL)):
                wait = 0.0 if outcome.until_hint is None else min(outcome.until_hint, self.max_cooldown)
                if outcome.scope is Scope.MODEL and not gate.crowd:
                    lease.request.odds *= max(gate.odds, MIN_ODDS)
                gate.kind, gate.reason = outcome.kind, outcome.reason
                gate.failed(lease.serial, lease.request.size, now - lease.granted, now, wait)
            elif outcome.kind is Kind.OK or outcome.scope is Scope.NONE:
                gate.passed(lease.serial, now - lease.granted, now)
            else:
                gate.left(lease.serial)
            if was_down != (gate.condition is Condition.DOWN):
                turned = gate
            self._changed(gate)
        return turned

    def tick(self, now: float, most: int) -> list[ScopeGate]:
        """Tell up to *most* gates that their time has come. Return those that came up."""
        up = []
        for gate in self.timers.due(now, most):
            was_down = gate.condition is Condition.DOWN
            gate.armed = inf
            if gate.tick(now):
                self._changed(gate)
            else:
                gate.scope.attach_gate(None)
            if was_down and gate.condition is not Condition.DOWN:
                up.append(gate)
        return up
