"""From ``server.state`` to a store."""

from __future__ import annotations

import os
import threading
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Pool as Settings
from claudeproxyd.pool.service import CredentialPool
from claudeproxyd.store.memory import MemoryStore
from claudeproxyd.store.opening import store_for
from claudeproxyd.store.sqlite import SQLiteStore


class OpeningTests(SynchronousTestCase):
    """What the daemon gets."""

    def store(self, state: str) -> Any:
        """The store of that state, on a reactor in memory."""
        pool = CredentialPool(Clock(), Settings(), [])
        self.addCleanup(pool.stopService)
        return store_for(state, pool, MemoryReactorClock())

    def test_kinds(self) -> None:
        """Each place has its store."""
        self.assertIsInstance(self.store("memory:"), MemoryStore)
        self.assertIsInstance(self.store("sqlite:state.db"), SQLiteStore)
        self.assertRaises(ValueError, self.store, "postgres:x")

    def test_touches_nothing(self) -> None:
        """Before the daemon starts, which may fork, there is no thread, no file and no connection."""
        threads = threading.active_count()
        path = os.path.join(self.mktemp(), "state.db")
        self.store(f"sqlite:{path}")
        self.assertEqual((threading.active_count(), os.path.exists(path)), (threads, False))
