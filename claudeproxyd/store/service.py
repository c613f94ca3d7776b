"""State as a service: brought back at the start, told of every change, written out at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from claudeproxyd.interfaces import IStateStore
    from claudeproxyd.store.parts import Part

#: Seconds that the start, and the stop, wait for a store.
PATIENCE = 2.0


class StateService(Service):
    """Ties what remembers to a store. Made and parented by the daemon."""

    name = "state"
    _log = Logger()

    def __init__(
        self, clock: IReactorTime, state: Part, store: IStateStore, when_settled: Callable[[], None] = lambda: None
    ) -> None:
        """*when_settled* is called once, when :attr:`settled` becomes true."""
        self._clock = clock
        self._state = state
        self._store = store
        self._when_settled = when_settled
        self.settled = False
        """The state is there, or will not be waited for: the daemon may say that it is ready."""
        self._patience: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin to load. What comes late is taken over all the same."""
        super().startService()
        self._state.changed = self._store.save
        self._patience = self._clock.callLater(PATIENCE, self._go_on, f"not within {PATIENCE:g} s")
        self._store.load().addCallback(self._loaded).addErrback(self._failed)

    def _loaded(self, saved: Mapping[str, Any]) -> None:
        if self.running:
            self._state.import_state(saved)
            self._go_on("")

    def _failed(self, failure: Failure) -> None:
        if self.running:
            self._go_on(failure.getErrorMessage())

    def _go_on(self, why_without: str) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        if not self.settled:
            self.settled = True
            self._when_settled()
        if why_without:
            self._log.warn("the saved state could not be loaded: {why}", why=why_without)

    def stopService(self) -> Deferred[None]:
        """Have written what is not yet; a store that does not answer is not waited for."""
        super().stopService()
        self._state.changed = None
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        closed = self._store.close()
        closed.addTimeout(PATIENCE, self._clock)
        return closed.addErrback(self._given_up)

    def _given_up(self, failure: Failure) -> None:
        self._log.warn("the last changes of state may not have been written: {why}", why=failure.getErrorMessage())
