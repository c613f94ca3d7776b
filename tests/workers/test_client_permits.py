"""Limits of clients over all workers: exact, and forgotten when nobody uses them, since clients make names up."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.dispatch.admission import ConcurrencyAdmission
from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IPermit
from claudeproxyd.principals import Principal
from claudeproxyd.workers.permits import CLIENT, SharesOfClients
from tests.workers.test_permits import Farm, Worker


class Gate:
    """Where one worker lets clients in."""

    def __init__(self, worker: Worker) -> None:
        self._admission = ConcurrencyAdmission(SharesOfClients(worker.permits))
        self.running = self._admission.running
        worker.permits.in_use = lambda key: self.running.get(key[1], 0)
        self.places: list[IPermit] = []
        self.refused = 0

    def ask(self, client: str, limit: int) -> None:
        """A request of *client*, which has a place in the end, or is refused."""
        request: Any = SimpleNamespace(count_tokens=False, principal=Principal(client, max_concurrency=limit))
        answer: Any = self._admission.admit(request)
        if IPermit.providedBy(answer):
            self.places.append(answer)
        else:
            Deferred.fromCoroutine(answer).addCallbacks(self.places.append, self._refuse)

    def _refuse(self, failure: Failure) -> None:
        failure.trap(ClaudeError)
        self.refused += 1

    def release(self) -> None:
        """The first request ends."""
        self.places.pop(0).done(None, "ok")


class ClientPermitTests(SynchronousTestCase):
    """Two workers, and clients."""

    def begin(self, whole: int, count: int = 2) -> None:
        self.whole = whole
        self.farm = Farm(self, count, whole)
        self.gates = [Gate(worker) for worker in self.farm.workers.values()]
        self.forgetting: Deferred[None] = succeed(None)

    def forget(self) -> None:
        """What the parent does from time to time."""
        if self.forgetting.called:
            self.forgetting = Deferred.fromCoroutine(self.farm.book.forget_idle())

    def kept(self) -> list[int]:
        """How many limits the parent knows of, and each worker."""
        workers = self.farm.workers.values()
        return [len(self.farm.book.held_by(0)), *(len(worker.permits._held) for worker in workers)]

    def all_at(self, slot: int, client: str) -> int:
        """How many one worker can have when the others have none."""
        gate = self.gates[slot]
        for _ in range(self.whole + 1):
            gate.ask(client, self.whole)
            self.farm.settle()
        had = gate.running[client]
        for _ in range(had):
            gate.release()
        return had

    def test_forgotten(self) -> None:
        """A client that nobody serves any more is forgotten by all, and each worker has its share again."""
        self.begin(4)
        for name in ("a", "b", "c"):
            self.assertEqual(self.all_at(0, name), 4)
        self.assertEqual(self.kept(), [3, 3, 3])
        self.forget()
        self.farm.settle()
        self.assertEqual(self.kept(), [0, 0, 0])
        for gate in self.gates:
            for _ in range(2):
                gate.ask("a", 4)
        self.assertEqual([gate.running for gate in self.gates], [{"a": 2}] * 2)
        self.assertFalse(any(worker.pair.pump() for worker in self.farm.workers.values()))

    def test_in_use(self) -> None:
        """One that somebody serves stays, and what it has not in use can be had everywhere."""
        self.begin(4)
        self.all_at(0, "a")
        self.gates[1].ask("a", 4)
        self.farm.settle()
        self.forget()
        self.farm.settle()
        self.assertEqual(self.kept(), [1, 1, 1])
        for _ in range(4):
            self.gates[0].ask("a", 4)
            self.farm.settle()
        self.assertEqual(([gate.running["a"] for gate in self.gates], self.gates[0].refused), ([3, 1], 2))

    def test_meanwhile(self) -> None:
        """A request that asks for a place while its client is forgotten gets one."""
        for whole in (1, 2, 3):
            for pumps in range(8):
                self.begin(whole)
                self.all_at(0, "a")
                self.forget()
                for turn in range(8):
                    if turn == pumps:
                        self.gates[1].ask("a", whole)
                    for worker in self.farm.workers.values():
                        worker.pair.pump()
                self.farm.settle()
                self.assertEqual((self.gates[1].running, self.gates[1].refused), ({"a": 1}, 0), (whole, pumps))

    def test_not_all_there(self) -> None:
        """While a worker is missing nothing is forgotten: what it begins with is what it held."""
        self.begin(4)
        self.all_at(0, "a")
        gone = self.farm.workers.pop(1)
        self.forget()
        self.farm.settle()
        self.assertEqual(self.kept(), [1, 1])
        self.farm.workers[1] = gone
        self.forget()
        self.farm.settle()
        self.assertEqual(self.kept(), [0, 0, 0])

    def test_reload(self) -> None:
        """Another limit is that of the workers, too, that have had nothing to do with the client."""
        for before, after in ((6, 1), (3, 9)):
            for pumps in range(1, 6):  # the parent has heard of it: it waits until all are configured
                self.begin(before, count=3)
                for _ in range(before // 3 + 1):
                    self.gates[0].ask("a", before)
                for _ in range(pumps):
                    for worker in self.farm.workers.values():
                        worker.pair.pump()
                self.farm.book.changed({(CLIENT, "a", ""): after})
                self.farm.settle()
                while self.gates[0].places:
                    self.gates[0].release()
                for _ in range(3 * after):
                    for gate in self.gates:
                        gate.ask("a", after)
                        self.farm.settle()
                had = sum(gate.running.get("a", 0) for gate in self.gates)
                self.assertEqual(had, after, (before, after, pumps))

    def test_random(self) -> None:
        """Whatever happens, in whatever order frames arrive: never more than the limit, and nothing is lost or kept."""
        for seed in range(150):
            dice = Random(seed)
            self.begin(dice.randint(1, 6), count=dice.randint(2, 4))
            most = self.whole
            for _ in range(150):
                slot = dice.randrange(self.farm.count)
                gate, client = self.gates[slot], dice.choice("ab")
                match dice.choice("aaarrrppppfkl"):
                    case "a":
                        gate.ask(client, self.whole)
                    case "r" if gate.places:
                        gate.release()
                    case "p":
                        self.farm.workers[slot].pair.pump()
                    case "f":
                        self.forget()
                    case "k" if dice.random() < 0.1:
                        self.farm.kill(slot)
                        self.gates[slot] = Gate(self.farm.workers[slot])
                    case "l" if dice.random() < 0.3:
                        self.farm.settle()  # the parent waits until all have taken the new configuration
                        self.whole = dice.randint(1, 6)
                        most = max(most, self.whole)
                        self.farm.book.changed({(CLIENT, name, ""): self.whole for name in "ab"})
                for name in "ab":
                    self.assertLessEqual(sum(gate.running.get(name, 0) for gate in self.gates), most, seed)
            self.farm.settle()
            for gate in self.gates:
                while gate.places:
                    gate.release()
            for _ in range(6):  # a limit that was lowered is reached by and by
                for worker in self.farm.workers.values():
                    SharesOfClients(worker.permits).allowed("a", self.whole)
                self.farm.settle()
            slot = dice.randrange(self.farm.count)
            self.assertEqual(self.all_at(slot, "a"), self.whole, seed)
            self.forget()
            self.farm.settle()
            self.assertEqual(set(self.kept()), {0}, seed)
            self.assertEqual(self.all_at(slot, "a"), self.whole, seed)
