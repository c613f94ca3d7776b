"""All candidates: finds one for a request, and learns from how its attempt ended. Pure: times are passed in.

There are two of these, which share nothing but the configuration: one for messages, one for count_tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from math import inf

from claudeproxyd.leases import Credential, LeaseRequest, Route
from claudeproxyd.outcomes.types import CANCELLED, Kind, Outcome, Scope
from claudeproxyd.pool.affinity import Affinity, SessionAffinities
from claudeproxyd.pool.cooldown import UNLIMITED, BackoffPolicy
from claudeproxyd.pool.deadlines import DeadlineHeap
from claudeproxyd.pool.forecast import Forecast
from claudeproxyd.pool.gates import Gates
from claudeproxyd.pool.lease import NO_PROBES, Lease
from claudeproxyd.pool.model_credentials import ModelCredentials
from claudeproxyd.pool.provider_credentials import ProviderCredentials
from claudeproxyd.pool.scopes import CooldownScope, ModelOnCredential, PooledCredential, ScopeCooldown, ScopeGate
from claudeproxyd.pool.shares import Shares
from claudeproxyd.pool.suspicion import Suspicions

#: Credentials of one model for which more is asked at once.
MAX_SHORT = 4


def starts_cooldown(outcome: Outcome) -> bool:
    """Return whether *outcome* is a reason for a cooldown."""
    return not outcome.passing and (outcome.base > 0 or outcome.until_hint is not None or outcome.hung)


def cooldowns_on(pair: ModelOnCredential) -> list[ScopeCooldown]:
    """Return the cooldowns, running or half open, that an attempt with *pair* is subject to."""
    model, pooled = pair.model, pair.pooled
    cooldowns = (pair.provider.cooldown, model.cooldown, pooled.cooldown, model.cooldowns.get(pooled))
    return [cooldown for cooldown in cooldowns if cooldown is not None]


class Candidates:
    """See the module. Made and driven by the pool's service."""

    def __init__(
        self,
        *,
        count_tokens: bool,
        on_release: Callable[[Lease, Outcome | None], None],
        on_probe_succeeded: Callable[[Lease], None],
        changed: Callable[[CooldownScope], None],
        known_models: Callable[[str], bool],
    ) -> None:
        """Begin without credentials.

        Leases call *on_release* and *on_probe_succeeded*; *changed* is called with each scope whose cooldown changed.
        """
        self.count_tokens = count_tokens
        self.affinities: SessionAffinities[PooledCredential] | None = None
        """None where sessions have no affinity."""
        self.providers: dict[str, ProviderCredentials] = {}
        self.expiries: DeadlineHeap[ScopeCooldown] = DeadlineHeap(lambda when, one: one.running and one.until == when)
        self.suspicions = Suspicions()
        self.gates = Gates(self.providers)
        self.forecast = Forecast(self.providers)
        self.policy: BackoffPolicy
        self._on_release = on_release
        self._on_probe_succeeded = on_probe_succeeded
        self._changed = changed
        self.knows = known_models
        """Returns whether somebody configured or discovered a model's name."""
        self.newest = 0
        """The number of the newest lease."""

    def reload(
        self,
        credentials: Iterable[Credential],
        policy: BackoffPolicy,
        affinities: SessionAffinities[PooledCredential] | None,
        *,
        strategy: str,
        limits: Mapping[str, int],
        shares: Shares | None = None,
    ) -> None:
        """Replace the credentials. *limits*: attempts at once of each provider, and *shares* what of all is ours."""
        self.policy = policy
        self.gates.max_cooldown = policy.max_cooldown
        self.affinities = affinities
        by_provider: dict[str, list[Credential]] = {name: [] for name in self.providers}
        for credential in credentials:
            by_provider.setdefault(credential.provider, []).append(credential)
        for name, configured in by_provider.items():
            provider = self.providers.get(name)
            if provider is None:
                provider = ProviderCredentials(name, self.knows, limited=not self.count_tokens)
                self.providers[name] = provider
            provider.reload(configured, limit=limits.get(name, 0), strategy=strategy, shares=shares)
            if not configured and not provider.in_flight:
                del self.providers[name]
        self.forecast.outdate()

    def find(self, provider: str, credential: str) -> PooledCredential | None:
        """Return the credential of these names, or None."""
        credentials = self.providers.get(provider)
        return None if credentials is None else credentials.find(credential)

    def enable(self, provider: str, credential: str, enabled: bool) -> bool:
        """Enable or disable a credential. Return False when there is none of that name."""
        pooled = self.find(provider, credential)
        if pooled is None:
            return False
        pooled.switched_off = not enabled
        pooled.update()
        self.forecast.outdate()
        return True

    # -- shares of limits

    def allow(self, provider: str, credential: str, number: int) -> None:
        """Have so many attempts at once from now on, with a credential or ("") with all of the provider's."""
        found = self.providers.get(provider)
        pooled = found.find(credential) if found is not None and credential else None
        if found is not None and not credential and found.limit != inf:
            found.limit = number
        elif pooled is not None and pooled.most != inf:
            pooled.most = number
            pooled.update()

    def in_use(self, provider: str, credential: str) -> int:
        """Return how many attempts there are with a credential, or ("") with all of the provider's."""
        found = self.providers.get(provider)
        scope = found.find(credential) if found is not None and credential else found
        return 0 if scope is None else scope.in_flight

    def short(self, request: LeaseRequest) -> Iterator[tuple[str, str]]:
        """Yield the limits that keep *request* waiting, as :class:`~.shares.Shares` names them; of many the first."""
        for model in self._models(request):
            provider = model.provider
            if provider.in_flight >= provider.limit:
                yield provider.name, ""
            for pooled in islice(provider.full_credentials(model), MAX_SHORT):
                yield pooled.key

    # -- granting

    def grant(self, request: LeaseRequest, now: float) -> Lease | None:
        """Return a lease for the first route of *request* that has a ready candidate, or None."""
        routes = request.routes
        if request.in_tool_loop and len(routes) > 1:
            routes = self._prefer_affinity(request, now)
        if not request.tried:
            return self._first(request, routes, request.excluded, now)
        return self._first(request, routes, request.tried | request.excluded, now) or self._first(
            request, routes, request.excluded, now
        )

    def _first(
        self, request: LeaseRequest, routes: Sequence[Route], without: Set[Credential], now: float
    ) -> Lease | None:
        for route in routes:
            provider = self.providers.get(route.provider)
            if provider is None:
                continue
            model = provider.model(route.model)
            ready = model.ready()
            if ready and without:
                ready &= ~provider.set_of(without)
            if ready and provider.gate_count:
                ready = self.gates.in_pace(model, ready, request.size, now)
            if not ready:
                continue
            affinity = self._affinity(request, route, now)
            pooled = model.choose(ready, None if affinity is None else affinity.target, now)
            pair = model.pair(pooled)
            self.newest += 1
            lease = Lease(self._on_release, self._on_probe_succeeded, request, route, pair, self.newest, now)
            if affinity is not None and affinity.target is not pooled:
                lease.overflow = model.keeps(affinity.target, failed=affinity.target.credential in request.tried)
            if model.cooldowns or pooled.cooldown or model.cooldown or provider.cooldown:
                lease.probes = [cooldown for cooldown in cooldowns_on(pair) if cooldown.limit < UNLIMITED]
                for cooldown in lease.probes:
                    cooldown.probes += 1
                    cooldown.scope.update()
            provider.count(pair, 1)
            if provider.gate_count:
                self.gates.granted(lease)
            return lease
        return None

    def undo(self, lease: Lease, now: float) -> None:
        """Take back a lease that was not used, as if it had not been granted; a strategy has moved on all the same."""
        provider = lease.pair.provider
        self._end_probes(lease)
        provider.count(lease.pair, -1)
        if provider.gate_count:
            self.gates.released(lease, CANCELLED, now)

    def _affinity(self, request: LeaseRequest, route: Route, now: float) -> Affinity[PooledCredential] | None:
        """Return the session's affinity for the model of *route*, if its target is of that provider."""
        if self.affinities is None or not request.session:
            return None
        affinity = self.affinities.find(request.session, route.model, now)
        return None if affinity is None or affinity.target.key[0] != route.provider else affinity

    def _prefer_affinity(self, request: LeaseRequest, now: float) -> Sequence[Route]:
        """Return the routes of *request*, first the one that its session was served on last."""
        preferred, since = None, -inf
        for route in request.routes:
            affinity = self._affinity(request, route, now)
            if affinity is not None and affinity.used > since:
                preferred, since = route, affinity.used
        if preferred is None:
            return request.routes
        return [preferred, *(route for route in request.routes if route is not preferred)]

    # -- learning

    def released(self, lease: Lease, outcome: Outcome, now: float) -> ScopeCooldown | ScopeGate | None:
        """Learn from the end of an attempt.

        Return a cooldown that runs from now on and did not before, or a gate that went down or came up; None: neither.
        """
        pair = lease.pair
        pooled = pair.pooled
        turned: ScopeCooldown | ScopeGate | None = None
        if outcome.kind is Kind.OK:
            pooled.served += 1
            self._succeeded(lease, now)
            if lease.request.suspects:
                for accused, charge in self.suspicions.accused(lease, now):
                    turned = self._failed(accused, charge, now) or turned
        else:
            pooled.failures[outcome.kind] = pooled.failures.get(outcome.kind, 0) + 1
            if outcome.scope is not Scope.NONE:
                pooled.last_failure = (now, outcome)
                blamed = not (outcome.doubtful and self.suspicions.in_doubt(lease, outcome, now))
                if pooled.index >= 0 and starts_cooldown(outcome) and blamed:
                    turned = self._failed(lease, outcome, now)
        self._end_probes(lease)
        provider = pair.provider
        provider.count(pair, -1)
        if outcome.passing and outcome.scope is not Scope.NONE and pooled.index >= 0:
            self.gates.begin(lease, outcome, self.newest, now)
        if provider.gate_count:
            turned = self.gates.released(lease, outcome, now) or turned
        if outcome.exhausted is not None and pooled.index >= 0:
            pair.model.predicted_resets.add(pooled, now + min(outcome.exhausted, self.policy.max_cooldown))
        return turned

    def probe_succeeded(self, lease: Lease, now: float) -> None:
        """Let more attempts through behind a probe whose answer has begun; it may take minutes until it is over."""
        for cooldown in lease.probes:
            cooldown.probe_succeeded(lease.serial, self.newest)
        self._end_probes(lease)
        if lease.pair.provider.gate_count:
            self.gates.began(lease, now)

    @staticmethod
    def _end_probes(lease: Lease) -> None:
        probes, lease.probes = lease.probes, NO_PROBES
        for cooldown in probes:
            cooldown.probes -= 1
            cooldown.scope.update()

    def _succeeded(self, lease: Lease, now: float) -> None:
        pair = lease.pair
        model, pooled = pair.model, pair.pooled
        pair.last_served = now
        self.suspicions.served(lease)
        if model.cooldowns or pooled.cooldown or model.cooldown or pair.provider.cooldown:
            for cooldown in cooldowns_on(pair):
                if cooldown.succeed(lease.serial, self.newest):
                    self.lift(cooldown)
        if self.affinities is not None and lease.request.session and not lease.overflow and pooled.index >= 0:
            self.affinities.bind(lease.request.session, model.name, pooled, now)

    def _failed(self, lease: Lease, outcome: Outcome, now: float) -> ScopeCooldown | None:
        scope = lease.scope(outcome)
        if outcome.hung:
            if not self._others(scope, lease.request):
                return None
            took = max(1.0, now - lease.granted)
            outcome = replace(outcome, base=took, ceiling=4 * took)
        cooldown = scope.cooldown
        if cooldown is None:
            cooldown = ScopeCooldown(scope)
            scope.attach(cooldown)
        ran = cooldown.running
        longer = cooldown.fail(
            outcome,
            self.policy,
            now=now,
            serial=lease.serial,
            newest=self.newest,
            in_flight=scope.owner.in_flight,
        )
        if longer:
            self.impose(cooldown)
        return cooldown if cooldown.running and not ran else None

    def _others(self, scope: CooldownScope, request: LeaseRequest) -> bool:
        """Return whether *request* has a candidate outside *scope* that no cooldown holds back."""
        return any(model.ready_or_busy() & ~scope.part_of(model) for model in self._models(request))

    # -- cooldowns

    def impose(self, cooldown: ScopeCooldown) -> None:
        """Hold the scope of *cooldown* back, for as long as that runs."""
        cooldown.scope.attach(cooldown)
        if cooldown.running:
            self.expiries.put(cooldown.until, cooldown)
        self.forecast.outdate()
        self._changed(cooldown.scope)

    def lift(self, cooldown: ScopeCooldown) -> None:
        """End *cooldown* and forget it."""
        cooldown.running = False
        cooldown.scope.attach(None)
        self.forecast.outdate()
        self._changed(cooldown.scope)

    def expire(self, now: float, most: int) -> list[ScopeCooldown]:
        """Half-open up to *most* cooldowns whose time has come, and return them."""
        expired = self.expiries.due(now, most)
        for cooldown in expired:
            cooldown.expire()
            cooldown.scope.update()
        self.forecast.outdate()
        return expired

    def cooldowns(self) -> Iterator[ScopeCooldown]:
        """Yield all cooldowns that are remembered."""
        for provider in list(self.providers.values()):
            if provider.cooldown is not None:
                yield provider.cooldown
            yield from list(provider.cooldowns.values())
            for model in provider.models():
                if model.cooldown is not None:
                    yield model.cooldown
                yield from list(model.cooldowns.values())

    # -- times

    def next(self) -> float:
        """Return when the next cooldown ends or the next gate is due; infinite for never."""
        moments = (self.expiries.next(), self.gates.timers.next())
        return min((when for when in moments if when is not None), default=inf)

    def ready(self, request: LeaseRequest) -> bool:
        """Return whether a candidate of *request* is ready now."""
        return any(model.ready() for model in self._models(request))

    def serves(self, routes: Sequence[Route]) -> bool:
        """Return whether a candidate of *routes* is ready or merely busy, and not known to fail."""
        models = [
            self.providers[route.provider].glance(route.model) for route in routes if route.provider in self.providers
        ]
        return any(model.ready_or_busy() and model.down() is None for model in models)

    def _models(self, request: LeaseRequest) -> Iterator[ModelCredentials]:
        """Yield the model of each route of *request*, but for providers without credentials."""
        for route in request.routes:
            provider = self.providers.get(route.provider)
            if provider is not None:
                yield provider.model(route.model)

    # -- sizes

    def in_flight(self) -> int:
        """Return the number of leases that are out."""
        return sum(provider.in_flight for provider in self.providers.values())

    def cooling(self) -> int:
        """Return the number of running cooldowns, without those of disabled credentials."""
        return sum(provider.cooling() for provider in self.providers.values())

    def gate_count(self) -> int:
        """Return the number of gates."""
        return sum(provider.gate_count for provider in self.providers.values())

    def disabled(self) -> int:
        """Return the number of disabled credentials."""
        return sum(provider.disabled() for provider in self.providers.values())

    def models(self) -> int:
        """Return the number of models that are remembered, at each provider."""
        return sum(len(provider.models()) for provider in self.providers.values())

    def unknown_models(self) -> int:
        """Return the number of remembered models whose names clients made up."""
        return sum(provider.unknown_models for provider in self.providers.values())

    def timers(self) -> int:
        """Return the number of entries in the deadline heaps."""
        return len(self.expiries) + len(self.gates.timers)
