"""Metrics of the pool and of each credential. Every family is read lazily: there may be ten thousand credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import TYPE_CHECKING

from claudeproxyd.pool.active_cooldowns import ActiveCooldowns, remaining_seconds
from claudeproxyd.pool.candidates import Candidates
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.scopes import PooledCredential, ScopeGate

if TYPE_CHECKING:
    from claudeproxyd.observe.exposition import Registry

#: Labels, of which the first two are provider and credential, and a number.
Rows = Iterator[tuple[tuple[str, ...], float]]


class CredentialMetrics:
    """The values that :func:`register` reads, made anew for each scrape; for messages alone, not for count_tokens."""

    def __init__(self, messages: Candidates, now: float) -> None:
        self._messages = messages
        self._now = now

    def _pooled(self) -> Iterator[PooledCredential]:
        """Yield all credentials. A reload meanwhile makes new lists, so that these are complete."""
        return (pooled for provider in list(self._messages.providers.values()) for pooled in provider.credentials)

    def states(self) -> Rows:
        """Yield 1 for each credential, with its state as a third label."""
        for pooled in self._pooled():
            yield (*pooled.key, state(pooled)), 1

    def in_flight(self) -> Rows:
        """Yield the number of attempts under way with each credential."""
        for pooled in self._pooled():
            yield pooled.key, pooled.in_flight

    def attempts(self) -> Rows:
        """Yield the number of attempts that are over with each credential, with the outcome as a third label."""
        for pooled in self._pooled():
            for outcome, number in outcomes(pooled):
                yield (*pooled.key, outcome), number

    def remaining(self) -> Rows:
        """Yield the seconds until nothing holds a credential back any more, for no model either."""
        active = ActiveCooldowns(self._messages)
        for pooled in self._pooled():
            cooldowns = active.cooldowns_of(pooled)
            yield pooled.key, max([remaining_seconds(cooldown, self._now) for cooldown in cooldowns], default=0.0)

    def held_back(self) -> Rows:
        """Yield the seconds for which each outcome holds a credential back, with the outcome as a third label.

        None where none does; 0 where a cooldown is over and no attempt has succeeded since.
        """
        active = ActiveCooldowns(self._messages)
        for pooled in self._pooled():
            longest: dict[str, float] = {}
            for cooldown in active.cooldowns_of(pooled):
                if cooldown.kind is not None:
                    remaining = remaining_seconds(cooldown, self._now)
                    longest[cooldown.kind.value] = max(longest.get(cooldown.kind.value, 0.0), remaining)
            for outcome, remaining in longest.items():
                yield (*pooled.key, outcome), remaining

    def levels(self) -> Rows:
        """Yield the failures in a row of each credential's cooldown that has most."""
        active = ActiveCooldowns(self._messages)
        for pooled in self._pooled():
            yield pooled.key, max([cooldown.level for cooldown in active.cooldowns_of(pooled)], default=0)

    def gates(self, read: Callable[[ScopeGate], float | None]) -> Rows:
        """Yield what *read* returns for each gate but crowds', with its model, or "", as a third label.

        None leaves the gate out. A provider's own has an empty credential.
        """
        for gate in self._messages.gates:
            value = read(gate)
            if value is not None and not gate.crowd and gate.scope.is_known:
                provider, credential, model = gate.scope.names
                yield (provider, credential or "", model or ""), value


def register(
    metrics: Registry, gauges: Mapping[str, Callable[[], int]], credentials: Callable[[], CredentialMetrics]
) -> None:
    """Let *metrics* read the pool's sizes and each credential's values. Called once, by the pool."""
    _register_sizes(metrics, gauges)
    _register_credentials(metrics, credentials)


