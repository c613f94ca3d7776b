"""The ledger's file."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from random import Random
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts import database
from claudeproxyd.accounts.database import LedgerFile, open_database
from claudeproxyd.accounts.ledger_database import ForeignLedger
from claudeproxyd.accounts.prices import DAY as SECONDS
from claudeproxyd.accounts.prices import NANO
from claudeproxyd.accounts.rows import Question
from claudeproxyd.accounts.schema import BLOCK, FIGURES, SERIES
from claudeproxyd.interfaces import ILedgerDatabase
from claudeproxyd.observe.usage import COUNT_TOKENS, UsageRecord
from tests.accounts.support import DAY, NOON, record

GROUPINGS = (
    [],
    ["day"],
    ["client"],
    ["day", "client"],
    ["client", "model", "day"],
    ["client", "day", "model"],
    ["label.team", "day", "model"],
    ["day", "model", "label.team", "credential"],
)
DRAWN = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.sampled_from("ab"), st.booleans()), max_size=30)


def drawn_records() -> Iterator[UsageRecord]:
    """Yield some of five days, of which many cost the same, or one nano-dollar more, of a great many."""
    random = Random(7)
    for number in range(900):
        yield record(
            number * 500,
            client=f"c{random.randrange(200)}",
            labels={"team": random.choice("aBbü")} if number % 5 else {},
            model_asked=f"m{random.randrange(3)}",
            credential=f"k{random.randrange(2)}",
            nano_usd=random.choice((None, 1_000, 2**53, 2**53 + 1)),
            input_tokens=random.choice((0, 10)),
        )


class LedgerTestCase(SynchronousTestCase):
    """Has a file that is not there yet."""

    ledger: ILedgerDatabase

    def setUp(self) -> None:
        """Its path."""
        self.path = os.path.join(self.mktemp(), "folder", "accounts.db")
        self.ledger = self.open()

    def open(self) -> ILedgerDatabase:
        """As another thread or daemon opens it."""
        ledger = LedgerFile(self.path)
        self.addCleanup(ledger.close)
        return ledger

    def begin_anew(self) -> None:
        """With an empty one."""
        self.path = os.path.join(self.mktemp(), "another.db")

    def at_once(self, number: int) -> None:
        """Have transactions of so many records."""
        self.patch(database, "AT_ONCE", number)

    def totals(self, *by: str, since: int = 0, until: int = DAY + 1000) -> list[dict[str, Any]]:
        """What was used, by that."""
        return self.open().totals(Question(since, until, by))

    def check_count(self, drawn: list[tuple[int, int, str, bool]]) -> None:
        """Whatever comes, in whatever batches and however often: the totals are those of the distinct records."""
        records = [
            record(number, attempt=attempt, client=f"{client}{number}", nano_usd=None if unpriced else number)
            for number, attempt, client, unpriced in drawn
        ]
        first = {(each.request_id, each.attempt): each for each in reversed(records)}
        self.begin_anew()
        ledger = self.open()
        for start in range(0, len(records), 4):
            ledger.enter(records[start : start + 4])
        totals = {row["client"]: row for row in ledger.totals(Question(0, DAY, ["client"]))}
        ledger.close()
        counted: Counter[str] = Counter(each.client for each in first.values())
        self.assertEqual({client: row["attempts"] for client, row in totals.items()}, counted)
        for client, row in totals.items():
            nano = sum(each.nano_usd or 0 for each in first.values() if each.client == client)
            self.assertEqual(row["usd"], nano / NANO)


class EnteringTests(LedgerTestCase):
    """What goes in."""

    def test_sums(self) -> None:
        """All of a record's figures are in the totals."""
        self.assertEqual(self.ledger.enter([record(1), record(2)]), 2)
        self.assertEqual(
            self.totals(),
            [
                {
                    "attempts": 2,
                    "requests": 2,
                    "input_tokens": 20,
                    "output_tokens": 40,
                    "cache_read_tokens": 60,
                    "cache_write_tokens": 80,
                    "thinking_tokens": 10,
                    "unpriced_tokens": 0,
                    "estimated_tokens": 0,
                    "usd": 2_000 / NANO,
                }
            ],
        )

    def test_once(self) -> None:
        """A record that comes again, in any company and from anybody, changes nothing."""
        self.ledger.enter([record(1), record(2)])
        before = self.totals()
        self.assertEqual(self.open().enter([record(2), record(1)]), 0)
        self.assertEqual(self.totals(), before)
        self.assertEqual(self.ledger.enter([record(2), record(3), record(1), record(3)]), 1)
        self.assertEqual(self.totals()[0]["attempts"], 3)

    def test_attempts_of_a_request(self) -> None:
        """Each is a row; the request counts once."""
        first = record(1, credential="a", outcome="transient", status=529, output_tokens=None)
        self.ledger.enter([first, record(1, credential="b", attempt=2)])
        rows = {row["credential"]: (row["requests"], row["attempts"]) for row in self.totals("credential")}
        self.assertEqual(rows, {"a": (1, 1), "b": (0, 1)})

    def test_unpriced_and_estimated(self) -> None:
        """What has no price is told as tokens, and so is what was estimated."""
        self.ledger.enter([record(1, nano_usd=None), record(2, estimated=True), record(3)])
        (row,) = self.totals()
        self.assertEqual((row["unpriced_tokens"], row["estimated_tokens"], row["usd"]), (100, 100, 2_000 / NANO))

    def test_counting_is_not_using(self) -> None:
        """A count_tokens has its row and is in no total."""
        self.ledger.enter([record(1, operation=COUNT_TOKENS)])
        self.assertEqual(self.totals("client"), [])
        self.assertEqual(len(self.ledger.attempts({}, 0.0, 10)), 1)

    def test_forget(self) -> None:
        """Old rows go, however many; totals stay."""
        self.at_once(2)
        self.ledger.enter([record(number) for number in range(7)])
        self.assertEqual(self.ledger.forget(NOON + 5), 5)
        self.assertEqual(len(self.ledger.attempts({}, 0.0, 10)), 2)
        self.assertEqual(self.totals()[0]["attempts"], 7)


