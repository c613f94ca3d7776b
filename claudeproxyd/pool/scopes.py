"""Scopes of cooldowns and gates: a provider, a model at it, a credential, or a model on one credential."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, ClassVar, TypeVar

from claudeproxyd.leases import Credential
from claudeproxyd.outcomes.types import Kind, Outcome, Scope
from claudeproxyd.pool.cooldown import Cooldown
from claudeproxyd.pool.gate import Gate

if TYPE_CHECKING:
    from claudeproxyd.pool.model_credentials import ModelCredentials
    from claudeproxyd.pool.provider_credentials import ProviderCredentials

T = TypeVar("T")


class CooldownScope(ABC):
    """A part of the pool that failures are about, that has at most one cooldown and one gate."""

    __slots__ = ("cooldown", "gate", "provider")

    kind: ClassVar[Scope]
    """The kind of scope, as outcomes name it."""
    crowd: ClassVar[bool] = False
    """Whether its gate stands for credentials that have gates of their own."""
    cooldown: ScopeCooldown | None
    """The cooldown that holds it back, or that is half open."""
    gate: ScopeGate | None
    """The gate that learns how much it carries."""
    provider: ProviderCredentials
    """The provider that it belongs to."""

    @property
    @abstractmethod
    def owner(self) -> PooledCredential | ProviderCredentials:
        """The credential that it is limited to, else the provider."""

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """The number of attempts under way."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, str | None, str | None]:
        """The names of its provider, credential and model; None where it is about all of them."""

    @property
    def is_known(self) -> bool:
        """Whether it is worth being stored and listed: a client did not make its model's name up."""
        model = self.names[2]
        return model is None or self.provider.knows(model)

    def part_of(self, model: ModelCredentials) -> int:
        """Return the bit of the credential, where this is the scope of *model* on it; else the empty set."""
        return 0

    def update(self) -> None:  # noqa: B027  # nothing to do where every choice looks at the scope itself
        """Bring the sets of the provider or the model up to date with the cooldown and the gate."""

    def attach(self, cooldown: ScopeCooldown | None) -> None:
        """Replace the cooldown; None: nothing holds this scope back."""
        self.cooldown = cooldown
        self.update()

    def attach_gate(self, gate: ScopeGate | None) -> None:
        """Replace the gate; None: nothing needs to be learned."""
        self.provider.gate_count += (gate is not None) - (self.gate is not None)
        self.gate = gate
        self.update()

    def __str__(self) -> str:
        provider, credential, model = self.names
        return provider + (f"/{credential}" if credential else "") + (f" for {model}" if model else "")


ScopeCooldown = Cooldown[CooldownScope]
ScopeGate = Gate[CooldownScope]


class PooledCredential(CooldownScope):
    """One credential, its present use and its history."""

    __slots__ = (
        "credential",
        "failures",
        "in_flight",
        "index",
        "key",
        "last_failure",
        "most",
        "served",
        "switched_off",
    )

    kind = Scope.CREDENTIAL
    in_flight: int

    def __init__(self, provider: ProviderCredentials, credential: Credential) -> None:
        self.provider = provider
        self.credential = credential
        """The configuration's, which a reload replaces."""
        self.key = (credential.provider, credential.name)
        self.index = -1
        """The index of the bit in the provider's sets; -1 once it is configured no more."""
        self.switched_off = False
        """Whether an operator disabled it at run time."""
        self.in_flight = 0
        self.most = inf
        """Attempts at once, for messages: its ``max_concurrency``, or the share of it that is this process's."""
        self.cooldown = None
        self.gate = None
        self.served = 0
        """The number of attempts that succeeded."""
        self.failures: dict[Kind, int] = {}
        self.last_failure: tuple[float, Outcome] | None = None
        """The time of the last failure, on the reactor's clock, and its outcome."""

    @property
    def enabled(self) -> bool:
        """Whether neither the configuration nor an operator has it disabled."""
        return not (self.switched_off or self.credential.disabled)

    @property
    def owner(self) -> PooledCredential:
        return self

    def members(self) -> Sequence[PooledCredential]:
        """Return the credentials that it stands for."""
        return (self,)

    @property
    def names(self) -> tuple[str, str | None, str | None]:
        return (*self.key, None)

    def update(self) -> None:
        self.provider.refresh(self)

    def attach(self, cooldown: ScopeCooldown | None) -> None:
        put(self.provider.cooldowns, self, cooldown)
        super().attach(cooldown)


class ModelOnCredential(CooldownScope):
    """One model on one credential. The model keeps its cooldown and its gate, since it goes through all of them."""

    __slots__ = ("in_flight", "last_served", "model", "pooled")

    kind = Scope.MODEL
    in_flight: int

    def __init__(self, model: ModelCredentials, pooled: PooledCredential) -> None:
        self.model = model
        self.pooled = pooled
        self.provider = model.provider
        self.in_flight = 0
        self.last_served = -inf
        """The time of the last success, on the reactor's clock."""

    @property
    def cooldown(self) -> ScopeCooldown | None:
        return self.model.cooldowns.get(self.pooled)

    @cooldown.setter
    def cooldown(self, cooldown: ScopeCooldown | None) -> None:
        put(self.model.cooldowns, self.pooled, cooldown)

    @property
    def gate(self) -> ScopeGate | None:
        return self.model.gates.get(self.pooled)

    @gate.setter
    def gate(self, gate: ScopeGate | None) -> None:
        put(self.model.gates, self.pooled, gate)

    @property
    def owner(self) -> PooledCredential:
        return self.pooled

    @property
    def names(self) -> tuple[str, str | None, str | None]:
        return (*self.pooled.key, self.model.name)

    def part_of(self, model: ModelCredentials) -> int:
        return 1 << self.pooled.index if model is self.model and self.pooled.index >= 0 else 0

    def update(self) -> None:
        self.model.refresh(self.pooled)


class ModelCrowd(CooldownScope):
    """All credentials of one model together: its gate sees an outage once, and not with each of them."""

    __slots__ = ("model",)

    kind = Scope.MODEL_ON_PROVIDER
    crowd = True

    def __init__(self, model: ModelCredentials) -> None:
        self.model = model
        self.provider = model.provider
        self.cooldown = None
        self.gate = None

    @property
    def owner(self) -> ProviderCredentials:
        return self.provider

    @property
    def in_flight(self) -> int:
        return self.model.in_flight

    @property
    def names(self) -> tuple[str, str | None, str | None]:
        return self.model.names


def put(entries: dict[PooledCredential, T], pooled: PooledCredential, entry: T | None) -> None:
    """Make *entry* the newest of *entries*, in place of an older one of *pooled*; None: only drop that."""
    entries.pop(pooled, None)
    if entry is not None:
        entries[pooled] = entry


def drop_removed(cooldowns: dict[PooledCredential, ScopeCooldown]) -> None:
    """End the cooldowns of credentials that are configured no more."""
    for removed in [pooled for pooled in cooldowns if pooled.index < 0]:
        cooldowns.pop(removed).running = False
