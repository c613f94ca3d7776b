"""Who is ready, kept up to date as things change, so that a choice never searches.

Theory of operation
-------------------

One :class:`Roster` stands for the credentials of one provider, one :class:`Lane` in it for one of its models. A set of
credentials is an int, bit *i* for the *i*-th credential of the roster. Each lane and each roster keep two such sets:

``up``
    enabled and not resting: might be busy, but needs no time to pass.
``open``
    of those, the ones that may begin one more attempt now.

In a roster a bit speaks of the whole credential (enabled, its cooldown, its ``max_concurrency``), in a lane of that one
model on it (the globs, its cooldown). A candidate is ready when both are set, so the ready set of a model is

    ``roster.open & lane.open``

or empty, while the provider or the model on the provider rests or is full. That is two machine words for a hundred
credentials, and still less than a microsecond for ten thousand.

A bit changes only through ``settle``, which is called for the one credential that something happened to: a lease
began or ended and it has a limit, a cooldown began, ended, or let one more trial in. So a change costs one bit in one
set, however many models there are; and what is never in trouble (no limit, no cooldown) costs nothing at all.

Time never changes a set by itself. Every running cooldown is on the pool's agenda, and ``settle`` follows when it is
due.

The priorities are sets too (*tiers*), and so is what an answer's headers foretold to fail (*spent*): choosing is taking
intersections until one that is not empty is found, and then asking the strategy for one of it.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import NamedTuple, TypeVar

from claudeproxyd.globs import matches
from claudeproxyd.interfaces import ISelector
from claudeproxyd.leases import Credential
from claudeproxyd.outcomes import Kind, Outcome, Scope
from claudeproxyd.pool.agenda import Agenda
from claudeproxyd.pool.cooldown import Cooldown
from claudeproxyd.pool.gate import Gate
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.selection import FillFirst, LeastBusy, Loads, RoundRobin, Weighted

K = TypeVar("K")

#: Lanes of one provider: models that somebody configured or discovered …
KNOWN_LANES = 4096
#: … and names that clients made up. Both go when unused for longest.
UNKNOWN_LANES = 256


class Member:
    """One credential in its roster, and its present use."""

    __slots__ = (
        "cooldown",
        "credential",
        "failures",
        "gate",
        "in_flight",
        "index",
        "key",
        "last_failure",
        "served",
        "switched_off",
    )

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        self.key = (credential.provider, credential.name)
        self.index = -1
        """Its bit; -1 once it is configured no more."""
        self.switched_off = False
        """At run time, by an operator."""
        self.in_flight = 0
        self.cooldown: Rest | None = None
        """Of the whole credential."""
        self.gate: PlaceGate | None = None
        """The same."""
        self.served = 0
        self.failures: dict[Kind, int] = {}
        self.last_failure: tuple[float, Outcome] | None = None

    @property
    def enabled(self) -> bool:
        """In service, as far as people decide."""
        return not (self.switched_off or self.credential.disabled)


class Use:
    """What one credential does for one model."""

    __slots__ = ("in_flight", "served")

    def __init__(self) -> None:
        self.in_flight = 0
        self.served = -inf
        """When it last did."""


class Place:
    """What a cooldown or a gate holds back: a roster, a lane of it, a member of it, or that member in that lane."""

    __slots__ = ("crowd", "lane", "member", "roster")

    def __init__(self, roster: Roster, lane: Lane | None, member: Member | None, *, crowd: bool = False) -> None:
        """*crowd*: all members in that lane, each of which is a place of its own."""
        self.roster = roster
        self.lane = lane
        self.member = member
        self.crowd = crowd

    def settle(self) -> None:
        """Let the sets follow what became of the cooldown."""
        if self.member is not None:
            (self.lane or self.roster).settle(self.member)

    def attach(self, rest: Rest | None) -> None:
        """Make *rest* what holds this place back; None: nothing does."""
        if self.member is None:
            (self.lane or self.roster).cooldown = rest
        elif self.lane is None:
            self.member.cooldown = rest
            self.roster.resting.pop(self.member, None)
            if rest is not None:
                self.roster.resting[self.member] = rest
        else:
            self.lane.resting.pop(self.member, None)
            if rest is not None:
                self.lane.resting[self.member] = rest
        self.settle()

    @property
    def cooldown(self) -> Rest | None:
        """What holds it back, if anything does."""
        if self.member is None:
            return (self.lane or self.roster).cooldown
        return self.member.cooldown if self.lane is None else self.lane.resting.get(self.member)

    @property
    def gate(self) -> PlaceGate | None:
        """How many may be under way there, if that is being learned."""
        if self.crowd and self.lane is not None:
            return self.lane.crowd
        if self.member is None:
            return (self.lane or self.roster).gate
        return self.member.gate if self.lane is None else self.lane.gates.get(self.member)

    def attach_gate(self, gate: PlaceGate | None) -> None:
        """Learn it with *gate*; None: it need not be."""
        self.roster.gated += (gate is not None) - (self.gate is not None)
        if self.crowd and self.lane is not None:
            self.lane.crowd = gate
        elif self.member is None:
            (self.lane or self.roster).gate = gate
        elif self.lane is None:
            self.member.gate = gate
        elif gate is None:
            del self.lane.gates[self.member]
        else:
            self.lane.gates[self.member] = gate
        self.settle()

    @property
    def in_flight(self) -> int:
        """Attempts under way there."""
        if self.lane is None:
            return (self.member or self.roster).in_flight
        return self.lane.in_flight if self.member is None else self.lane.use(self.member).in_flight

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for places that are the same."""
        return (self.roster, self.lane, self.member)

    @property
    def scope(self) -> Scope:
        """In the words of the outcomes."""
        if self.member is None:
            return Scope.PROVIDER if self.lane is None else Scope.MODEL_ON_PROVIDER
        return Scope.CREDENTIAL if self.lane is None else Scope.MODEL

    @property
    def model(self) -> str | None:
        """The model that it is about, if it is about one."""
        return None if self.lane is None else self.lane.model

    def __str__(self) -> str:
        words = [self.roster.provider]
        if self.member is not None:
            words.append(self.member.credential.name)
        return "/".join(words) + (f" for {self.lane.model}" if self.lane is not None else "")


