"""Which store ``server.state`` stands for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from claudeproxyd.config.state import InFile, InRedis, state_of
from claudeproxyd.store.database import Database
from claudeproxyd.store.memory import MemoryStore
from claudeproxyd.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from claudeproxyd.interfaces import IStateStore
    from claudeproxyd.store.parts import Part


def store_for(state: str, kept: Part, reactor: Any) -> IStateStore:
    """The store for what is *kept*; it has touched nothing yet. Raises ValueError for what the check of a
    configuration refuses."""
    place = state_of(state)
    if isinstance(place, InFile):
        return SQLiteStore(Database(place.path), reactor, _thread_of_its_own(reactor), kept.export_state)
    if isinstance(place, InRedis):
        # Its parser is an extra, which is there where this is configured.
        from claudeproxyd.store.redis import RedisStore, endpoint_of

        return RedisStore(reactor, endpoint_of(reactor, place), place, kept.learn, kept.export_state)
    return MemoryStore()


def _thread_of_its_own(reactor: Any) -> Callable[[Callable[[], Any]], Deferred[Any]]:
    """Lookups of names may fill the reactor's own threads just when there is much to write: when nothing answers."""
    threads = ThreadPool(0, 1, "state")
    threads.start()
    reactor.addSystemEventTrigger("during", "shutdown", threads.stop)
    return partial(deferToThreadPool, reactor, threads)
