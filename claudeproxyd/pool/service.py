"""The pool: grants credentials to attempts, learns from how they went, and lets requests wait."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.interfaces import ICredentialPool, ILease
from claudeproxyd.leases import Candidate, Credential, Exhausted, Route, Wanted
from claudeproxyd.outcomes import Kind, Outcome, Scope
from claudeproxyd.pool.affinity import Affinities
from claudeproxyd.pool.agenda import Agenda
from claudeproxyd.pool.cooldown import UNLIMITED, Terms, cools
from claudeproxyd.pool.queue import Queue
from claudeproxyd.pool.roster import Lane, Member, Place, Rest, Roster

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Pool as Settings

#: Sessions whose credential is remembered.
AFFINITIES = 50_000
#: Expiries and grants from the queue for each turn of the reactor; more follow in the next.
SLICE = 100


class AlreadyReleased(RuntimeError):
    """A lease was given back twice: a mistake in our own code."""


@implementer(ILease)
class Lease:
    """See :class:`~claudeproxyd.interfaces.ILease`."""

    __slots__ = ("_pool", "granted", "lane", "member", "route", "serial", "trials", "visiting", "wanted")

    def __init__(self, pool: CredentialPool, wanted: Wanted, route: Route, lane: Lane, member: Member) -> None:
        self._pool: CredentialPool | None = pool
        self.wanted = wanted
        self.route = route
        self.lane = lane
        self.member = member
        self.granted = 0.0
        """When, on the reactor's clock."""
        self.serial = 0
        """Leases are numbered in the order in which they were granted."""
        self.trials: list[Rest] | None = None
        """The half-open cooldowns that this attempt puts to the test."""
        self.visiting = False
        """The session is at home elsewhere, where there was no room just now."""

    @property
    def candidate(self) -> Candidate:
        """The (route, credential) pair."""
        return Candidate(self.route, self.member.credential)

    def release(self, outcome: Outcome) -> None:
        """Give it back. Raises :class:`AlreadyReleased` the second time."""
        pool = self._pool
        if pool is None:
            raise AlreadyReleased(str(self.member.key))
        self._pool = None
        pool.released(self, outcome)


class _Waiter:
    """One request in the queue."""

    __slots__ = ("deadline", "deferred", "key", "wanted")

    def __init__(self, wanted: Wanted, key: Hashable, deadline: float) -> None:
        self.wanted = wanted
        self.key = key
        self.deadline = deadline
        self.deferred: Deferred[Lease] | None = None
        """None once it has been answered."""


