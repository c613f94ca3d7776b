"""One model at one provider: who may begin an attempt there, and who is chosen. See :mod:`.roster`."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from claudeproxyd.interfaces import ISelector
from claudeproxyd.pool.deadlines import DeadlineHeap
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.places import Member, PlaceCooldown, PlaceGate, Use, forget_gone

if TYPE_CHECKING:
    from claudeproxyd.pool.roster import Roster

#: A credential of whose attempts more fail comes last …
POOR = 0.3
#: … but for every so many choices, so that it is seen when it is better.
TASTE = 16


class Soonest(NamedTuple):
    """Of a lane where all are cooling: the first who will be."""

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
        self._ends: DeadlineHeap[Member] = DeadlineHeap(lambda when, member: self._until.get(member) == when)

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
        "available",
        "choices",
        "cooldown",
        "cooldowns",
        "crowd",
        "gate",
        "gates",
        "in_flight",
        "model",
        "not_cooling",
        "paced",
        "poor",
        "roster",
        "selectors",
        "serves",
        "soonest",
        "spent",
    )

    def __init__(self, roster: Roster, model: str) -> None:
        self.roster = roster
        self.model = model
        self.cooldown: PlaceCooldown | None = None
        """Of the model on the whole provider."""
        self.cooldowns: dict[Member, PlaceCooldown] = {}
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
        self.available = self.not_cooling = self.serves
        self.selectors: list[ISelector] = [roster.selector(tier) for tier in roster.tiers]
        forget_gone(self.cooldowns)
        self._uses = {member: use for member, use in self._uses.items() if member.index >= 0}
        for gone in [member for member in self.gates if member.index < 0]:
            del self.gates[gone]
            roster.gated -= 1
        self.spent.rebuild()
        self.poor = self.paced = 0
        for member in {*self.cooldowns, *self.gates}:
            self.update(member)

    def forget(self) -> None:
        """It is remembered no more, though attempts may be under way: nothing is waited for on its account."""
        for cooldown in (self.cooldown, *self.cooldowns.values()):
            if cooldown is not None:
                cooldown.running = False
        self.roster.gated -= len(self.gates) + (self.gate is not None) + (self.crowd is not None)
        self.gate = self.crowd = None
        self.gates.clear()

    def use(self, member: Member) -> Use:
        """What that credential does for this model."""
        use = self._uses.get(member)
        if use is None:
            use = self._uses[member] = Use()
        return use

    def update(self, member: Member) -> None:
        """Something happened to this model on that credential."""
        if member.index < 0:
            return
        bit = 1 << member.index
        if not self.serves & bit:
            return
        cooldown = self.cooldowns.get(member)
        gate = self.gates.get(member)
        self.not_cooling = (
            self.not_cooling | bit if cooldown is None or not cooldown.running else self.not_cooling & ~bit
        )
        is_available = (cooldown is None or cooldown.open) and (gate is None or gate.open)
        self.available = self.available | bit if is_available else self.available & ~bit
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
        return roster.available & self.available

    def ready_or_busy(self) -> int:
        """The set of those for which no time needs to pass: ready, or busy."""
        roster = self.roster
        for cooldown in (roster.cooldown, self.cooldown):
            if cooldown is not None and cooldown.running:
                return 0
        return roster.not_cooling & self.not_cooling

    def busy(self, member: Member) -> bool:
        """Whether *member* would be ready, but for what it is doing already."""
        gate = self.gates.get(member)
        if member.index < 0 or (gate is not None and gate.condition is Condition.DOWN):
            return False
        return bool((self.ready_or_busy() & (~self.ready() | self.paced)) >> member.index & 1)

    def down(self) -> PlaceGate | None:
        """The gate that keeps everybody who is not cooling from more than a probe; None where none does."""
        for gate in (self.roster.gate, self.gate, self.crowd):
            if gate is not None and gate.condition is Condition.DOWN:
                return gate
        usable = self.ready_or_busy()
        soonest = None
        for member, gate in self.gates.items():
            if gate.condition is Condition.DOWN and usable >> member.index & 1:
                usable &= ~(1 << member.index)
                if soonest is None or gate.due < soonest.due:
                    soonest = gate
        return None if usable else soonest

    def choose(self, ready: int, preferred: Member | None, now: float) -> Member:
        """One of *ready*, which is not empty; the *preferred* if it is among the best."""
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
        if preferred is not None and preferred.index >= 0 and among >> preferred.index & 1:
            return preferred
        return roster.members[self.selectors[number].choose(among)]
