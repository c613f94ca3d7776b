"""What the pool's tests share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.config.schema import Pool as Settings
from claudeproxyd.interfaces import ISecretSource
from claudeproxyd.leases import Credential, Exhausted, LeaseRequest, Route
from claudeproxyd.outcomes.types import Kind, Outcome, Scope
from claudeproxyd.pool.lease import Lease
from claudeproxyd.pool.service import CredentialPool

QUOTA = Outcome(Kind.QUOTA, Scope.MODEL, base=1.0, ceiling=1800.0, reason="slow down")
QUOTA_HOUR = Outcome(Kind.QUOTA, Scope.MODEL, base=1.0, ceiling=1800.0, until_hint=3600.0, reason="come back later")
AUTH = Outcome(Kind.AUTH, Scope.CREDENTIAL, base=1800.0, ceiling=1800.0, reason="bad key")
TRANSIENT = Outcome(Kind.TRANSIENT, Scope.MODEL, passing=True, reason="oops")
OVERLOADED = Outcome(Kind.OVERLOADED, Scope.MODEL_ON_PROVIDER, passing=True, reason="Overloaded")
UNREACHABLE = Outcome(Kind.TRANSIENT, Scope.PROVIDER, passing=True, reason="connection refused")
BROKEN = Outcome(Kind.BROKEN_STREAM, Scope.MODEL, passing=True, reason="cut")
HUNG = Outcome(Kind.TRANSIENT, Scope.MODEL, hung=True, timed_out=True, reason="first_byte_timeout")
PROXY = Outcome(Kind.CONFIGURATION, Scope.PROVIDER, base=60.0, ceiling=60.0, reason="proxy_auth")
PERMISSION = Outcome(Kind.PERMISSION, Scope.MODEL, base=600.0, ceiling=3600.0, doubtful=True, reason="no")
UNAVAILABLE = Outcome(Kind.MODEL_UNAVAILABLE, Scope.MODEL, base=600.0, ceiling=43200.0, doubtful=True, reason="model")
CLIENT_FAULT = Outcome(Kind.CLIENT_FAULT)

#: The wall clock when a test's reactor starts.
EPOCH = 1_700_000_000.0
STARTED = 1_000_000.0


class NoJitter(Random):
    """Expiries on the dot."""

    def random(self) -> float:
        """As if the dice always fell so."""
        return 0.0


@implementer(ISecretSource)
class Source:
    """A credential's secret, which the pool must never look at."""

    refreshable = False

    def present(self) -> Mapping[str, str] | None:
        """Not for the pool."""
        raise AssertionError("the pool looked at a secret")

    def refresh(self) -> Deferred[Mapping[str, str]]:
        """Not for the pool."""
        return succeed(self.present() or {})


verifyClass(ISecretSource, Source)


def credential(name: str, provider: str = "p", **more: Any) -> Credential:
    """A credential called *name*."""
    return Credential(provider, name, Source(), **more)


def request(*models: str, **more: Any) -> LeaseRequest:
    """A wish for *models* in this order, each ``provider:model`` or a model of provider ``p``."""
    routes = []
    for model in models or ("m",):
        provider, _, name = model.rpartition(":")
        routes.append(Route(provider or "p", name))
    return LeaseRequest(routes, **more)


class PoolTestCase(SynchronousTestCase):
    """A pool on a Clock, without jitter."""

    def setUp(self) -> None:
        """Time is ours."""
        self.clock = Clock()
        self.clock.advance(STARTED)

    def pool(self, *credentials: Credential | str, **settings: Any) -> CredentialPool:
        """A pool of those credentials; a word stands for one credential of ``p`` for each letter."""
        options = {
            name: settings.pop(name)
            for name in ("provider_limits", "known_models", "changed", "transitions")
            if name in settings
        }
        those: list[Credential] = []
        for one in credentials:
            those += map(credential, one) if isinstance(one, str) else [one]
        pool = CredentialPool(
            self.clock,
            Settings(**settings),
            those,
            jitter=NoJitter(),
            wall_clock=lambda: EPOCH + self.clock.seconds() - STARTED,
            **options,
        )
        self.addCleanup(pool.stopService)
        return pool

    def take(self, pool: CredentialPool, *models: str, **more: Any) -> Lease:
        """A lease that must be there at once."""
        return self.successResultOf(pool.lease(request(*models, **more)))

    def wait(self, pool: CredentialPool, *models: str, **more: Any) -> Deferred[Lease]:
        """A lease that must not be there at once, and may never be."""
        deferred = pool.lease(request(*models, **more))
        self.assertNoResult(deferred)
        # What is left over when the pool stops is no fault.
        self.addCleanup(deferred.addErrback, lambda failure: failure.trap(Exhausted) and None)
        return deferred

    def refused(self, deferred: Deferred[Lease]) -> tuple[str, float | None]:
        """Why there was none, and in how many seconds there may be."""
        reason = self.failureResultOf(deferred, Exhausted).value
        return reason.reason.value, None if reason.ready_in is None else round(reason.ready_in, 3)

    def turns(self, pool: CredentialPool, number: int, *models: str, **more: Any) -> str:
        """Whose turn it is, *number* times, each given back as cancelled, which teaches nothing."""
        names = []
        for _ in range(number):
            lease = self.take(pool, *models, **more)
            names.append(name(lease))
            lease.release(Outcome(Kind.CANCELLED))
        return "".join(names)


def name(lease: Lease) -> str:
    """Whose it is."""
    return lease.candidate.credential.name


def names(leases: Sequence[Lease]) -> str:
    """Whose they are."""
    return "".join(map(name, leases))