Rest = Cooldown[Place]
PlaceGate = Gate[Place]

#: A credential of whose attempts more fail comes last …
POOR = 0.3
#: … but for every so many choices, so that it is seen when it is better.
TASTE = 16


def forget_gone(resting: dict[Member, Rest]) -> None:
    """Drop the cooldowns of those who are configured no more."""
    for gone in [member for member in resting if member.index < 0]:
        resting.pop(gone).running = False


class Soonest(NamedTuple):
    """Of a lane where nobody is awake: the first who will be."""

    as_of: int
    when: float
    kind: str
    quota: bool
    """A quota keeps one of them, though perhaps not the first."""


NEVER = Soonest(-1, inf, "none", False)


class Spent:
    """Whom an answer's headers foretold to fail until some moment: they come last until then."""

    __slots__ = ("_ends", "_until", "members")

    def __init__(self) -> None:
        self.members = 0
        """The set of them, with some perhaps whose time is over."""
        self._until: dict[Member, float] = {}
        self._ends: Agenda[Member] = Agenda(lambda when, member: self._until.get(member) == when)

    def add(self, member: Member, until: float) -> None:
        """*member* is spent until then."""
        self._until[member] = until
        self._ends.put(until, member)
        self.members |= 1 << member.index

    def at(self, now: float) -> int:
        """The set of those who still are."""
        for member in self._ends.due(now, 16):
            del self._until[member]
            self.members &= ~(1 << member.index)
        return self.members

    def rebuild(self) -> None:
        """The roster has other members now."""
        self._until = {member: until for member, until in self._until.items() if member.index >= 0}
        self.members = sum(1 << member.index for member in self._until)


