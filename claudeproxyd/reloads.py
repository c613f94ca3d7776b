"""One reload at a time: whoever asks while one runs shares the next with all others who do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class Reloads:
    """The turns of what may take a while and must not overlap. Kept by the daemon; not for threads."""

    def __init__(self, reload: Callable[[], Coroutine[Any, Any, str]]) -> None:
        """*reload* does it once, and says what changed."""
        self._reload = reload
        self._running = False
        self._waiting: list[Deferred[str]] = []

    def ask(self) -> Deferred[str]:
        """Have one that begins from now on; fires, or fails, as it ends. A hundred signals make two of them."""
        done: Deferred[str] = Deferred()
        self._waiting.append(done)
        if not self._running:
            self._begin()
        return done

    def _begin(self) -> None:
        self._running = True
        waiting, self._waiting = self._waiting, []
        Deferred.fromCoroutine(self._reload()).addBoth(self._ended, waiting)

    def _ended(self, result: str | Failure, waiting: list[Deferred[str]]) -> None:
        self._running = False
        if self._waiting:
            self._begin()
        for done in waiting:
            if isinstance(result, Failure):
                done.errback(result.value)
            else:
                done.callback(result)
