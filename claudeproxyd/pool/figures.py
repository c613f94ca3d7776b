"""Figures of each credential, for metrics. Every family is read lazily: there may be ten thousand credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.candidates import Candidates
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.places import Member, PlaceCooldown, PlaceGate
from claudeproxyd.pool.roster import Roster

if TYPE_CHECKING:
    from claudeproxyd.observe.metrics import Metrics

Rows = Iterator[tuple[tuple[str, ...], float]]
"""Labels, of which the first two are provider and credential, and a number."""


class Figures:
    """What :func:`register` reads; made anew for each reading. Of messages alone, not of count_tokens."""

    def __init__(self, messages: Candidates, now: float) -> None:
        self._messages = messages
        self._now = now

    def _members(self) -> Iterator[tuple[Roster, Member]]:
        """A reload meanwhile makes new lists, so these are whole."""
        return ((roster, member) for roster in list(self._messages.rosters.values()) for member in roster.members)

    def states(self) -> Rows:
        """A third label, the state: 1 for the one that it is in."""
        for roster, member in self._members():
            yield (*member.key, state(roster, member)), 1

    def in_flight(self) -> Rows:
        """Attempts under way."""
        for _, member in self._members():
            yield member.key, member.in_flight

    def attempts(self) -> Rows:
        """Attempts that are over; a third label, the outcome."""
        for _, member in self._members():
            for outcome, number in outcomes(member):
                yield (*member.key, outcome), number

    def remaining(self) -> Rows:
        """Seconds until nothing holds it back any more, for no model either."""
        bearings = Bearings(self._messages)
        for roster, member in self._members():
            cooldowns = bearings.on(roster, member)
            yield member.key, max([remaining(cooldown, self._now) for cooldown in cooldowns], default=0.0)

    def levels(self) -> Rows:
        """Failures in a row, of the cooldown that has most."""
        bearings = Bearings(self._messages)
        for roster, member in self._members():
            yield member.key, max([cooldown.level for cooldown in bearings.on(roster, member)], default=0)

    def gates(self, of: Callable[[PlaceGate], float | None]) -> Rows:
        """A third label, the model or "": what *of* says of each gate; None leaves it out. Shared ones have no name."""
        for gate in self._messages.gates:
            place, figure = gate.place, of(gate)
            if figure is not None and not gate.crowd and (place.model is None or place.roster.knows(place.model)):
                name = "" if place.member is None else place.member.credential.name
                yield (place.roster.provider, name, place.model or ""), figure


def register(metrics: Metrics, gauges: Callable[[], Mapping[str, int]], figures: Callable[[], Figures]) -> None:
    """Let *metrics* read the pool's sizes and each credential's figures. Called once, by the pool."""
    names = ("provider", "credential")
    metrics.gauge(
        "claudeproxyd_pool",
        "The pool's sizes: in_flight, waiting, cooling, affinities …",
        lambda: (((what,), size) for what, size in gauges().items()),
        ("what",),
    )
    metrics.gauge(
        "claudeproxyd_credential_state",
        "1, for the state that a credential is in.",
        lambda: figures().states(),
        (*names, "state"),
    )
    metrics.gauge(
        "claudeproxyd_credential_in_flight",
        "Attempts under way with a credential.",
        lambda: figures().in_flight(),
        names,
    )
    metrics.counter(
        "claudeproxyd_credential_attempts_total",
        "Attempts with a credential that are over.",
        lambda: figures().attempts(),
        (*names, "outcome"),
    )
    metrics.gauge(
        "claudeproxyd_credential_cooldown_seconds",
        "Seconds until nothing holds a credential back any more, for no model either.",
        lambda: figures().remaining(),
        names,
    )
    metrics.gauge(
        "claudeproxyd_credential_level",
        "Failures in a row, of a credential's cooldown that has most.",
        lambda: figures().levels(),
        names,
    )
    metrics.gauge(
        "claudeproxyd_gate_failing",
        "The share of late attempts that failed, where something did. Without a credential: of the whole provider.",
        lambda: figures().gates(lambda gate: gate.share),
        (*names, "model"),
    )
    metrics.gauge(
        "claudeproxyd_gate_limit",
        "How many attempts at once were learned to be carried; 0 where nearly all fail.",
        lambda: figures().gates(lambda gate: None if gate.limit == inf else gate.limit),
        (*names, "model"),
    )


class Bearings:
    """Which cooldowns and gates bear on whom. Gathered once: a credential's own are spread over models."""

    def __init__(self, *both: Candidates) -> None:
        self._shared: dict[Roster, list[PlaceCooldown]] = {}
        self._own: dict[Member, list[PlaceCooldown]] = {}
        self._gates: dict[Roster | Member, list[PlaceGate]] = {}
        for gate in [gate for candidates in both for gate in candidates.gates]:
            self._gates.setdefault(gate.place.member or gate.place.roster, []).append(gate)
        for roster in [roster for candidates in both for roster in candidates.rosters.values()]:
            lanes = roster.lanes()
            shared = (roster.cooldown, *(lane.cooldown for lane in lanes))
            self._shared[roster] = [each for each in shared if each is not None and each.kind is not None]
            for cooldowns in (roster.cooldowns, *(lane.cooldowns for lane in lanes)):
                for member, cooldown in cooldowns.items():
                    if cooldown.kind is not None:
                        self._own.setdefault(member, []).append(cooldown)

    def on(self, roster: Roster, member: Member) -> Sequence[PlaceCooldown]:
        """Those of its provider first."""
        return (*self._shared.get(roster, ()), *self._own.get(member, ()))

    def gates_on(self, roster: Roster, member: Member) -> Sequence[PlaceGate]:
        """Those of its provider first."""
        return (*self._gates.get(roster, ()), *self._gates.get(member, ()))

    def held(self) -> set[tuple[str, str]]:
        """The (provider, credential) pairs of those for whom one of them is trouble."""
        held = {member.key for member, cooldowns in self._own.items() if any(map(is_trouble, cooldowns))}
        for roster, cooldowns in self._shared.items():
            if any(map(is_trouble, cooldowns)):
                held.update(member.key for member in roster.members)
        for place, gates in self._gates.items():
            if any(gate.condition is Condition.DOWN for gate in gates):
                held.update([place.key] if isinstance(place, Member) else [member.key for member in place.members])
        return held


