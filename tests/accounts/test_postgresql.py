"""The ledger and keys in a real PostgreSQL: all that is asked of the SQLite file, and what only a server can do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from threading import Barrier, Thread
from typing import Any, cast

from hypothesis import given, settings
from zope.interface.verify import verifyObject

from claudeproxyd.accounts.database import LedgerFile
from claudeproxyd.accounts.key_file import KeyFile, NoSuchKey, Stored
from claudeproxyd.accounts.ledger_database import ForeignLedger
from claudeproxyd.accounts.prices import NANO
from claudeproxyd.accounts.rows import Question
from claudeproxyd.accounts.schema import BLOCK, FIGURES, SERIES
from claudeproxyd.interfaces import ILedgerDatabase
from tests.accounts import test_database, test_key_file
from tests.accounts.real_postgresql import MISSING, RealPostgres, server
from tests.accounts.support import DAY, NOON, record

if MISSING:
    skip = MISSING
elif find_spec("psycopg") is None:
    skip = "psycopg is not installed"
else:
    import psycopg

    from claudeproxyd.accounts import postgresql
    from claudeproxyd.accounts.postgresql import SCHEMA, PostgresKeys, PostgresLedger, open_database


def connect() -> Any:
    """As the daemon does."""
    return open_database(server().url, "postgresql:///tests")


def empty() -> RealPostgres:
    """Return a server on which nothing of ours is."""
    with psycopg.connect(server().url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    return server()


class _PostgresTestCase(test_database.LedgerTestCase):
    """Has a database with nothing in it."""

    def setUp(self) -> None:
        self.server = empty()
        self.ledger = self.open()

    def open(self) -> ILedgerDatabase:
        ledger = PostgresLedger("postgresql:///tests", connect)
        self.addCleanup(ledger.close)
        return ledger

    def begin_anew(self) -> None:
        empty()

    def at_once(self, number: int) -> None:
        self.patch(postgresql, "ENTERED_AT_ONCE", number)
        self.patch(postgresql, "FORGOTTEN_AT_ONCE", number)


class PostgresEnteringTests(_PostgresTestCase, test_database.EnteringTests):
    """What goes in, as into the file."""


class PostgresAskingTests(_PostgresTestCase, test_database.AskingTests):
    """What comes out, as of the file."""

    def setUp(self) -> None:
        self.server = empty()
        test_database.AskingTests.setUp(self)

    def test_as_the_file(self) -> None:
        """Groups and their order are those of the SQLite file, whatever the server sorts texts by."""
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS people")
            connection.execute("CREATE DATABASE people TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'")
        url = self.server.url.replace("/postgres?", "/people?")
        file = LedgerFile(os.path.join(self.mktemp(), "accounts.db"))
        shared = PostgresLedger("postgresql:///people", lambda: open_database(url, "postgresql:///people"))
        for ledger in (file, shared):
            self.addCleanup(ledger.close)
            ledger.enter(test_database.drawn_records())
        for by in test_database.GROUPINGS:
            for limit in (0, 3, 50):
                question = Question(DAY, DAY + 4, by, limit)
                self.assertEqual(shared.totals(question), file.totals(question), question)


class PostgresMonthTests(_PostgresTestCase, test_database.MonthTests):
    """A month of 200 people is told as soon as of the file; by what the server says that it does, not by its time."""

    def setUp(self) -> None:
        self.server = empty()
        test_database.MonthTests.setUp(self)

    def fill(self, figures: list[int]) -> None:
        with closing(connect()) as connection:
            insert = f"INSERT INTO series ({', '.join(SERIES)}) VALUES ({', '.join(['%s'] * len(SERIES))})"
            connection.cursor().executemany(insert, self.OF_SERIES)
            connection.execute(
                f"INSERT INTO days (block, series, day, {', '.join(FIGURES)})"
                f" SELECT day / {BLOCK}, id, day{', %s + id * 7919 + day' * len(FIGURES)} FROM series,"
                " generate_series(%s::bigint, %s::bigint) AS day",
                (*figures, DAY, DAY + self.DAYS - 1),
            )
            connection.execute("ANALYZE")

    def check_effort(self, question: Question) -> None:
        """All rows are read once, and the first groups' again, nothing is written to a disk, or compiled."""
        plans = list(self.plans(question))
        self.assertFalse([plan for plan in plans if "JIT" in plan], question)
        nodes = [node for plan in plans for node in _nodes(plan["Plan"])]
        self.assertFalse([node for node in nodes if node.get("Temp Written Blocks")], question)
        rows = len(self.OF_SERIES) * self.DAYS
        read = sum(node["Actual Rows"] * node["Actual Loops"] for node in nodes if node.get("Relation Name") == "days")
        self.assertLess(read, rows * 1.3, question)

    def test_how_many(self) -> None:
        """However many are wanted: compiling the statement is not worth it, nor are half of the rows read again."""
        for by, limit in ((["client", "model", "day"], 4000), (["label.team", "day"], 200)):
            self.check_effort(Question(DAY, DAY + self.DAYS - 1, by, limit))

    def plans(self, question: Question) -> Iterator[dict[str, Any]]:
        """What was done for each of its statements, as the server tells."""
        ledger = PostgresLedger("postgresql:///tests", connect)
        self.addCleanup(ledger.close)
        asked: list[tuple[str, Sequence[object]]] = []
        ask = ledger._ask

        def note(statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
            asked.append((statement, values))
            return ask(statement, values)

        self.patch(ledger, "_ask", note)
        ledger.totals(question)
        for statement, values in asked:
            ((plans,),) = ask(f"EXPLAIN (ANALYZE, BUFFERS, VERBOSE, FORMAT JSON) {statement}", values)
            yield from cast(list[dict[str, Any]], plans)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)