class Lane:
    """One model at one provider."""

    __slots__ = (
        "_uses",
        "choices",
        "cooldown",
        "crowd",
        "gate",
        "gates",
        "in_flight",
        "model",
        "open",
        "paced",
        "poor",
        "resting",
        "roster",
        "selectors",
        "serves",
        "soonest",
        "spent",
        "up",
    )

    def __init__(self, roster: Roster, model: str) -> None:
        self.roster = roster
        self.model = model
        self.cooldown: Rest | None = None
        """Of the model on the whole provider."""
        self.resting: dict[Member, Rest] = {}
        """Of the model on one credential."""
        self.in_flight = 0
        self._uses: dict[Member, Use] = {}
        """Of those that were ever chosen."""
        self.gate: PlaceGate | None = None
        """Of the model on the whole provider."""
        self.crowd: PlaceGate | None = None
        """The same, of the failures that each credential's own gate counts: tells when all of them are down."""
        self.gates: dict[Member, PlaceGate] = {}
        """Of the model on one credential."""
        self.poor = 0
        """The set of those with whom much fails."""
        self.paced = 0
        """The set of those that take so much in a second."""
        self.choices = 0
        self.spent = Spent()
        """Whose limit is used up, by their own answers' headers."""
        self.soonest: Soonest | None = None
        """Kept by the candidates; see there."""
        self.rebuild()

    def rebuild(self) -> None:
        """The roster has other members now."""
        roster = self.roster
        self.serves = roster.serving(self.model)
        self.open = self.up = self.serves
        self.selectors: list[ISelector] = [roster.selector(tier) for tier in roster.tiers]
        forget_gone(self.resting)
        self._uses = {member: use for member, use in self._uses.items() if member.index >= 0}
        for gone in [member for member in self.gates if member.index < 0]:
            del self.gates[gone]
            roster.gated -= 1
        self.spent.rebuild()
        self.poor = self.paced = 0
        for member in {*self.resting, *self.gates}:
            self.settle(member)

    def use(self, member: Member) -> Use:
        """What that credential does for this model."""
        use = self._uses.get(member)
        if use is None:
            use = self._uses[member] = Use()
        return use

    def settle(self, member: Member) -> None:
        """Something happened to this model on that credential."""
        if member.index < 0:
            return
        bit = 1 << member.index
        if not self.serves & bit:
            return
        rest = self.resting.get(member)
        gate = self.gates.get(member)
        self.up = self.up | bit if rest is None or not rest.running else self.up & ~bit
        is_open = (rest is None or rest.open) and (gate is None or gate.open)
        self.open = self.open | bit if is_open else self.open & ~bit
        self.poor = self.poor | bit if gate is not None and gate.share > POOR else self.poor & ~bit
        is_paced = gate is not None and gate.condition is Condition.PACED
        self.paced = self.paced | bit if is_paced else self.paced & ~bit

    def ready(self) -> int:
        """The set of those that may begin an attempt now."""
        roster = self.roster
        if (roster.limit or roster.cooldown or roster.gate) and roster.full:
            return 0
        for hold in (self.cooldown, self.gate, self.crowd):
            if hold is not None and not hold.open:
                return 0
        return roster.open & self.open

    def waking(self) -> int:
        """The set of those for which no time needs to pass: ready, or busy."""
        roster = self.roster
        for rest in (roster.cooldown, self.cooldown):
            if rest is not None and rest.running:
                return 0
        return roster.up & self.up

    def busy(self, member: Member) -> bool:
        """Whether *member* would be ready, but for what it is doing already."""
        gate = self.gates.get(member)
        if member.index < 0 or (gate is not None and gate.condition is Condition.DOWN):
            return False
        return bool((self.waking() & (~self.ready() | self.paced)) >> member.index & 1)

    def down(self) -> PlaceGate | None:
        """The gate that keeps everybody who is awake from more than a probe; None where none does."""
        for gate in (self.roster.gate, self.gate, self.crowd):
            if gate is not None and gate.condition is Condition.DOWN:
                return gate
        waking = self.waking()
        soonest = None
        for member, gate in self.gates.items():
            if gate.condition is Condition.DOWN and waking >> member.index & 1:
                waking &= ~(1 << member.index)
                if soonest is None or gate.due < soonest.due:
                    soonest = gate
        return None if waking else soonest

    def choose(self, ready: int, favourite: Member | None, now: float) -> Member:
        """One of *ready*, which is not empty; the *favourite* if it is among the best."""
        roster = self.roster
        if self.spent.members:
            ready = ready & ~self.spent.at(now) or ready
        if self.poor:
            self.choices += 1
            if self.choices % TASTE:
                ready = ready & ~self.poor or ready
        number = 0
        for tier in roster.tiers:
            among = ready & tier
            if among:
                break
            number += 1
        if favourite is not None and favourite.index >= 0 and among >> favourite.index & 1:
            return favourite
        return roster.members[self.selectors[number].choose(among)]


