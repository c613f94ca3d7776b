"""Several parts that share one store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.config.schema import Pool as Settings
from claudeproxyd.interfaces import IPersistent
from claudeproxyd.pool.service import CredentialPool
from claudeproxyd.secrets.grants import Grants
from claudeproxyd.store.changes import StateChanges
from claudeproxyd.store.database import Database
from claudeproxyd.store.persistent import PersistentState
from claudeproxyd.store.service import StateService
from claudeproxyd.store.sqlite import SQLiteStore
from claudeproxyd.translate.signatures import Signatures
from tests.pool.support import credential
from tests.store.support import COOLING, HOME, NOW, StoreTestCase, Thread, exported

SIGNED = '["signature","toolu_1"]'


@implementer(IPersistent)
class Recorder:
    """A part that notes what it is told."""

    def __init__(self, **everything: Any) -> None:
        self.everything = everything
        self.told: list[tuple[str, dict[str, Any]]] = []

    def export_state(self) -> Iterator[Mapping[str, Any]]:
        return iter([self.everything])

    def import_state(self, saved: Mapping[str, Any]) -> None:
        self.told.append(("import", dict(saved)))

    def merge(self, changes: Mapping[str, Any]) -> None:
        self.told.append(("merge", dict(changes)))


for each in (Recorder, PersistentState, CredentialPool, Signatures, Grants):
    verifyClass(IPersistent, each)


class PartsTests(StoreTestCase):
    """Who is told what."""

    def setUp(self) -> None:
        """One part with two words, one with one."""
        super().setUp()
        self.one, self.other = Recorder(a=1), Recorder(b=2)
        self.changes: list[Mapping[str, Any]] = []
        parts = {"cooldown": self.one, "affinity": self.one, "signature": self.other}
        self.parts = PersistentState(parts, self.changes.append)

    def test_by_word(self) -> None:
        """Each part is told of its own keys, in one go, and one that nothing concerns is not bothered."""
        for verb, tell in (("import", self.parts.import_state), ("merge", self.parts.merge)):
            tell({COOLING: 1, SIGNED: 2, HOME: None})
            tell({SIGNED: 3})
            self.assertEqual(self.one.told, [(verb, {COOLING: 1, HOME: None})])
            self.assertEqual(self.other.told, [(verb, {SIGNED: 2}), (verb, {SIGNED: 3})])
            self.one.told.clear()
            self.other.told.clear()

    def test_nobodys(self) -> None:
        """What was saved and is nobody's is deleted; what another daemon says of it is passed over."""
        strange = {'["weather","p"]': 1, "damaged": 2, "[]": 3, "": 4}
        self.parts.import_state(strange)
        self.parts.merge(strange)
        self.assertEqual(self.changes, [dict.fromkeys(strange)])
        self.assertEqual(self.one.told + self.other.told, [])

    def test_everything(self) -> None:
        """It is of all of them, once."""
        self.assertEqual(exported(self.parts), {"a": 1, "b": 2})

    def test_changes(self) -> None:
        """They reach the store that is open, and none before and after it."""
        changes = StateChanges()
        for open_ in (False, True, False):
            if open_:
                changes.open(self.changes.append)
            else:
                changes.close()
            changes({COOLING: open_})
        self.assertEqual(self.changes, [{COOLING: True}])


class RestartTests(StoreTestCase):
    """A pool and signatures in one file."""

    def daemon(self, path: str, **bounds: int) -> tuple[CredentialPool, Signatures, StateService]:
        """As the daemon ties them."""
        clock = Clock()
        changes = StateChanges()
        pool = CredentialPool(
            clock, Settings(), [credential("a")], wall_clock=lambda: NOW + clock.seconds(), changed=changes
        )
        self.addCleanup(pool.stopService)
        signatures = Signatures(lambda: NOW + clock.seconds(), changed=changes, **bounds)
        parts = {"cooldown": pool, "affinity": pool, "disabled": pool, "signature": signatures}
        kept = PersistentState(parts, changes)
        service = StateService(clock, kept, changes, SQLiteStore(Database(path, lambda: NOW), clock, Thread()))
        service.startService()
        return pool, signatures, service

    def test_restart(self) -> None:
        """Both are there again after a restart, and none deletes what is the other's."""
        path = self.mktemp() + "/state.db"
        pool, signatures, service = self.daemon(path)
        pool.set_enabled("p", "a", False)
        signatures.keep("toolu_1", "s")
        self.successResultOf(service.stopService())
        for _ in range(2):
            pool, signatures, service = self.daemon(path)
            self.assertEqual([entry["state"] for entry in pool.snapshot()], ["disabled"])
            self.assertEqual(signatures.lookup("toolu_1"), "s")
            self.successResultOf(service.stopService())
        self.assertEqual(self.warnings, [])

    def test_bounds(self) -> None:
        """A file holds no more signatures than a daemon remembers, even if it remembered more before."""
        path = self.mktemp() + "/state.db"
        _, signatures, service = self.daemon(path, count=2)
        for key in "abc":
            signatures.keep(key, "s")
        self.successResultOf(service.stopService())
        _, signatures, service = self.daemon(path, count=1)
        self.successResultOf(service.stopService())
        self.assertEqual(list(Database(path, lambda: NOW).read()), ['["signature","c"]'])
