"""One model at one provider: the credentials that may begin an attempt, and which is next.

:mod:`.provider_credentials` has the theory of operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.interfaces import ISelector
from claudeproxyd.outcomes.types import Scope
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.predicted_resets import PredictedResets
from claudeproxyd.pool.scopes import (
    CooldownScope,
    ModelCrowd,
    ModelOnCredential,
    PooledCredential,
    ScopeCooldown,
    ScopeGate,
    drop_removed,
)

if TYPE_CHECKING:
    from claudeproxyd.pool.forecast import Soonest
    from claudeproxyd.pool.provider_credentials import ProviderCredentials

#: The share of failed attempts above which a credential comes last …
MAX_FAILING_SHARE = 0.3
#: … but for one choice in so many, so that it is seen when it is better.
FAILING_TRIED_EVERY = 16


class ModelCredentials(CooldownScope):
    """The credentials that serve one model at one provider."""

    __slots__ = (
        "_choices",
        "_pairs",
        "available",
        "cooldowns",
        "crowd_scope",
        "failing",
        "gates",
        "in_flight",
        "name",
        "not_cooling",
        "paced",
        "predicted_resets",
        "selectors",
        "serving",
        "soonest",
    )

    kind = Scope.MODEL_ON_PROVIDER
    in_flight: int

    def __init__(self, provider: ProviderCredentials, name: str) -> None:
        self.provider = provider
        self.name = name
        """The upstream's name for the model."""
        self.in_flight = 0
        self.cooldown = None
        self.gate = None
        self.crowd_scope = ModelCrowd(self)
        self.cooldowns: dict[PooledCredential, ScopeCooldown] = {}
        """The cooldowns of this model on single credentials."""
        self.gates: dict[PooledCredential, ScopeGate] = {}
        """The gates of this model on single credentials."""
        self._pairs: dict[PooledCredential, ModelOnCredential] = {}
        self.failing = 0
        """The set of credentials with more failures than :data:`MAX_FAILING_SHARE`."""
        self.paced = 0
        """The set of credentials that take only so many attempts a second."""
        self._choices = 0
        self.predicted_resets = PredictedResets()
        self.soonest: Soonest | None = None
        """Kept by :class:`~.forecast.Forecast`."""
        self.rebuild()

    @property
    def owner(self) -> ProviderCredentials:
        return self.provider

    @property
    def names(self) -> tuple[str, str | None, str | None]:
        return (self.provider.name, None, self.name)

    def rebuild(self) -> None:
        """Follow a change of the provider's credentials."""
        provider = self.provider
        self.serving = provider.serving(self.name)
        self.available = self.not_cooling = self.serving
        self.selectors: list[ISelector] = [provider.selector(tier) for tier in provider.tiers]
        drop_removed(self.cooldowns)
        self._pairs = {pooled: pair for pooled, pair in self._pairs.items() if pooled.index >= 0}
        for removed in [pooled for pooled in self.gates if pooled.index < 0]:
            del self.gates[removed]
            provider.gate_count -= 1
        self.predicted_resets.rebuild()
        self.failing = self.paced = 0
        for pooled in {*self.cooldowns, *self.gates}:
            self.refresh(pooled)

    def forget(self) -> None:
        """End the cooldowns and drop the gates of a model that is remembered no more. Attempts may be under way."""
        for cooldown in (self.cooldown, *self.cooldowns.values()):
            if cooldown is not None:
                cooldown.running = False
        for scope in (self, self.crowd_scope):
            scope.attach_gate(None)
        self.provider.gate_count -= len(self.gates)
        self.gates.clear()

    def pair(self, pooled: PooledCredential) -> ModelOnCredential:
        """Return the scope of this model on *pooled*, made if need be."""
        pair = self._pairs.get(pooled)
        if pair is None:
            pair = self._pairs[pooled] = ModelOnCredential(self, pooled)
        return pair

    def refresh(self, pooled: PooledCredential) -> None:
        """Set the bits of *pooled* after a change of this model's cooldown or gate on it."""
        if pooled.index < 0:
            return
        bit = 1 << pooled.index
        if not self.serving & bit:
            return
        cooldown = self.cooldowns.get(pooled)
        gate = self.gates.get(pooled)
        cooling = cooldown is not None and cooldown.running
        self.not_cooling = self.not_cooling & ~bit if cooling else self.not_cooling | bit
        available = (cooldown is None or cooldown.open) and (gate is None or gate.open)
        self.available = self.available | bit if available else self.available & ~bit
        failing = gate is not None and gate.share > MAX_FAILING_SHARE
        self.failing = self.failing | bit if failing else self.failing & ~bit
        paced = gate is not None and gate.condition is Condition.PACED
        self.paced = self.paced | bit if paced else self.paced & ~bit

    def ready(self) -> int:
        """Return the set of credentials that may begin an attempt now."""
        provider = self.provider
        if (provider.limit or provider.cooldown or provider.gate) and provider.full:
            return 0
        for each in (self.cooldown, self.gate, self.crowd_scope.gate):
            if each is not None and not each.open:
                return 0
        return provider.available & self.available

    def ready_or_busy(self) -> int:
        """Return the set of credentials that no cooldown holds back: ready, or at some limit."""
        provider = self.provider
        for cooldown in (provider.cooldown, self.cooldown):
            if cooldown is not None and cooldown.running:
                return 0
        return provider.not_cooling & self.not_cooling

    def keeps(self, pooled: PooledCredential, *, failed: bool) -> bool:
        """Return whether a session stays with *pooled*, which is merely busy or has *failed* this request by chance."""
        gate = self.gates.get(pooled)
        if pooled.index < 0 or (gate is not None and gate.condition is Condition.DOWN):
            return False
        among = ~self.failing if failed else ~self.ready() | self.paced
        return bool((self.ready_or_busy() & among) >> pooled.index & 1)

    def down(self) -> ScopeGate | None:
        """Return the gate that keeps all that is not cooling from more than a probe; None where there is none."""
        for gate in (self.provider.gate, self.gate, self.crowd_scope.gate):
            if gate is not None and gate.condition is Condition.DOWN:
                return gate
        usable = self.ready_or_busy()
        soonest = None
        for pooled, gate in self.gates.items():
            if gate.condition is Condition.DOWN and usable >> pooled.index & 1:
                usable &= ~(1 << pooled.index)
                if soonest is None or gate.due < soonest.due:
                    soonest = gate
        return None if usable else soonest

    def choose(self, ready: int, preferred: PooledCredential | None, now: float) -> PooledCredential:
        """Return one of *ready*, which is not empty: *preferred*, if it is among the best."""
        provider = self.provider
        if self.predicted_resets.mask:
            ready = ready & ~self.predicted_resets.mask_at(now) or ready
        if self.failing:
            self._choices += 1
            if self._choices % FAILING_TRIED_EVERY:
                ready = ready & ~self.failing or ready
        number = 0
        for tier in provider.tiers:
            among = ready & tier
            if among:
                break
            number += 1
        if preferred is not None and preferred.index >= 0 and among >> preferred.index & 1:
            return preferred
        return provider.credentials[self.selectors[number].choose(among)]
