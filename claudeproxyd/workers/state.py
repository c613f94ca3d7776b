"""How workers share cooldowns, affinities, disabled credentials and signatures: the parent is their store.

Theory of operation. Each worker goes by a pool of its own, and tells the parent what has changed at the end of the
reactor's turn. The parent merges it, stores it, and tells the others: what holds between daemons that share a Redis
holds between workers, but within a millisecond, and in one order. A change of a key that comes while one of our own is
on its way is older for everybody than ours, and so does not count here; but for two cooldowns of one scope, of which
that which ends later wins everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from claudeproxyd.interfaces import IPersistent, IStateStore
from claudeproxyd.store.turns import by_turns

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.observe.metrics import Metrics
    from claudeproxyd.workers.channel import ControlChannel

Changes = Mapping[str, object]
"""Keys to values; None for what is gone."""


@implementer(IStateStore)
class ParentStore:
    """The store of a worker."""

    def __init__(
        self, clock: IReactorTime, channel: ControlChannel, there: Changes, merge: Callable[[Changes], None]
    ) -> None:
        """*there* is the first part of what the parent has; *merge* takes it, the rest, and what is told later."""
        self._clock = clock
        self._channel = channel
        self._there = there
        self._merge = merge
        self._waiting: dict[str, object] = {}
        self._sent: dict[str, tuple[int, object]] = {}
        """What the parent has not acknowledged yet: the number of the batch, and the value."""
        self._batch = 0

    def load(self) -> Deferred[Changes]:
        """See the interface. The parent tells all that it has as it does what changes meanwhile, and then answers."""
        self._merge(self._there)
        self._there = {}
        return self._channel.ask("state").addCallback(lambda _: {})

    def save(self, changes: Changes) -> None:
        """See the interface."""
        if not self._waiting:
            self._clock.callLater(0, self._send)
        self._waiting.update(changes)

    def close(self) -> Deferred[None]:
        """See the interface."""
        self._send()
        return succeed(None)

    def register(self, metrics: Registry) -> None:
        """See the interface: the parent's store has them."""

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if waiting:
            self._batch += 1
            self._sent.update((key, (self._batch, value)) for key, value in waiting.items())
            self._channel.tell("changes", (self._batch, waiting))

    def acknowledged(self, batch: int) -> None:
        """The parent has a batch, and what it says from now on is newer."""
        self._sent = {key: sent for key, sent in self._sent.items() if sent[0] > batch}

    def changed(self, changes: Changes) -> None:
        """Take what the parent or another worker has changed."""
        counting = {key: value for key, value in changes.items() if self._counts(key, value)}
        if counting:
            self._merge(counting)

    def _counts(self, key: str, value: object) -> bool:
        own = self._waiting[key] if key in self._waiting else self._sent[key][1] if key in self._sent else value
        return own is value or (isinstance(own, Mapping) and isinstance(value, Mapping))


@implementer(IPersistent, IStateStore)
class SharedState:
    """The state of the parent, and its store: whatever comes, from workers or from elsewhere, all others hear of it."""

    def __init__(self, kept: IPersistent, tell: Callable[[Changes, ControlChannel | None], None]) -> None:
        """*tell* tells all workers, but the one of a channel."""
        self._kept = kept
        self._tell = tell
        self._store: IStateStore | None = None

    def stored_in(self, store: IStateStore) -> None:
        """Have *store*, which was made with this state, store it."""
        self._store = store

    @property
    def store(self) -> IStateStore:
        """The store of the configuration."""
        assert self._store is not None
        return self._store

    def changed_by(self, channel: ControlChannel, body: object) -> None:
        """A worker has changed something. Handles what :class:`ParentStore` tells."""
        batch, changes = cast("tuple[int, Changes]", body)
        self._kept.merge(changes)
        self.store.save(changes)
        self._tell(changes, channel)
        channel.tell("acknowledged", batch)

    def tell_all(self, clock: IReactorTime, channel: ControlChannel) -> Deferred[None]:
        """Tell one worker all state, a batch in each turn of the reactor. Answers :meth:`ParentStore.load`."""

        async def tell() -> None:
            async for part in by_turns(clock, self._kept.export_state()):
                channel.tell("changed", part)

        return Deferred.fromCoroutine(tell())

    # -- IPersistent, as the store and its service see it

    def export_state(self) -> Iterator[Mapping[str, object]]:
        """See the interface."""
        return self._kept.export_state()

    def import_state(self, saved: Changes) -> None:
        """See the interface."""
        self._kept.import_state(saved)
        self._tell(saved, None)

    def merge(self, changes: Changes) -> None:
        """See the interface."""
        self._kept.merge(changes)
        self._tell(changes, None)

    # -- IStateStore, as the parent's own changes see it

    def load(self) -> Deferred[Changes]:
        """See the interface."""
        return self.store.load()

    def save(self, changes: Changes) -> None:
        """See the interface."""
        self.store.save(changes)
        self._tell(changes, None)

    def close(self) -> Deferred[None]:
        """See the interface."""
        return self.store.close()

    def register(self, metrics: Metrics) -> None:
        """See the interface."""
        self.store.register(metrics)
