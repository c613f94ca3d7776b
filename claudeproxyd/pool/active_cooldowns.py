"""The cooldowns and gates that each credential is subject to, for people and metrics."""

from __future__ import annotations

from collections.abc import Sequence

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.candidates import Candidates
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.provider_credentials import ProviderCredentials
from claudeproxyd.pool.scopes import PooledCredential, ScopeCooldown, ScopeGate


class ActiveCooldowns:
    """All cooldowns and gates by credential. Gathered once: those of one credential are spread over its models."""

    def __init__(self, *both: Candidates) -> None:
        self._cooldowns: dict[PooledCredential | ProviderCredentials, list[ScopeCooldown]] = {}
        self._gates: dict[PooledCredential | ProviderCredentials, list[ScopeGate]] = {}
        for candidates in both:
            for provider in candidates.providers.values():
                self._gather(provider)
            for gate in candidates.gates:
                self._gates.setdefault(gate.scope.owner, []).append(gate)

    def _gather(self, provider: ProviderCredentials) -> None:
        # By the indexes, and not by each cooldown's scope: there may be a hundred thousand.
        models = provider.models()
        shared = [scope.cooldown for scope in (provider, *models) if scope.cooldown is not None]
        self._cooldowns[provider] = [cooldown for cooldown in shared if cooldown.kind is not None]
        for cooldowns in (provider.cooldowns, *(model.cooldowns for model in models)):
            for pooled, cooldown in cooldowns.items():
                if cooldown.kind is not None:
                    self._cooldowns.setdefault(pooled, []).append(cooldown)

    def cooldowns_of(self, pooled: PooledCredential) -> Sequence[ScopeCooldown]:
        """Return the cooldowns that *pooled* is subject to, its provider's first."""
        return (*self._cooldowns.get(pooled.provider, ()), *self._cooldowns.get(pooled, ()))

    def gates_of(self, pooled: PooledCredential) -> Sequence[ScopeGate]:
        """Return the gates that *pooled* is subject to, its provider's first."""
        return (*self._gates.get(pooled.provider, ()), *self._gates.get(pooled, ()))

    def needing_attention(self) -> set[tuple[str, str]]:
        """Return the (provider, credential) pairs that one of these holds back in a way that people should look at."""
        owners = [owner for owner, cooldowns in self._cooldowns.items() if any(map(needs_attention, cooldowns))]
        for owner, gates in self._gates.items():
            if any(gate.condition is Condition.DOWN for gate in gates):
                owners.append(owner)
        return {pooled.key for owner in owners for pooled in owner.members()}


def needs_attention(cooldown: ScopeCooldown) -> bool:
    """Return whether people should look at *cooldown*.

    A model's cooldown is no trouble while it is half open, or where the model is missing and a client made it up.
    """
    if cooldown.running and cooldown.kind is not Kind.MODEL_UNAVAILABLE:
        return True
    return cooldown.scope.names[2] is None or (cooldown.running and cooldown.scope.is_known)


def remaining_seconds(cooldown: ScopeCooldown, now: float) -> float:
    """Return how long *cooldown* will still run."""
    return max(0.0, cooldown.until - now) if cooldown.running else 0.0
