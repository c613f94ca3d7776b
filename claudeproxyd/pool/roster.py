"""Who is ready, kept up to date as things change, so that a choice never searches.

Theory of operation
-------------------

One :class:`Roster` stands for the credentials of one provider, one :class:`Lane` in it for one of its models. A set of
credentials is an int, bit *i* for the *i*-th credential of the roster. Each lane and each roster keep two such sets:

``not_cooling``
    enabled and not cooling: might be busy, but needs no time to pass.
``available``
    of those, the ones that may begin one more attempt now.

In a roster a bit speaks of the whole credential (enabled, its cooldown, its ``max_concurrency``), in a lane of that one
model on it (the globs, its cooldown). A candidate is ready when both are set, so the ready set of a model is

    ``roster.available & lane.available``

or empty, while the provider or the model on the provider cooldowns or is full. That is two machine words for a hundred
credentials, and still less than a microsecond for ten thousand.

A bit changes only through ``update``, which is called for the one credential that something happened to: a lease
began or ended and it has a limit, a cooldown began, ended, or let one more probe in, a gate opened or shut. So a change
costs one bit in one set, however many models there are; and what is never in trouble (no limit, no cooldown) costs
nothing at all.

Time never changes a set by itself. Every running cooldown, and every gate that waits, is on the pool's agenda, and
``update`` follows when it is due.

The priorities are sets too (*tiers*), and so is what an answer's headers foretold to fail (*spent*): choosing is taking
intersections until one that is not empty is found, and then asking the strategy for one of it.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from claudeproxyd.globs import matches
from claudeproxyd.interfaces import ISelector
from claudeproxyd.leases import Credential
from claudeproxyd.pool.lane import Lane
from claudeproxyd.pool.places import Member, PlaceCooldown, PlaceGate, forget_gone
from claudeproxyd.pool.selection import FillFirst, LeastBusy, Loads, RoundRobin, Weighted

K = TypeVar("K")

#: Lanes of one provider: models that somebody configured or discovered …
KNOWN_LANES = 4096
#: … and names that clients made up. Both go when unused for longest.
UNKNOWN_LANES = 256


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
        self.cooldown: PlaceCooldown | None = None
        """Of the provider as a whole."""
        self.gate: PlaceGate | None = None
        """The same."""
        self.gated = 0
        """Gates that there are, here and in all lanes."""
        self.cooldowns: dict[Member, PlaceCooldown] = {}
        """Of whole credentials."""
        self.members: list[Member] = []
        self.everyone = 0
        """The set of all members."""
        self.tiers: list[int] = []
        """The credentials of each priority, the highest first."""
        self.available = 0
        self.not_cooling = 0
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
        forget_gone(self.cooldowns)
        for gone in [member for member in old.values() if member.index < 0 and member.gate is not None]:
            gone.gate = None
            self.gated -= 1
        priorities = self._classes(lambda one: one.priority)
        self.tiers = [priorities[priority] for priority in sorted(priorities, reverse=True)]
        self._by_globs = self._classes(lambda one: one.models)
        self._by_weight = self._classes(lambda one: one.weight)
        self.loads = None
        if strategy == "least-busy":
            self.loads = Loads()
            for member in self.members:
                self.loads.add(member.index, member.in_flight)
        self.available = self.not_cooling = 0
        for member in self.members:
            self.update(member)
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
            old.forget()
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
        whole = [cooldown for cooldown in (self.cooldown, *(lane.cooldown for lane in lanes)) if cooldown is not None]
        return (
            sum(cooldown.running for cooldown in whole)
            + (self.everyone & ~self.not_cooling).bit_count()
            - self.disabled()
            + sum((lane.serves & ~lane.not_cooling).bit_count() for lane in lanes)
        )

    @property
    def full(self) -> bool:
        """The provider takes no more attempts now, whoever's credential."""
        return (
            (0 < self.limit <= self.in_flight)
            or (self.cooldown is not None and not self.cooldown.open)
            or (self.gate is not None and not self.gate.open)
        )

    def update(self, member: Member) -> None:
        """Something happened to that credential as a whole."""
        if member.index < 0:
            return
        bit = 1 << member.index
        cooldown = member.cooldown
        limit = member.credential.max_concurrency if self.limited else 0
        not_cooling = member.enabled and (cooldown is None or not cooldown.running)
        self.not_cooling = self.not_cooling | bit if not_cooling else self.not_cooling & ~bit
        may = (cooldown is None or cooldown.open) and (member.gate is None or member.gate.open)
        if not_cooling and may and (limit == 0 or member.in_flight < limit):
            self.available |= bit
        else:
            self.available &= ~bit

    def load(self, lane: Lane, member: Member, change: int) -> None:
        """One attempt more is under way with *member* in that lane, or one less."""
        self.in_flight += change
        lane.in_flight += change
        if self.loads is not None and member.index >= 0:
            self.loads.move(member.index, member.in_flight, member.in_flight + change)
        member.in_flight += change
        if member.credential.max_concurrency or member.cooldown is not None:
            self.update(member)
