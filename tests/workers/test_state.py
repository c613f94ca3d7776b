"""Cooldowns and the like, shared by way of the parent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from claudeproxyd.interfaces import IPersistent, IStateStore
from claudeproxyd.slices import KEYS_AT_ONCE, batches
from claudeproxyd.store.memory import MemoryStore
from claudeproxyd.workers.state import ParentStore, SharedState
from tests.workers.support import Pair

A = '["disabled","p","a"]'
B = '["cooldown","messages","p","b",null]'


@implementer(IPersistent)
class Kept:
    """What a process keeps; of two cooldowns that which ends later."""

    def __init__(self, **there: Any) -> None:
        self.there: dict[str, Any] = dict(there)

    def export_state(self) -> Iterator[dict[str, Any]]:
        return ({key: self.there[key] for key in keys} for keys in batches(list(self.there)))

    def import_state(self, saved: Any) -> None:
        self.merge(saved)

    def merge(self, changes: Any) -> None:
        for key, value in changes.items():
            known = self.there.get(key)
            if isinstance(known, dict) and isinstance(value, dict) and known["until"] > value["until"]:
                continue
            self.there[key] = value


class Farm:
    """A parent and two workers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.kept = Kept()
        self.saved: list[Any] = []
        self.state = SharedState(self.kept, self.tell)
        store = MemoryStore()
        store.save = self.saved.append  # type: ignore[method-assign]
        self.state.stored_in(store)
        self.workers = [Kept(), Kept()]
        self.stores: list[ParentStore] = []
        self.pairs: list[Pair] = []
        for worker in self.workers:
            handlers: dict[str, Any] = {}
            pair = Pair(
                self.clock,
                {
                    "changes": self.state.changed_by,
                    "state": lambda channel, body: self.state.tell_all(self.clock, channel),
                },
                handlers,
            )
            store_of = ParentStore(self.clock, pair.worker, {}, worker.merge)
            handlers["changed"] = lambda channel, body, store=store_of: store.changed(body)
            handlers["acknowledged"] = lambda channel, body, store=store_of: store.acknowledged(body)
            self.stores.append(store_of)
            self.pairs.append(pair)

    def tell(self, changes: Any, but: Any) -> None:
        for pair in self.pairs:
            if pair.parent is not but:
                pair.parent.tell("changed", changes)

    def change(self, number: int, key: str, value: Any) -> None:
        """A worker changes something."""
        self.workers[number].there[key] = value
        self.stores[number].save({key: value})

    def settle(self) -> None:
        self.clock.advance(0)
        while any(pair.pump() for pair in self.pairs):
            pass

    def all_have(self) -> list[dict[str, Any]]:
        return [kept.there for kept in (self.kept, *self.workers)]


class SharedStateTests(SynchronousTestCase):
    """What one changes all have."""

    def setUp(self) -> None:
        self.farm = Farm()

    def test_interfaces(self) -> None:
        """They are what the daemon takes for state and store."""
        verifyObject(IStateStore, self.farm.stores[0])
        verifyObject(IStateStore, self.farm.state)
        verifyObject(IPersistent, self.farm.state)

    def test_worker(self) -> None:
        """What a worker changes in one turn goes out at its end, is stored, and reaches the others."""
        self.farm.change(0, A, True)
        self.farm.change(0, B, {"until": 5})
        self.assertFalse(self.farm.pairs[0].pump())
        self.farm.settle()
        self.assertEqual(self.farm.all_have(), [{A: True, B: {"until": 5}}] * 3)
        self.assertEqual(self.farm.saved, [{A: True, B: {"until": 5}}])

    def test_parent(self) -> None:
        """What an operator changes, other daemons, or a store that answers late, reaches all workers."""
        self.farm.kept.there[A] = True
        self.farm.state.save({A: True})
        self.farm.settle()
        self.assertEqual(self.farm.all_have(), [{A: True}] * 3)
        self.farm.state.merge({A: None})
        self.farm.state.import_state({B: {"until": 1}})
        self.farm.settle()
        self.assertEqual(self.farm.all_have(), [{A: None, B: {"until": 1}}] * 3)
        self.assertEqual(self.farm.saved, [{A: True}])

    def test_crossing(self) -> None:
        """Two that change the same at once agree in the end, whichever comes first."""
        for first, second in ((True, None), (None, True), ({"until": 9}, None), (None, {"until": 9})):
            self.farm.change(0, A, first)
            self.farm.change(1, A, second)
            self.farm.settle()
            self.assertEqual(self.farm.all_have(), [{A: second}] * 3, (first, second))

    def test_crossing_cooldowns(self) -> None:
        """Of two cooldowns of one scope that which ends later is everybody's."""
        for first, second in ((5, 9), (19, 15)):
            self.farm.change(0, B, {"until": first})
            self.farm.change(1, B, {"until": second})
            self.farm.settle()
            self.assertEqual(self.farm.all_have(), [{B: {"until": max(first, second)}}] * 3)

    def test_later(self) -> None:
        """What comes after the acknowledgement counts again."""
        self.farm.change(0, A, True)
        self.farm.settle()
        self.farm.change(1, A, None)
        self.farm.settle()
        self.assertEqual(self.farm.all_have(), [{A: None}] * 3)

    def test_begin_and_end(self) -> None:
        """A worker begins with what the parent had, and what it has changed is told before it ends."""
        self.farm.kept.there.update({A: True, B: {"until": 5}})
        worker, pair = self.farm.workers[0], self.farm.pairs[0]
        store = ParentStore(self.farm.clock, pair.worker, {A: True}, worker.merge)
        store.load()
        self.assertEqual(worker.there, {A: True})
        self.farm.settle()
        self.assertEqual(worker.there, self.farm.kept.there)
        store.save({A: None})
        self.successResultOf(store.close())
        pair.pump()
        self.assertEqual(self.farm.kept.there[A], None)

    def test_much(self) -> None:
        """A worker is told what there is in many turns; what changes meanwhile is newer, and so is what it changes."""
        keys = [f'["affinity","{number}","m"]' for number in range(2 * KEYS_AT_ONCE + 1)]
        self.farm.kept.there.update(dict.fromkeys(keys, "old"))
        worker, store = self.farm.workers[0], self.farm.stores[0]
        loaded = store.load()
        self.farm.pairs[0].settle()
        self.assertEqual(len(worker.there), KEYS_AT_ONCE)
        self.farm.state.merge({keys[0]: "new", keys[-1]: "new"})
        self.farm.change(0, keys[-2], "own")
        self.farm.pairs[0].settle()
        self.assertNoResult(loaded)
        while not loaded.called:
            self.farm.settle()
        self.assertEqual(self.successResultOf(loaded), {})
        self.assertEqual(worker.there, {**dict.fromkeys(keys, "old"), keys[0]: "new", keys[-1]: "new", keys[-2]: "own"})
