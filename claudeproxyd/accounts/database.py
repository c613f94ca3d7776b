"""The ledger in an SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from itertools import starmap
from secrets import token_hex
from typing import TYPE_CHECKING

from claudeproxyd.accounts.ledger_database import ForeignLedger, LedgerDatabase, in_order, ranked
from claudeproxyd.accounts.rows import QUARTER, Series, day_rows, row_of
from claudeproxyd.accounts.schema import ATTEMPTS, BLOCK, FIGURES, SERIES, SQLITE, VERSION, tables
from claudeproxyd.config.regular_files import identity_of

if TYPE_CHECKING:
    from claudeproxyd.observe.usage import UsageRecord

APPLICATION = 0x6370786C
"""In the file's header, so that nobody else's database is taken for one: "cpxl"."""
LOCK_TIMEOUT = 5.0
"""Seconds that another process may hold the file."""
AT_ONCE = 500
"""Records that one transaction enters or deletes."""

_INSERT = f"INSERT OR IGNORE INTO attempts ({', '.join(ATTEMPTS)}) VALUES ({', '.join('?' * len(ATTEMPTS))})"
_ADD = (
    f"INSERT INTO days (block, day, series, {', '.join(FIGURES)}) VALUES ({', '.join('?' * (3 + len(FIGURES)))})"
    " ON CONFLICT (block, series, day) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in FIGURES)
)
_DAYS = "days WHERE block BETWEEN ? AND ? AND day BETWEEN ? AND ?"
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in FIGURES)
_IS_SERIES = " AND ".join(f"{name} = ?" for name in SERIES)
_NEW_SERIES = f"INSERT OR IGNORE INTO series ({', '.join(SERIES)}) VALUES ({', '.join('?' * len(SERIES))})"


TAKEN_AWAY = "its file was deleted, or another is in its place"
"""Why nothing is written into a file that is open: nobody would find it again."""


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


class LedgerFile(LedgerDatabase):
    """One file. What is done with it raises sqlite3.Error, OSError, and :class:`ForeignLedger`."""

    _quarter = f"CAST(time / {QUARTER} AS INTEGER)"
    _label_names = "SELECT DISTINCT label.key FROM series, json_each(series.labels) AS label ORDER BY 1"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        """Of the file that is open."""

    @property
    def _entered_at_once(self) -> int:
        return AT_ONCE

    @property
    def _forgotten_at_once(self) -> int:
        return AT_ONCE

    def _enter(self, records: Sequence[UsageRecord]) -> int:
        with self._opened() as connection:
            number = partial(_number, connection)
            numbered = self._numbered(records, number)
            if connection.executemany(_INSERT, starmap(row_of, numbered)).rowcount != len(numbered):
                connection.rollback()  # some are here already: one by one
                self._series.clear()
                numbered = [
                    each
                    for each in self._numbered(records, number)
                    if connection.execute(_INSERT, row_of(*each)).rowcount
                ]
            connection.executemany(_ADD, day_rows(numbered))
        return len(numbered)

    def _forget(self, before: str) -> int:
        with self._opened() as connection:
            return connection.execute(
                "DELETE FROM attempts WHERE (request_id, attempt) IN"
                " (SELECT request_id, attempt FROM attempts WHERE request_id < ? LIMIT ?)",
                (before, AT_ONCE),
            ).rowcount

    def _ask(self, statement: str, values: Sequence[object] = ()) -> Iterable[tuple[object, ...]]:
        return self._opened().execute(statement, values)

    def _label(self, name: str) -> str:
        return f'$."{name}"'

    def _column(self, name: str) -> str:
        return "coalesce(json_extract(labels, ?), '')" if name.startswith("label.") else name

    def _totals(self, by: Sequence[str]) -> str:
        groups = [f"{self._column(name)} AS g{place}" for place, name in enumerate(by)]
        days = _DAYS
        if "day" not in by:  # few series, read in their order: they are named when they are added up
            days = f"(SELECT series, {_SUMS} FROM {days} GROUP BY block, series)"
        elif by != ["day"]:
            days = f"(SELECT * FROM {days})"
        named = "" if by == ["day"] else " AS f JOIN series ON series.id = f.series"
        grouped = f" GROUP BY {', '.join(f'g{place}' for place in range(len(by)))}" if by else ""
        return f"SELECT {', '.join([*groups, _SUMS])} FROM {days}{named}{grouped} ORDER BY {in_order(by)} LIMIT ?"

    def _first_of_many(self, by: Sequence[str]) -> str:
        names, columns, groups = ranked(by, self._column)
        return (
            f"WITH named AS MATERIALIZED (SELECT *, dense_rank() OVER (ORDER BY {names}) AS rank"
            f" FROM (SELECT id, {columns} FROM series)),"
            " first AS MATERIALIZED (SELECT rank, day, sum(nano_usd) AS cost, sum(input_tokens) AS given"
            f" FROM {_DAYS.replace('days WHERE', 'days JOIN named ON named.id = days.series WHERE')}"
            " GROUP BY rank, day ORDER BY cost DESC, given DESC, rank, day LIMIT ?)"
            f" SELECT {groups}, {_SUMS} FROM first CROSS JOIN named USING (rank) CROSS JOIN days"
            f" ON days.block = first.day / {BLOCK} AND days.series = named.id AND days.day = first.day"
            f" GROUP BY rank, first.day ORDER BY {in_order(by)}"
        )

    def close(self) -> None:
        """Let go of it."""
        super().close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and identity_of(self.path) != self._identity:
            self.close()
            raise sqlite3.OperationalError(TAKEN_AWAY)
        if self._connection is None:
            self._connection = open_database(self.path)
            self._identity = identity_of(self.path)
        return self._connection


def _number(connection: sqlite3.Connection, series: Series) -> int:
    """Return the number of a series, which is made where it is new."""
    connection.execute(_NEW_SERIES, series)
    (number,) = connection.execute(f"SELECT id FROM series WHERE {_IS_SERIES}", series).fetchone()
    return int(number)
