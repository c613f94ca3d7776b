"""The credentials of one provider, and which are ready, kept up to date so that a choice never searches.

Theory of operation
-------------------

One :class:`ProviderCredentials` stands for the credentials of one provider, one :class:`ModelCredentials` in it for one
of its models. A set of credentials is an int, bit *i* for the *i*-th credential of the provider. Each of the two keeps
two such sets:

``not_cooling``
    enabled and without a running cooldown: perhaps busy, but no time needs to pass.
``available``
    of these, the ones that may begin one more attempt now.

At the provider a bit speaks of the whole credential (enabled, its cooldown, its ``max_concurrency``), at a model of
that one model on it (the globs, its cooldown). A candidate is ready when both are set, so the ready set of a model is

    ``provider.available & model.available``

or empty, while the provider or the model at it cools or is full. That is two machine words for a hundred credentials,
and still less than a microsecond for ten thousand.

A bit changes only through ``refresh``, which is called for the one credential that something happened to: a lease
began or ended and it has a limit, a cooldown began, ended, or let one more probe in, a gate opened or shut. So a change
costs one bit in one set, however many models there are; and a credential that is never in trouble (no limit, no
cooldown) costs nothing at all.

Time never changes a set by itself. Every running cooldown, and every gate that waits, has an entry in a deadline heap,
and ``refresh`` follows when it is due.

The priorities are sets too (*tiers*), and so are the credentials whose answers' headers predicted that they would be
refused (:class:`~.predicted_resets.PredictedResets`): a choice takes intersections until one is not empty, and then
asks the strategy for one of it.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import TypeVar

from claudeproxyd.globs import matches
from claudeproxyd.interfaces import ISelector
from claudeproxyd.leases import Credential
from claudeproxyd.outcomes.types import Scope
from claudeproxyd.pool.model_credentials import ModelCredentials
from claudeproxyd.pool.scopes import (
    CooldownScope,
    ModelOnCredential,
    PooledCredential,
    ScopeCooldown,
    drop_removed,
)
from claudeproxyd.pool.selection import FillFirst, LeastBusy, Loads, RoundRobin, Weighted
from claudeproxyd.pool.shares import Shares

K = TypeVar("K")

#: Models that are remembered at one provider, of those that somebody configured or discovered …
MAX_KNOWN_MODELS = 4096
#: … and of names that clients made up. The least recently added, or used, goes first.
MAX_UNKNOWN_MODELS = 256


class ProviderCredentials(CooldownScope):
    """The credentials of one provider, for messages or for count_tokens."""

    __slots__ = (
        "_by_globs",
        "_by_name",
        "_by_weight",
        "_known",
        "_unknown",
        "available",
        "cooldowns",
        "credentials",
        "everyone",
        "gate_count",
        "in_flight",
        "knows",
        "limit",
        "limited",
        "loads",
        "name",
        "not_cooling",
        "strategy",
        "tiers",
    )

    kind = Scope.PROVIDER
    in_flight: int

    def __init__(self, name: str, known_models: Callable[[str], bool], *, limited: bool = True) -> None:
        """Begin without credentials. *limited*: whether ``max_concurrency`` counts; count_tokens is small and free."""
        self.provider = self
        self.name = name
        self.knows = known_models
        """Returns whether somebody configured or discovered a model's name."""
        self.limited = limited
        self.limit = inf
        """Attempts at once with all credentials together, or the share of them that is this process's."""
        self.strategy = "round-robin"
        self.in_flight = 0
        self.cooldown = None
        self.gate = None
        self.gate_count = 0
        """The number of gates at this provider, its models and its credentials."""
        self.cooldowns: dict[PooledCredential, ScopeCooldown] = {}
        """The cooldowns of whole credentials."""
        self.credentials: list[PooledCredential] = []
        self.everyone = 0
        """The set of all credentials."""
        self.tiers: list[int] = []
        """The set of credentials of each priority, the highest first."""
        self.available = 0
        self.not_cooling = 0
        self.loads: Loads | None = None
        """Kept for the least-busy strategy alone."""
        self._by_name: dict[str, PooledCredential] = {}
        self._by_globs: dict[tuple[str, ...], int] = {}
        self._by_weight: dict[int, int] = {}
        self._known: OrderedDict[str, ModelCredentials] = OrderedDict()
        self._unknown: OrderedDict[str, ModelCredentials] = OrderedDict()

    @property
    def owner(self) -> ProviderCredentials:
        return self

    def members(self) -> Sequence[PooledCredential]:
        """Return the credentials that it stands for."""
        return self.credentials

    @property
    def names(self) -> tuple[str, str | None, str | None]:
        return (self.name, None, None)

    # -- configuration

    def reload(
        self, credentials: Iterable[Credential], *, limit: int, strategy: str, shares: Shares | None = None
    ) -> None:
        """Replace the credentials. One that keeps its name keeps its state. *limit*: 0 for none."""
        self.limit = self._most("", limit, shares)
        self.strategy = strategy
        old = self._by_name
        for pooled in self.credentials:
            pooled.index = -1
        self.credentials = []
        for index, credential in enumerate(credentials):
            pooled = old.get(credential.name) or PooledCredential(self, credential)
            pooled.credential = credential
            pooled.most = self._most(credential.name, credential.max_concurrency, shares)
            pooled.index = index
            self.credentials.append(pooled)
        self.everyone = (1 << len(self.credentials)) - 1
        self._by_name = {pooled.credential.name: pooled for pooled in self.credentials}
        drop_removed(self.cooldowns)
        for removed in [pooled for pooled in old.values() if pooled.index < 0]:
            removed.attach_gate(None)
        priorities = self._sets_by(lambda credential: credential.priority)
        self.tiers = [priorities[priority] for priority in sorted(priorities, reverse=True)]
        self._by_globs = self._sets_by(lambda credential: credential.models)
        self._by_weight = self._sets_by(lambda credential: credential.weight)
        self.loads = None
        if strategy == "least-busy":
            self.loads = Loads()
            for pooled in self.credentials:
                self.loads.add(pooled.index, pooled.in_flight)
        self.available = self.not_cooling = 0
        for pooled in self.credentials:
            self.refresh(pooled)
        for model in self.models():
            model.rebuild()

    def _most(self, credential: str, limit: int, shares: Shares | None) -> float:
        if not limit or not self.limited:
            return inf
        return limit if shares is None else shares.allowed(self.name, credential, limit)

    def _sets_by(self, key: Callable[[Credential], K]) -> dict[K, int]:
        """Return the set of credentials for each value of *key*."""
        size = (len(self.credentials) >> 3) + 1
        sets: defaultdict[K, bytearray] = defaultdict(lambda: bytearray(size))
        for pooled in self.credentials:
            sets[key(pooled.credential)][pooled.index >> 3] |= 1 << (pooled.index & 7)
        return {value: int.from_bytes(bits, "little") for value, bits in sets.items()}

    def selector(self, tier: int) -> ISelector:
        """Return a new selector of the strategy, for the credentials of one priority and one model."""
        if self.strategy == "weighted":
            return Weighted([(weight, among & tier) for weight, among in self._by_weight.items() if among & tier])
        if self.strategy == "fill-first":
            return FillFirst()
        if self.loads is not None:
            return LeastBusy(self.loads)
        return RoundRobin()

    # -- look-ups

    def serving(self, model: str) -> int:
        """Return the set of credentials whose globs let them serve *model*."""
        serving = 0
        for globs, having in self._by_globs.items():
            if globs == ("*",) or matches(model, globs):
                serving |= having
        return serving

    def find(self, name: str) -> PooledCredential | None:
        """Return the credential of that name, or None."""
        return self._by_name.get(name)

    def set_of(self, credentials: Iterable[Credential]) -> int:
        """Return the set of *credentials*, without other providers' and removed ones."""
        found = 0
        for credential in credentials:
            pooled = self._by_name.get(credential.name) if credential.provider == self.name else None
            if pooled is not None:
                found |= 1 << pooled.index
        return found

    def model(self, name: str) -> ModelCredentials:
        """Return the credentials of the model of that name, made if need be."""
        model = self._known.get(name)
        if model is not None:
            return model
        model = self._unknown.get(name)
        if model is not None:
            self._unknown.move_to_end(name)
            return model
        model = ModelCredentials(self, name)
        models, bound = (self._known, MAX_KNOWN_MODELS) if self.knows(name) else (self._unknown, MAX_UNKNOWN_MODELS)
        models[name] = model
        if len(models) > bound:
            _, old = models.popitem(last=False)
            old.forget()
        return model

    def glance(self, name: str) -> ModelCredentials:
        """Return the same without noting that it was asked for."""
        return self._known.get(name) or self._unknown.get(name) or ModelCredentials(self, name)

    def models(self) -> Sequence[ModelCredentials]:
        """Return all models that are remembered."""
        return [*self._known.values(), *self._unknown.values()]

    # -- sizes

    @property
    def unknown_models(self) -> int:
        """The number of names that clients made up and that are remembered."""
        return len(self._unknown)

    def disabled(self) -> int:
        """Return the number of disabled credentials."""
        return sum(not pooled.enabled for pooled in self.credentials)

    def cooling(self) -> int:
        """Return the number of running cooldowns, without those of disabled credentials."""
        models = self.models()
        shared = [each for each in (self.cooldown, *(model.cooldown for model in models)) if each is not None]
        return (
            sum(cooldown.running for cooldown in shared)
            + (self.everyone & ~self.not_cooling).bit_count()
            - self.disabled()
            + sum((model.serving & ~model.not_cooling).bit_count() for model in models)
        )

    # -- what changes the sets

    @property
    def full(self) -> bool:
        """Whether the provider takes no more attempts now, with whichever credential."""
        return (
            self.in_flight >= self.limit
            or (self.cooldown is not None and not self.cooldown.open)
            or (self.gate is not None and not self.gate.open)
        )

    def refresh(self, pooled: PooledCredential) -> None:
        """Set the bits of *pooled* after a change of the whole credential."""
        if pooled.index < 0:
            return
        bit = 1 << pooled.index
        cooldown = pooled.cooldown
        not_cooling = pooled.enabled and (cooldown is None or not cooldown.running)
        self.not_cooling = self.not_cooling | bit if not_cooling else self.not_cooling & ~bit
        admitted = (cooldown is None or cooldown.open) and (pooled.gate is None or pooled.gate.open)
        if not_cooling and admitted and pooled.in_flight < pooled.most:
            self.available |= bit
        else:
            self.available &= ~bit

    def full_credentials(self, model: ModelCredentials) -> Iterator[PooledCredential]:
        """Yield those that would serve *model*, but for what is under way with them."""
        busy = model.ready_or_busy() & ~self.available
        while busy:
            first = busy & -busy
            busy ^= first
            pooled = self.credentials[first.bit_length() - 1]
            if pooled.in_flight >= pooled.most:
                yield pooled

    def count(self, pair: ModelOnCredential, change: int) -> None:
        """Count one attempt with *pair* more, or one less."""
        pooled = pair.pooled
        self.in_flight += change
        pair.model.in_flight += change
        pair.in_flight += change
        if self.loads is not None and pooled.index >= 0:
            self.loads.move(pooled.index, pooled.in_flight, pooled.in_flight + change)
        pooled.in_flight += change
        if pooled.credential.max_concurrency or pooled.cooldown is not None:
            self.refresh(pooled)
