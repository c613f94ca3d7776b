"""The pool: grants credentials to attempts, learns from how they went, and lets requests wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.happenings import Happening
from claudeproxyd.interfaces import ICredentialPool, ILease, IPersistent
from claudeproxyd.leases import Credential, Exhausted, Exhaustion, LeaseRequest
from claudeproxyd.observe.transitions import Transitions
from claudeproxyd.outcomes.types import Kind, Outcome
from claudeproxyd.pool import state
from claudeproxyd.pool.affinity import Affinity, SessionAffinities
from claudeproxyd.pool.candidates import Candidates, starts_cooldown
from claudeproxyd.pool.cooldown import BackoffPolicy, Cooldown
from claudeproxyd.pool.credential_metrics import CredentialMetrics, register
from claudeproxyd.pool.deadlines import DeadlineHeap
from claudeproxyd.pool.lease import Lease
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.queue import Queue
from claudeproxyd.pool.scopes import CooldownScope, PooledCredential, ScopeCooldown, ScopeGate
from claudeproxyd.pool.shares import Shares
from claudeproxyd.pool.snapshot import Snapshot
from claudeproxyd.slices import Slice
from claudeproxyd.sockets import NEXT_TURN

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Pool as Settings
    from claudeproxyd.leases import Route
    from claudeproxyd.observe.exposition import Registry

#: Sessions whose affinity is remembered.
MAX_AFFINITIES = 50_000
#: Seconds for which another daemon is taken to use the same credentials, after the last that was heard of it.
PEER_SECONDS = 600.0
#: Expiries in one turn of the reactor; more follow in the next.
MAX_STEPS_PER_TURN = 100


class _Waiter:
    """A request in the queue."""

    __slots__ = ("deadline", "deferred", "key", "request", "since")

    def __init__(self, request: LeaseRequest, key: Hashable, since: float, deadline: float) -> None:
        self.request = request
        self.key = key
        self.since = since
        self.deadline = deadline
        self.deferred: Deferred[ILease] | None = None
        """None once it has fired."""


@implementer(ICredentialPool, IPersistent)
class CredentialPool(Service):
    """See :class:`~claudeproxyd.interfaces.ICredentialPool`.

    :mod:`~claudeproxyd.pool.provider_credentials` says how it is fast.

    Whenever it hands control back to the reactor, no request waits for which something is ready, and none for which
    nothing will be; but for what is left of many, which comes in the next turns, a slice of time in each.
    """

    name = "pool"
    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        settings: Settings,
        credentials: Sequence[Credential],
        *,
        jitter: Random | None = None,
        provider_limits: Mapping[str, int] | None = None,
        known_models: Callable[[str], bool] = lambda model: True,
        changed: Callable[[Mapping[str, object]], None] | None = None,
        wall_clock: Callable[[], float] = time.time,
        transitions: Transitions | None = None,
        shares: Shares | None = None,
    ) -> None:
        """Begin with *credentials*, all ready. *provider_limits*: attempts at once of each provider.

        *known_models* returns whether somebody configured or discovered an upstream model name; any other is remembered
        for a while only, and never stored. *changed* is called with changes to be stored, see :meth:`export_state`:
        keys to values, None deletes; an IStateStore's ``save`` will do, and it must neither block nor raise.
        *transitions* is told of credentials that are refused. *shares*: what of the limits this process may use; None:
        all.
        """
        self._shares = shares
        self._transitions = transitions or Transitions(wall_clock)
        self._refused: set[tuple[str, str]] = set()
        """Credentials whose secret was refused, and that were not used since."""
        self._changed = changed
        """As :meth:`__init__` says; None while state is restored."""
        self._clock = clock
        self._wall_clock = wall_clock
        self._jitter = jitter or Random()
        self._affinities: SessionAffinities[PooledCredential] = SessionAffinities(
            settings.affinity_ttl, MAX_AFFINITIES, self._affinity_changed
        )
        self._messages, self._counts = (
            Candidates(
                count_tokens=count_tokens,
                on_release=self._released,
                on_probe_succeeded=self._probe_succeeded,
                changed=self._cooldown_changed,
                known_models=known_models,
            )
            for count_tokens in (False, True)
        )
        self._limits: Mapping[str, int] = {}
        self._queue: Queue[_Waiter] = Queue()
        self._deadlines: DeadlineHeap[_Waiter] = DeadlineHeap(lambda when, waiter: waiter.deferred is not None)
        self._serving = False
        self._slice = Slice(clock.seconds)
        """Of grants to waiting requests, and of their refusals."""
        self._has_hopeless = False
        """The slice was over before all was refused that waits in vain."""
        self._alarm: IDelayedCall | None = None
        self.reload(credentials, settings, provider_limits)

    # -- granting

    def lease(self, request: LeaseRequest) -> Deferred[ILease]:
        """See the interface. Has fired already where something is ready."""
        now = self._clock.seconds()
        if not self._queue or self._key(request) not in self._queue:
            lease = self._candidates(request).grant(request, now)
            if lease is not None:
                if lease.pair.provider.gate_count:
                    self._arm()
                return succeed(lease)
        return self._wait(request, now)

    def _candidates(self, request: LeaseRequest) -> Candidates:
        return self._counts if request.count_tokens else self._messages

    def _released(self, lease: Lease, outcome: Outcome | None) -> None:
        """Learn from a lease that is given back; None: unused. Called by leases."""
        now = self._clock.seconds()
        candidates = self._candidates(lease.request)
        if outcome is None:
            candidates.undo(lease, now)
            if self._shares is not None:
                self._shares.came_back(*lease.pair.pooled.key, needed=True)
            if lease.pair.provider.gate_count:
                self._arm()
            if self._queue:
                self._serve()
            if self._shares is not None:
                self._shares.came_back(*lease.pair.pooled.key, needed=False)
            return
        turned = candidates.released(lease, outcome, now)
        if self._shares is not None:
            self._shares.came_back(*lease.pair.pooled.key, needed=True)
        if turned is not None:
            self._log(turned, outcome, now)
            if outcome.kind is Kind.AUTH:
                self._tell_refused(lease, outcome)
        if self._refused and outcome.kind is Kind.OK:
            self._taken_again(*lease.pair.pooled.key)
        if turned is not None or lease.pair.provider.gate_count:
            self._arm()
        if self._queue:
            self._serve()
            if starts_cooldown(outcome) or outcome.until_hint is not None:
                # Also where a cooldown was running already: it may last longer now.
                self._refuse_hopeless()
        if self._shares is not None:
            self._shares.came_back(*lease.pair.pooled.key, needed=False)

    def _log(self, turned: ScopeCooldown | ScopeGate, outcome: Outcome, now: float) -> None:
        """Log a cooldown that began, or a gate that went down or came up."""
        if isinstance(turned, Cooldown):
            self.log.warn(
                "{scope} cools for {seconds:.1f} s, {kind}: {reason}",
                scope=str(turned.scope),
                seconds=turned.until - now,
                kind=outcome.kind.value,
                reason=outcome.reason or "no reason given",
            )
        elif turned.condition is Condition.DOWN:
            self.log.warn(
                "{scope} is down, {kind}: {reason}",
                scope=str(turned.scope),
                kind=outcome.kind.value,
                reason=outcome.reason or "no reason given",
            )
        else:
            self._log_up(turned)

    def _tell_refused(self, lease: Lease, outcome: Outcome) -> None:
        """Tell that a provider does not take a credential, until it does again."""
        provider, credential = key = lease.pair.pooled.key
        self._refused.add(key)
        reason = outcome.reason or "no reason given"
        message = f"{provider} refuses the credential {credential}: {reason}"
        self._transitions.begin(Happening.CREDENTIAL_REFUSED, message, provider=provider, credential=credential)

    def _taken_again(self, provider: str, credential: str) -> None:
        """Note that a credential is served, which may have been refused."""
        if (key := (provider, credential)) in self._refused:
            self._refused.discard(key)
            self._transitions.end(Happening.CREDENTIAL_REFUSED, provider=provider, credential=credential)

    def _cooled_elsewhere(self, provider: str, credential: str, kind: Kind | None) -> None:
        """Note a refusal that another process, or the one before this one, has told of, and its end."""
        if kind is None:
            self._taken_again(provider, credential)
        elif kind is Kind.AUTH:
            self._refused.add((provider, credential))
            self._transitions.lasts(Happening.CREDENTIAL_REFUSED, provider=provider, credential=credential)

    def _log_up(self, gate: ScopeGate) -> None:
        self.log.info("{scope} is up again", scope=str(gate.scope))

    def _probe_succeeded(self, lease: Lease) -> None:
        """Let more attempts through behind a probe that succeeded. Called by leases."""
        self._candidates(lease.request).probe_succeeded(lease, self._clock.seconds())
        self._arm()
        if self._queue:
            self._serve()

    def ready_in(self, request: LeaseRequest) -> float | None:
        """See the interface. Credentials that *request* has tried count too: the client's next request may get them."""
        candidates = self._candidates(request)
        if candidates.ready(request):
            return 0.0
        exhausted = self._exhausted(request, self._clock.seconds())
        self._arm()
        return exhausted.ready_in

    def outage(self, routes: Sequence[Route]) -> Exhausted | None:
        """See the interface."""
        if self._messages.serves(routes):
            return None
        exhausted = self._exhausted(LeaseRequest(routes=routes), self._clock.seconds())
        self._arm()
        return exhausted

    # -- waiting

    def _key(self, request: LeaseRequest) -> Hashable:
        return (request.count_tokens, frozenset(request.excluded), *request.routes)

    def _wait(self, request: LeaseRequest, now: float) -> Deferred[ILease]:
        when, _ = self._candidates(request).forecast.soonest(request, request.excluded, now)
        if self._shares is not None:
            self._want(request, self._shares)
        deadline = now + self.settings.max_wait
        if request.deadline is not None:
            deadline = min(deadline, request.deadline)
        if when is None or when > deadline or deadline <= now or not request.may_wait:
            exhausted = self._exhausted(request, now)
            self._arm()
            return fail(exhausted)
        if len(self._queue) >= self.settings.queue:
            greedy = self._queue.to_evict(request.client)
            if greedy is None:
                return fail(Exhausted(Exhaustion.QUEUE_FULL, self.ready_in(request)))
            self._leave(greedy).errback(Exhausted(Exhaustion.QUEUE_FULL, self.ready_in(greedy.request)))
        waiter = _Waiter(request, self._key(request), now, deadline)

        def give_up(_: Deferred[ILease]) -> None:
            self._leave(waiter)

        waiter.deferred = Deferred(give_up)
        self._queue.join(waiter.key, request.client, waiter)
        self._deadlines.put(deadline, waiter)
        self._arm()
        return waiter.deferred

    def _want(self, request: LeaseRequest, shares: Shares) -> None:
        """Have more of the limits that *request* waits for."""
        messages = self._messages
        for provider, credential in () if request.count_tokens else messages.short(request):
            pooled = messages.find(provider, credential)
            shares.short(
                provider, credential, self._limits[provider] if pooled is None else pooled.credential.max_concurrency
            )

    def allow(self, provider: str, credential: str, number: int) -> None:
        """Have so many attempts at once from now on, with a credential or ("") with all of the provider's."""
        self._messages.allow(provider, credential, number)
        if self._queue:
            self._serve()
        if self._shares is not None:
            for _, line in self._queue.lines():
                self._want(line.first().request, self._shares)

    def in_use(self, provider: str, credential: str) -> int:
        """Return how many attempts there are with a credential, or ("") with all of the provider's."""
        return self._messages.in_use(provider, credential)

    def _exhausted(self, request: LeaseRequest, now: float) -> Exhausted:
        """Return why nothing is ready. That may move a cooldown's end forward, so the alarm is to be set after it."""
        when, reason = self._candidates(request).forecast.soonest(request, set(), now)
        return Exhausted(reason, when - now if when is not None and when > now else None)

    def _leave(self, waiter: _Waiter) -> Deferred[ILease]:
        """Dequeue *waiter*; return its Deferred."""
        deferred, waiter.deferred = waiter.deferred, None
        assert deferred is not None
        self._queue.leave(waiter.key, waiter.request.client, waiter)
        return deferred

    def _serve(self) -> None:
        """Grant leases to waiting requests, as long as something is ready and this turn has time for it."""
        if self._serving:
            # A request that was just served released its lease at once: the loop below goes on with that.
            return
        self._serving = True
        try:
            progress = True
            while progress:
                progress = False
                for key, line in self._queue.lines():
                    if key not in self._queue:
                        continue
                    if self._slice.over:
                        self._arm(self._clock.seconds())
                        return
                    waiter = line.first()
                    lease = self._candidates(waiter.request).grant(waiter.request, self._clock.seconds())
                    if lease is not None:
                        progress = True
                        self._queue.turn(key, waiter.request.client)
                        self._slice.run(partial(self._leave(waiter).callback, lease))
        finally:
            self._serving = False

    def _refuse_hopeless(self) -> None:
        """Fail the waiting requests for which nothing will be ready in time."""
        now = self._clock.seconds()
        self._has_hopeless = False
        for key, line in self._queue.lines():
            if key not in self._queue:
                continue
            request = line.first().request
            when, _ = self._candidates(request).forecast.soonest(request, request.excluded, now)
            hopeless = [waiter for waiter in line if when is None or when > waiter.deadline]
            for waiter in hopeless:
                if self._slice.over:
                    self._has_hopeless = True
                    self._arm(now)
                    return
                if waiter.deferred is not None:
                    self._refuse(waiter, now)
        self._arm()

    def _refuse(self, waiter: _Waiter, now: float) -> None:
        self._slice.run(partial(self._leave(waiter).errback, self._exhausted(waiter.request, now)))

    # -- time

    def _arm(self, at: float = float("inf")) -> None:
        """Set the alarm for the end of the next cooldown or wait, or for *at* if that is sooner.

        What is left of many is for another turn, after everybody else was heard.
        """
        for candidates in (self._messages, self._counts):
            at = min(at, candidates.next())
        following = self._deadlines.next()
        if following is not None and following < at:
            at = following
        if at == float("inf"):
            return
        if self._slice.over:
            at = max(at, self._clock.seconds() + NEXT_TURN)
        if self._alarm is not None and self._alarm.active():
            if self._alarm.getTime() <= at:
                return
            self._alarm.cancel()
        self._alarm = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._ring)

    def _ring(self) -> None:
        now = self._clock.seconds()
        self._slice.renew()
        for candidates in (self._messages, self._counts):
            for cooldown in candidates.expire(now, MAX_STEPS_PER_TURN):
                self.log.info("{scope} has cooled: probes may go", scope=str(cooldown.scope))
            for gate in candidates.gates.tick(now, MAX_STEPS_PER_TURN):
                self._log_up(gate)
        if self._queue:
            self._serve()
            if self._has_hopeless:
                self._refuse_hopeless()
        while not self._slice.over and (late := self._deadlines.due(now, 1)):
            self._refuse(late[0], now)
        self._arm()

    def stopService(self) -> None:
        """Stop the alarm, and fail the requests that still wait."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        for _, line in self._queue.lines():
            for waiter in list(line):
                if waiter.deferred is not None:
                    self._leave(waiter).errback(Exhausted(Exhaustion.NONE, None))
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()

    # -- what operators do

    def reload(
        self,
        credentials: Sequence[Credential],
        settings: Settings,
        provider_limits: Mapping[str, int] | None = None,
    ) -> None:
        """See the interface. *provider_limits*: None leaves them as they are."""
        self.settings = settings
        if provider_limits is not None:
            self._limits = provider_limits
        self._affinities.ttl = settings.affinity_ttl
        policy = BackoffPolicy(settings.max_cooldown, self._jitter)
        for candidates in (self._messages, self._counts):
            candidates.reload(
                credentials,
                policy,
                self._affinities if settings.affinity and candidates is self._messages else None,
                strategy=settings.strategy,
                limits=self._limits,
                shares=self._shares,
            )
        self._reconsider_queue()

    def _reconsider_queue(self) -> None:
        """Serve or fail waiting requests, after a change that any of them may be affected by."""
        if self._queue:
            self._serve()
            self._refuse_hopeless()

    def is_enabled(self, provider: str, credential: str) -> bool | None:
        """See the interface."""
        pooled = self._messages.find(provider, credential)
        return None if pooled is None else not (pooled.switched_off or pooled.credential.disabled)

    def set_enabled(self, provider: str, credential: str, enabled: bool) -> bool:
        """See the interface."""
        pooled = self._messages.find(provider, credential)
        if enabled and pooled is not None and pooled.credential.disabled:
            raise ValueError(f"{provider}/{credential} is disabled in the configuration")
        if not all(one.enable(provider, credential, enabled) for one in (self._messages, self._counts)):
            return False
        self.log.info(
            "{scope} is {state}", scope=f"{provider}/{credential}", state="enabled" if enabled else "disabled"
        )
        self._save(state.key("disabled", provider, credential), None if enabled else True)
        self._reconsider_queue()
        return True

    def clear(self, provider: str | None, credential: str | None, model: str | None) -> int:
        """See the interface. Half-open cooldowns and all gates that match are forgotten too, but not counted."""

        def matches(scope: CooldownScope) -> bool:
            asked = (provider, credential, model)
            return all(name in (None, its) for name, its in zip(asked, scope.names, strict=True))

        ended = 0
        for candidates in (self._messages, self._counts):
            for cooldown in [cooldown for cooldown in candidates.cooldowns() if matches(cooldown.scope)]:
                if cooldown.running:
                    ended += 1
                    self.log.info("the cooldown of {scope} was cleared", scope=str(cooldown.scope))
                candidates.lift(cooldown)
            for gate in [gate for gate in candidates.gates if matches(gate.scope)]:
                if gate.condition is Condition.DOWN:
                    ended += 1
                    self.log.info("{scope} was cleared, and counts as up again", scope=str(gate.scope))
                gate.scope.attach_gate(None)
        self._reconsider_queue()
        return ended

    def snapshot(self) -> Snapshot:
        """See the interface. Entries are made as they are read: read many in slices."""
        return Snapshot(self._messages, self._counts, self._clock.seconds())

    def queued(self) -> Sequence[Mapping[str, object]]:
        """See the interface."""
        now = self._clock.seconds()
        entries = []
        for _, line in self._queue.lines():
            for client, waiting in line.by_client.items():
                first = next(iter(waiting))
                entries.append(
                    {
                        "client": client,
                        "routes": [f"{route.provider}/{route.model}" for route in first.request.routes],
                        "count_tokens": first.request.count_tokens,
                        "requests": len(waiting),
                        "longest": round(now - first.since, 3),
                        "patience": round(first.deadline - now, 3),
                    }
                )
        return entries

    def gauges(self) -> Mapping[str, int]:
        """See the interface."""
        return {name: read() for name, read in self._sizes().items()}

    def _sizes(self) -> Mapping[str, Callable[[], int]]:
        messages, counts = self._messages, self._counts
        return {
            "in_flight": lambda: messages.in_flight() + counts.in_flight(),
            "waiting": lambda: len(self._queue),
            "cooling": lambda: messages.cooling() + counts.cooling(),
            "gates": lambda: messages.gate_count() + counts.gate_count(),
            "disabled": messages.disabled,
            "affinities": lambda: len(self._affinities),
            "models": lambda: messages.models() + counts.models(),
            "unknown_models": lambda: messages.unknown_models() + counts.unknown_models(),
            "deadlines": lambda: messages.timers() + counts.timers() + len(self._deadlines),
        }

    def register(self, metrics: Registry) -> None:
        """Register the metrics of the pool and of each credential."""
        register(metrics, self._sizes(), lambda: CredentialMetrics(self._messages, self._clock.seconds()))

    # -- state

    def _ahead(self) -> float:
        """Return the wall clock less the reactor's clock."""
        return self._wall_clock() - self._clock.seconds()

    def _save(self, key: str, value: object) -> None:
        if self._changed is not None:
            self._changed({key: value})

    def _cooldown_changed(self, scope: CooldownScope) -> None:
        if self._changed is not None and scope.is_known:
            cooldown = scope.cooldown
            saved = None if cooldown is None else state.save_cooldown(cooldown, self._ahead())
            self._save(state.scope_key(scope), saved)

    def _affinity_changed(self, session: str, model: str, affinity: Affinity[PooledCredential] | None) -> None:
        if self._changed is not None and self._messages.knows(model):
            value = None if affinity is None else state.save_affinity(affinity, self._ahead())
            self._save(state.affinity_key(session, model), value)

    def export_state(self) -> Iterator[Mapping[str, object]]:
        """Yield all that outlives the daemon: cooldowns, affinities, disabled credentials. See :mod:`.state`."""
        return state.export(self._messages, self._counts, self._affinities, self._ahead())

    def import_state(self, saved: Mapping[str, object]) -> None:
        """Restore what :meth:`export_state` or *changed* gave. Keys that cannot be applied are deleted."""
        for key in self._restore(saved):
            self._save(key, None)

    def merge(self, changes: Mapping[str, object]) -> None:
        """Merge another daemon's *changes*, as its *changed* was called with them; see :func:`.state.restore`.

        Keys that cannot be applied are ignored: the other may have other credentials. Learned limits are shared with
        the other from now on.
        """
        for candidates in (self._messages, self._counts):
            candidates.gates.shared_until = self._clock.seconds() + PEER_SECONDS
        self._restore(changes)

    def _restore(self, saved: Mapping[str, object]) -> list[str]:
        """Apply *saved* without notifying *changed*; return the keys that were rejected."""
        changed, self._changed = self._changed, None
        try:
            now = self._clock.seconds()
            both = (self._messages, self._counts)
            return state.restore(saved, both, self._affinities, now, self._ahead(), self._cooled_elsewhere)
        finally:
            self._changed = changed
            self._arm()
            self._reconsider_queue()
