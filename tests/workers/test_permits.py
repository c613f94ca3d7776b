"""Limits of what is at once, over all workers: never more than there are, and all of them can be had."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.workers.permits import (
    CLIENT,
    CREDENTIAL,
    RECALL_TIMEOUT,
    HeldPermits,
    PermitBook,
    SharesOfClients,
)
from tests.workers.support import Pair

KEY = (CREDENTIAL, "p", "c")


class Worker:
    """A pool of one credential: so many in use, and so many that wait."""

    def __init__(self, farm: Farm, slot: int) -> None:
        self.farm = farm
        self.slot = slot
        self.in_use = self.waiting = 0
        self.handlers: dict[str, Any] = {
            "granted": lambda channel, body: self.permits.granted(tuple(body[0]), body[1]),
            "recall": lambda channel, body: self.permits.recall(tuple(body[0]), *body[1:]),
            "forgotten": lambda channel, body: self.permits.forgotten(tuple(body[0])),
        }
        self.pair = Pair(farm.clock, farm.handlers(slot), self.handlers)
        self.permits = HeldPermits(slot, farm.count, self.pair.worker, farm.book.held_by(slot))
        self.permits.in_use = lambda key: self.in_use
        self.permits.changed = lambda key, number: self.serve()

    def serve(self) -> None:
        """As the pool does: those that wait get what there is, and the rest makes it ask for more."""
        while self.waiting and self.in_use < self.permits.allowed(KEY, self.farm.whole):
            self.waiting -= 1
            self.in_use += 1
            self.farm.check()
        if self.waiting:
            self.permits.want(KEY, self.farm.whole)

    def ask(self) -> None:
        self.waiting += 1
        self.serve()

    def release(self) -> None:
        self.in_use -= 1
        self.permits.came_back([KEY], needed=True)
        self.serve()
        self.permits.came_back([KEY], needed=False)


class Farm:
    """A parent and some workers."""

    def __init__(self, test: SynchronousTestCase, count: int, whole: int) -> None:
        self.test = test
        self.clock = Clock()
        self.count = count
        self.whole = whole
        self.workers: dict[int, Worker] = {}
        self.book = PermitBook(
            count, lambda: {slot: worker.pair.parent for slot, worker in self.workers.items()}, self.clock
        )
        for slot in range(count):
            self.workers[slot] = Worker(self, slot)

    def handlers(self, slot: int) -> dict[str, Any]:
        return {
            "want": lambda channel, body: self.book.wanted(slot, tuple(body[0]), body[1]),
            "borrow": lambda channel, body: self.book.borrowed(slot, tuple(body[0]), body[1]),
            "yielded": lambda channel, body: self.book.yielded(slot, tuple(body[0]), body[1]),
        }

    def check(self) -> None:
        self.test.assertLessEqual(self.in_use, self.whole)

    @property
    def in_use(self) -> int:
        return sum(worker.in_use for worker in self.workers.values())

    @property
    def waiting(self) -> int:
        return sum(worker.waiting for worker in self.workers.values())

    def settle(self) -> None:
        while any(worker.pair.pump() for worker in self.workers.values()):
            pass

    def kill(self, slot: int) -> None:
        """A worker dies, and another takes its place."""
        worker = self.workers.pop(slot)
        worker.pair.cut()
        self.book.died(slot)
        self.workers[slot] = Worker(self, slot)


class PermitTests(SynchronousTestCase):
    """One limit, several workers."""

    def farm(self, whole: int, count: int = 2) -> Farm:
        return Farm(self, count, whole)

    def test_shares(self) -> None:
        """As long as shares are enough nobody says a word."""
        farm = self.farm(5)
        for slot, times in ((0, 3), (1, 2)):
            for _ in range(times):
                farm.workers[slot].ask()
        self.assertEqual((farm.in_use, farm.waiting), (5, 0))
        self.assertFalse(any(worker.pair.pump() for worker in farm.workers.values()))

    def test_borrowed(self) -> None:
        """One worker alone can have all."""
        farm = self.farm(20)
        for _ in range(25):
            farm.workers[1].ask()
        self.assertEqual((farm.in_use, farm.waiting), (10, 15))
        farm.settle()
        self.assertEqual((farm.in_use, farm.waiting), (20, 5))

    def test_in_turns(self) -> None:
        """Of a limit below the number of workers each has its turn, though another would never be idle."""
        farm = self.farm(1, count=3)
        served = [0, 0, 0]
        for worker in farm.workers.values():
            for _ in range(30):
                worker.ask()
        for _ in range(60):
            farm.settle()
            (busy,) = [worker for worker in farm.workers.values() if worker.in_use]
            served[busy.slot] += 1
            busy.release()
        farm.settle()
        self.assertEqual(served, [20, 20, 20])

    def test_even(self) -> None:
        """Two that want more than there is keep what they have: nothing goes to and fro."""
        farm = self.farm(8)
        for worker in farm.workers.values():
            for _ in range(50):
                worker.ask()
        farm.settle()
        for _ in range(20):
            for worker in farm.workers.values():
                worker.release()
                self.assertEqual(worker.in_use, 4)
            self.assertFalse(any(worker.pair.pump() for worker in farm.workers.values()))

    def test_not_needed_any_more(self) -> None:
        """One that wanted more, and has nothing to do any more, gives up what it has."""
        farm = self.farm(8)
        for worker in farm.workers.values():
            for _ in range(6):
                worker.ask()
        farm.settle()
        self.assertEqual([worker.in_use for worker in farm.workers.values()], [4, 4])
        for _ in range(6):
            farm.workers[0].release()
        farm.settle()
        self.assertEqual([worker.in_use for worker in farm.workers.values()], [0, 6])

    def test_now(self) -> None:
        """Who needs one at once gets what others do not use, and is refused where they use all."""
        farm = self.farm(4)
        first, second = farm.workers.values()
        first.in_use = 2
        answer = Deferred.fromCoroutine(first.permits.borrow(KEY, 4))
        farm.settle()
        self.assertTrue(self.successResultOf(answer))
        self.assertEqual((first.permits.allowed(KEY, 4), second.permits.allowed(KEY, 4)), (3, 1))
        first.in_use, second.in_use = 3, 1
        answer = Deferred.fromCoroutine(first.permits.borrow(KEY, 4))
        farm.settle()
        self.assertFalse(self.successResultOf(answer))
        first.pair.cut()
        self.assertFalse(self.successResultOf(Deferred.fromCoroutine(first.permits.borrow(KEY, 4))))

    def test_now_at_once(self) -> None:
        """Both at once get no more than there is."""
        farm = self.farm(4)
        first, second = farm.workers.values()
        first.in_use = second.in_use = 2
        answers = [Deferred.fromCoroutine(worker.permits.borrow(KEY, 4)) for worker in (first, second)]
        farm.settle()
        self.assertEqual([self.successResultOf(answer) for answer in answers], [False, False])

    def test_now_for_nobody(self) -> None:
        """What was got for a request that has left meanwhile is there for the next."""
        farm = self.farm(4)
        first, second = farm.workers.values()
        first.in_use = 2
        leaving = Deferred.fromCoroutine(first.permits.borrow(KEY, 4))
        leaving.addErrback(lambda failure: failure.trap(CancelledError))
        leaving.cancel()
        farm.settle()
        self.assertEqual((first.permits.allowed(KEY, 4), second.permits.allowed(KEY, 4)), (3, 1))

    def test_now_for_the_dead(self) -> None:
        """What was got for a worker that has died meanwhile is not the next one's, which does not know of it."""
        farm = self.farm(4)
        first, second = farm.workers.values()
        first.in_use = 2
        answers = [Deferred.fromCoroutine(first.permits.borrow(KEY, 4)) for _ in range(2)]
        first.pair.pump()
        farm.kill(0)
        farm.settle()
        self.assertEqual([self.successResultOf(answer) for answer in answers], [False, False])
        for _ in range(4):
            second.ask()
        farm.settle()
        self.assertEqual(second.in_use, 4)

    def test_now_of_one_that_hangs(self) -> None:
        """Nobody waits long for one that does not answer, who comes next not at all; what it gives up late is had."""
        farm = self.farm(6, count=3)
        first, second, third = farm.workers.values()
        third.in_use, first.in_use = 2, 2
        answers = [Deferred.fromCoroutine(first.permits.borrow(KEY, 6)) for _ in range(3)]
        second.in_use = 1
        stopped = [second.pair]
        self.settle_but(farm, stopped)
        self.assertNoResult(answers[0])
        farm.clock.advance(RECALL_TIMEOUT)
        self.settle_but(farm, stopped)
        self.assertEqual([self.successResultOf(answer) for answer in answers], [False] * 3)
        farm.settle()
        answer = Deferred.fromCoroutine(first.permits.borrow(KEY, 6))
        self.settle_but(farm, stopped)
        self.assertTrue(self.successResultOf(answer))
        self.assertEqual([worker.permits.allowed(KEY, 6) for worker in (first, second, third)], [3, 1, 2])

    @staticmethod
    def settle_but(farm: Farm, stopped: list[Pair]) -> None:
        """Deliver all, but what is for or of some."""
        while any(worker.pair.pump() for worker in farm.workers.values() if worker.pair not in stopped):
            pass

    def test_death(self) -> None:
        """What a worker held when it died is for the others; the next one asks for its part."""
        farm = self.farm(4)
        for _ in range(4):
            farm.workers[0].ask()
        farm.settle()
        farm.workers[1].ask()
        farm.settle()
        self.assertEqual([worker.in_use for worker in farm.workers.values()], [4, 0])
        farm.kill(0)
        farm.settle()
        self.assertEqual(farm.workers[1].in_use, 1)
        farm.workers[0].ask()
        farm.settle()
        self.assertEqual((farm.in_use, farm.waiting), (2, 0))

    def test_lowered(self) -> None:
        """A limit that a reload lowers is reached as attempts end, and then holds; one that it raises is used."""
        farm = self.farm(8)
        for _ in range(8):
            farm.workers[0].ask()
        farm.settle()
        farm.check = lambda: None  # type: ignore[method-assign]
        farm.whole = 3
        farm.book.changed({KEY: 3})
        farm.settle()
        for worker in farm.workers.values():
            for _ in range(9):
                worker.ask()
        for _ in range(40):
            farm.settle()
            if farm.in_use <= 3:
                break
            next(worker for worker in farm.workers.values() if worker.in_use).release()
        farm.settle()
        self.assertEqual(farm.in_use, 3)
        farm.whole = 6
        farm.book.changed({KEY: 6})
        farm.settle()
        self.assertEqual(farm.in_use, 6)

    def test_lowered_for_a_client(self) -> None:
        """A client's limit that a reload lowers holds as soon as its requests have ended, though none of them waits."""
        farm = self.farm(8)
        first, second = farm.workers.values()
        first.in_use = 4
        answer = Deferred.fromCoroutine(SharesOfClients(first.permits).borrow("c", 8))
        farm.settle()
        self.assertTrue(self.successResultOf(answer))
        first.in_use, second.in_use = 5, 3
        farm.book.changed({(CLIENT, "c", ""): 4})
        farm.settle()
        first.in_use = second.in_use = 0
        for _ in range(4):
            allowed = [SharesOfClients(worker.permits).allowed("c", 4) for worker in (first, second)]
            farm.settle()
        self.assertLessEqual(sum(allowed), 4)

    def test_random(self) -> None:
        """Whatever happens, in whatever order frames arrive: never more than the limit, and nobody waits in vain."""
        for seed in range(150):
            dice = Random(seed)
            farm = self.farm(dice.randint(1, 9), count=dice.randint(2, 4))
            for _ in range(120):
                worker = farm.workers[dice.randrange(farm.count)]
                match dice.choice("aaarrppkt"):
                    case "a":
                        worker.ask()
                    case "r" if worker.in_use:
                        worker.release()
                    case "p":
                        worker.pair.pump()
                    case "k" if dice.random() < 0.1:
                        farm.kill(worker.slot)
                    case "t":
                        farm.clock.advance(RECALL_TIMEOUT)
            for _ in range(200):
                farm.settle()
                busy = [worker for worker in farm.workers.values() if worker.in_use]
                if farm.waiting:
                    self.assertTrue(busy, f"seed {seed}: {farm.waiting} wait for nothing")
                if not busy:
                    break
                dice.choice(busy).release()
            self.assertEqual((farm.in_use, farm.waiting), (0, 0), f"seed {seed}")
