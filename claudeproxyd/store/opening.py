"""Makes the stores that ``server.state`` names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from claudeproxyd.accounts.local_limits import LocalLimits
from claudeproxyd.config.state import InFile, InRedis, state_of
from claudeproxyd.store.database import Database
from claudeproxyd.store.memory import MemoryStore
from claudeproxyd.store.sqlite import SQLiteStore
from claudeproxyd.threads import thread_of_its_own

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.accounts.limits import UsageLimits
    from claudeproxyd.interfaces import ILimitStore, IPersistent, IStateStore


def store_for(state: str, kept: IPersistent, reactor: Any) -> IStateStore:
    """Return the store for *kept*, which has touched nothing yet.

    Raises ValueError for a *state* that the check of a configuration refuses.
    """
    place = state_of(state)
    if isinstance(place, InFile):
        return SQLiteStore(Database(place.path), reactor, thread_of_its_own(reactor, "state"), kept.export_state)
    if isinstance(place, InRedis):
        # Its parser is an extra, which is there where this is configured.
        from claudeproxyd.store.redis import RedisStore
        from claudeproxyd.store.redis_link import endpoint_of

        return RedisStore(reactor, endpoint_of(reactor, place), place, kept.merge, kept.export_state)
    return MemoryStore()


def limits_store_for(state: str, limits: UsageLimits, ledger: str, reactor: IReactorTime) -> ILimitStore:
    """Return what counts *limits*: they are shared where the state is. *ledger* is the place of the accounts."""
    place = state_of(state)
    if not isinstance(place, InRedis):
        return LocalLimits(limits)
    from claudeproxyd.store.redis_limits import RedisLimits
    from claudeproxyd.store.redis_link import endpoint_of

    return RedisLimits(reactor, endpoint_of(reactor, place), place, limits, time.time, ledger)
