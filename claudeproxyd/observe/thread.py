"""A thread for what may hang: a disk, above all."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads


class OwnThread:
    """Does one job after the other: off the reactor, and off its pool of threads, where names are looked up.

    It is begun by the first job, and does not keep the process from ending when a job hangs.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._jobs: SimpleQueue[tuple[Callable[[], None], Deferred[None]]] = SimpleQueue()
        self._begun = False

    def __call__(self, job: Callable[[], None]) -> Deferred[None]:
        """Have *job* done; fires when it is, or fails as it does, on the reactor. How many may wait is the caller's."""
        done: Deferred[None] = Deferred()
        self._jobs.put((job, done))
        if not self._begun:
            self._begun = True
            Thread(target=self._work, name=self._name, daemon=True).start()
        return done

    def _work(self) -> None:
        while True:
            job, done = self._jobs.get()
            result: Failure | None = None
            try:
                job()
            except BaseException:  # whatever it is, somebody waits for it
                result = Failure()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
            self._reactor.callFromThread(done.callback, result)
            del job, done, result  # which hold whole captures
