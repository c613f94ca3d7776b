"""The ledger as the daemon has it."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.accounts import database
from claudeproxyd.accounts.database import Question
from claudeproxyd.accounts.ledger import ENTER_DELAY, RETRY_DELAY, SWEEP_INTERVAL, Ledger
from claudeproxyd.accounts.prices import DAY as SECONDS
from claudeproxyd.interfaces import IUsageSink
from claudeproxyd.observe.metrics import Metrics
from tests.accounts.support import DAY, NOON, record


class Thread:
    """Takes the place of a thread: does what it is given at once, or when the test says so."""

    def __init__(self) -> None:
        self.at_once = True
        self.given: list[tuple[Any, Any, Deferred[Any]]] = []

    def __call__(self, work: Any, *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.given.append((work, arguments, done))
        if self.at_once:
            self.run()
        return done

    def run(self) -> None:
        """Do the next thing."""
        work, arguments, done = self.given.pop(0)
        try:
            result = work(*arguments)
        except Exception:
            done.errback()
        else:
            done.callback(result)


class LedgerTests(SynchronousTestCase):
    """On a Clock, with threads that the test drives."""

    def setUp(self) -> None:
        """A ledger that runs."""
        self.path = os.path.join(self.mktemp(), "accounts.db")
        self.clock = Clock()
        self.clock.advance(SWEEP_INTERVAL * 10)  # as of a machine that has run for a while
        self.now = NOON
        self.seen = EventLoggingObserver()
        globalLogPublisher.addObserver(self.seen)
        self.addCleanup(globalLogPublisher.removeObserver, self.seen)
        self.patch(database, "LOCK_TIMEOUT", 0.0)
        self.ledger, self.thread = self.start()

    def start(self) -> tuple[Ledger, Thread]:
        """Another daemon's."""
        thread = Thread()
        ledger = Ledger(self.path, 90.0, self.clock, lambda: self.now, thread, Thread())
        ledger.startService()

        def stop() -> None:
            if ledger.running:
                thread.at_once = True
                ledger.stopService()

        self.addCleanup(stop)
        return ledger, thread

    def attempts(self) -> int:
        """How many are in the database."""
        rows = self.successResultOf(self.ledger.totals(Question(0, DAY + 1, [])))
        return int(str(rows[0]["attempts"])) if rows else 0

    def test_interface(self) -> None:
        """It is a sink of usage records."""
        verifyObject(IUsageSink, self.ledger)

    def test_entered_soon(self) -> None:
        """In one go, and nothing is left to do then."""
        for number in range(3):
            self.ledger.record(record(number))
        self.assertEqual(self.attempts(), 0)
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.attempts(), 3)
        self.assertEqual(os.listdir(self.path + ".waiting"), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_comes_meanwhile(self) -> None:
        """While the thread is at work, records wait for the next time."""
        self.thread.at_once = False
        self.ledger.record(record(1))
        self.clock.advance(ENTER_DELAY)
        self.ledger.record(record(2))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.thread.run()
        self.thread.at_once = True
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.attempts(), 2)

    def test_stop(self) -> None:
        """The end enters what there is, also while the thread is at work."""
        self.thread.at_once = False
        self.ledger.record(record(1))
        self.clock.advance(ENTER_DELAY)
        self.ledger.record(record(2))
        stopped = self.ledger.stopService()
        self.assertNoResult(stopped)
        while self.thread.given:
            self.thread.run()
        self.successResultOf(stopped)
        self.assertEqual(self.attempts(), 2)

    def test_killed(self) -> None:
        """What a process leaves behind the next one enters, once, though some of it was in already."""
        self.thread.at_once = False
        self.ledger.record(record(1))
        self.clock.advance(ENTER_DELAY)
        work, arguments, _ = self.thread.given[0]
        unlink = os.unlink
        self.patch(os, "unlink", lambda path: None)  # killed between the two
        work(*arguments)
        self.patch(os, "unlink", unlink)
        self.ledger.record(record(2))
        journal = self.ledger._journal
        assert journal._file is not None
        os.close(journal._file)  # the kernel lets go of its lock
        journal._file = None
        other, _ = self.start()
        self.clock.advance(ENTER_DELAY)
        rows = self.successResultOf(other.totals(Question(0, DAY, [])))
        self.assertEqual(rows[0]["attempts"], 2)
        self.thread.given.clear()

    def test_database_away(self) -> None:
        """Records wait, told once, and are entered when it is back."""
        self.ledger.record(record(0))
        self.clock.advance(ENTER_DELAY)
        blocker = sqlite3.connect(self.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        for number in range(1, 4):
            self.ledger.record(record(number))
            self.clock.advance(RETRY_DELAY)
        blocker.execute("ROLLBACK")
        blocker.close()
        self.assertEqual(len([e for e in self.seen if "is not entered" in e.get("log_format", "")]), 1)
        self.clock.advance(RETRY_DELAY)
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.attempts(), 4)
        self.assertEqual(len([e for e in self.seen if "entered into {path} again" in e.get("log_format", "")]), 1)
        self.assertEqual(os.listdir(self.path + ".waiting"), [])

    def test_stopped_while_away(self) -> None:
        """The end does not wait for the database, and the next start finds the records."""
        os.makedirs(self.path)  # no file can be there
        self.ledger.record(record(1))
        self.clock.advance(ENTER_DELAY)
        self.successResultOf(self.ledger.stopService())
        os.rmdir(self.path)
        self.ledger, _ = self.start()
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.attempts(), 1)

    def test_retention(self) -> None:
        """Old attempts go, once in a while; their totals stay."""
        self.ledger.record(record(1))
        self.clock.advance(ENTER_DELAY)
        self.now = NOON + 91 * SECONDS
        self.ledger.record(record(90 * SECONDS))
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(len(self.successResultOf(self.ledger.attempts({}, 0.0, 10))), 2)
        self.clock.advance(SWEEP_INTERVAL)
        self.ledger.record(record(90 * SECONDS + 1))
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(len(self.successResultOf(self.ledger.attempts({}, 0.0, 10))), 2)
        rows = self.successResultOf(self.ledger.totals(Question(0, DAY + 100, [])))
        self.assertEqual(rows[0]["attempts"], 3)

    def test_bad_question(self) -> None:
        """Fails with ValueError, for the web to tell."""
        self.failureResultOf(self.ledger.totals(Question(0, DAY, ["key"])), ValueError)

    def test_metrics(self) -> None:
        """What waits and what was lost can be seen."""
        metrics = Metrics()
        self.ledger.register(metrics)
        self.ledger.record(record(1))
        text = b"".join(metrics.pieces()).decode()
        self.assertRegex(text, r"claudeproxyd_ledger_waiting_bytes\{\} [1-9]")
        self.assertIn("claudeproxyd_ledger_lost_total{} 0.0", text)
