"""The pool as people and metrics see it. Holds no secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

from claudeproxyd.pool.candidates import Candidates
from claudeproxyd.pool.roster import Member, Rest, Roster


class Snapshot(Sequence[Mapping[str, Any]]):
    """One entry a credential, each made when it is read, so that ten thousand may be read in slices."""

    def __init__(self, messages: Candidates, count_tokens: Candidates, now: float) -> None:
        self._count_tokens = count_tokens
        self._now = now
        self._members = [(roster, member) for roster in messages.rosters.values() for member in roster.members]

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

    def _entry(self, roster: Roster, member: Member) -> Mapping[str, Any]:
        counting = self._count_tokens.rosters.get(roster.provider)
        twin = None if counting is None else counting.member(member.credential.name)
        outcomes = {"ok": member.served} if member.served else {}
        for kind, number in member.failures.items():
            outcomes[kind.value] = number
        return {
            "provider": roster.provider,
            "credential": member.credential.name,
            "state": _state(roster, member),
            "in_flight": member.in_flight,
            "max_concurrency": member.credential.max_concurrency,
            "priority": member.credential.priority,
            "weight": member.credential.weight,
            "cooldowns": [self._cooldown(rest) for rest in _rests(roster, member)],
            "count_tokens": {
                "in_flight": 0 if twin is None else twin.in_flight,
                "cooldowns": []
                if twin is None or counting is None
                else list(map(self._cooldown, _rests(counting, twin))),
            },
            "outcomes": outcomes,
            "last_failure": self._last_failure(member),
        }

    def _cooldown(self, rest: Rest) -> Mapping[str, Any]:
        return {
            "scope": rest.place.scope.value,
            "model": rest.place.model,
            "outcome": None if rest.kind is None else rest.kind.value,
            "reason": rest.reason,
            "level": rest.level,
            "remaining": round(max(0.0, rest.until - self._now), 3) if rest.running else 0.0,
            "trials": None if rest.running else rest.limit,
        }

    def _last_failure(self, member: Member) -> Mapping[str, Any] | None:
        if member.last_failure is None:
            return None
        when, outcome = member.last_failure
        return {
            "outcome": outcome.kind.value,
            "reason": outcome.reason,
            "seconds_ago": round(max(0.0, self._now - when), 3),
        }


def _rests(roster: Roster, member: Member) -> list[Rest]:
    """All that bears on a credential: running, or half open."""
    rests = [roster.cooldown, member.cooldown]
    for lane in roster.lanes():
        rests += (lane.cooldown, lane.resting.get(member))
    return [rest for rest in rests if rest is not None and rest.kind is not None]


def _state(roster: Roster, member: Member) -> str:
    """Of the whole credential: disabled, cooling, trial (half open), busy or ready. A model may cool besides."""
    if not member.enabled:
        return "disabled"
    rests = [rest for rest in (roster.cooldown, member.cooldown) if rest is not None]
    if any(rest.running for rest in rests):
        return "cooling"
    if any(rest.kind is not None for rest in rests):
        return "trial"
    return "ready" if roster.open >> member.index & 1 and not roster.full else "busy"
