"""The ledger in an SQLite file. Blocks: runs in threads, entering in one and answering in another."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import starmap
from secrets import token_hex
from typing import TYPE_CHECKING

import msgspec
from zope.interface import implementer

from claudeproxyd.accounts.limits import Amounts, Asked
from claudeproxyd.accounts.rows import (
    FILTERS,
    GIVEN,
    QUARTER,
    Question,
    Series,
    answer_of,
    check_by,
    day_rows,
    first_id,
    row_of,
    series_of,
)
from claudeproxyd.accounts.schema import ATTEMPTS, BLOCK, FIGURES, SERIES, SQLITE, VERSION, tables
from claudeproxyd.config.ordinary import identity_of
from claudeproxyd.interfaces import ILedgerDatabase
from claudeproxyd.observe.usage import MESSAGES

if TYPE_CHECKING:
    from claudeproxyd.observe.usage import UsageRecord

APPLICATION = 0x6370786C
"""In the file's header, so that nobody else's database is taken for one: "cpxl"."""
LOCK_TIMEOUT = 5.0
"""Seconds that another process may hold the file."""
AT_ONCE = 500
"""Records of one transaction: others can write in between, and a question sees them soon."""
MAX_SERIES = 100_000
"""Series whose numbers are remembered."""

_INSERT = f"INSERT OR IGNORE INTO attempts ({', '.join(ATTEMPTS)}) VALUES ({', '.join('?' * len(ATTEMPTS))})"
_ADD = (
    f"INSERT INTO days (block, day, series, {', '.join(FIGURES)}) VALUES ({', '.join('?' * (3 + len(FIGURES)))})"
    " ON CONFLICT (block, series, day) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in FIGURES)
)
_IS_SERIES = " AND ".join(f"{name} = ?" for name in SERIES)
_NEW_SERIES = f"INSERT OR IGNORE INTO series ({', '.join(SERIES)}) VALUES ({', '.join('?' * len(SERIES))})"


TAKEN_AWAY = "its file was deleted, or another is in its place"


class ForeignLedger(Exception):
    """The file is another program's, or of a later version: it is left as it is."""


