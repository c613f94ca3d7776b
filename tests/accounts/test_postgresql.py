"""The ledger and keys in a real PostgreSQL: all that is asked of the SQLite file, and what only a server can do."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from threading import Barrier, Thread
from typing import Any

from hypothesis import given, settings
from zope.interface.verify import verifyObject

from claudeproxyd.accounts.key_file import KeyFile, NoSuchKey, Stored
from claudeproxyd.accounts.ledger_database import ForeignLedger
from claudeproxyd.accounts.rows import Question
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
