"""What a cooldown or a gate is about: a credential, a model on it, a model at a provider, or a provider."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from claudeproxyd.leases import Credential
from claudeproxyd.outcomes.types import Kind, Outcome, Scope
from claudeproxyd.pool.cooldown import Cooldown
from claudeproxyd.pool.gate import Gate

if TYPE_CHECKING:
    from claudeproxyd.pool.lane import Lane
    from claudeproxyd.pool.roster import Roster


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
        self.cooldown: PlaceCooldown | None = None
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

    def update(self) -> None:
        """Let the sets follow what became of the cooldown."""
        if self.member is not None:
            (self.lane or self.roster).update(self.member)

    def attach(self, cooldown: PlaceCooldown | None) -> None:
        """Make *cooldown* what holds this place back; None: nothing does."""
        if self.member is None:
            (self.lane or self.roster).cooldown = cooldown
        elif self.lane is None:
            self.member.cooldown = cooldown
            self.roster.cooldowns.pop(self.member, None)
            if cooldown is not None:
                self.roster.cooldowns[self.member] = cooldown
        else:
            self.lane.cooldowns.pop(self.member, None)
            if cooldown is not None:
                self.lane.cooldowns[self.member] = cooldown
        self.update()

    @property
    def cooldown(self) -> PlaceCooldown | None:
        """What holds it back, if anything does."""
        if self.member is None:
            return (self.lane or self.roster).cooldown
        return self.member.cooldown if self.lane is None else self.lane.cooldowns.get(self.member)

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
        self.update()

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


PlaceCooldown = Cooldown[Place]
PlaceGate = Gate[Place]


def forget_gone(cooldowns: dict[Member, PlaceCooldown]) -> None:
    """Drop the cooldowns of those who are configured no more."""
    for gone in [member for member in cooldowns if member.index < 0]:
        cooldowns.pop(gone).running = False
