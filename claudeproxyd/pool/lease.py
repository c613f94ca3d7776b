"""The lease that the pool hands to dispatch."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from claudeproxyd.interfaces import ILease
from claudeproxyd.leases import Candidate, LeaseRequest, Route
from claudeproxyd.outcomes.types import Outcome, Scope
from claudeproxyd.pool.scopes import CooldownScope, ModelOnCredential, ScopeCooldown

#: The probes of every lease that probes nothing.
NO_PROBES: list[ScopeCooldown] = []


class AlreadyReleased(RuntimeError):
    """A lease was released twice: an error in the daemon's own code."""


@implementer(ILease)
class Lease:
    """See :class:`~claudeproxyd.interfaces.ILease`."""

    __slots__ = (
        "_on_probe_succeeded",
        "_on_release",
        "candidate",
        "granted",
        "overflow",
        "pair",
        "probes",
        "request",
        "route",
        "serial",
    )

    def __init__(
        self,
        on_release: Callable[[Lease, Outcome | None], None],
        on_probe_succeeded: Callable[[Lease], None],
        request: LeaseRequest,
        route: Route,
        pair: ModelOnCredential,
        serial: int,
        granted: float,
    ) -> None:
        self._on_release: Callable[[Lease, Outcome | None], None] | None = on_release
        self._on_probe_succeeded = on_probe_succeeded
        self.request = request
        self.route = route
        self.pair = pair
        """The model and the credential that are leased."""
        self.candidate = Candidate(route, pair.pooled.credential)
        """The (route, credential) pair."""
        self.serial = serial
        """The number of this lease, in the order in which they are granted."""
        self.granted = granted
        """The time at which it was granted, on the reactor's clock."""
        self.probes = NO_PROBES
        """The half-open cooldowns that this attempt probes."""
        self.overflow = False
        """Whether the affinity's target was merely busy: its session stays with it, whatever comes of this attempt."""

    def scope(self, outcome: Outcome) -> CooldownScope:
        """Return the scope that *outcome* is about."""
        pair = self.pair
        match outcome.scope:
            case Scope.MODEL:
                return pair
            case Scope.CREDENTIAL:
                return pair.pooled
            case Scope.MODEL_ON_PROVIDER:
                return pair.model
        return pair.provider

    def probe_succeeded(self) -> None:
        """Tell the pool that the answer has begun, where that is of use to it. See the interface."""
        if self.probes or self.pair.provider.gate_count:
            self._on_probe_succeeded(self)

    def release(self, outcome: Outcome) -> None:
        """Give the lease back. Raises :class:`AlreadyReleased` the second time."""
        self._end(outcome)

    def return_unused(self) -> None:
        """See the interface. Raises like :meth:`release`."""
        self._end(None)

    def _end(self, outcome: Outcome | None) -> None:
        on_release, self._on_release = self._on_release, None
        if on_release is None:
            raise AlreadyReleased("/".join(self.pair.pooled.key))
        on_release(self, outcome)
