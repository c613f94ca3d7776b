"""The pool as people see it. Holds no secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, overload

from claudeproxyd.pool.candidates import Candidates
from claudeproxyd.pool.figures import Bearings, outcomes, remaining, state
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.phases.paced import Paced
from claudeproxyd.pool.places import Member, PlaceGate
from claudeproxyd.pool.roster import Roster


def told(gate: PlaceGate, now: float) -> str:
    """What was learned of a place, and why something waits there, in words."""
    failing = f"{gate.share:.0%} failing"
    match gate.condition:
        case Condition.FREE:
            return f"{failing}, not held back"
        case Condition.TESTING:
            return f"{failing}, testing whether less at once helps"
        case Condition.LIMITED:
            return f"learned limit {int(gate.limit)} at once"
        case Condition.PACED:
            assert isinstance(gate.phase, Paced)
            return f"learned pace {gate.phase.rate:.3g} a second"
        case Condition.DOWN:
            following = "a probe is due" if gate.open else f"next probe in {max(0.0, gate.due - now):.1f} s"
            return f"out for {now - gate.last_pass:.0f} s, {following}"


class Snapshot(Sequence[Mapping[str, Any]]):
    """One entry a credential, each made when it is read, so that ten thousand may be read in slices.

    What is in trouble comes first, then the others; otherwise in the configuration's order.
    """

    def __init__(self, messages: Candidates, count_tokens: Candidates, now: float) -> None:
        self._count_tokens = count_tokens
        self._now = now
        self._bearings = Bearings(messages, count_tokens)
        self._members = [(roster, member) for roster in messages.rosters.values() for member in roster.members]
        self._held = self._bearings.held()
        self._members.sort(key=lambda place: not self._in_trouble(place[1]))

    def __len__(self) -> int:
        return len(self._members)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        if isinstance(index, slice):
            return [self._entry(*place) for place in self._members[index]]
        return self._entry(*self._members[index])

    def _twin(self, roster: Roster, member: Member) -> tuple[Roster, Member]:
        """The same credential for count_tokens; itself, once it is configured no more."""
        counting = self._count_tokens.rosters.get(roster.provider)
        twin = None if counting is None else counting.member(member.credential.name)
        return (roster, member) if counting is None or twin is None else (counting, twin)

    def _in_trouble(self, member: Member) -> bool:
        return not member.enabled or member.key in self._held

    def _entry(self, roster: Roster, member: Member) -> Mapping[str, Any]:
        counting, twin = self._twin(roster, member)
        return {
            "provider": roster.provider,
            "credential": member.credential.name,
            "state": state(roster, member),
            "trouble": self._in_trouble(member),
            "in_flight": member.in_flight,
            "max_concurrency": member.credential.max_concurrency,
            "priority": member.credential.priority,
            "weight": member.credential.weight,
            "cooldowns": self._cooldowns(roster, member),
            "gates": self._gates(roster, member),
            "count_tokens": {
                "in_flight": twin.in_flight,
                "cooldowns": self._cooldowns(counting, twin),
                "gates": self._gates(counting, twin),
            },
            "outcomes": dict(outcomes(member)),
            "last_failure": self._last_failure(member),
        }

    def _cooldowns(self, roster: Roster, member: Member) -> Sequence[Mapping[str, Any]]:
        return [
            {
                "scope": cooldown.place.scope.value,
                "model": cooldown.place.model,
                "outcome": None if cooldown.kind is None else cooldown.kind.value,
                "reason": cooldown.reason,
                "level": cooldown.level,
                "remaining": round(remaining(cooldown, self._now), 3),
                "trials": None if cooldown.running else cooldown.limit,
            }
            for cooldown in self._bearings.on(roster, member)
        ]

    def _gates(self, roster: Roster, member: Member) -> Sequence[Mapping[str, Any]]:
        return [
            {
                "scope": gate.place.scope.value,
                "model": gate.place.model,
                "state": gate.condition.value,
                "failing": round(gate.share, 3),
                "limit": None if gate.limit == inf else int(gate.limit),
                "in_flight": gate.in_flight,
                "seconds": round(max(0.0, self._now - gate.since), 3),
                "outcome": gate.kind.value,
                "reason": gate.reason,
                "told": told(gate, self._now),
            }
            for gate in self._bearings.gates_on(roster, member)
        ]

    def _last_failure(self, member: Member) -> Mapping[str, Any] | None:
        if member.last_failure is None:
            return None
        when, outcome = member.last_failure
        return {
            "outcome": outcome.kind.value,
            "reason": outcome.reason,
            "seconds_ago": round(max(0.0, self._now - when), 3),
        }
