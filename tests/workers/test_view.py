"""The pool and the clients of several workers, as operators see them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.config.schema import Pool
from claudeproxyd.interfaces import ICredentialPool
from claudeproxyd.observe.access_log import AccessEntry
from claudeproxyd.observe.activity import ClientActivity
from claudeproxyd.outcomes.types import Kind, Outcome, Scope
from claudeproxyd.pool.service import CredentialPool
from claudeproxyd.workers.view import ActivityOfAll, PoolOfAll, activity_of, pool_parts
from tests.pool.support import credential, request


def over_the_wire(value: object) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


class Models:
    """Of which one has nobody to serve it."""

    def unserved(self) -> list[dict[str, object]]:
        return [{"model": "m", "reason": "quota", "ready_in": 1.0, "seconds": 2.0, "refused": 3}]


class PoolTests(SynchronousTestCase):
    """One pool of three."""

    def setUp(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.clock = Clock()
        self.own, *self.workers = [
            CredentialPool(self.clock, Pool(max_wait=30.0), [credential("a", max_concurrency=3), credential("b")])
            for _ in range(3)
        ]
        self.pool = PoolOfAll(self.own, lambda name, body: self.told.append((name, body)))

    def gather(self) -> dict[str, Any]:
        self.pool.gathered([over_the_wire(list(pool_parts(pool, Models()))) for pool in self.workers])
        return {entry["credential"]: entry for entry in self.pool.snapshot()}

    def lease(self, worker: int) -> Any:
        return self.successResultOf(self.workers[worker].lease(request()))

    def test_interface(self) -> None:
        """The admin listener takes it for a pool."""
        verifyObject(ICredentialPool, self.pool)

    def test_sums(self) -> None:
        """What is under way, and what came of attempts, is that of all."""
        leases = [self.lease(worker) for worker in (0, 0, 1)]
        entries = self.gather()
        self.assertEqual(sum(entry["in_flight"] for entry in entries.values()), 3)
        self.assertEqual(self.pool.gauges()["in_flight"], 3)
        self.assertEqual(entries["a"]["max_concurrency"], 3)
        for lease in leases:
            lease.release(Outcome(Kind.OK))
        entries = self.gather()
        self.assertEqual(sum((Counter(entry["outcomes"]) for entry in entries.values()), Counter()), {"ok": 3})

    def test_unserved(self) -> None:
        """A model that nobody serves is told of once, with the requests that all have refused."""
        self.gather()
        (entry,) = self.pool.unserved()
        self.assertEqual((entry["model"], entry["refused"], entry["seconds"]), ("m", 6, 2.0))

    def test_trouble(self) -> None:
        """A cooldown is one, also where all know of it; those in trouble come first."""
        outcome = Outcome(Kind.QUOTA, Scope.CREDENTIAL, base=60.0, ceiling=60.0, reason="used up")
        for worker in (0, 1):
            lease = self.lease(worker)
            name = lease.candidate.credential.name
            lease.release(outcome)
        entries = self.gather()
        self.assertEqual(next(iter(entries)), name)
        self.assertEqual((entries[name]["state"], entries[name]["outcomes"]), ("cooling", {"quota": 2}))
        (cooldown,) = entries[name]["cooldowns"]
        self.assertEqual((cooldown["outcome"], cooldown["reason"]), ("quota", "used up"))
        self.assertEqual(entries[name]["last_failure"]["reason"], "used up")

    def test_queue(self) -> None:
        """Those that wait for the same are told of together."""
        for pool in self.workers:
            for name in "ab":
                pool.set_enabled("p", name, True)
            pool.reload([credential("a", max_concurrency=1)], Pool(max_wait=30.0))
            pool.lease(request())
            pool.lease(request()).addErrback(lambda failure: None)
        self.gather()
        (entry,) = self.pool.queued()
        self.assertEqual(entry["requests"], 2)
        self.assertEqual(self.pool.gauges()["waiting"], 2)
        for pool in self.workers:
            pool.stopService()

    def test_nobody_answers(self) -> None:
        """Without a worker it is what the parent knows."""
        self.pool.gathered([])
        self.assertEqual([entry["state"] for entry in self.pool.snapshot()], ["ready", "ready"])
        self.assertEqual(self.pool.gauges(), self.own.gauges())

    def test_clear(self) -> None:
        """An operator's word goes to all: gates are the workers' own."""
        self.assertEqual(self.pool.clear("p", None, None), 0)
        self.assertEqual(self.told, [("clear", ("p", None, None))])
        self.assertTrue(self.pool.set_enabled("p", "a", enabled=False))
        self.assertFalse(self.pool.is_enabled("p", "a"))


class ClientsTests(SynchronousTestCase):
    """Who has requests under way, and what each was answered."""

    def test_sums(self) -> None:
        """Those of all workers."""
        answers = []
        for number in (1, 2):
            activity = ClientActivity({"laptop": number})
            write = activity.counting(lambda entry: None)
            for _ in range(number):
                write(entry(client="laptop"))
            write(entry(client=f"only {number}"))
            answers.append(over_the_wire(activity_of(activity, 5)))
        both = ActivityOfAll()
        both.gathered(answers)
        self.assertEqual(both.running, {"laptop": 3})
        told = {kind.client: count for kind, count in both.since(5).items()}
        self.assertEqual(told, {"laptop": 3, "only 1": 1, "only 2": 1})


def entry(client: str) -> AccessEntry:
    """One answer."""
    return AccessEntry(
        time=0.0,
        request_id="req_1",
        client=client,
        remote="127.0.0.1",
        method="POST",
        path="/v1/messages",
        model="m",
        status=200,
        outcome="ok",
        duration=0.1,
        bytes_in=1,
        bytes_out=1,
        error="",
    )
