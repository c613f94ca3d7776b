"""Threads for one purpose each, so that what hangs in one of them keeps nothing else waiting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

#: Called with a function and its arguments: runs it in a thread, and fires with what it returns.
InThread = Callable[..., "Deferred[Any]"]


def thread_of_its_own(reactor: Any, name: str) -> InThread:
    """One thread, which is begun with its first work. The reactor's end waits for its last."""
    threads = ThreadPool(0, 1, name)
    threads.start()
    reactor.addSystemEventTrigger("during", "shutdown", threads.stop)
    return partial(deferToThreadPool, reactor, threads)


class _Unawaited(Thread):
    """A thread that the process does not wait for when it ends."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, daemon=True, **more)


def unawaited_threads(reactor: Any, name: str, most: int) -> InThread:
    """At most so many, for questions whose answer nobody needs at the end: one that hangs does not hold it up."""
    threads = ThreadPool(0, most, name)
    threads.threadFactory = _Unawaited
    threads.start()
    reactor.addSystemEventTrigger("during", "shutdown", threads.adjustPoolsize, 0, 0)
    return partial(deferToThreadPool, reactor, threads)
