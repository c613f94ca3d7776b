"""When an executor is asked to prepare a request, and what becomes of routes that cannot carry it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.interfaces import ILease
from claudeproxyd.leases import Exhausted, Exhaustion, LeaseRequest
from claudeproxyd.testing import FakeAccount
from tests.dispatch.fakes import FakeBuffered, FakePool, House, Served


class Busy(FakePool):
    """Has nothing on some providers."""

    busy: tuple[str, ...] = ()

    def grant(self, lease_request: LeaseRequest) -> Deferred[ILease]:
        """One of the others'."""
        ready = tuple(one for one in self.credentials if one.provider not in self.busy)
        everyone, self.credentials = self.credentials, ready
        try:
            return super().grant(lease_request)
        finally:
            self.credentials = everyone


class Prepare(SynchronousTestCase):
    """Three providers, the first of which serves as a rule."""

    def setUp(self) -> None:
        self.house = House("p/a", "q/b", "r/c", pool=Busy)
        self.pool = self.house.pool
        for executor in self.house.executors.values():
            executor.answers = [FakeBuffered(b"{}")]

    @property
    def asked(self) -> list[int]:
        """How often each provider's executor was asked to prepare a request."""
        return [executor.asked for executor in self.house.executors.values()]

    def test_in_turn(self) -> None:
        """While the first route serves the others cost nothing."""
        self.assertEqual(self.house.serve().log.provider, "p")
        self.assertEqual(self.asked, [1, 0, 0])

    def test_passed_over(self) -> None:
        """A route that cannot carry the request gives its lease back unused, and the next one serves."""
        self.house.executors["p"].refuses = "no"
        served = self.house.serve()
        self.assertEqual((served.log.provider, served.log.attempts), ("q", 1))
        self.assertEqual((self.asked, self.pool.outcomes), ([1, 1, 0], ["ok"]))

    def test_nothing_ready_in_between(self) -> None:
        """One that has nobody ready is not asked as long as another serves."""
        self.pool.busy = ("p", "q")
        self.assertEqual(self.house.serve().log.provider, "r")
        self.assertEqual(self.asked, [0, 0, 1])

    def test_before_a_wait(self) -> None:
        """All are asked before the request waits, and it waits for none that cannot carry it."""
        self.pool.hold = True
        self.house.executors["q"].refuses = "no"
        served = self.house.serve()
        self.assertEqual(self.asked, [1, 1, 1])
        self.assertEqual([route.provider for route in self.pool.lease_requests[-1].routes], ["p", "r"])
        self.assertTrue(self.pool.lease_requests[-1].may_wait)
        self.pool.waiting.pop().errback(Exhausted(Exhaustion.BUSY, 1.0))
        self.assertEqual(served.told[0], 429)

    def test_none(self) -> None:
        """Where no route can carry it the client is told why the first could not, and nobody was leased."""
        for executor, reason in zip(self.house.executors.values(), ["one", "two", "three"], strict=True):
            executor.refuses = reason
        served = self.house.serve()
        self.assertEqual((served.told, served.client.error.message), ((400, "invalid_request_error"), "one"))
        self.assertEqual((self.asked, self.pool.leases), ([1, 1, 1], []))

    def test_once(self) -> None:
        """What was prepared serves all attempts, is counted while it is held, and goes with the body."""
        changes: list[int] = []
        executor = self.house.executors["p"]
        executor.losses = ["citations"]
        executor.answers = []
        served: Served = self.house.serve(account=FakeAccount(changes))
        self.assertIs(executor.sent[0].attempt.prepared, next(iter(served.body.prepared.values())))
        self.assertEqual(changes, [len(b"translated")])
        executor.sent[0].answered.callback(FakeBuffered(b"{}"))
        self.assertEqual((sum(changes), served.body.prepared, served.body.data), (0, {}, b""))
        served.body.release()
        self.assertEqual(sum(changes), 0)

    def test_fault_of_ours(self) -> None:
        """Where the executor's own code fails, its lease is not lost, and the next route serves."""
        self.house.executors["p"].prepare = lambda request, route: 1 / 0  # type: ignore[method-assign]
        self.assertEqual(self.house.serve().log.provider, "q")
        self.assertEqual((len(self.flushLoggedErrors(ZeroDivisionError)), self.pool.outcomes), (1, ["ok"]))


class PrepareInTurns(SynchronousTestCase):
    """An executor that takes its time."""

    def test_before_a_lease(self) -> None:
        """Where there is one route no credential is taken while it is prepared for; the attempt gets the result."""
        house = House()
        preparing = house.executor.preparing = Deferred()
        house.executor.losses = ["citations"]
        house.serve()
        self.assertEqual((house.pool.leases, house.executor.sent), ([], []))
        preparing.callback(None)
        self.assertEqual(house.executor.sent[0].attempt.prepared.warnings, ["citations"])

    def test_unsupported(self) -> None:
        """What cannot be said there is a refusal without an attempt."""
        house = House()
        preparing = house.executor.preparing = Deferred()
        house.executor.refuses = "no"
        served = house.serve()
        preparing.callback(None)
        self.assertEqual((served.told, served.client.error.message), ((400, "invalid_request_error"), "no"))
        self.assertEqual((served.log.attempts, house.pool.leases), (0, []))

    def test_passed_over(self) -> None:
        """One of several gives its lease back unused, and the next one serves."""
        house = House("p/a", "q/b")
        preparing = house.executors["p"].preparing = Deferred()
        house.executors["p"].refuses = "no"
        house.executors["q"].answers = [FakeBuffered(b"{}")]
        served = house.serve()
        preparing.callback(None)
        self.assertEqual((served.log.provider, served.log.attempts, house.pool.outcomes), ("q", 1, ["ok"]))

    def test_client_leaves(self) -> None:
        """The client's end is the preparation's, and no lease is left."""
        for keys in (("p/a",), ("p/a", "q/b")):
            cancelled: list[object] = []
            house = House(*keys)
            house.executor.preparing = Deferred(cancelled.append)
            served = house.serve()
            served.cancel()
            self.assertEqual((len(cancelled), house.pool.leases, house.executor.sent), (1, [], []))
            self.assertEqual((served.done, served.log.outcome), (True, "cancelled"))