@implementer(ICredentialPool)
class CredentialPool(Service):
    """See :class:`~claudeproxyd.interfaces.ICredentialPool`; :mod:`~claudeproxyd.pool.roster` says how it is fast."""

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
    ) -> None:
        """*provider_limits*: attempts at once of each provider. *known_models*: whether somebody configured or
        discovered an upstream model name; what nobody did is remembered for a while only."""
        self._clock = clock
        self._random = jitter or Random()
        self._limits = dict(provider_limits or {})
        self._known_models = known_models
        self._rosters: tuple[dict[str, Roster], dict[str, Roster]] = ({}, {})
        self._serial = 0
        self._expiries: Agenda[Rest] = Agenda(lambda when, rest: rest.running and rest.until == when)
        self._deadlines: Agenda[_Waiter] = Agenda(lambda when, waiter: waiter.deferred is not None)
        self._queue: Queue[_Waiter] = Queue()
        self._serving = False
        self._alarm: IDelayedCall | None = None
        self._changes = 0
        self.reload(credentials, settings)

    # -- granting

    def lease(self, wanted: Wanted) -> Deferred[Lease]:
        """See the interface. Has fired already where something is ready."""
        now = self._clock.seconds()
        if not self._queue or self._key(wanted) not in self._queue:
            lease = self._grant(wanted, now)
            if lease is not None:
                return succeed(lease)
        return self._wait(wanted, now)

    def _grant(self, wanted: Wanted, now: float) -> Lease | None:
        rosters = self._rosters[wanted.count_tokens]
        session = wanted.session if self._affine and not wanted.count_tokens else ""
        routes = wanted.routes
        if session and wanted.in_tool_loop and len(routes) > 1:
            routes = self._homeward(wanted, now)
        for again in (False, True) if wanted.tried else (True,):
            for route in routes:
                roster = rosters.get(route.provider)
                if roster is None:
                    continue
                lane = roster.lane(route.model, self._known_models)
                ready = lane.ready()
                if ready and wanted.tried:
                    ready &= ~roster.named(wanted.given_up if again else wanted.tried)
                if not ready:
                    continue
                home = self._affinities.find(session, route.model, now) if session else None
                favourite = home[0] if home is not None else None
                member = lane.choose(ready, favourite, now)
                lease = Lease(self, wanted, route, lane, member)
                if favourite is not None and favourite is not member and favourite.index >= 0:
                    lease.visiting = bool(lane.waking() & ~lane.ready() & 1 << favourite.index)
                self._serial += 1
                lease.serial = self._serial
                lease.granted = now
                if (
                    lane.resting
                    or member.cooldown is not None
                    or lane.cooldown is not None
                    or roster.cooldown is not None
                ):
                    self._try_out(lease)
                roster.take(member)
                return lease
        return None

    def _homeward(self, wanted: Wanted, now: float) -> Sequence[Route]:
        """The routes, the one that this session was on first."""
        latest = None
        for route in wanted.routes:
            home = self._affinities.find(wanted.session, route.model, now)
            if home is not None and home[0].key[0] == route.provider and (latest is None or home[1] > latest[0]):
                latest = (home[1], route)
        if latest is None:
            return wanted.routes
        return [latest[1], *(route for route in wanted.routes if route is not latest[1])]

    def _rests(self, lane: Lane, member: Member) -> list[Rest]:
        """The cooldowns that bear on one candidate, whatever their condition."""
        rests = (lane.roster.cooldown, lane.cooldown, member.cooldown, lane.resting.get(member))
        return [rest for rest in rests if rest is not None]

    def _try_out(self, lease: Lease) -> None:
        trials = [rest for rest in self._rests(lease.lane, lease.member) if rest.limit < UNLIMITED]
        for rest in trials:
            rest.trials += 1
            rest.place.settle()
        lease.trials = trials or None

    # -- learning

    def released(self, lease: Lease, outcome: Outcome) -> None:
        """A lease came back. Called by the lease alone."""
        lane, member = lease.lane, lease.member
        kind = outcome.kind
        if kind is Kind.OK:
            member.served += 1
            self._succeeded(lease)
        else:
            self._failed(lease, outcome)
        if lease.trials is not None:
            for rest in lease.trials:
                rest.trials -= 1
                rest.place.settle()
        lane.roster.give_back(member)
        if outcome.exhausted is not None and member.index >= 0:
            lane.spent[member] = self._clock.seconds() + min(outcome.exhausted, self._terms.max_cooldown)
        if self._queue:
            self._serve()

    def _succeeded(self, lease: Lease) -> None:
        lane, member, wanted = lease.lane, lease.member, lease.wanted
        if lane.resting or member.cooldown is not None or lane.cooldown is not None or lane.roster.cooldown is not None:
            for rest in self._rests(lane, member):
                if rest.succeed(lease.serial, self._serial):
                    rest.place.attach(None)
        if wanted.session and self._affine and not wanted.count_tokens and not lease.visiting and member.index >= 0:
            self._affinities.bind(wanted.session, lease.route.model, member, self._clock.seconds())

    def _failed(self, lease: Lease, outcome: Outcome) -> None:
        member = lease.member
        member.failures[outcome.kind] = member.failures.get(outcome.kind, 0) + 1
        if outcome.scope is Scope.NONE or not cools(outcome) or member.index < 0:
            return
        now = self._clock.seconds()
        member.last_failure = (now, outcome)
        lane = lease.lane
        roster = lane.roster
        place, rest = {
            Scope.MODEL: (Place(roster, lane, member), lane.resting.get(member)),
            Scope.CREDENTIAL: (Place(roster, None, member), member.cooldown),
            Scope.MODEL_ON_PROVIDER: (Place(roster, lane, None), lane.cooldown),
            Scope.PROVIDER: (Place(roster, None, None), roster.cooldown),
        }[outcome.scope]
        if rest is None:
            rest = Rest(place)
            place.attach(rest)
        ran = rest.running
        longer = rest.fail(
            outcome,
            self._terms,
            now=now,
            granted=lease.granted,
            serial=lease.serial,
            newest=self._serial,
            last=self._last(place, lease.wanted),
            in_flight=member.in_flight if place.member is not None else roster.in_flight,
        )
        if not longer:
            return
        rest.place.settle()
        self._changes += 1
        if ran:
            self._expiries.withdrawn()
        elif rest.running:
            self.log.warn(
                "{place} cools for {seconds:.1f} s: {kind}: {reason}",
                place=str(place),
                seconds=rest.until - now,
                kind=outcome.kind.value,
                reason=outcome.reason,
            )
        if rest.running:
            self._expiries.put(rest.until, rest)
            self._arm()
        if self._queue:
            self._dismiss(now)

    def _last(self, place: Place, wanted: Wanted) -> bool:
        """Whether *wanted* has no other candidate that is at work or could be."""
        for route in wanted.routes:
            roster = self._rosters[wanted.count_tokens].get(route.provider)
            if roster is None:
                continue
            lane = roster.lane(route.model, self._known_models)
            others = lane.waking()
            if roster is place.roster and place.lane in (None, lane):
                others &= ~(1 << place.member.index) if place.member is not None else 0
            if others:
                return False
        return True

    # -- waiting

    def _key(self, wanted: Wanted) -> Hashable:
        return (wanted.count_tokens, frozenset(wanted.given_up), *wanted.routes)

    def _wait(self, wanted: Wanted, now: float) -> Deferred[Lease]:
        when, kind = self._soonest(wanted, now)
        if when is None:
            return fail(Exhausted(kind, None))
        deadline = now + self.settings.max_wait
        if wanted.deadline is not None:
            deadline = min(deadline, wanted.deadline)
        ready_in = when - now if when > now else None
        if not wanted.may_wait or deadline <= now or when > deadline:
            return fail(Exhausted(kind, ready_in))
        if len(self._queue) >= self.settings.queue:
            return fail(Exhausted("queue_full", ready_in))
        waiter = _Waiter(wanted, self._key(wanted), deadline)

        def give_up(_: Deferred[Lease]) -> None:
            self._leave(waiter)

        waiter.deferred = Deferred(give_up)
        self._queue.join(waiter.key, wanted.client, waiter)
        self._deadlines.put(deadline, waiter)
        self._arm()
        return waiter.deferred

    def _leave(self, waiter: _Waiter) -> Deferred[Lease] | None:
        """*waiter* waits no more; its Deferred, unless it has been answered already."""
        deferred, waiter.deferred = waiter.deferred, None
        if deferred is not None:
            self._queue.leave(waiter.key, waiter.wanted.client, waiter)
            self._deadlines.withdrawn()
        return deferred

    def _soonest(self, wanted: Wanted, now: float) -> tuple[float | None, str]:
        """When the first candidate may be ready, and what keeps it: *now* for a busy one, None for never."""
        soonest: tuple[float | None, str] = (None, "none")
        for route in wanted.routes:
            roster = self._rosters[wanted.count_tokens].get(route.provider)
            if roster is None:
                continue
            lane = roster.lane(route.model, self._known_models)
            when, kind = self._soonest_in(lane, ~roster.named(wanted.given_up) if wanted.given_up else -1, now)
            if when is not None and (soonest[0] is None or when < soonest[0]):
                soonest = (when, kind)
        return soonest

    def _soonest_in(self, lane: Lane, among: int, now: float) -> tuple[float | None, str]:
        if lane.waking() & among:
            return now, "busy"
        if among == -1 and lane.soonest[0] == self._changes:
            return lane.soonest[1:]
        roster = lane.roster
        when: float | None = None
        kind = "none"
        floor, floor_kind = 0.0, "busy"
        for rest in (roster.cooldown, lane.cooldown):
            if rest is not None and rest.running and rest.until > floor:
                assert rest.kind is not None
                floor, floor_kind = rest.until, rest.kind.value
        if roster.up & lane.up & among:
            when, kind = floor, floor_kind
        else:
            for member in {**roster.resting, **lane.resting}:
                if not member.enabled or not (lane.serves & among) >> member.index & 1:
                    continue
                until, until_kind = floor, floor_kind
                for rest in (member.cooldown, lane.resting.get(member)):
                    if rest is not None and rest.running and rest.until > until:
                        assert rest.kind is not None
                        until, until_kind = rest.until, rest.kind.value
                if when is None or until < when:
                    when, kind = until, until_kind
        if among == -1:
            lane.soonest = (self._changes, when, kind)
        return when, kind

    def ready_in(self, wanted: Wanted) -> float | None:
        """See the interface."""
        rosters = self._rosters[wanted.count_tokens]
        for route in wanted.routes:
            roster = rosters.get(route.provider)
            if roster is not None and roster.lane(route.model, self._known_models).ready() & ~roster.named(
                wanted.given_up
            ):
                return 0.0
        now = self._clock.seconds()
        when, _ = self._soonest(wanted, now)
        return when - now if when is not None and when > now else None

    def _serve(self) -> None:
        """Give what is ready to those who wait; as many go as may, and no more."""
        if self._serving:
            return
        self._serving = True
        now = self._clock.seconds()
        served = 0
        try:
            progress = True
            while progress and served < SLICE:
                progress = False
                for key, line in self._queue.lines():
                    if key not in self._queue:
                        continue
                    waiter = line.first()
                    lease = self._grant(waiter.wanted, now)
                    if lease is None:
                        continue
                    progress = True
                    served += 1
                    self._queue.served(key, waiter.wanted.client, waiter)
                    self._deadlines.withdrawn()
                    deferred, waiter.deferred = waiter.deferred, None
                    assert deferred is not None
                    deferred.callback(lease)
        finally:
            self._serving = False
        if served >= SLICE:
            self._clock.callLater(0, self._serve)

    def _dismiss(self, now: float) -> None:
        """Tell those for whom nothing will be ready in time."""
        for _, line in self._queue.lines():
            when, kind = self._soonest(line.first().wanted, now)
            for waiter in list(line):
                if when is None or when > waiter.deadline:
                    self._turn_away(waiter, when, kind, now)

    def _turn_away(self, waiter: _Waiter, when: float | None, kind: str, now: float) -> None:
        deferred = self._leave(waiter)
        if deferred is not None:
            deferred.errback(Exhausted(kind, when - now if when is not None and when > now else None))

    # -- time

    def _arm(self) -> None:
        """Have the alarm ring when the next cooldown or wait ends."""
        nexts = [when for when in (self._expiries.next(), self._deadlines.next()) if when is not None]
        if not nexts:
            return
        when = min(nexts)
        if self._alarm is not None and self._alarm.active():
            if self._alarm.getTime() <= when:
                return
            self._alarm.cancel()
        self._alarm = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._ring)

    def _ring(self) -> None:
        now = self._clock.seconds()
        for rest in self._expiries.due(now, SLICE):
            rest.expire()
            rest.place.settle()
            self._changes += 1
            self.log.info("{place} may be tried again", place=str(rest.place))
        if self._queue:
            self._serve()
        for waiter in self._deadlines.due(now, SLICE):
            when, kind = self._soonest(waiter.wanted, now)
            self._turn_away(waiter, when, kind, now)
        self._arm()

    def stopService(self) -> None:
        """Stop the alarm; whoever still waits is told that nothing will come."""
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        now = self._clock.seconds()
        for _, line in self._queue.lines():
            for waiter in list(line):
                self._turn_away(waiter, None, "none", now)
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated

    # -- what operators do

    def reload(self, credentials: Sequence[Credential], settings: Settings) -> None:
        """See the interface."""
        self.settings = settings
        self._terms = Terms(settings.max_cooldown, self._random)
        self._affine = settings.affinity
        if not hasattr(self, "_affinities"):
            self._affinities: Affinities[Member] = Affinities(settings.affinity_ttl, AFFINITIES)
        self._affinities.ttl = settings.affinity_ttl
        by_provider: dict[str, list[Credential]] = {}
        for credential in credentials:
            by_provider.setdefault(credential.provider, []).append(credential)
        for count_tokens, rosters in enumerate(self._rosters):
            for provider in [*by_provider, *(set(rosters) - set(by_provider))]:
                roster = rosters.get(provider)
                if roster is None:
                    roster = rosters[provider] = Roster(provider, count_tokens=bool(count_tokens))
                roster.reload(
                    by_provider.get(provider, ()),
                    limit=self._limits.get(provider, 0),
                    strategy=settings.strategy,
                )
        self._changes += 1
        if self._queue:
            self._serve()
            self._dismiss(self._clock.seconds())

    def set_enabled(self, provider: str, credential: str, enabled: bool) -> bool:
        """See the interface."""
        found = False
        for rosters in self._rosters:
            roster = rosters.get(provider)
            member = roster.member(credential) if roster is not None else None
            if roster is not None and member is not None:
                found = True
                member.enabled = enabled
                roster.settle(member)
        self._changes += 1
        if self._queue:
            self._serve()
            self._dismiss(self._clock.seconds())
        return found

    def _all_rests(self) -> list[Rest]:
        rests: list[Rest] = []
        for rosters in self._rosters:
            for roster in rosters.values():
                if roster.cooldown is not None:
                    rests.append(roster.cooldown)
                rests += roster.resting.values()
                for lane in roster.lanes():
                    if lane.cooldown is not None:
                        rests.append(lane.cooldown)
                    rests += lane.resting.values()
        return rests

    def clear(self, provider: str | None, credential: str | None, model: str | None) -> int:
        """See the interface."""
        cleared = 0
        for rest in self._all_rests():
            place = rest.place
            if (
                provider in (None, place.roster.provider)
                and credential in (None, place.member and place.member.credential.name)
                and model in (None, place.model)
            ):
                if rest.running:
                    cleared += 1
                    rest.running = False
                    self._expiries.withdrawn()
                    self.log.info("{place} was cleared", place=str(place))
                place.attach(None)
        self._changes += 1
        if self._queue:
            self._serve()
        return cleared

    def snapshot(self) -> Sequence[Mapping[str, Any]]:
        """See the interface."""
        now = self._clock.seconds()
        rests: dict[tuple[str, str], list[Rest]] = {}
        for rest in self._all_rests():
            for member in [rest.place.member] if rest.place.member is not None else rest.place.roster.members:
                rests.setdefault(member.key, []).append(rest)
        entries: list[Mapping[str, Any]] = []
        for roster in self._rosters[False].values():
            for member in roster.members:
                mine = rests.get(member.key, [])
                cooling = [rest for rest in mine if rest.running]
                state = "ready" if roster.open >> member.index & 1 and not roster.full else "busy"
                if not member.enabled:
                    state = "disabled"
                elif any(rest.place.model is None and not rest.place.roster.count_tokens for rest in cooling):
                    state = "cooling"
                entries.append(
                    {
                        "provider": roster.provider,
                        "credential": member.credential.name,
                        "state": state,
                        "in_flight": member.in_flight,
                        "max_concurrency": member.credential.max_concurrency,
                        "cooldowns": [
                            {
                                "scope": rest.place.scope.value,
                                "model": rest.place.model,
                                "outcome": rest.kind.value if rest.kind else None,
                                "reason": rest.reason,
                                "remaining": round(rest.until - now, 3),
                                "count_tokens": rest.place.roster.count_tokens,
                            }
                            for rest in cooling
                        ],
                        "outcomes": {
                            "ok": member.served,
                            **{kind.value: number for kind, number in member.failures.items()},
                        },
                        "last_failure": member.last_failure
                        and {
                            "outcome": member.last_failure[1].kind.value,
                            "reason": member.last_failure[1].reason,
                            "seconds_ago": round(now - member.last_failure[0], 3),
                        },
                    }
                )
        return entries