def open_database(path: str) -> sqlite3.Connection:
    """Open the accounts' database, and make what it lacks. Raises sqlite3.Error, OSError, :class:`ForeignLedger`."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    if not os.path.exists(path):
        _create(path)
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT, check_same_thread=False)
    try:
        with closing(connection.cursor()) as cursor:
            (application,) = cursor.execute("PRAGMA application_id").fetchone()
            (version,) = cursor.execute("PRAGMA user_version").fetchone()
            (count,) = cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if application != APPLICATION and (application or count):
                raise ForeignLedger(f"{path} is another program's database")
            if version > VERSION:
                raise ForeignLedger(f"{path} is of a later version ({version}; this one is {VERSION})")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
            if version < VERSION:
                cursor.execute("BEGIN IMMEDIATE")
                for statement in tables(SQLITE):
                    cursor.execute(statement)
                cursor.execute(f"PRAGMA application_id = {APPLICATION}")
                cursor.execute(f"PRAGMA user_version = {VERSION}")
                cursor.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: str) -> None:
    """Make an empty file for this user alone, where there is none.

    It is made under another name: to close a descriptor of a database would give up all locks that this process has on
    it, and another process could take its log away.
    """
    made = f"{path}.{token_hex(4)}"
    os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(made)


@implementer(ILedgerDatabase)
class LedgerFile:
    """One file. Each thread that uses it has one of these."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        """Of the file that is open."""
        self._series: dict[Series, int] = {}

    # -- entering

    def enter(self, records: Iterable[UsageRecord]) -> int:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`.

        Raises sqlite3.Error, OSError, and :class:`ForeignLedger`.
        """
        entered = 0
        batch: list[UsageRecord] = []
        for record in records:
            batch.append(record)
            if len(batch) == AT_ONCE:
                entered += self._enter(batch)
                batch = []
        return entered + self._enter(batch)

    def _enter(self, records: Sequence[UsageRecord]) -> int:
        connection = self._opened()
        try:
            with connection:
                numbered = self._numbered(connection, records)
                if connection.executemany(_INSERT, starmap(row_of, numbered)).rowcount != len(numbered):
                    connection.rollback()  # some are here already: one by one
                    self._series.clear()
                    numbered = [
                        each
                        for each in self._numbered(connection, records)
                        if connection.execute(_INSERT, row_of(*each)).rowcount
                    ]
                connection.executemany(_ADD, day_rows(numbered))
        except BaseException:
            self._series.clear()  # some of them may have been rolled back
            raise
        return len(numbered)

    def _numbered(
        self, connection: sqlite3.Connection, records: Iterable[UsageRecord]
    ) -> list[tuple[UsageRecord, int]]:
        """Return each record with its series."""
        return [(record, self._number(connection, record)) for record in records]

    def _number(self, connection: sqlite3.Connection, record: UsageRecord) -> int:
        key = series_of(record)
        number = self._series.get(key)
        if number is None:
            connection.execute(_NEW_SERIES, key)
            (number,) = connection.execute(f"SELECT id FROM series WHERE {_IS_SERIES}", key).fetchone()
            if len(self._series) >= MAX_SERIES:
                self._series.clear()
            self._series[key] = number
        return number

    def forget(self, before: float) -> int:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        deleted = 0
        while True:
            with self._opened() as connection:
                some = connection.execute(
                    "DELETE FROM attempts WHERE (request_id, attempt) IN"
                    " (SELECT request_id, attempt FROM attempts WHERE request_id < ? LIMIT ?)",
                    (first_id(before), AT_ONCE),
                ).rowcount
            deleted += some
            if some < AT_ONCE:
                return deleted

    # -- answering

    def totals(self, question: Question) -> list[dict[str, object]]:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        since, until = question.since, question.until
        labels = [f'$."{name.removeprefix("label.")}"' for name in question.by if name.startswith("label.")]
        values = (*labels, since // BLOCK, until // BLOCK, since, until)
        rows = self._opened().execute(_totals(question.by), values)
        return [answer_of(question.by, row) for row in rows if row[-1] is not None]

    def attempts(self, where: Mapping[str, str], after: float, limit: int) -> list[dict[str, object]]:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        names = [name for name in FILTERS if name in where]
        conditions = "".join(f" AND {name} = ?" for name in names)
        found = self._opened().execute(
            f"SELECT {', '.join(name for name in ATTEMPTS if name != 'series')}, {', '.join(SERIES)}"
            f" FROM attempts JOIN series ON series.id = attempts.series WHERE request_id >= ?{conditions}"
            " ORDER BY request_id DESC, attempt DESC LIMIT ?",
            (first_id(after), *(where[name] for name in names), limit),
        )
        columns = [column[0] for column in found.description]
        return [dict(zip(columns, row, strict=True)) for row in found]

    def label_names(self) -> list[str]:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        names = "SELECT DISTINCT label.key FROM series, json_each(series.labels) AS label ORDER BY 1"
        return [name for (name,) in self._opened().execute(names)]

    def used(self, since: float, until: float) -> Iterator[tuple[Asked, Amounts, float]]:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        rows = self._opened().execute(
            f"SELECT client, labels, model, provider, quarter * {QUARTER}, usd, given, made, requests FROM"
            f" (SELECT series, CAST(time / {QUARTER} AS INTEGER) AS quarter, sum(coalesce(nano_usd, 0)) AS usd,"
            f" sum({GIVEN}) AS given, sum(coalesce(output_tokens, 0)) AS made, sum(attempt = 1) AS requests"
            f" FROM attempts WHERE request_id >= ? AND time < ? AND operation = ? GROUP BY series, quarter) AS f"
            " JOIN series ON series.id = f.series ORDER BY quarter",
            (first_id(since), until, MESSAGES),
        )
        for client, labels, model, provider, quarter, usd, given, made, requests in rows:
            yield (
                Asked(client, msgspec.json.decode(labels, type=dict[str, str]), model, (provider,)),
                Amounts(usd, given, made, requests),
                min(quarter + QUARTER, until),
            )

    # -- the file

    def close(self) -> None:
        """Let go of it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._series.clear()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and identity_of(self.path) != self._identity:
            self.close()
            raise sqlite3.OperationalError(TAKEN_AWAY)
        if self._connection is None:
            self._connection = open_database(self.path)
            self._identity = identity_of(self.path)
        return self._connection


def _totals(by: Sequence[str]) -> str:
    """Return the statement that adds up days; its values are paths of labels, then blocks and days, first and last."""
    check_by(by)
    groups = [f"{_column(name)} AS g{place}" for place, name in enumerate(by)]
    sums = [f"sum({name}) AS {name}" for name in FIGURES]
    days = "days WHERE block BETWEEN ? AND ? AND day BETWEEN ? AND ?"
    if "day" not in by:  # few series, read in their order: they are named when they are added up
        days = f"(SELECT series, {', '.join(sums)} FROM {days} GROUP BY block, series)"
    elif by != ["day"]:
        days = f"(SELECT * FROM {days})"
    named = "" if by == ["day"] else " AS f JOIN series ON series.id = f.series"
    grouped = f" GROUP BY {', '.join(f'g{place}' for place in range(len(by)))}" if by else ""
    return f"SELECT {', '.join(groups + sums)} FROM {days}{named}{grouped} ORDER BY nano_usd DESC, input_tokens DESC, 1"


def _column(name: str) -> str:
    return "coalesce(json_extract(labels, ?), '')" if name.startswith("label.") else name
