"""Saves the daemon's state: loads it at the start, saves every change, and flushes at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from claudeproxyd.slices import batches
from claudeproxyd.store.turns import by_turns

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from claudeproxyd.interfaces import IPersistent, IStateStore
    from claudeproxyd.store.changes import StateChanges

#: Seconds that the start, and the stop, wait for a store.
STORE_TIMEOUT = 2.0


class StateService(Service):
    """Connects persistent state with a store. Made and parented by the daemon."""

    name = "state"
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        state: IPersistent,
        changes: StateChanges,
        store: IStateStore,
        when_settled: Callable[[], None] = lambda: None,
    ) -> None:
        """*changes* is what *state* was made with. *when_settled* is called once, when :attr:`settled` becomes true."""
        self._clock = clock
        self._state = state
        self._changes = changes
        self._store = store
        self._when_settled = when_settled
        self.settled = False
        """The state is loaded, or not waited for any more: the daemon may say that it is ready."""
        self._timeout: IDelayedCall | None = None
        self._to_restore: dict[str, object] = {}
        """What is loaded, and not in force yet."""

    def startService(self) -> None:
        """Begin to load. State that comes late is restored all the same."""
        super().startService()
        self._changes.open(self._save_meanwhile)
        self._timeout = self._clock.callLater(STORE_TIMEOUT, self._go_on, f"not within {STORE_TIMEOUT:g} s")
        restored = self._store.load().addCallback(lambda saved: Deferred.fromCoroutine(self._loaded(saved)))
        restored.addErrback(self._failed)

    async def _loaded(self, saved: Mapping[str, object]) -> None:
        left = self._to_restore = dict(saved)
        async for keys in by_turns(self._clock, batches(saved)):
            if not self.running:
                return
            self._state.import_state({key: left.pop(key) for key in keys if key in left})
        if self.running:
            self._changes.open(self._store.save)
            self._go_on("")

    def _save_meanwhile(self, changes: Mapping[str, object]) -> None:
        """Save what is newer than what was saved before, which counts no more."""
        for key in changes:
            self._to_restore.pop(key, None)
        self._store.save(changes)

    def _failed(self, failure: Failure) -> None:
        if self.running:
            self._go_on(failure.getErrorMessage())

    def _go_on(self, why_without: str) -> None:
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        if not self.settled:
            self.settled = True
            self._when_settled()
        if why_without:
            self._log.warn("the saved state could not be loaded: {why}", why=why_without)

    def stopService(self) -> Deferred[None]:
        """Flush and close the store, for at most :data:`STORE_TIMEOUT`."""
        super().stopService()
        self._changes.close()
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        closed = self._store.close()
        closed.addTimeout(STORE_TIMEOUT, self._clock)
        return closed.addErrback(self._given_up)

    def _given_up(self, failure: Failure) -> None:
        self._log.warn("the last changes of state may not have been written: {why}", why=failure.getErrorMessage())