class AskingTests(LedgerTestCase):
    """What comes out."""

    def setUp(self) -> None:
        """Two people, three days."""
        super().setUp()
        self.ledger.enter(
            [
                record(1),
                record(2, client="desk", labels={"team": "web"}, nano_usd=5_000, model_asked="claude-b"),
                record(3 * SECONDS, client="desk", labels={}, provider="q", nano_usd=10),
            ]
        )

    def test_by_anything(self) -> None:
        """Those that cost most come first; an absent label is ''."""
        for by, expected in (
            (["client"], [("desk", 2), ("laptop", 1)]),
            (["label.team"], [("web", 1), ("ads", 1), ("", 1)]),
            (["model"], [("claude-b", 1), ("claude-a", 2)]),
            (["day"], [(DAY, 2), (DAY + 3, 1)]),
            (["provider", "client"], [("p", "desk", 1), ("p", "laptop", 1), ("q", "desk", 1)]),
            (["day", "client"], [(DAY, "desk", 1), (DAY, "laptop", 1), (DAY + 3, "desk", 1)]),
            (["label.none", "label.team"], [("", "web", 1), ("", "ads", 1), ("", "", 1)]),
        ):
            rows = self.totals(*by)
            self.assertEqual([(*(row[name] for name in by), row["attempts"]) for row in rows], expected, by)

    def test_days(self) -> None:
        """Both ends are within, blocks of days or not."""
        for since, until, attempts in ((DAY, DAY, 2), (DAY + 1, DAY + 2, 0), (DAY + 1, DAY + 3, 1), (0, DAY + 90, 3)):
            self.assertEqual(sum(row["attempts"] for row in self.totals(since=since, until=until)), attempts)

    def test_first(self) -> None:
        """As many as are wanted, and those are the first of all; whatever it is by, ties and absent labels included."""
        self.ledger.enter(drawn_records())
        for by in GROUPINGS:
            for since in (0, DAY + 1):
                ledger = self.open()
                every = ledger.totals(Question(since, DAY + 4, by))
                for limit in (1, 7, 40, 5_000):
                    self.assertEqual(ledger.totals(Question(since, DAY + 4, by, limit)), every[:limit], (by, limit))

    def test_unknown(self) -> None:
        """No other columns, and no words of a client's in a statement."""
        for by in ("labels", "series", "key", 'label.a"b', "client; DROP TABLE days", ""):
            with self.assertRaises(ValueError):
                self.totals(by)
        for label in ("a'b", "a.b", "a)b", "ü", "$", "a b"):
            self.ledger.enter([record(hash(label) % 10**6, labels={label: "x"}, client="odd")])
            self.assertIn("x", [row[f"label.{label}"] for row in self.totals(f"label.{label}")])

    def test_attempts(self) -> None:
        """The last ones first, by client, session, request and time."""
        ledger = self.ledger
        self.assertEqual([row["client"] for row in ledger.attempts({}, 0.0, 2)], ["desk", "desk"])
        (row,) = ledger.attempts({"client": "laptop"}, 0.0, 10)
        self.assertEqual(row["request_id"], record(1).request_id)
        self.assertEqual(ledger.attempts({"request_id": record(1).request_id}, 0.0, 10), [row])
        self.assertEqual(len(ledger.attempts({"session": "s"}, NOON + 2, 10)), 2)
        self.assertEqual(ledger.attempts({"session": "none"}, 0.0, 10), [])


