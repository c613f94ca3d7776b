"""Threads for what may hang."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, current_thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.threads import unawaited_threads


class Reactor:
    """Does what threads ask of it when a test has it do so."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()

    def callFromThread(self, what: Callable[..., object], *args: Any) -> None:
        self._asked.put((what, args))

    def addSystemEventTrigger(self, phase: str, event: str, what: Callable[..., object], *args: Any) -> None:
        self.end = lambda: what(*args)

    def turn(self) -> None:
        """Do one thing that was asked, when it is."""
        what, args = self._asked.get(timeout=10)
        what(*args)


class Unawaited(SynchronousTestCase):
    """Jobs, one after the other."""

    def test_jobs(self) -> None:
        """Each is done in order, in the one thread; how it went is told on the reactor."""
        reactor = Reactor()
        thread = unawaited_threads(reactor, "a name", 1)
        self.addCleanup(reactor.end)
        hanging, names = Event(), list[str]()

        def wait() -> None:
            hanging.wait(10)
            names.append(current_thread().name)

        def fail() -> None:
            raise ZeroDivisionError

        first = thread(wait)
        second = thread(lambda: names.append(current_thread().name))
        third = thread(fail)
        self.assertNoResult(first)
        hanging.set()
        for _ in range(3):
            reactor.turn()
        self.successResultOf(first)
        self.successResultOf(second)
        self.failureResultOf(third, ZeroDivisionError)
        self.assertEqual(len(names), 2)
        (name,) = set(names)
        self.assertIn("a name", name)