class Roster:
    """The credentials of one provider, for messages or for count_tokens."""

    def __init__(self, provider: str, known_models: Callable[[str], bool], *, limited: bool = True) -> None:
        self.provider = provider
        self.knows = known_models
        """Whether somebody configured or discovered a model name; what clients made up is not kept for long."""
        self.limited = limited
        """Whether ``max_concurrency`` counts: count_tokens requests are many, small and free."""
        self.limit = 0
        """Attempts at once, of the provider as a whole; 0: no limit."""
        self.strategy = "round-robin"
        self.in_flight = 0
        self.cooldown: Rest | None = None
        """Of the provider as a whole."""
        self.gate: PlaceGate | None = None
        """The same."""
        self.gated = 0
        """Gates that there are, here and in all lanes."""
        self.resting: dict[Member, Rest] = {}
        """Of whole credentials."""
        self.members: list[Member] = []
        self.everyone = 0
        """The set of all members."""
        self.tiers: list[int] = []
        """The credentials of each priority, the highest first."""
        self.open = 0
        self.up = 0
        self.loads: Loads | None = None
        """Kept for the least-busy strategy alone."""
        self._by_name: dict[str, Member] = {}
        self._by_globs: dict[tuple[str, ...], int] = {}
        self._by_weight: dict[int, int] = {}
        self._known: OrderedDict[str, Lane] = OrderedDict()
        self._unknown: OrderedDict[str, Lane] = OrderedDict()

    def reload(self, credentials: Iterable[Credential], *, limit: int, strategy: str) -> None:
        """Have these members from now on. Those that keep their name keep their state."""
        self.limit = limit if self.limited else 0
        self.strategy = strategy
        old = self._by_name
        for member in self.members:
            member.index = -1
        self.members = []
        for index, credential in enumerate(credentials):
            member = old.get(credential.name) or Member(credential)
            member.credential = credential
            member.index = index
            self.members.append(member)
        self.everyone = (1 << len(self.members)) - 1
        self._by_name = {member.credential.name: member for member in self.members}
        forget_gone(self.resting)
        priorities = self._classes(lambda one: one.priority)
        self.tiers = [priorities[priority] for priority in sorted(priorities, reverse=True)]
        self._by_globs = self._classes(lambda one: one.models)
        self._by_weight = self._classes(lambda one: one.weight)
        self.loads = None
        if strategy == "least-busy":
            self.loads = Loads()
            for member in self.members:
                self.loads.add(member.index, member.in_flight)
        self.open = self.up = 0
        for member in self.members:
            self.settle(member)
        for lane in self.lanes():
            lane.rebuild()

    def _classes(self, of: Callable[[Credential], K]) -> dict[K, int]:
        """The members, as sets of those of whom *of* says the same."""
        size = (len(self.members) >> 3) + 1
        classes: defaultdict[K, bytearray] = defaultdict(lambda: bytearray(size))
        for member in self.members:
            classes[of(member.credential)][member.index >> 3] |= 1 << (member.index & 7)
        return {key: int.from_bytes(bits, "little") for key, bits in classes.items()}

    def selector(self, tier: int) -> ISelector:
        """A new selector of the strategy, for the credentials of one priority and one model."""
        if self.strategy == "weighted":
            return Weighted([(weight, members & tier) for weight, members in self._by_weight.items() if members & tier])
        if self.strategy == "fill-first":
            return FillFirst()
        if self.loads is not None:
            return LeastBusy(self.loads)
        return RoundRobin()

    def serving(self, model: str) -> int:
        """The credentials whose globs let them serve *model*."""
        serving = 0
        for globs, members in self._by_globs.items():
            if globs == ("*",) or matches(model, globs):
                serving |= members
        return serving

    def member(self, name: str) -> Member | None:
        """The member of that name."""
        return self._by_name.get(name)

    def named(self, credentials: Iterable[Credential]) -> int:
        """The set of those that are members."""
        members = 0
        for credential in credentials:
            member = self._by_name.get(credential.name) if credential.provider == self.provider else None
            if member is not None:
                members |= 1 << member.index
        return members

    def lane(self, model: str) -> Lane:
        """The lane of *model*, made if need be."""
        lane = self._known.get(model)
        if lane is not None:
            return lane
        lane = self._unknown.get(model)
        if lane is not None:
            self._unknown.move_to_end(model)
            return lane
        lane = Lane(self, model)
        lanes, bound = (self._known, KNOWN_LANES) if self.knows(model) else (self._unknown, UNKNOWN_LANES)
        lanes[model] = lane
        if len(lanes) > bound:
            _, old = lanes.popitem(last=False)
            for rest in [old.cooldown, *old.resting.values()]:
                if rest is not None:
                    rest.running = False
            self.gated -= len(old.gates) + (old.gate is not None) + (old.crowd is not None)
        return lane

    def lanes(self) -> Sequence[Lane]:
        """All that are remembered."""
        return [*self._known.values(), *self._unknown.values()]

    @property
    def unknown_lanes(self) -> int:
        """How many names that clients made up are remembered."""
        return len(self._unknown)

    def disabled(self) -> int:
        """How many members are out of service."""
        return sum(not member.enabled for member in self.members)

    def cooling(self) -> int:
        """How many cooldowns are running here."""
        lanes = self.lanes()
        whole = [rest for rest in (self.cooldown, *(lane.cooldown for lane in lanes)) if rest is not None]
        return (
            sum(rest.running for rest in whole)
            + (self.everyone & ~self.up).bit_count()
            - self.disabled()
            + sum((lane.serves & ~lane.up).bit_count() for lane in lanes)
        )

    @property
    def full(self) -> bool:
        """The provider takes no more attempts now, whoever's credential."""
        return (
            (0 < self.limit <= self.in_flight)
            or (self.cooldown is not None and not self.cooldown.open)
            or (self.gate is not None and not self.gate.open)
        )

    def settle(self, member: Member) -> None:
        """Something happened to that credential as a whole."""
        if member.index < 0:
            return
        bit = 1 << member.index
        rest = member.cooldown
        limit = member.credential.max_concurrency if self.limited else 0
        up = member.enabled and (rest is None or not rest.running)
        self.up = self.up | bit if up else self.up & ~bit
        may = (rest is None or rest.open) and (member.gate is None or member.gate.open)
        if up and may and (limit == 0 or member.in_flight < limit):
            self.open |= bit
        else:
            self.open &= ~bit

    def load(self, lane: Lane, member: Member, change: int) -> None:
        """One attempt more is under way with *member* in that lane, or one less."""
        self.in_flight += change
        lane.in_flight += change
        if self.loads is not None and member.index >= 0:
            self.loads.move(member.index, member.in_flight, member.in_flight + change)
        member.in_flight += change
        if member.credential.max_concurrency or member.cooldown is not None:
            self.settle(member)
