"""The pool: grants credentials to attempts, learns from how they went, and lets requests wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.interfaces import ICredentialPool, ILease
from claudeproxyd.leases import Credential, Exhausted, LeaseRequest
from claudeproxyd.outcomes.types import Outcome
from claudeproxyd.pool import state
from claudeproxyd.pool.affinity import Affinity, SessionAffinities
from claudeproxyd.pool.candidates import Candidates, cools
from claudeproxyd.pool.cooldown import BackoffPolicy, Cooldown
from claudeproxyd.pool.deadlines import DeadlineHeap
from claudeproxyd.pool.figures import Figures, register
from claudeproxyd.pool.lease import Lease
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.places import Member, Place, PlaceCooldown, PlaceGate
from claudeproxyd.pool.queue import Queue
from claudeproxyd.pool.snapshot import Snapshot

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Pool as Settings
    from claudeproxyd.observe.metrics import Metrics

#: Sessions whose credential is remembered.
AFFINITIES = 50_000
#: Seconds for which another daemon is taken to be there, after its last word.
PEER = 600.0
#: Expiries, grants from the queue and refusals for each turn of the reactor; more follow in the next.
SLICE = 100


class _Waiter:
    """One request in the queue."""

    __slots__ = ("deadline", "deferred", "key", "request", "since")

    def __init__(self, request: LeaseRequest, key: Hashable, since: float, deadline: float) -> None:
        self.request = request
        self.key = key
        self.since = since
        self.deadline = deadline
        self.deferred: Deferred[ILease] | None = None
        """None once it has been answered."""


@implementer(ICredentialPool)
class CredentialPool(Service):
    """See :class:`~claudeproxyd.interfaces.ICredentialPool`; :mod:`~claudeproxyd.pool.roster` says how it is fast.

    Whenever it hands control back to the reactor, nobody waits for whom something is ready (but for the remainder of a
    large batch, which is served in the next turns), and nobody for whom nothing will be.
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
        changed: Callable[[Mapping[str, Any]], None] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """*provider_limits*: attempts at once of each provider.

        *known_models*: whether somebody configured or discovered an upstream model name; what nobody did is remembered
        for a while only, and never stored. *changed* is told what is to be stored, see :meth:`export_state`: keys to
        values, None deletes. It must neither block nor raise; an IStateStore's ``save`` will do.
        """
        self.changed = changed
        """May be set later: a store is there only once it has been loaded."""
        self._clock = clock
        self._wall_clock = wall_clock
        self._jitter = jitter or Random()
        self._affinities: SessionAffinities[Member] = SessionAffinities(
            settings.affinity_ttl, AFFINITIES, self._affinity_changed
        )
        self._messages, self._counts = (
            Candidates(
                count_tokens=count_tokens,
                take_back=self._take_back,
                probe_succeeded=self._probe_succeeded,
                changed=self._cooldown_changed,
                known_models=known_models,
            )
            for count_tokens in (False, True)
        )
        self._limits: Mapping[str, int] = {}
        self._queue: Queue[_Waiter] = Queue()
        self._deadlines: DeadlineHeap[_Waiter] = DeadlineHeap(lambda when, waiter: waiter.deferred is not None)
        self._serving = False
        self._alarm: IDelayedCall | None = None
        self.reload(credentials, settings, provider_limits)

    # -- granting

    def lease(self, request: LeaseRequest) -> Deferred[ILease]:
        """See the interface. Has fired already where something is ready."""
        now = self._clock.seconds()
        if not self._queue or self._key(request) not in self._queue:
            lease = self._candidates(request).grant(request, now)
            if lease is not None:
                if lease.lane.roster.gated:
                    self._arm()
                return succeed(lease)
        return self._wait(request, now)

    def _candidates(self, request: LeaseRequest) -> Candidates:
        return self._counts if request.count_tokens else self._messages

    def _take_back(self, lease: Lease, outcome: Outcome) -> None:
        """A lease came back; the leases call this."""
        now = self._clock.seconds()
        candidates = self._candidates(lease.request)
        news = candidates.released(lease, outcome, now)
        if news is not None:
            self._tell(news, outcome, now)
        if news is not None or lease.lane.roster.gated:
            self._arm()
        if self._queue:
            self._serve()
            if cools(outcome) or outcome.until_hint is not None:
                # Also where a cooldown was running already: it may last longer now.
                self._dismiss()

    def _tell(self, news: PlaceCooldown | PlaceGate, outcome: Outcome, now: float) -> None:
        """Log that a place is out, or back."""
        if isinstance(news, Cooldown):
            self.log.warn(
                "{place} cools for {seconds:.1f} s, {kind}: {reason}",
                place=str(news.place),
                seconds=news.until - now,
                kind=outcome.kind.value,
                reason=outcome.reason or "without a word",
            )
        elif news.condition is Condition.DOWN:
            self.log.warn(
                "{place} is down, {kind}: {reason}",
                place=str(news.place),
                kind=outcome.kind.value,
                reason=outcome.reason or "without a word",
            )
        else:
            self._back(news)

    def _back(self, gate: PlaceGate) -> None:
        self.log.info("{place} is up again", place=str(gate.place))

    def _probe_succeeded(self, lease: Lease) -> None:
        """A lease's probe succeeded; the leases call this."""
        self._candidates(lease.request).probe_succeeded(lease, self._clock.seconds())
        self._arm()
        if self._queue:
            self._serve()

    def ready_in(self, request: LeaseRequest) -> float | None:
        """See the interface. What *request* has tried already counts too: the client's next request may have it."""
        candidates = self._candidates(request)
        if candidates.ready(request):
            return 0.0
        return self._exhausted(request, self._clock.seconds()).ready_in

    # -- waiting

    def _key(self, request: LeaseRequest) -> Hashable:
        return (request.count_tokens, frozenset(request.excluded), *request.routes)

    def _wait(self, request: LeaseRequest, now: float) -> Deferred[ILease]:
        request.drop_unsupported()
        when, _ = self._candidates(request).soonest(request, request.excluded, now)
        deadline = now + self.settings.max_wait
        if request.deadline is not None:
            deadline = min(deadline, request.deadline)
        if when is None or when > deadline or deadline <= now or not request.may_wait:
            return fail(self._exhausted(request, now))
        if len(self._queue) >= self.settings.queue:
            greedy = self._queue.who_makes_room(request.client)
            if greedy is None:
                return fail(Exhausted("queue_full", self.ready_in(request)))
            self._leave(greedy).errback(Exhausted("queue_full", self.ready_in(greedy.request)))
        waiter = _Waiter(request, self._key(request), now, deadline)

        def give_up(_: Deferred[ILease]) -> None:
            self._leave(waiter)

        waiter.deferred = Deferred(give_up)
        self._queue.join(waiter.key, request.client, waiter)
        self._deadlines.put(deadline, waiter)
        self._arm()
        return waiter.deferred

    def _exhausted(self, request: LeaseRequest, now: float) -> Exhausted:
        when, kind = self._candidates(request).soonest(request, set(), now)
        # That may have moved a cooldown's end forward.
        self._arm()
        return Exhausted(kind, when - now if when is not None and when > now else None)

    def _leave(self, waiter: _Waiter) -> Deferred[ILease]:
        """*waiter* waits no more; what it is to be answered through."""
        deferred, waiter.deferred = waiter.deferred, None
        assert deferred is not None
        self._queue.leave(waiter.key, waiter.request.client, waiter)
        return deferred

    def _serve(self) -> None:
        """Give what is ready to those who wait; as many go as may, and no more."""
        if self._serving:
            # Somebody who was just served gave its lease back at once; the loop below is still at it.
            return
        self._serving = True
        now = self._clock.seconds()
        left = SLICE
        try:
            progress = True
            while progress and left > 0:
                progress = False
                for key, line in self._queue.lines():
                    if key not in self._queue:
                        continue
                    waiter = line.first()
                    lease = self._candidates(waiter.request).grant(waiter.request, now)
                    if lease is not None:
                        progress = True
                        left -= 1
                        self._queue.turn(key, waiter.request.client)
                        self._leave(waiter).callback(lease)
        finally:
            self._serving = False
        if progress:
            self._arm(now)

    def _dismiss(self) -> None:
        """Tell those for whom nothing will be ready in time."""
        now = self._clock.seconds()
        for key, line in self._queue.lines():
            if key not in self._queue:
                continue
            request = line.first().request
            when, _ = self._candidates(request).soonest(request, request.excluded, now)
            hopeless = [waiter for waiter in line if when is None or when > waiter.deadline]
            for waiter in hopeless:
                if waiter.deferred is not None:
                    self._leave(waiter).errback(self._exhausted(waiter.request, now))
        self._arm()

    # -- time

    def _arm(self, at: float = float("inf")) -> None:
        """Have the alarm ring when the next cooldown or wait ends, or at *at* if that is sooner."""
        for candidates in (self._messages, self._counts):
            at = min(at, candidates.next())
        following = self._deadlines.next()
        if following is not None and following < at:
            at = following
        if at == float("inf"):
            return
        if self._alarm is not None and self._alarm.active():
            if self._alarm.getTime() <= at:
                return
            self._alarm.cancel()
        self._alarm = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._ring)

    def _ring(self) -> None:
        now = self._clock.seconds()
        for candidates in (self._messages, self._counts):
            for cooldown in candidates.expire(now, SLICE):
                self.log.info("{place} has cooled and may be tried", place=str(cooldown.place))
            for gate in candidates.gates.tick(now, SLICE):
                self._back(gate)
        if self._queue:
            self._serve()
        for waiter in self._deadlines.due(now, SLICE):
            self._leave(waiter).errback(self._exhausted(waiter.request, now))
        self._arm()

    def stopService(self) -> None:
        """Stop the alarm; whoever still waits is told that nothing will come."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        for _, line in self._queue.lines():
            for waiter in list(line):
                if waiter.deferred is not None:
                    self._leave(waiter).errback(Exhausted("none", None))
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
            )
        self._reconsider_queue()

    def _reconsider_queue(self) -> None:
        """Anything may be different for those who wait."""
        if self._queue:
            self._serve()
            self._dismiss()

    def set_enabled(self, provider: str, credential: str, enabled: bool) -> bool:
        """See the interface."""
        if enabled and self._messages.is_shut(provider, credential):
            raise ValueError(f"{provider}/{credential} is disabled in the configuration")
        if not all(one.enable(provider, credential, enabled) for one in (self._messages, self._counts)):
            return False
        self.log.info(
            "{place} is {state}", place=f"{provider}/{credential}", state="enabled" if enabled else "disabled"
        )
        self._save(state.key("disabled", provider, credential), None if enabled else True)
        self._reconsider_queue()
        return True

    def clear(self, provider: str | None, credential: str | None, model: str | None) -> int:
        """See the interface. What is half open, remembered for its level, or learned is forgotten too, not counted."""

        def matches(place: Place) -> bool:
            name = None if place.member is None else place.member.credential.name
            there = (place.roster.provider, name, place.model)
            return all(asked in (None, its) for asked, its in zip((provider, credential, model), there, strict=True))

        ended = 0
        for candidates in (self._messages, self._counts):
            for cooldown in [cooldown for cooldown in candidates.cooldowns() if matches(cooldown.place)]:
                if cooldown.running:
                    ended += 1
                    self.log.info("{place} has its cooldown cleared", place=str(cooldown.place))
                candidates.lift(cooldown)
            for gate in [gate for gate in candidates.gates if matches(gate.place)]:
                if gate.condition is Condition.DOWN:
                    ended += 1
                    self.log.info("{place} is taken for up again", place=str(gate.place))
                gate.place.attach_gate(None)
        self._reconsider_queue()
        return ended

    def snapshot(self) -> Snapshot:
        """See the interface. Entries are made as they are read: read many in slices."""
        return Snapshot(self._messages, self._counts, self._clock.seconds())

    def queued(self) -> Sequence[Mapping[str, Any]]:
        """See the interface."""
        now = self._clock.seconds()
        told = []
        for _, line in self._queue.lines():
            for client, waiting in line.by_client.items():
                first = next(iter(waiting))
                told.append(
                    {
                        "client": client,
                        "routes": [f"{route.provider}/{route.model}" for route in first.request.routes],
                        "count_tokens": first.request.count_tokens,
                        "requests": len(waiting),
                        "longest": round(now - first.since, 3),
                        "patience": round(first.deadline - now, 3),
                    }
                )
        return told

    def gauges(self) -> Mapping[str, int]:
        """See the interface."""
        both = (self._messages, self._counts)
        return {
            "in_flight": sum(candidates.in_flight() for candidates in both),
            "waiting": len(self._queue),
            "cooling": sum(candidates.cooling() for candidates in both),
            "gates": sum(candidates.gated() for candidates in both),
            "disabled": self._messages.disabled(),
            "affinities": len(self._affinities),
            "models": sum(candidates.lanes() for candidates in both),
            "unknown_models": sum(candidates.unknown_lanes() for candidates in both),
            "deadlines": sum(len(one.expiries) + len(one.gates.timers) for one in both) + len(self._deadlines),
        }

    def register(self, metrics: Metrics) -> None:
        """Have *metrics* tell of the pool and of each credential."""
        register(metrics, self.gauges, lambda: Figures(self._messages, self._clock.seconds()))

    # -- state

    def _ahead(self) -> float:
        """Wall clock less reactor's clock."""
        return self._wall_clock() - self._clock.seconds()

    def _save(self, key: str, value: Any) -> None:
        if self.changed is not None:
            self.changed({key: value})

    def _cooldown_changed(self, place: Place) -> None:
        if self.changed is not None and (place.model is None or place.roster.knows(place.model)):
            cooldown = place.cooldown
            saved = None if cooldown is None else state.save_cooldown(cooldown, self._ahead())
            self._save(state.place_key(place), saved)

    def _affinity_changed(self, session: str, model: str, affinity: Affinity[Member] | None) -> None:
        if self.changed is not None and self._messages.knows(model):
            value = None if affinity is None else state.save_affinity(affinity, self._ahead())
            self._save(state.affinity_key(session, model), value)

    def export_state(self) -> Mapping[str, Any]:
        """All that outlives the daemon: cooldowns, affinities, disabled credentials. See :mod:`.state`."""
        return state.export(self._messages, self._counts, self._affinities, self._ahead())

    def import_state(self, saved: Mapping[str, Any]) -> None:
        """Take over what :meth:`export_state` or *changed* gave. What makes no sense is passed over, and deleted."""
        for key in self._take_over(saved):
            self._save(key, None)

    def learn(self, changes: Mapping[str, Any]) -> None:
        """Take another daemon's word for *changes*, as its *changed* was told them; see :func:`.state.take_over`.

        What makes no sense here is passed over: the other may have other credentials. That there is another is news,
        too: a learned limit is shared with it.
        """
        for candidates in (self._messages, self._counts):
            candidates.gates.shared_until = self._clock.seconds() + PEER
        self._take_over(changes)

    def _take_over(self, saved: Mapping[str, Any]) -> list[str]:
        """Nothing of it is told to *changed* again. Which keys meant nothing."""
        changed, self.changed = self.changed, None
        try:
            now = self._clock.seconds()
            return state.take_over(saved, (self._messages, self._counts), self._affinities, now, self._ahead())
        finally:
            self.changed = changed
            self._arm()
            self._reconsider_queue()
