"""The ledger as the daemon has it."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.accounts import database
from claudeproxyd.accounts.ledger import ENTER_DELAY, MAX_UNSENT, RETRY_DELAY, SWEEP_INTERVAL, Ledger
from claudeproxyd.accounts.limits import Limit
from claudeproxyd.accounts.prices import DAY as SECONDS
from claudeproxyd.accounts.rows import Question
from claudeproxyd.interfaces import IAttemptJournal, IUsageSink
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.usage import COUNT_TOKENS, LOST, UsageRecord
from tests.accounts.support import DAY, NOON, record

ALL = Limit(name="all", amount=10**9, measure="usd", per="day")


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
        """It is a sink of usage records, and knows what is under way."""
        verifyObject(IUsageSink, self.ledger)
        verifyObject(IAttemptJournal, self.ledger)

    def test_entered_soon(self) -> None:
        """In one go, and nothing is left to do then."""
        for number in range(3):
            self.ledger.record(record(number))
        self.assertEqual(self.attempts(), 0)
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.attempts(), 3)
        self.assertEqual(os.listdir(self.path + ".waiting"), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_before_sending(self) -> None:
        """What comes in a turn is written together, before anything is sent, and what comes at the end at once."""
        turn: list[Any] = []
        self.ledger._before_sending = turn.append
        self.begin(1)
        self.begin(2)
        self.ledger.record(record(1))
        self.assertEqual((len(turn), os.path.exists(self.path + ".waiting")), (1, False))
        turn.pop()()
        self.kill()
        other, _ = self.start()
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.lost(other), {record(1).request_id: "ok", record(2).request_id: "lost"})
        self.begin(3)
        self.assertEqual(len(turn), 1)
        self.successResultOf(self.ledger.stopService())
        self.begin(4)
        self.ledger.record(record(3))
        self.assertEqual(len(turn), 1)
        self.kill()
        other, _ = self.start()
        self.clock.advance(ENTER_DELAY)
        found = self.lost(other)
        self.assertEqual([found[record(number).request_id] for number in (3, 4)], ["ok", "lost"])

    def test_stopped_in_a_turn(self) -> None:
        """What comes in the turn in which the ledger stops, which may be the last, is written at once."""
        turn: list[Any] = []
        self.ledger._before_sending = turn.append
        self.thread.at_once = False
        self.ledger.record(record(1))
        self.clock.advance(ENTER_DELAY)
        self.begin(2)
        self.ledger.stopService()
        self.begin(3)
        self.kill()
        other, _ = self.start()
        self.clock.advance(ENTER_DELAY)
        self.assertLessEqual({record(number).request_id for number in (2, 3)}, self.lost(other).keys())

    def test_unsent(self) -> None:
        """Requests without an attempt have rows and are in no sum; of those of one client so many in a minute."""
        for number in range(MAX_UNSENT + 5):
            self.ledger.unsent(self.refused(number / 100))
        self.ledger.unsent(self.refused(0.999, client="desk"))
        self.ledger.unsent(self.refused(60))
        self.now = NOON + 100
        counted = self.ledger.count([ALL, Limit(name="requests", amount=9, measure="requests", per="day")], self.fail)
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.attempts(), 0)
        rows = self.successResultOf(self.ledger.attempts({}, 0.0, 1000))
        clients = [row["client"] for row in rows]
        self.assertEqual((clients.count("laptop"), clients.count("desk")), (MAX_UNSENT + 1, 1))
        self.assertEqual({(row["attempt"], row["outcome"], row["status"]) for row in rows}, {(0, "budget", 429)})
        self.assertEqual([each.used(NOON) for each in self.successResultOf(counted)], [0, 0])

    def refused(self, later: float, **fields: Any) -> UsageRecord:
        """A request over its budget."""
        tokens = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "nano_usd"))
        return record(later, attempt=0, outcome="budget", status=429, **{**tokens, **fields})

    def test_left_behind_by_others(self) -> None:
        """What another user's daemon has left is told of, and all else is entered; so it is beside a folder."""
        folder = self.path + ".waiting"
        os.makedirs(f"{folder}/a-folder.jsonl")
        for name in ("of-another.jsonl", "ours.jsonl"):
            with open(f"{folder}/{name}", "wb") as file:
                file.write(msgspec.json.encode(record(1)) + b"\n")
        open_file = os.open

        def refused(path: str, *more: Any) -> int:
            if "of-another" in path:
                raise PermissionError(path)
            return open_file(path, *more)

        self.patch(os, "open", refused)
        self.ledger, _ = self.start()
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.attempts(), 1)
        told = [formatEvent(each) for each in self.seen if each["log_level"] is LogLevel.warn]
        self.assertEqual(len(told), 1)
        self.assertIn("of-another.jsonl may not be read", told[0])

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
        self.kill()
        other, _ = self.start()
        self.clock.advance(ENTER_DELAY)
        rows = self.successResultOf(other.totals(Question(0, DAY, [])))
        self.assertEqual(rows[0]["attempts"], 2)
        self.thread.given.clear()

    def kill(self) -> None:
        """What the kernel does to the ledger's files: it lets go of their locks."""
        for each in (self.ledger._journal, self.ledger._under_way):
            if each._file is not None:
                os.close(each._file)
                each._file = None

    def begin(self, number: int) -> None:
        """Begin an attempt, of whose end nothing may be heard."""
        self.ledger.begun(record(number, outcome=LOST, estimated=True, output_tokens=None, nano_usd=70))

    def lost(self, ledger: Ledger) -> dict[str, str]:
        """The outcomes in the database, by request."""
        rows = self.successResultOf(ledger.attempts({}, 0.0, 10))
        return {str(row["request_id"]): str(row["outcome"]) for row in rows}

    def test_killed_under_way(self) -> None:
        """What has no record when the process is killed is entered as lost, and nothing else: not what was entered
        before, nor what waits, whatever of its end was noted."""
        for number in range(4):
            self.begin(number)
        self.ledger.record(record(1))
        self.clock.advance(ENTER_DELAY)
        self.ledger.record(record(2))
        self.kill()
        self.now = NOON + 10
        other, _ = self.start()
        counted = other.count([ALL], self.fail)
        self.clock.advance(ENTER_DELAY)
        ids = [record(number).request_id for number in range(4)]
        self.assertEqual(self.lost(other), dict(zip(ids, ("lost", "ok", "ok", "lost"), strict=True)))
        (row,) = self.successResultOf(other.totals(Question(0, DAY, [])))
        self.assertEqual((row["attempts"], row["estimated_tokens"]), (4, 160))
        self.assertEqual([each.used(NOON) for each in self.successResultOf(counted)], [2 * 1_000 + 2 * 70])
        self.assertEqual(os.listdir(self.path + ".waiting"), [])

    def test_under_way_elsewhere(self) -> None:
        """What another daemon has under way is not lost."""
        self.begin(1)
        other, _ = self.start()
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.lost(other), {})
        self.ledger.record(record(1))
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.lost(other), {record(1).request_id: "ok"})

    def test_lost_is_entered_last(self) -> None:
        """Two that start at once after a third was killed: neither takes for lost what the other has yet to enter."""
        self.begin(1)
        self.ledger.record(record(1))
        self.kill()
        blocker = sqlite3.connect(self.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        others = [self.start()[0] for _ in range(2)]
        blocker.execute("ROLLBACK")
        blocker.close()
        self.clock.advance(RETRY_DELAY)
        self.assertEqual(self.lost(others[0]), {record(1).request_id: "ok"})

    def test_stopped_under_way(self) -> None:
        """What is still under way when the ledger stops is found by the next start, or what became of it is."""
        for number in (1, 2):
            self.begin(number)
        self.successResultOf(self.ledger.stopService())
        self.ledger.record(record(1))
        self.kill()
        other, _ = self.start()
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.lost(other), {record(1).request_id: "ok", record(2).request_id: "lost"})

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
        metrics = Metrics()
        self.ledger.register(metrics)
        self.assertIn(b"claudeproxyd_ledger_connected{} 0", metrics.render())
        self.clock.advance(RETRY_DELAY)
        self.clock.advance(ENTER_DELAY)
        self.assertEqual(self.attempts(), 4)
        self.assertEqual(len([e for e in self.seen if "entered into {path} again" in e.get("log_format", "")]), 1)
        self.assertEqual(os.listdir(self.path + ".waiting"), [])

    def test_counted_while_away(self) -> None:
        """What waits in files is told at once, each attempt once, and everything when the database is back."""
        self.ledger.record(record(0))
        self.clock.advance(ENTER_DELAY)
        self.successResultOf(self.ledger.stopService())
        blocker = sqlite3.connect(self.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        self.ledger, _ = self.start()
        for number in (1, 2, 3):
            self.begin(number)
        for each in (record(1), record(1), record(2, operation=COUNT_TOKENS)):
            self.ledger.record(each)
            self.clock.advance(RETRY_DELAY)
        self.kill()
        self.now = NOON + 10
        other, _ = self.start()
        told: list[tuple[list[float], str]] = []
        counted = other.count([ALL], lambda known, why: told.append(([each.used(NOON) for each in known], why)))
        other.record(record(11))
        self.assertEqual(told, [([1_000 + 70], "database is locked")])
        self.clock.advance(RETRY_DELAY)
        self.assertNoResult(counted)
        blocker.execute("ROLLBACK")
        blocker.close()
        self.clock.advance(RETRY_DELAY)
        self.clock.advance(RETRY_DELAY)
        self.assertEqual([each.used(NOON) for each in self.successResultOf(counted)], [2 * 1_000 + 70])
        self.assertEqual(len(told), 1)

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