class PostgresServerTests(_PostgresTestCase):
    """The database itself."""

    def test_interface(self) -> None:
        """It is one."""
        verifyObject(ILedgerDatabase, self.ledger)

    @settings(max_examples=10, deadline=None)
    @given(test_database.DRAWN)
    def test_equals_a_count(self, drawn: list[tuple[int, int, str, bool]]) -> None:
        """See there."""
        self.check_count(drawn)

    def test_at_once(self) -> None:
        """Daemons that start at once make the tables once, and enter the same records once."""
        barrier = Barrier(6)
        entered: list[object] = []

        def work(ledger: ILedgerDatabase) -> None:
            barrier.wait()
            try:
                entered.append(ledger.enter(record(number, client=f"c{number % 7}") for number in range(500)))
            except Exception as error:
                entered.append(error)

        threads = [Thread(target=work, args=(self.open(),)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(each for each in entered if isinstance(each, int)), 500, entered)
        self.assertEqual(len([each for each in entered if isinstance(each, int)]), 6, entered)
        self.assertEqual(self.totals()[0]["attempts"], 500)

    def test_strange_words(self) -> None:
        """Zero bytes, which PostgreSQL has none of, and words that are too long for an index, hold nothing up."""
        long = "".join(f"{number:x}" for number in range(20_000))
        self.ledger.enter([record(1, model_asked="a\0b", labels={"team": "x\0", "long": long}, session="\0")])
        (row,) = self.totals("model", "label.team", "label.long")
        self.assertEqual((row["model"], row["label.team"], row["label.long"]), ("a\ufffdb", "x\ufffd", long))
        self.assertEqual(len(self.ledger.attempts({"session": "\0"}, 0.0, 10)), 1)
        (row,) = self.totals("label.te\0am")
        self.assertEqual(row["label.te\0am"], "")

    def test_killed(self) -> None:
        """A server that was killed and is back: nothing is lost, nothing counts twice, and a question is just asked."""
        asked = self.open()
        self.ledger.enter([record(number) for number in range(3)])
        self.assertEqual(len(asked.attempts({}, 0.0, 10)), 3)
        self.server.kill()
        try:
            with self.assertRaises(psycopg.OperationalError):
                self.ledger.enter([record(number) for number in range(2, 5)])
            with self.assertRaises(psycopg.OperationalError):
                asked.totals(Question(0, DAY, []))
        finally:
            self.server.start()
        self.assertEqual(self.ledger.enter([record(number) for number in range(2, 5)]), 2)
        self.assertEqual(asked.totals(Question(0, DAY, []))[0]["attempts"], 5)

    def test_large_sums(self) -> None:
        """They are exact as long as they fit, and then there is no answer rather than a wrong one."""
        questions = [Question(0, DAY, by, limit) for by in (["day"], ["model", "day"]) for limit in (0, 1)]
        self.ledger.enter(record(number, client=f"c{number}", nano_usd=2**62 - 1) for number in range(2))
        for question in questions:
            self.assertEqual([row["usd"] for row in self.open().totals(question)], [(2**63 - 2) / NANO], question)
        self.ledger.enter([record(2, client="c2", nano_usd=2)])
        for question in questions:
            self.assertRaises(psycopg.errors.NumericValueOutOfRange, self.open().totals, question)

    def test_connection_lost(self) -> None:
        """A question finds its connection gone, and asks over another."""
        asked = self.open()
        self.assertEqual(asked.attempts({}, 0.0, 10), [])
        with psycopg.connect(self.server.url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'claudeproxyd'"
            )
        self.assertEqual(asked.attempts({}, 0.0, 10), [])

    def test_later_version(self) -> None:
        """Is left as it is."""
        self.ledger.enter([record(1)])
        with psycopg.connect(self.server.url, autocommit=True) as other:
            other.execute(f"UPDATE {SCHEMA}.accounts_version SET number = 99")
        self.assertRaises(ForeignLedger, self.open().enter, [record(2)])

    def test_used(self) -> None:
        """What limits begin with is told by the quarter."""
        self.ledger.enter([record(number * 60) for number in range(30)])
        used = list(self.ledger.used(NOON, NOON + 100_000))
        self.assertEqual([(amounts.requests, amounts.input_tokens, at) for _, amounts, at in used], [
            (15, 1200, NOON + 900), (15, 1200, NOON + 1800),
        ])  # fmt: skip
        self.assertEqual(used[0][0].labels, {"team": "ads"})


class PostgresKeysTests(test_key_file.KeyFileTests):
    """Keys, as in the file."""

    def setUp(self) -> None:
        empty()
        self.taken = psycopg.errors.UniqueViolation
        self.file, self.other = self.open(), self.open()

    def open(self) -> KeyFile:
        file = KeyFile("postgresql:///tests", partial(PostgresKeys, connect))
        self.addCleanup(file.close)
        return file

    def open_ledger(self) -> ILedgerDatabase:
        ledger = PostgresLedger("postgresql:///tests", connect)
        self.addCleanup(ledger.close)
        return ledger

    def test_away(self) -> None:
        """What is known is no change while the server is away, and it is read again when it is back."""
        self.file.add(test_key_file.ANN, b"1", None, NOON)
        server().kill()
        try:
            self.assertRaises(psycopg.OperationalError, self.other.read, None)
            self.assertRaises(psycopg.OperationalError, self.file.revoke, "ann", NOON)
        finally:
            server().start()
        self.assertEqual(list(self.read().keys), ["ann"])
        self.file.revoke("ann", NOON)
        self.assertEqual(self.read().live, {})

    def test_changes_at_once(self) -> None:
        """Of many who revoke one key at once one has done so, and each change is counted."""
        self.file.add(test_key_file.ANN, b"1", None, NOON)
        outcomes: list[object] = []

        def revoke(file: KeyFile) -> None:
            try:
                outcomes.append(file.revoke("ann", NOON))
            except Exception as error:
                outcomes.append(error)

        threads = [Thread(target=partial(revoke, self.open())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(isinstance(each, Stored) for each in outcomes), 1)
        self.assertEqual(sum(isinstance(each, NoSuchKey) for each in outcomes), 3)
