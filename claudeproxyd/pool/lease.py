"""What the pool hands to dispatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zope.interface import implementer

from claudeproxyd.interfaces import ILease
from claudeproxyd.leases import Candidate, LeaseRequest, Route
from claudeproxyd.outcomes.types import Outcome, Scope
from claudeproxyd.pool.places import Place

if TYPE_CHECKING:
    from claudeproxyd.pool.lane import Lane
    from claudeproxyd.pool.places import Member, PlaceCooldown


class AlreadyReleased(RuntimeError):
    """A lease was given back twice: a mistake in our own code."""


@implementer(ILease)
class Lease:
    """See :class:`~claudeproxyd.interfaces.ILease`."""

    __slots__ = (
        "_probe_succeeded",
        "_take_back",
        "granted",
        "lane",
        "member",
        "overflow",
        "probes",
        "request",
        "route",
        "serial",
        "use",
    )

    def __init__(
        self,
        take_back: Callable[[Lease, Outcome], None],
        probe_succeeded: Callable[[Lease], None],
        request: LeaseRequest,
        route: Route,
        lane: Lane,
        member: Member,
        serial: int,
        granted: float,
    ) -> None:
        self._take_back: Callable[[Lease, Outcome], None] | None = take_back
        self._probe_succeeded = probe_succeeded
        self.request = request
        self.route = route
        self.lane = lane
        self.member = member
        self.serial = serial
        """Leases are numbered in the order in which they were granted."""
        self.granted = granted
        """When, on the reactor's clock."""
        self.probes: list[PlaceCooldown] = NO_PROBES
        """The half-open cooldowns that this attempt puts to the test."""
        self.use = lane.use(member)
        self.overflow = False
        """Whether the affinity's target was merely busy: its session stays with it, whatever comes of this attempt."""

    @property
    def candidate(self) -> Candidate:
        """The (route, credential) pair."""
        return Candidate(self.route, self.member.credential)

    def place(self, outcome: Outcome) -> Place:
        """What an outcome of it is about."""
        return Place(
            self.lane.roster,
            self.lane if outcome.scope in (Scope.MODEL, Scope.MODEL_ON_PROVIDER) else None,
            self.member if outcome.scope in (Scope.MODEL, Scope.CREDENTIAL) else None,
        )

    def probe_succeeded(self) -> None:
        """See the interface. Of use only where something is being probed."""
        if self.probes or self.lane.roster.gated:
            self._probe_succeeded(self)

    def release(self, outcome: Outcome) -> None:
        """Give it back. Raises :class:`AlreadyReleased` the second time."""
        take_back, self._take_back = self._take_back, None
        if take_back is None:
            raise AlreadyReleased("/".join(self.member.key))
        take_back(self, outcome)


#: Shared by all leases that test nothing.
NO_PROBES: list[PlaceCooldown] = []
