"""The daemon of one worker: it serves clients, and leaves to the parent what there is once."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred

from claudeproxyd import configured
from claudeproxyd.accounts.limits import UsageLimits
from claudeproxyd.config.loading import Loaded
from claudeproxyd.daemon import Daemon
from claudeproxyd.dispatch.admission import ConcurrencyAdmission
from claudeproxyd.secrets.sources import Sources
from claudeproxyd.workers.figures import Part, in_batches, written
from claudeproxyd.workers.limits import LimitsByParent
from claudeproxyd.workers.permits import CLIENT, HeldPermits, Key, PoolShares, SharesOfClients, keyed
from claudeproxyd.workers.shares import share_of
from claudeproxyd.workers.sockets import Inherited, InheritedListener
from claudeproxyd.workers.state import Changes, ParentStore
from claudeproxyd.workers.tokens import fetched_by_parent
from claudeproxyd.workers.view import activity_of, pool_parts

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Config
    from claudeproxyd.dispatch.limiting import LimitAdmission
    from claudeproxyd.interfaces import IPersistent, IStateStore
    from claudeproxyd.observe.transitions import Transition
    from claudeproxyd.web.listener import Listener
    from claudeproxyd.workers.channel import ControlChannel, Handler

#: Seconds that the end waits for a parent that does not answer.
FAREWELL_TIMEOUT = 2.0
#: Seconds between two reminders to the pool that others use its credentials, too.
REMIND_EVERY = 300.0


@dataclass(frozen=True)
class Greeting:
    """What a worker begins with. It goes over the channel pickled: nobody else can write there."""

    slot: int
    """Which of the workers it is, from 0."""
    count: int
    """How many there are."""
    config: Config
    files: tuple[str, ...]
    """Where it was read from."""
    sockets: Sequence[Inherited]
    own_hop: bytes
    """The daemon's name among those that a request goes through: the same for all."""
    state: Changes
    """The first part of it: which credentials cool or are disabled, as the first request must know."""
    held: Mapping[Key, int]
    """Permits, where they are not this worker's share."""


