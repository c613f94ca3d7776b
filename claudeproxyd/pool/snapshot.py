"""The pool as people see it. Holds no secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import overload

from claudeproxyd.pool.active_cooldowns import ActiveCooldowns, remaining_seconds
from claudeproxyd.pool.candidates import Candidates
from claudeproxyd.pool.credential_metrics import outcomes, state
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.phases.paced import Paced
from claudeproxyd.pool.scopes import PooledCredential, ScopeGate


def gate_in_words(gate: ScopeGate, now: float) -> str:
    """Return a sentence on what *gate* has learned, and why requests wait for it."""
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


class Snapshot(Sequence[Mapping[str, object]]):
    """One entry a credential, each made when it is read, so that ten thousand may be read in slices.

    Credentials that need attention come first; otherwise the order is the configuration's.
    """

    def __init__(self, messages: Candidates, count_tokens: Candidates, now: float) -> None:
        self._count_tokens = count_tokens
        self._now = now
        self._active = ActiveCooldowns(messages, count_tokens)
        self._needing_attention = self._active.needing_attention()
        self._pooled = [pooled for provider in messages.providers.values() for pooled in provider.credentials]
        self._pooled.sort(key=lambda pooled: not self._needs_attention(pooled))

    def __len__(self) -> int:
        return len(self._pooled)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, object]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, object]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, object] | Sequence[Mapping[str, object]]:
        if isinstance(index, slice):
            return [self._entry(pooled) for pooled in self._pooled[index]]
        return self._entry(self._pooled[index])

    def _needs_attention(self, pooled: PooledCredential) -> bool:
        return not pooled.enabled or pooled.key in self._needing_attention

    def _entry(self, pooled: PooledCredential) -> Mapping[str, object]:
        # Configured no more, it has no counterpart, and stands in for it.
        counting = self._count_tokens.find(*pooled.key) or pooled
        return {
            "provider": pooled.key[0],
            "credential": pooled.key[1],
            "state": state(pooled),
            "trouble": self._needs_attention(pooled),
            "in_flight": pooled.in_flight,
            "max_concurrency": pooled.credential.max_concurrency,
            "priority": pooled.credential.priority,
            "weight": pooled.credential.weight,
            "cooldowns": self._cooldowns(pooled),
            "gates": self._gates(pooled),
            "count_tokens": {
                "in_flight": counting.in_flight,
                "cooldowns": self._cooldowns(counting),
                "gates": self._gates(counting),
            },
            "outcomes": dict(outcomes(pooled)),
            "last_failure": self._last_failure(pooled),
        }

    def _cooldowns(self, pooled: PooledCredential) -> Sequence[Mapping[str, object]]:
        return [
            {
                "scope": cooldown.scope.kind.value,
                "model": cooldown.scope.names[2],
                "outcome": None if cooldown.kind is None else cooldown.kind.value,
                "reason": cooldown.reason,
                "level": cooldown.level,
                "remaining": round(remaining_seconds(cooldown, self._now), 3),
                "trials": None if cooldown.running else cooldown.limit,
            }
            for cooldown in self._active.cooldowns_of(pooled)
        ]

    def _gates(self, pooled: PooledCredential) -> Sequence[Mapping[str, object]]:
        return [
            {
                "scope": gate.scope.kind.value,
                "model": gate.scope.names[2],
                "state": gate.condition.value,
                "failing": round(gate.share, 3),
                "limit": None if gate.limit == inf else int(gate.limit),
                "in_flight": gate.in_flight,
                "seconds": round(max(0.0, self._now - gate.since), 3),
                "outcome": gate.kind.value,
                "reason": gate.reason,
                "told": gate_in_words(gate, self._now),
            }
            for gate in self._active.gates_of(pooled)
        ]

    def _last_failure(self, pooled: PooledCredential) -> Mapping[str, object] | None:
        if pooled.last_failure is None:
            return None
        when, outcome = pooled.last_failure
        return {
            "outcome": outcome.kind.value,
            "reason": outcome.reason,
            "seconds_ago": round(max(0.0, self._now - when), 3),
        }