def is_trouble(cooldown: PlaceCooldown) -> bool:
    """Whether somebody should look at it: not where one model is merely being probed, or is one that a client made up."""
    lane = cooldown.place.lane
    if lane is None:
        return True
    return cooldown.running and (cooldown.kind is not Kind.MODEL_UNAVAILABLE or cooldown.place.roster.knows(lane.model))


def remaining(cooldown: PlaceCooldown, now: float) -> float:
    """Seconds that a cooldown will still run."""
    return max(0.0, cooldown.until - now) if cooldown.running else 0.0


def outcomes(member: Member) -> Iterator[tuple[str, int]]:
    """How its attempts ended, and how often."""
    if member.served:
        yield "ok", member.served
    for kind, number in member.failures.items():
        yield kind.value, number


def state(roster: Roster, member: Member) -> str:
    """Of the whole credential: disabled, cooling, trial (half open), down, busy or ready. A model may cool besides."""
    if not member.enabled:
        return "disabled"
    cooldowns = [cooldown for cooldown in (roster.cooldown, member.cooldown) if cooldown is not None]
    if any(cooldown.running for cooldown in cooldowns):
        return "cooling"
    if any(cooldown.kind is not None for cooldown in cooldowns):
        return "trial"
    if any(gate is not None and gate.condition is Condition.DOWN for gate in (roster.gate, member.gate)):
        return "down"
    is_available = member.index >= 0 and roster.available >> member.index & 1
    return "ready" if is_available and not roster.full else "busy"