class WorkerDaemon(Daemon):
    """One of several that serve. Made by ``python -m claudeproxyd.workers``."""

    _counts_limits = False

    def __init__(self, reactor: Any, greeting: Greeting, loaded: Loaded, channel: ControlChannel) -> None:
        """*loaded* is the greeting's configuration, with what this process has installed."""
        self._greeting = greeting
        self._channel = channel
        self._hurry: Deferred[None] = Deferred()
        self._given = loaded
        self._permits = HeldPermits(greeting.slot, greeting.count, channel, greeting.held)
        self._permits.in_use = self._in_use
        self._permits.changed = self._allow
        self._shares = PoolShares(self._permits)
        super().__init__(reactor, self._mine(loaded), lambda in_force: self._mine(self._given), {"nodaemon": True})

    def _mine(self, loaded: Loaded) -> Loaded:
        greeting = self._greeting
        return replace(loaded, config=share_of(loaded.config, greeting.count, greeting.slot), warnings=[])

    # -- what is otherwise here

    def _make_hop(self) -> bytes:
        return self._greeting.own_hop

    def _make_concurrency(self) -> ConcurrencyAdmission:
        return ConcurrencyAdmission(SharesOfClients(self._permits))

    def _make_limits(self, config: Config) -> LimitAdmission:
        limits = UsageLimits(configured.limits_of(config))
        return LimitsByParent(limits, time.time, self._concurrency.admit, self._channel)

    def _happened(self, transition: Transition) -> None:
        """See :meth:`Daemon._happened`: the parent does."""
        self._channel.tell("happened", pickle.dumps(transition))

    def _make_sources(self) -> Sources:
        elsewhere = fetched_by_parent(self._channel)
        return Sources(self._reactor, grants=self._grants, fetched_elsewhere=elsewhere)

    def _make_store(self, config: Config, kept: IPersistent) -> tuple[IPersistent, IStateStore]:
        self._store = ParentStore(self._reactor, self._channel, self._greeting.state, kept.merge)
        return kept, self._store

    def _make_listeners(self, config: Config) -> Sequence[Listener]:
        self._inherited = [
            InheritedListener(self._reactor, each, self.site, self._greeting.slot) for each in self._greeting.sockets
        ]
        return self._inherited

    def _announce(self, config: Config) -> None:
        """Tell the parent, which says it to people."""
        self._every(REMIND_EVERY, lambda: self.pool.merge({}))
        self._channel.tell("ready", os.getpid())

    def _hurried(self) -> Deferred[None]:
        return self._hurry

    async def _stop(self) -> None:
        """See :meth:`Daemon.stopService`; the parent has heard all that there was to say before this process ends."""
        await super()._stop()
        self._channel.tell("counters", list(in_batches(self._counters())))
        heard = self._channel.ask("bye")
        heard.addTimeout(FAREWELL_TIMEOUT, self._reactor)
        await heard.addErrback(lambda failure: None)

    async def _reload(self) -> str:
        """Put what the parent has judged in force; what is told of it, the parent tells."""
        self._put_in_force(await self._drafted())
        return ""

    def _counters(self) -> Iterator[Part]:
        """What stays in the daemon's metrics when this process has ended."""
        return written(self.metrics, ("counter", "histogram"))

    # -- what the parent says

    def handlers(self) -> dict[str, Handler]:
        """Return what answers the parent."""
        return {
            "leave": lambda channel, body: self._be_leaving(),
            "hurry": lambda channel, body: self._cut(),
            "reopen": lambda channel, body: self.reopen(),
            "configure": lambda channel, body: self._configure(cast("bytes", body)),
            "cover": lambda channel, slot: self._cover(cast("int", slot)),
            "uncover": lambda channel, slot: self._uncover(cast("int", slot)),
            "changed": lambda channel, changes: self._store.changed(cast("Changes", changes)),
            "acknowledged": lambda channel, batch: self._store.acknowledged(cast("int", batch)),
            "granted": lambda channel, body: self._permits.granted(*keyed(body)),
            "recall": lambda channel, body: self._permits.recall(*keyed(body)),
            "forgotten": lambda channel, body: self._permits.forgotten(*keyed(body)),
            "metrics": lambda channel, body: in_batches(written(self.metrics)),
            "counters": lambda channel, body: in_batches(self._counters()),
            "keys": lambda channel, body: self._read_keys(),
            "pool": lambda channel, body: pool_parts(self.pool, self._models),
            "clients": lambda channel, minutes: activity_of(self._activity, cast("int", minutes)),
            "clear": lambda channel, body: self.pool.clear(*cast("tuple[str, str, str]", body)),
        }

    def _configure(self, pickled: bytes) -> Deferred[str]:
        config, files = pickle.loads(pickled)  # noqa: S301 - the parent's
        self._given = replace(self._given, config=config, files=files)
        return self.reload()

    def _in_use(self, key: Key) -> int:
        kind, name, credential = key
        return self._concurrency.running.get(name, 0) if kind == CLIENT else self.pool.in_use(name, credential)

    def _allow(self, key: Key, number: int) -> None:
        kind, name, credential = key
        if kind != CLIENT:
            self.pool.allow(name, credential, number)

    def _cover(self, slot: int) -> None:
        for listener in self._inherited:
            listener.cover(slot)

    def _uncover(self, slot: int) -> None:
        for listener in self._inherited:
            listener.uncover(slot)

    def _be_leaving(self) -> None:
        self.site.leave()
        for listener in self._inherited:
            listener.leave()

    def _read_keys(self) -> Deferred[None] | None:
        return None if self._keys is None else self._keys.read()

    def _cut(self) -> None:
        if not self._hurry.called:
            self._hurry.callback(None)
