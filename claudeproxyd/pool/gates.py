"""Every gate that there is: told of leases, of failures that pass by themselves, and of the time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf

from claudeproxyd.outcomes.types import Kind, Outcome, Scope
from claudeproxyd.pool.deadlines import DeadlineHeap
from claudeproxyd.pool.lane import Lane
from claudeproxyd.pool.lease import Lease
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.places import Member, Place, PlaceGate
from claudeproxyd.pool.roster import Roster
from claudeproxyd.pool.selection import lowest

#: A model that more credentials serve has a gate for all of them together: an outage need not be learned of each.
CROWD = 1


#: What ends an attempt and is not the upstream's doing: a gate learns nothing from it.
_SAY_NOTHING = (Kind.CANCELLED, Kind.INTERNAL)
#: Of a place where hardly anything fails: a failure there still says only so much of the request.
LEAST_ODDS = 0.02


def bearing(lane: Lane, member: Member) -> list[PlaceGate]:
    """The gates that bear on one candidate."""
    gates = (lane.roster.gate, lane.gate, lane.crowd, member.gate, lane.gates.get(member))
    return [gate for gate in gates if gate is not None]


class Gates:
    """See the module. Made and driven by the candidates, which ask it only where their roster has a gate."""

    def __init__(self, rosters: Mapping[str, Roster]) -> None:
        """*rosters*: by provider, as they are at any time."""
        self._rosters = rosters
        self.timers: DeadlineHeap[PlaceGate] = DeadlineHeap(lambda when, one: one.due == when and one.place.gate is one)
        self.max_cooldown = inf
        """Seconds: the cap on what an upstream may ask for."""
        self.shared_until = -inf
        """Until then another daemon is taken to use the same credentials."""

    def granted(self, lease: Lease) -> None:
        """An attempt begins."""
        for gate in bearing(lease.lane, lease.member):
            gate.granted(lease.serial, lease.request.size, lease.granted)
            self._moved(gate)

    def began(self, lease: Lease, now: float) -> None:
        """Its answer has begun."""
        for gate in bearing(lease.lane, lease.member):
            gate.began(lease.serial, now)
            self._moved(gate)

    def _moved(self, gate: PlaceGate) -> None:
        """Something happened to *gate*: the sets follow, and it is on the agenda."""
        gate.place.update()
        if gate.due != gate.armed:
            gate.armed = gate.due
            if gate.due != inf:
                self.timers.put(gate.due, gate)

    def in_pace(self, lane: Lane, ready: int, size: int, now: float) -> int:
        """Those of *ready* with whom an attempt of that size would not come too soon; the others are on the agenda."""
        for gate in (lane.roster.gate, lane.gate):
            if gate is not None and self._too_soon(gate, size, now):
                return 0
        paced = lane.paced & ready
        while paced:
            index = lowest(paced)
            paced &= paced - 1
            gate = lane.gates[lane.roster.members[index]]
            if self._too_soon(gate, size, now):
                ready &= ~(1 << index)
        return ready

    def _too_soon(self, gate: PlaceGate, size: int, now: float) -> bool:
        wait = gate.wait(size, now)
        if wait:
            gate.due = min(gate.due, now + wait)
            self._moved(gate)
        return wait > 0

    def begin(self, lease: Lease, outcome: Outcome, newest: int, now: float) -> None:
        """See that there are gates for a failure that passes by itself. *newest* is the newest lease's number."""
        lane = lease.lane
        places = [lease.place(outcome)]
        if outcome.scope is Scope.MODEL and lane.serves.bit_count() > CROWD:
            places.append(Place(lane.roster, lane, None, crowd=True))
        for place in places:
            if place.gate is None:
                # The lease itself is told of in a moment, like all that are out.
                place.attach_gate(PlaceGate(place, place.in_flight + 1, newest, now, crowd=place.crowd))

    def released(self, lease: Lease, outcome: Outcome, now: float) -> PlaceGate | None:
        """Tell all gates of its place what became of a lease. One that went down, or came up again."""
        place = lease.place(outcome)
        told = None
        for gate in bearing(lease.lane, lease.member):
            was_down = gate.condition is Condition.DOWN
            gate.shared = now < self.shared_until
            if outcome.kind in _SAY_NOTHING:
                gate.left(lease.serial)
            elif outcome.passing and (gate is place.gate or (gate.crowd and outcome.scope is Scope.MODEL)):
                wait = 0.0 if outcome.until_hint is None else min(outcome.until_hint, self.max_cooldown)
                if outcome.scope is Scope.MODEL and not gate.crowd:
                    lease.request.odds *= max(gate.odds, LEAST_ODDS)
                gate.kind, gate.reason = outcome.kind, outcome.reason
                gate.failed(lease.serial, lease.request.size, now - lease.granted, now, wait)
            elif outcome.kind is Kind.OK or outcome.scope is Scope.NONE:
                gate.passed(lease.serial, now)
            else:
                gate.left(lease.serial)
            if was_down != (gate.condition is Condition.DOWN):
                told = gate
            self._moved(gate)
        return told

    def tick(self, now: float, most: int) -> list[PlaceGate]:
        """Tell up to *most* gates that their time has come. Those that are down no longer."""
        up = []
        for gate in self.timers.due(now, most):
            was_down = gate.condition is Condition.DOWN
            gate.armed = inf
            if gate.tick(now):
                self._moved(gate)
            else:
                gate.place.attach_gate(None)
            if was_down and gate.condition is not Condition.DOWN:
                up.append(gate)
        return up

    def __iter__(self) -> Iterator[PlaceGate]:
        """All that there are."""
        for roster in list(self._rosters.values()):
            for one in (roster.gate, *(member.gate for member in roster.members)):
                if one is not None:
                    yield one
            for lane in roster.lanes():
                for gate in (lane.gate, lane.crowd, *lane.gates.values()):
                    if gate is not None:
                        yield gate
