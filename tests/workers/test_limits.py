"""Limits that the parent counts."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.accounts.limits import Limit, UsageLimits
from claudeproxyd.dispatch.admission import ConcurrencyAdmission, limits_told
from claudeproxyd.dispatch.limiting import LimitAdmission
from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IAdmission, ILimitedPermit, IUsageSink
from claudeproxyd.workers.limits import LimitsByParent, LimitsForWorkers
from tests.accounts.support import NOON, record
from tests.dispatch.test_limiting import request
from tests.workers.support import Pair


class LimitTests(SynchronousTestCase):
    """Two workers under one limit of three requests a day."""

    limits: ClassVar = [Limit(name="three a day", amount=3, measure="requests", per="day", each="client")]

    def setUp(self) -> None:
        clock = Clock()
        self.of_all = LimitAdmission(UsageLimits(self.limits), lambda: NOON, ConcurrencyAdmission().admit)
        self.parent = LimitsForWorkers(self.of_all, lambda: NOON)
        handlers: Any = {
            "reserve": self.parent.reserve,
            "release": self.parent.release,
            "settle": self.parent.settle,
        }
        self.pairs = [Pair(clock, handlers) for _ in range(2)]
        self.running = [ConcurrencyAdmission() for _ in range(2)]
        self.workers = [
            LimitsByParent(UsageLimits(self.limits), lambda: NOON, running.admit, pair.worker)
            for running, pair in zip(self.running, self.pairs, strict=True)
        ]

    def settle(self) -> None:
        for pair in self.pairs:
            pair.settle()

    def admit(self, worker: int) -> Deferred[Any]:
        admitted: Any = ensureDeferred(self.workers[worker].admit(request()))  # type: ignore[arg-type]
        self.settle()
        return admitted

    def test_any_number(self) -> None:
        """The channel takes whatever a client writes."""
        admitted: Any = ensureDeferred(self.workers[0].admit(request(max_tokens=10**30)))  # type: ignore[arg-type]
        self.settle()
        self.successResultOf(admitted).done(None, "ok")
        self.settle()
        self.assertEqual(self.counted(), (0, 0))

    def counted(self) -> tuple[float, int]:
        (counter,) = self.of_all.limits
        return counter.used(NOON), counter.reserved

    def test_interfaces(self) -> None:
        """It is asked and told as one of a single process."""
        verifyObject(IAdmission, self.workers[0])
        verifyObject(IUsageSink, self.workers[0])

    def test_over_all(self) -> None:
        """What one has reserved or used the other does not have; the client is told what is left."""
        permits = [self.successResultOf(self.admit(worker)) for worker in (0, 1, 1)]
        verifyObject(ILimitedPermit, permits[0])
        told = dict(limits_told(permits[2]))
        self.assertEqual(told[b"anthropic-ratelimit-requests-remaining"], b"0")
        refusal: Any = self.failureResultOf(self.admit(0), ClaudeError).value
        self.assertEqual(refusal.status, 429)
        self.assertIn("three a day", refusal.message)
        self.assertIn((b"x-should-retry", b"false"), list(refusal.headers))
        self.assertEqual([running.running for running in self.running], [{"laptop": 1}, {"laptop": 2}])
        self.workers[0].record(record())
        permits[0].done(None, "ok")
        permits[1].done(None, "refused")
        self.settle()
        self.assertEqual(self.counted(), (1, 1))
        self.successResultOf(self.admit(0))
        self.failureResultOf(self.admit(0), ClaudeError)

    def test_nobody_waits(self) -> None:
        """A request that is given up while the parent is asked holds nothing."""
        admitted: Any = ensureDeferred(self.workers[0].admit(request()))  # type: ignore[arg-type]
        admitted.cancel()
        self.failureResultOf(admitted)
        self.settle()
        self.assertEqual((self.counted(), self.running[0].running), ((0, 0), {}))

    def test_counting_tokens(self) -> None:
        """What nothing limits asks nobody, and is not counted."""
        self.assertNotIsInstance(self.workers[0].admit(request(count_tokens=True)), Deferred)
        self.workers[0].record(record(operation="count_tokens"))
        self.assertFalse(self.pairs[0].pump())
        self.workers[0].limits.reload([])
        self.workers[0].admit(request())
        self.assertFalse(self.pairs[0].pump())

    def test_before_it_is_known(self) -> None:
        """Until the parent knows what was used before, workers wait."""
        counted: Deferred[UsageLimits] = Deferred()
        self.of_all.wait_for(counted)
        admitted = self.admit(0)
        self.assertNoResult(admitted)
        used = UsageLimits(self.limits)
        counted.callback(used)
        self.settle()
        self.successResultOf(admitted)

    def test_death(self) -> None:
        """What a worker had reserved when it died is free; what it says too late does no harm."""
        permit = self.successResultOf(self.admit(0))
        self.parent.gone(self.pairs[0].parent)
        self.assertEqual(self.counted(), (0, 0))
        permit.done(None, "ok")
        self.settle()
        self.assertEqual(self.counted(), (0, 0))

    def test_death_while_it_waits(self) -> None:
        """One that dies before its reservation is made holds none."""
        begun: Deferred[None] = Deferred()
        self.of_all.wait_for(begun)
        admitted = self.admit(0)
        self.pairs[0].cut()
        self.successResultOf(admitted)
        self.parent.gone(self.pairs[0].parent)
        begun.callback(None)
        self.assertEqual(self.counted(), (0, 0))

    def test_parent_is_gone(self) -> None:
        """Without a parent the last that come to a worker that ends are let in: the ledger has what they use."""
        self.pairs[0].cut()
        admitted: Any = ensureDeferred(self.workers[0].admit(request()))  # type: ignore[arg-type]
        permit = self.successResultOf(admitted)
        self.assertEqual(self.running[0].running, {"laptop": 1})
        permit.done(None, "ok")
        self.assertEqual(self.running[0].running, {})