def _register_sizes(metrics: Registry, gauges: Mapping[str, Callable[[], int]]) -> None:
    metrics.gauge("claudeproxyd_pool_in_flight_attempts", "Attempts under way.", gauges["in_flight"])
    metrics.gauge("claudeproxyd_pool_waiting_requests", "Requests that wait for a credential.", gauges["waiting"])
    metrics.gauge(
        "claudeproxyd_pool_cooldowns", "Running cooldowns, without those of disabled credentials.", gauges["cooling"]
    )
    metrics.gauge("claudeproxyd_pool_gates", "Scopes whose failures a gate has counted lately.", gauges["gates"])
    metrics.gauge("claudeproxyd_pool_disabled_credentials", "Disabled credentials.", gauges["disabled"])
    metrics.gauge(
        "claudeproxyd_pool_affinities", "Sessions that are kept on one credential, by model.", gauges["affinities"]
    )
    metrics.gauge("claudeproxyd_pool_models", "Models that are remembered, at each provider.", gauges["models"])
    metrics.gauge(
        "claudeproxyd_pool_unknown_models",
        "Remembered models that neither the configuration nor discovery knows.",
        gauges["unknown_models"],
    )
    metrics.gauge("claudeproxyd_pool_deadlines", "Pending entries in the pool's deadline heaps.", gauges["deadlines"])
    metrics.gauge(
        "claudeproxyd_pool",
        "Going away in the next release: each size has a metric of its own, claudeproxyd_pool_*.",
        lambda: (((what,), read()) for what, read in gauges.items()),
        ("what",),
    )


def _register_credentials(metrics: Registry, credentials: Callable[[], CredentialMetrics]) -> None:
    names = ("provider", "credential")
    metrics.gauge(
        "claudeproxyd_credential_state",
        "1, for the state that a credential is in.",
        lambda: credentials().states(),
        (*names, "state"),
    )
    metrics.gauge(
        "claudeproxyd_credential_in_flight",
        "Attempts under way with a credential.",
        lambda: credentials().in_flight(),
        names,
    )
    metrics.counter(
        "claudeproxyd_credential_attempts_total",
        "Attempts with a credential that are over.",
        lambda: credentials().attempts(),
        (*names, "outcome"),
    )
    metrics.gauge(
        "claudeproxyd_credential_cooldown_seconds",
        "Seconds until nothing holds a credential back any more, for no model either.",
        lambda: credentials().remaining(),
        names,
    )
    metrics.gauge(
        "claudeproxyd_credential_held_back_seconds",
        "Seconds for which an outcome holds a credential back; 0: it may be tried, and did not succeed yet.",
        lambda: credentials().held_back(),
        (*names, "outcome"),
    )
    metrics.gauge(
        "claudeproxyd_credential_level",
        "Failures in a row, of a credential's cooldown that has most.",
        lambda: credentials().levels(),
        names,
    )
    metrics.gauge(
        "claudeproxyd_gate_failing",
        "The share of late attempts that failed, where something did. Without a credential: of the whole provider.",
        lambda: credentials().gates(lambda gate: gate.share),
        (*names, "model"),
    )
    metrics.gauge(
        "claudeproxyd_gate_limit",
        "How many attempts at once were learned to be carried; 0 where nearly all fail.",
        lambda: credentials().gates(lambda gate: None if gate.limit == inf else gate.limit),
        (*names, "model"),
    )


def outcomes(pooled: PooledCredential) -> Iterator[tuple[str, int]]:
    """Yield each outcome of the credential's attempts, and how often it came."""
    if pooled.served:
        yield "ok", pooled.served
    for kind, number in pooled.failures.items():
        yield kind.value, number


def state(pooled: PooledCredential) -> str:
    """Return the state of the whole credential: disabled, cooling, trial (half open), down, busy or ready.

    A model on it may be cooling besides.
    """
    if not pooled.enabled:
        return "disabled"
    provider = pooled.provider
    cooldowns = [cooldown for cooldown in (provider.cooldown, pooled.cooldown) if cooldown is not None]
    if any(cooldown.running for cooldown in cooldowns):
        return "cooling"
    if any(cooldown.kind is not None for cooldown in cooldowns):
        return "trial"
    if any(gate is not None and gate.condition is Condition.DOWN for gate in (provider.gate, pooled.gate)):
        return "down"
    available = pooled.index >= 0 and provider.available >> pooled.index & 1
    return "ready" if available and not provider.full else "busy"
