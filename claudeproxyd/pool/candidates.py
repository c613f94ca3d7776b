"""Every candidate there is: finds one for a request, and learns from what became of it. Pure: "now" is passed in.

There are two of these, which share nothing but the credentials: one for messages, one for count_tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf

from claudeproxyd.leases import Credential, LeaseRequest, Route
from claudeproxyd.outcomes.types import Kind, Outcome, Scope
from claudeproxyd.pool.affinity import Affinity, SessionAffinities
from claudeproxyd.pool.cooldown import UNLIMITED, BackoffPolicy
from claudeproxyd.pool.deadlines import DeadlineHeap
from claudeproxyd.pool.gates import Gates
from claudeproxyd.pool.lane import NEVER, Lane, Soonest
from claudeproxyd.pool.lease import NO_PROBES, Lease
from claudeproxyd.pool.places import Member, Place, PlaceCooldown, PlaceGate
from claudeproxyd.pool.roster import Roster
from claudeproxyd.pool.suspicion import Suspicions


def cools(outcome: Outcome) -> bool:
    """Whether that outcome is a reason for a cooldown."""
    return not outcome.passing and (outcome.base > 0 or outcome.until_hint is not None or outcome.hung)


class Candidates:
    """See the module. Made and driven by the pool's service."""

    def __init__(
        self,
        *,
        count_tokens: bool,
        take_back: Callable[[Lease, Outcome], None],
        probe_succeeded: Callable[[Lease], None],
        changed: Callable[[Place], None],
        known_models: Callable[[str], bool],
    ) -> None:
        """*take_back* gets the leases that come back, *probe_succeeded* those whose probe did; *changed* hears of each
        place whose cooldown changed."""
        self.count_tokens = count_tokens
        self.affinities: SessionAffinities[Member] | None = None
        """None where sessions have no affinity."""
        self.rosters: dict[str, Roster] = {}
        self.expiries: DeadlineHeap[PlaceCooldown] = DeadlineHeap(lambda when, one: one.running and one.until == when)
        self.suspicions = Suspicions()
        self.gates = Gates(self.rosters)
        self.policy: BackoffPolicy
        self._take_back = take_back
        self._probe_succeeded = probe_succeeded
        self._changed = changed
        self.knows = known_models
        """Whether somebody configured or discovered a model name; what clients made up is not kept for long."""
        self._serial = 0
        self._changes = 0

    def reload(
        self,
        credentials: Iterable[Credential],
        policy: BackoffPolicy,
        affinities: SessionAffinities[Member] | None,
        *,
        strategy: str,
        limits: Mapping[str, int],
    ) -> None:
        """Have these credentials from now on. *limits*: attempts at once of each provider."""
        self.policy = policy
        self.gates.max_cooldown = policy.max_cooldown
        self.affinities = affinities
        by_provider: dict[str, list[Credential]] = {provider: [] for provider in self.rosters}
        for credential in credentials:
            by_provider.setdefault(credential.provider, []).append(credential)
        for provider, its in by_provider.items():
            roster = self.rosters.get(provider)
            if roster is None:
                roster = self.rosters[provider] = Roster(provider, self.knows, limited=not self.count_tokens)
            roster.reload(its, limit=limits.get(provider, 0), strategy=strategy)
            if not its and not roster.in_flight:
                del self.rosters[provider]
        self._changes += 1

    def lane(self, route: Route) -> Lane | None:
        """Where *route* leads; None to a provider without credentials."""
        roster = self.rosters.get(route.provider)
        return None if roster is None else roster.lane(route.model)

    def enable(self, provider: str, credential: str, enabled: bool) -> bool:
        """Take a credential out of service or back; False when there is none of that name."""
        roster = self.rosters.get(provider)
        member = None if roster is None else roster.member(credential)
        if roster is None or member is None:
            return False
        member.switched_off = not enabled
        roster.update(member)
        self._changes += 1
        return True

    def is_shut(self, provider: str, credential: str) -> bool:
        """Whether the configuration has it disabled."""
        roster = self.rosters.get(provider)
        member = None if roster is None else roster.member(credential)
        return member is not None and member.credential.disabled

    # -- finding one

    def grant(self, request: LeaseRequest, now: float) -> Lease | None:
        """A lease for the first route of *request* that has a ready candidate; None where none has."""
        routes = request.routes
        if request.in_tool_loop and len(routes) > 1:
            routes = self._prefer_affinity(request, now)
        if not request.tried:
            return self._first(request, routes, request.excluded, now)
        return self._first(request, routes, request.tried | request.excluded, now) or self._first(
            request, routes, request.excluded, now
        )

    def _first(
        self, request: LeaseRequest, routes: Sequence[Route], without: set[Credential], now: float
    ) -> Lease | None:
        for route in routes:
            roster = self.rosters.get(route.provider)
            if roster is None:
                continue
            lane = roster.lane(route.model)
            ready = lane.ready()
            if ready and without:
                ready &= ~roster.named(without)
            if ready and roster.gated:
                ready = self.gates.in_pace(lane, ready, request.size, now)
            if not ready or not request.supports(route):
                continue
            affinity = self._affinity(request, route, now)
            member = lane.choose(ready, None if affinity is None else affinity.target, now)
            self._serial += 1
            lease = Lease(self._take_back, self._probe_succeeded, request, route, lane, member, self._serial, now)
            if affinity is not None and affinity.target is not member:
                lease.overflow = lane.busy(affinity.target)
            if lane.cooldowns or member.cooldown or lane.cooldown or roster.cooldown:
                lease.probes = [cooldown for cooldown in self._cooldowns_on(lane, member) if cooldown.limit < UNLIMITED]
                for cooldown in lease.probes:
                    cooldown.probes += 1
                    cooldown.place.update()
            lease.use.in_flight += 1
            roster.load(lane, member, 1)
            if roster.gated:
                self.gates.granted(lease)
            return lease
        return None

    def _affinity(self, request: LeaseRequest, route: Route, now: float) -> Affinity[Member] | None:
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

    def _cooldowns_on(self, lane: Lane, member: Member) -> list[PlaceCooldown]:
        """The cooldowns that bear on one candidate, whatever their condition."""
        cooldowns = (lane.roster.cooldown, lane.cooldown, member.cooldown, lane.cooldowns.get(member))
        return [cooldown for cooldown in cooldowns if cooldown is not None]

    # -- learning

    def released(self, lease: Lease, outcome: Outcome, now: float) -> PlaceCooldown | PlaceGate | None:
        """A lease came back. What holds its place back from now on and did not before: a cooldown, a gate that is down.

        Also a gate that is no longer: the place is up again.
        """
        lane, member = lease.lane, lease.member
        news: PlaceCooldown | PlaceGate | None = None
        if outcome.kind is Kind.OK:
            member.served += 1
            self._succeeded(lease, now)
            if lease.request.suspects:
                for accused, its in self.suspicions.accused(lease, now):
                    news = self._failed(accused, its, now) or news
        else:
            member.failures[outcome.kind] = member.failures.get(outcome.kind, 0) + 1
            if outcome.scope is not Scope.NONE:
                member.last_failure = (now, outcome)
                blamed = not (outcome.doubtful and self.suspicions.in_doubt(lease, outcome, now))
                if member.index >= 0 and cools(outcome) and blamed:
                    news = self._failed(lease, outcome, now)
        self._end_probes(lease)
        lease.use.in_flight -= 1
        lane.roster.load(lane, member, -1)
        if outcome.passing and outcome.scope is not Scope.NONE and member.index >= 0:
            self.gates.begin(lease, outcome, self._serial, now)
        if lane.roster.gated:
            news = self.gates.released(lease, outcome, now) or news
        if outcome.exhausted is not None and member.index >= 0:
            lane.spent.add(member, now + min(outcome.exhausted, self.policy.max_cooldown))
        return news

    def next(self) -> float:
        """When the next cooldown ends, or the next gate wants to be told of the time; infinite for never."""
        moments = (self.expiries.next(), self.gates.timers.next())
        return min((when for when in moments if when is not None), default=inf)

    def probe_succeeded(self, lease: Lease, now: float) -> None:
        """The probes of a lease are passed, though it is still out: an answer may take minutes once it has begun."""
        for cooldown in lease.probes:
            cooldown.probe_succeeded(lease.serial, self._serial)
        self._end_probes(lease)
        if lease.lane.roster.gated:
            self.gates.began(lease, now)

    @staticmethod
    def _end_probes(lease: Lease) -> None:
        probes, lease.probes = lease.probes, NO_PROBES
        for cooldown in probes:
            cooldown.probes -= 1
            cooldown.place.update()

    def _succeeded(self, lease: Lease, now: float) -> None:
        lane, member = lease.lane, lease.member
        lease.use.served = now
        self.suspicions.served(lease)
        if lane.cooldowns or member.cooldown or lane.cooldown or lane.roster.cooldown:
            for cooldown in self._cooldowns_on(lane, member):
                if cooldown.succeed(lease.serial, self._serial):
                    self.lift(cooldown)
        if self.affinities is not None and lease.request.session and not lease.overflow and member.index >= 0:
            self.affinities.bind(lease.request.session, lane.model, member, now)

    def _failed(self, lease: Lease, outcome: Outcome, now: float) -> PlaceCooldown | None:
        place = lease.place(outcome)
        if outcome.hung:
            if not self._others(place, lease.request):
                return None
            took = max(1.0, now - lease.granted)
            outcome = replace(outcome, base=took, ceiling=4 * took)
        cooldown = place.cooldown
        if cooldown is None:
            cooldown = PlaceCooldown(place)
            place.attach(cooldown)
        ran = cooldown.running
        longer = cooldown.fail(
            outcome,
            self.policy,
            now=now,
            serial=lease.serial,
            newest=self._serial,
            in_flight=lease.lane.roster.in_flight if place.member is None else place.member.in_flight,
        )
        if longer:
            self.impose(cooldown)
        return cooldown if cooldown.running and not ran else None

    def _others(self, place: Place, request: LeaseRequest) -> bool:
        """Whether *request* has a candidate beside that place which is at work, or could be."""
        for route in request.routes:
            lane = self.lane(route)
            if lane is None:
                continue
            usable = lane.ready_or_busy()
            if lane is place.lane and place.member is not None and place.member.index >= 0:
                usable &= ~(1 << place.member.index)
            if usable:
                return True
        return False

    def impose(self, cooldown: PlaceCooldown) -> None:
        """*cooldown* holds its place back from now on, as far as it does."""
        cooldown.place.attach(cooldown)
        if cooldown.running:
            self.expiries.put(cooldown.until, cooldown)
        self._changes += 1
        self._changed(cooldown.place)

    def lift(self, cooldown: PlaceCooldown) -> None:
        """*cooldown* is over and forgotten."""
        cooldown.running = False
        cooldown.place.attach(None)
        self._changes += 1
        self._changed(cooldown.place)

    def expire(self, now: float, most: int) -> list[PlaceCooldown]:
        """Half-open up to *most* of the cooldowns whose time has come; which they were."""
        expired = self.expiries.due(now, most)
        for cooldown in expired:
            cooldown.expire()
            cooldown.place.update()
        self._changes += 1
        return expired

    # -- telling when

    def ready(self, request: LeaseRequest) -> bool:
        """Whether there is something now."""
        return any(lane is not None and lane.ready() for lane in map(self.lane, request.routes))

    def soonest(self, request: LeaseRequest, without: set[Credential], now: float) -> tuple[float | None, str]:
        """When the first candidate may be ready, and what keeps it: *now* if it is merely busy, None for never."""
        lanes = [lane for lane in map(self.lane, request.routes) if lane is not None]
        among = [~lane.roster.named(without) if without else -1 for lane in lanes]
        busy = [lane for lane, some in zip(lanes, among, strict=True) if lane.ready_or_busy() & some]
        if busy:
            downs = [lane.down() if lane.roster.gated else None for lane in busy]
            if None in downs:
                return now, "busy"
            down = min((gate for gate in downs if gate is not None), key=lambda gate: gate.due)
            return now if down.open else max(down.due, now), down.kind.value
        each = [self._soonest_in(lane, some) for lane, some in zip(lanes, among, strict=True)]
        first = min(each, key=lambda soonest: soonest.when, default=NEVER)
        if first.when == inf:
            return None, "disabled" if any(lane.serves for lane in lanes) else "none"
        # Whichever ends first is a matter of dice: that a quota is used up is what a client can act on.
        return max(first.when, now), Kind.QUOTA.value if any(one.quota for one in each) else first.kind

    def _soonest_in(self, lane: Lane, among: int) -> Soonest:
        """The first of *among* in a lane where all are cooling. It has to look at all, so the result is kept."""
        if among == -1 and lane.soonest is not None and lane.soonest.as_of == self._changes:
            return lane.soonest
        roster = lane.roster
        shared = [each for each in (roster.cooldown, lane.cooldown) if each is not None and each.running]
        cooldowns, quota = shared, False
        if not roster.not_cooling & lane.not_cooling & among:
            first, quota = self._first_back(lane, among)
            if not first:
                return NEVER
            cooldowns = shared + first
        deciding = max(cooldowns, key=lambda cooldown: cooldown.until)
        assert deciding.kind is not None
        soonest = Soonest(self._changes, deciding.until, deciding.kind.value, quota or deciding.kind is Kind.QUOTA)
        if among == -1:
            lane.soonest = soonest
        return soonest

    def _first_back(self, lane: Lane, among: int) -> tuple[list[PlaceCooldown], bool]:
        """What keeps the credential that will be back first; nothing where none will. All of them cool.

        And whether a quota keeps any of them.
        """
        own, here = lane.roster.cooldowns, lane.cooldowns
        serving = lane.serves & among
        all_serve = serving == lane.roster.everyone
        best = inf
        chosen: list[PlaceCooldown] = []
        quota = False
        # One pass over perhaps ten thousand: plain on purpose.
        for member in {**own, **here} if own and here else own or here:
            if not member.enabled or not (all_serve or serving >> member.index & 1):
                continue
            whole = member.cooldown
            end = whole.until if whole is not None and whole.running else 0.0
            part = here.get(member) if here else None
            if part is not None and part.running and part.until > end:
                end = part.until
            running = [cooldown for cooldown in (whole, part) if cooldown is not None and cooldown.running]
            quota = quota or any(cooldown.kind is Kind.QUOTA for cooldown in running)
            if end < best:
                best, chosen = end, running
        return chosen, quota

    def cooldowns(self) -> Iterator[PlaceCooldown]:
        """All cooldowns that are remembered."""
        for roster in list(self.rosters.values()):
            if roster.cooldown is not None:
                yield roster.cooldown
            yield from list(roster.cooldowns.values())
            for lane in roster.lanes():
                if lane.cooldown is not None:
                    yield lane.cooldown
                yield from list(lane.cooldowns.values())

    # -- sizes

    @property
    def newest(self) -> int:
        """The newest lease's number."""
        return self._serial

    def in_flight(self) -> int:
        """Leases that are out."""
        return sum(roster.in_flight for roster in self.rosters.values())

    def cooling(self) -> int:
        """Cooldowns that are running; those of disabled credentials do not count."""
        return sum(roster.cooling() for roster in self.rosters.values())

    def gated(self) -> int:
        """Places of which something is being learned."""
        return sum(roster.gated for roster in self.rosters.values())

    def disabled(self) -> int:
        """Credentials that are out of service."""
        return sum(roster.disabled() for roster in self.rosters.values())

    def lanes(self) -> int:
        """Models at providers that are remembered."""
        return sum(len(roster.lanes()) for roster in self.rosters.values())

    def unknown_lanes(self) -> int:
        """Those of them that clients made up."""
        return sum(roster.unknown_lanes for roster in self.rosters.values())