class MonthTests(LedgerTestCase):
    """A month of 200 people, some 3 million attempts, is 48,000 rows of totals."""

    OF_SERIES: ClassVar = [
        (f"client-{client:03}", f'{{"team":"team-{client % 12}"}}', f"claude-{model}", f"claude-{model}-1", "up", key)
        for client in range(200)
        for model in "abcd"
        for key in ("key-1", "key-2")
    ]
    DAYS = 30

    def setUp(self) -> None:
        """Write them, as they would have been added up."""
        super().setUp()
        random = Random(13)
        self.fill([random.randrange(10**9) for _ in FIGURES])

    def fill(self, figures: list[int]) -> None:
        """Each combination has these on each day."""
        with closing(open_database(self.path)) as connection, connection:
            connection.executemany(
                f"INSERT INTO series ({', '.join(SERIES)}) VALUES (?, ?, ?, ?, ?, ?)", self.OF_SERIES
            )
            connection.executemany(
                f"INSERT INTO days (block, series, day, {', '.join(FIGURES)}) VALUES (?, ?, ?{', ?' * len(FIGURES)})",
                (
                    (day // BLOCK, series, day, *figures)
                    for day in range(DAY, DAY + self.DAYS)
                    for series in range(1, len(self.OF_SERIES) + 1)
                ),
            )

    def test_any_grouping(self) -> None:
        """The first thousand of any groups take less time than it takes to read all rows, which is 100 ms on a machine
        that does nothing else, and 50 MB; so much is enough for all groups of the usual names too."""
        names = ["client", "model", "model_served", "provider", "credential"]
        for by in ([], ["day"], ["client"], names, ["client", "day"], ["label.team", "day"], ["client", "model", "day"],
                   ["label.team", "client", "day"], [*names, "day"]):  # fmt: skip
            question = Question(DAY, DAY + self.DAYS - 1, by, 1000)
            self.check_effort(question)
            self.assertLess(self.peak(question), 50_000_000, by)
        self.assertLess(self.peak(Question(DAY, DAY + self.DAYS, ["client", "model", "day"])), 50_000_000)

    def check_effort(self, question: Question) -> None:
        """See above."""
        # in turn: what another program on the machine takes, it takes from both
        turns = [(self.seconds(self.ledger.totals, question), self.seconds(self.read)) for _ in range(3)]
        asked, read = map(min, zip(*turns, strict=True))
        self.assertLess(asked, read, question)

    def read(self) -> None:
        """All rows, as they are."""
        with closing(open_database(self.path)) as connection:
            self.assertEqual(len(connection.execute("SELECT * FROM days").fetchall()), self.DAYS * len(self.OF_SERIES))

    def seconds(self, work: Callable[..., object], *arguments: object) -> float:
        """Of CPU."""
        began = time.thread_time()
        work(*arguments)
        return time.thread_time() - began

    def peak(self, question: Question) -> int:
        """Bytes that Python held at once."""
        tracemalloc.start()
        try:
            self.ledger.totals(question)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


class FileTests(LedgerTestCase):
    """The file itself."""

    @settings(max_examples=30)
    @given(DRAWN)
    def test_equals_a_count(self, drawn: list[tuple[int, int, str, bool]]) -> None:
        """See above."""
        self.check_count(drawn)

    def test_failed_batch(self) -> None:
        """A batch that cannot be written leaves nothing behind, and can be entered later."""
        self.at_once(2)
        self.ledger.label_names()  # makes the file
        blocker = sqlite3.connect(self.path, isolation_level=None)
        self.patch(database, "LOCK_TIMEOUT", 0.0)
        self.ledger.close()
        blocker.execute("BEGIN IMMEDIATE")
        with self.assertRaises(sqlite3.OperationalError):
            self.ledger.enter([record(1)])
        blocker.execute("ROLLBACK")
        blocker.close()
        self.assertEqual(self.ledger.enter([record(1), record(2), record(3)]), 3)
        self.assertEqual(self.totals()[0]["attempts"], 3)

    def test_another_process_lets_go(self) -> None:
        """One that closes the file last, as it sees it, does not take the log from under those who have it open.

        The system's locks are a process's: to close any descriptor of the file would give them all up.
        """
        self.ledger.enter([record(1)])
        asked = self.open()
        self.assertEqual(len(asked.attempts({}, 0.0, 10)), 1)
        program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM days'); c.close()"
        subprocess.run([sys.executable, "-c", program, self.path], check=True)
        self.assertTrue(os.path.exists(self.path + "-wal"))
        self.ledger.enter([record(2)])
        self.assertEqual(len(asked.attempts({}, 0.0, 10)), 2)

    def test_taken_away(self) -> None:
        """Where its file is deleted or replaced it fails once, which is told, and goes on in what is there then."""
        self.ledger.enter([record(1)])
        asked = self.open()
        asked.attempts({}, 0.0, 10)
        for companion in ("", "-wal", "-shm"):
            os.unlink(self.path + companion)
        with self.assertRaises(sqlite3.OperationalError) as caught:
            self.ledger.enter([record(2)])
        self.assertIn("deleted", str(caught.exception))
        self.assertEqual(self.ledger.enter([record(2)]), 1)
        self.assertRaises(sqlite3.OperationalError, asked.attempts, {}, 0.0, 10)
        self.assertEqual([each["request_id"] for each in asked.attempts({}, 0.0, 10)], [record(2).request_id])

    def test_nobody_else_may_read(self) -> None:
        """It says who works on what."""
        self.ledger.enter([record(1)])
        for name in os.listdir(os.path.dirname(self.path)):
            mode = stat.S_IMODE(os.stat(os.path.join(os.path.dirname(self.path), name)).st_mode)
            self.assertEqual(mode, 0o600, name)

    def test_foreign(self) -> None:
        """Another program's database, and one of a later version, are left as they are."""
        os.makedirs(os.path.dirname(self.path))
        other = sqlite3.connect(self.path)
        other.execute("CREATE TABLE theirs (a)")
        other.commit()
        before = os.path.getsize(self.path)
        with self.assertRaises(ForeignLedger):
            self.ledger.enter([record(1)])
        self.assertEqual(os.path.getsize(self.path), before)
        other.execute("DROP TABLE theirs")
        other.execute(f"PRAGMA application_id = {database.APPLICATION}")
        other.execute(f"PRAGMA user_version = {database.VERSION + 1}")
        other.commit()
        other.close()
        with self.assertRaises(ForeignLedger):
            self.ledger.enter([record(1)])
