"""The pool and its store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.config.schema import Pool as Settings
from claudeproxyd.interfaces import IStateStore
from claudeproxyd.outcomes.types import Kind, Outcome, Scope
from claudeproxyd.pool.service import CredentialPool
from claudeproxyd.slices import KEYS_AT_ONCE
from claudeproxyd.store.changes import StateChanges
from claudeproxyd.store.service import StateService
from tests.pool.support import credential, request
from tests.store.support import COOLING, NOW, A, B, StoreTestCase, affinity, cooldown


@implementer(IStateStore)
class Store:
    """One that answers when the test says so."""

    def __init__(self) -> None:
        self.loading: Deferred[Mapping[str, Any]] = Deferred()
        self.closing: Deferred[None] = Deferred()
        self.saved: dict[str, Any] = {}

    def load(self) -> Deferred[Mapping[str, Any]]:
        return self.loading

    def save(self, changes: Mapping[str, Any]) -> None:
        self.saved.update(changes)

    def close(self) -> Deferred[None]:
        return self.closing

    def register(self, metrics: Any) -> None:
        """Nothing to tell."""


verifyClass(IStateStore, Store)


class StateServiceTests(StoreTestCase):
    """Start, changes, stop."""

    def setUp(self) -> None:
        """A pool of a and b."""
        super().setUp()
        self.clock = Clock()
        self.changes = StateChanges()
        self.pool = CredentialPool(
            self.clock,
            Settings(),
            [credential("a"), credential("b")],
            wall_clock=lambda: NOW + self.clock.seconds(),
            changed=self.changes,
        )
        self.addCleanup(self.pool.stopService)

    def start(self) -> tuple[StateService, Store]:
        """The service, started."""
        store = Store()
        service = StateService(self.clock, self.pool, self.changes, store)
        service.startService()
        return service, store

    def states(self) -> list[str]:
        """Of a and b."""
        return [entry["state"] for entry in sorted(self.pool.snapshot(), key=lambda entry: entry["credential"])]

    def test_says_when_it_is_settled(self) -> None:
        """Who must not act before the state is there is told once: when it is there, has failed, or is late."""
        for end in (
            lambda store: store.loading.callback({}),
            lambda store: store.loading.errback(OSError("gone")),
            lambda store: self.clock.advance(2.0) or store.loading.callback({}),
        ):
            told: list[bool] = []
            store = Store()
            service = StateService(self.clock, self.pool, self.changes, store, lambda told=told: told.append(True))
            service.startService()
            self.assertEqual(told, [])
            end(store)
            self.assertEqual((told, service.settled), ([True], True))

    def test_takes_over(self) -> None:
        """What was saved is in force once it is loaded, and the daemon is ready then, not before."""
        service, store = self.start()
        self.assertFalse(service.settled)
        store.loading.callback({A: True, COOLING: cooldown(60)})
        self.clock.advance(0)
        self.assertTrue(service.settled)
        self.assertEqual(self.states(), ["disabled", "ready"])
        self.assertEqual((store.saved, self.clock.getDelayedCalls()[1:]), ({}, []))

    def test_much(self) -> None:
        """Much state is in force after several turns, and the daemon ready then; what changes meanwhile is newer."""
        service, store = self.start()
        saved = {f'["affinity","{number}","m"]': affinity(0) for number in range(2 * KEYS_AT_ONCE)}
        store.loading.callback({**saved, A: True, B: True})
        self.assertEqual((self.pool.gauges()["affinities"], service.settled), (KEYS_AT_ONCE, False))
        self.pool.set_enabled("p", "a", False)
        self.pool.set_enabled("p", "a", True)
        self.clock.advance(0)
        self.assertEqual((self.pool.gauges()["affinities"], service.settled), (2 * KEYS_AT_ONCE, True))
        self.assertEqual(self.states(), ["ready", "disabled"])
        self.assertEqual(store.saved, {A: None})

    def test_much_at_the_end(self) -> None:
        """Who ends while it restores goes no further."""
        service, store = self.start()
        store.loading.callback({f'["affinity","{number}","m"]': affinity(0) for number in range(2 * KEYS_AT_ONCE)})
        service.stopService()
        self.clock.advance(0)
        self.assertEqual(self.pool.gauges()["affinities"], KEYS_AT_ONCE)

    def test_late(self) -> None:
        """A store that hangs keeps the daemon from being ready for two seconds; what comes later still counts."""
        service, store = self.start()
        self.clock.advance(1.9)
        self.assertFalse(service.settled)
        self.clock.advance(0.2)
        self.assertTrue(service.settled)
        self.assertEqual(len(self.warnings), 1)
        store.loading.callback({B: True})
        self.assertEqual(self.states(), ["ready", "disabled"])

    def test_fails(self) -> None:
        """A store that cannot be read is told of, and the daemon is ready without it."""
        service, store = self.start()
        store.loading.errback(OSError("no such luck"))
        self.assertTrue(service.settled)
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("no such luck", self.warnings[0])

    def test_changes(self) -> None:
        """Every change is saved, from the start on."""
        _, store = self.start()
        self.pool.set_enabled("p", "a", False)
        lease = self.successResultOf(self.pool.lease(request()))
        lease.release(Outcome(Kind.QUOTA, Scope.CREDENTIAL, base=1.0, ceiling=1.0))
        self.assertEqual(len(store.saved), 2)

    def test_useless(self) -> None:
        """State of credentials that are gone is deleted."""
        gone = '["disabled","p","gone"]'
        _, store = self.start()
        store.loading.callback({gone: True})
        self.assertEqual(store.saved, {gone: None})

    def test_stops(self) -> None:
        """A stop waits until all is written; what changes after it is not saved."""
        service, store = self.start()
        stopped = service.stopService()
        self.assertNoResult(stopped)
        store.closing.callback(None)
        self.successResultOf(stopped)
        self.pool.set_enabled("p", "a", False)
        self.assertEqual((store.saved, self.clock.getDelayedCalls()), ({}, []))

    def test_does_not_stop(self) -> None:
        """A store that hangs holds a stop up for two seconds."""
        service, store = self.start()
        stopped = service.stopService()
        self.clock.advance(2.0)
        self.successResultOf(stopped)
        self.assertEqual(len(self.warnings), 1)
        store.loading.addErrback(lambda failure: failure.trap(CancelledError) and None)
        store.loading.callback({A: True})
        self.assertEqual(self.states(), ["ready", "ready"])
