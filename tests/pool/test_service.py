"""The pool as dispatch sees it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.config.schema import Pool as Settings
from claudeproxyd.interfaces import ICredentialPool, ILease
from claudeproxyd.leases import Credential, Exhausted, Route, Wanted
from claudeproxyd.outcomes import CANCELLED, OK, Kind, Outcome, Scope
from claudeproxyd.pool.service import AlreadyReleased, CredentialPool, Lease

verifyClass(ICredentialPool, CredentialPool)
verifyClass(ILease, Lease)

QUOTA = Outcome(Kind.QUOTA, Scope.MODEL, base=1.0, ceiling=1800.0, reason="slow down")
AUTH = Outcome(Kind.AUTH, Scope.CREDENTIAL, base=1800.0, ceiling=1800.0, reason="bad key")
TRANSIENT = Outcome(Kind.TRANSIENT, Scope.MODEL, base=1.0, ceiling=60.0, reason="oops")
OVERLOADED = Outcome(Kind.OVERLOADED, Scope.MODEL_ON_PROVIDER, base=1.0, ceiling=30.0, reason="Overloaded")
UNREACHABLE = Outcome(Kind.TRANSIENT, Scope.PROVIDER, base=1.0, ceiling=60.0, reason="connection refused")
CLIENT_FAULT = Outcome(Kind.CLIENT_FAULT)


class NoJitter(Random):
    """Expiries on the dot."""

    def random(self) -> float:
        """As if the dice always fell so."""
        return 0.0


class Source:
    """A credential's secret, which the pool must never look at."""


def credential(name: str, provider: str = "p", **more: Any) -> Credential:
    """A credential called *name*."""
    return Credential(provider, name, Source(), **more)  # type: ignore[arg-type]  # never used


class PoolTestCase(SynchronousTestCase):
    """A pool on a Clock."""

    def setUp(self) -> None:
        """Time is ours."""
        self.clock = Clock()
        self.clock.advance(1_000_000.0)

    def pool(self, *credentials: Credential, **settings: Any) -> CredentialPool:
        """A pool of those credentials."""
        limits = settings.pop("provider_limits", {})
        known = settings.pop("known_models", lambda model: True)
        pool = CredentialPool(
            self.clock,
            Settings(**settings),
            credentials,
            jitter=NoJitter(),
            provider_limits=limits,
            known_models=known,
        )
        self.addCleanup(pool.stopService)
        return pool

    def wanted(self, *models: str, **more: Any) -> Wanted:
        """A wish for *models*, each ``provider:model`` or a model of provider ``p``."""
        routes = []
        for model in models or ("m",):
            provider, _, name = model.rpartition(":")
            routes.append(Route(provider or "p", name))
        return Wanted(routes, **more)

    def take(self, pool: CredentialPool, *models: str, **more: Any) -> Lease:
        """A lease that must be there at once."""
        return self.successResultOf(pool.lease(self.wanted(*models, **more)))

    def names(self, leases: Sequence[Lease]) -> str:
        """Whose they are."""
        return "".join(lease.candidate.credential.name for lease in leases)

    def refused(self, deferred: Deferred[Lease]) -> Exhausted:
        """Why there was none."""
        reason: Exhausted = self.failureResultOf(deferred, Exhausted).value
        return reason


class LeaseTests(PoolTestCase):
    """What a lease is."""

    def test_interfaces(self) -> None:
        """The pool and its leases are what dispatch was promised."""
        pool = self.pool(credential("a"))
        verifyObject(ICredentialPool, pool)
        verifyObject(ILease, self.take(pool))

    def test_ready(self) -> None:
        """Where something is ready, the lease is there at once, and no timer runs."""
        lease = self.take(self.pool(credential("a")))
        self.assertEqual(lease.candidate.credential.name, "a")
        self.assertEqual(lease.candidate.route, Route("p", "m"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_released_twice(self) -> None:
        """A lease that is given back twice is a mistake of ours, and says so."""
        lease = self.take(self.pool(credential("a")))
        lease.release(OK)
        self.assertRaises(AlreadyReleased, lease.release, OK)

    def test_nobody(self) -> None:
        """A model that no credential serves is refused at once, without a time."""
        refused = self.refused(self.pool(credential("a", models=("x-*",))).lease(self.wanted("m")))
        self.assertEqual((refused.reason, refused.ready_in), ("none", None))

    def test_round_robin(self) -> None:
        """Credentials take turns."""
        pool = self.pool(*map(credential, "abc"))
        self.assertEqual(self.names([self.take(pool) for _ in range(7)]), "abcabca")

    def test_busy(self) -> None:
        """A credential at its max_concurrency lets the next request wait until one attempt ends."""
        pool = self.pool(credential("a", max_concurrency=1))
        first = self.take(pool)
        second = pool.lease(self.wanted())
        self.assertNoResult(second)
        first.release(CANCELLED)
        self.successResultOf(second)


class CoolingTests(PoolTestCase):
    """What failures cost."""

    def test_quota_rests(self) -> None:
        """A 429 makes the model rest on that credential, and the others serve."""
        pool = self.pool(*map(credential, "ab"))
        self.take(pool).release(QUOTA)
        self.assertEqual(self.names([self.take(pool) for _ in range(3)]), "bbb")
        self.assertEqual(self.take(pool, "other").candidate.credential.name, "a")

    def test_wait_for_expiry(self) -> None:
        """When all rest, a request waits for the first to be back, within max_wait."""
        pool = self.pool(credential("a"))
        self.take(pool).release(QUOTA)
        waiting = pool.lease(self.wanted())
        self.assertNoResult(waiting)
        self.clock.advance(0.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        self.successResultOf(waiting)

    def test_too_far_off(self) -> None:
        """When the first is back only after max_wait, the request is told at once how long that is."""
        pool = self.pool(credential("a"), max_wait=30.0)
        self.take(pool).release(AUTH)
        refused = self.refused(pool.lease(self.wanted()))
        self.assertEqual((refused.reason, refused.ready_in), ("auth", 1800.0))

    def test_herd(self) -> None:
        """Of 500 that wait for one key, one goes when it is back, then two, then four."""
        pool = self.pool(credential("a"))
        self.take(pool).release(QUOTA)
        waiting = [pool.lease(self.wanted(client=str(n % 10))) for n in range(500)]
        granted: list[Lease] = []
        for deferred in waiting:
            deferred.addCallbacks(granted.append, lambda _: None)
        self.clock.advance(1.0)
        sizes = []
        while granted and len(sizes) < 5:
            sizes.append(len(granted))
            now, granted[:] = granted[:], []
            for lease in now:
                lease.release(OK)
        self.assertEqual(sizes[:4], [1, 2, 4, 8])
        self.assertLessEqual(max(after / before for before, after in pairwise(sizes)), 4)
