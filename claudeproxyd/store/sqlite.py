"""State in a file, written a moment after it has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from claudeproxyd.interfaces import IStateStore
from claudeproxyd.store.database import Database
from claudeproxyd.store.turns import by_turns
from claudeproxyd.store.write_behind import MAX_PENDING_KEYS, WriteBehind

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from claudeproxyd.observe.exposition import Registry

#: Seconds that a change may wait for others to go with it: with the write itself, a crash costs less than a second.
FLUSH_DELAY = 0.5
#: Seconds to the next try after a write that failed.
RETRY_DELAY = 5.0


@implementer(IStateStore)
class SQLiteStore:
    """``sqlite:``: the reactor's half, which collects; :class:`Database` works in a thread, one call at a time."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        clock: IReactorTime,
        in_thread: Callable[[Callable[[], object]], Deferred[Any]],
        export: Callable[[], Iterator[Mapping[str, object]]] = lambda: iter(()),
    ) -> None:
        """*in_thread* runs a function in a thread; *export* yields all state, for a file that is written anew."""
        self._database = database
        self._clock = clock
        self._in_thread = in_thread
        self._export = export
        self._waiting = WriteBehind(self._flush_soon)
        self._timer: IDelayedCall | None = None
        self._busy = False
        self._failing = False
        self._closed: Deferred[None] | None = None
        self._anew: Deferred[None] | None = None
        """All state is being written, a batch after the other."""

    def register(self, metrics: Registry) -> None:
        """Add the metrics of the writing."""
        metrics.gauge("claudeproxyd_state_waiting", "Changes of state not yet written.", lambda: len(self._waiting))
        metrics.counter("claudeproxyd_state_dropped_total", "Changes of state lost.", lambda: self._waiting.dropped)

    def load(self) -> Deferred[Mapping[str, object]]:
        """See the interface. Fails where the file can neither be read nor replaced."""
        self._busy = True
        return self._in_thread(self._database.read).addBoth(self._loaded)

    def _loaded(self, result: dict[str, object] | Failure) -> Mapping[str, object] | Failure:
        self._done()
        if isinstance(result, Failure):
            return result
        return {key: value for key, value in result.items() if key not in self._waiting}

    def save(self, changes: Mapping[str, object]) -> None:
        """See the interface."""
        self._waiting.add(changes)

    def close(self) -> Deferred[None]:
        """See the interface."""
        if self._anew is not None:
            self._anew.cancel()
            self._save_all()
        self._closed = Deferred()
        self._flush()
        return self._closed

    # -- writing

    def _flush_soon(self) -> None:
        if self._busy or self._closed is not None:
            return
        if self._timer is None:
            self._timer = self._clock.callLater(RETRY_DELAY if self._failing else FLUSH_DELAY, self._flush)
        if self._waiting.pressing and not self._failing:
            self._timer.reset(0)

    def _flush(self) -> None:
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None
        if self._busy:
            return
        taken = self._waiting.take(MAX_PENDING_KEYS)
        if taken:
            self._busy = True
            self._in_thread(lambda: self._database.write(taken)).addBoth(self._written, taken)
        elif self._closed is not None:
            self._busy = True
            self._in_thread(self._database.close).addBoth(self._closed_in_thread)

    def _written(self, result: object, taken: Mapping[str, tuple[float, object]]) -> None:
        if isinstance(result, Failure):
            if not self._failing:
                self._log.warn(
                    "the state is not written to {path}: {why}", path=self._database.path, why=result.getErrorMessage()
                )
            if self._closed is None:
                self._waiting.put_back(taken)
        elif self._failing:
            self._log.info("the state is written to {path} again", path=self._database.path)
        self._failing = isinstance(result, Failure)
        self._done()

    def _done(self) -> None:
        """Go on with what has come up while the thread was at work."""
        self._busy = False
        if self._database.aside:
            self._log.warn("the state file could not be used, and was set aside as {aside}", aside=self._database.aside)
            self._database.aside = ""
            self._write_anew()
        if self._database.was_replaced:
            self._database.was_replaced = False
            self._log.warn(
                "another file was put in the place of {path}, or none: all is written anew", path=self._database.path
            )
            self._write_anew()
        if self._closed is not None:
            self._flush()
        elif self._waiting:
            self._flush_soon()

    def _write_anew(self) -> None:
        if self._closed is not None:
            self._save_all()
            return

        async def by_parts() -> None:
            async for part in by_turns(self._clock, self._export()):
                self.save(part)

        def saved(_: object) -> None:
            self._anew = None

        if self._anew is not None:
            self._anew.cancel()
        self._anew = Deferred.fromCoroutine(by_parts())
        self._anew.addBoth(saved)

    def _save_all(self) -> None:
        for part in self._export():
            self.save(part)

    def _closed_in_thread(self, result: object) -> None:
        assert self._closed is not None
        self._closed.callback(None)
