"""The ledger in a PostgreSQL database, which many daemons share. Blocks: runs in threads.

Its tables are those of the SQLite file, in a schema of their own, and so are its figures. Records come in by COPY into
a temporary table, and from there into the others, in one transaction: what is there already counts no more. Rows are
written in the order of their keys, so that daemons that write at once wait for each other and never in a circle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg

from claudeproxyd.accounts.ledger_database import ForeignLedger, LedgerDatabase, in_order, ranked
from claudeproxyd.accounts.rows import QUARTER, Series, day_rows, row_of
from claudeproxyd.accounts.schema import ATTEMPTS, BLOCK, FIGURES, SERIES, VERSION, SqlTypes, tables

if TYPE_CHECKING:
    from claudeproxyd.observe.usage import UsageRecord

SCHEMA = "claudeproxyd"
"""Of the tables. A DSN that says ``?options=-csearch_path%3DNAME`` has another."""
ENTERED_AT_ONCE = 200
"""Records that are entered in one transaction. What the driver makes of them it does in one go, without letting the
reactor have the interpreter in between: a thousand held it for 10 ms."""
FORGOTTEN_AT_ONCE = 5000
"""Records that are deleted in one transaction."""
CONNECTED: Mapping[str, str | int] = {
    "connect_timeout": 5,
    "application_name": "claudeproxyd",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""What the DSN may say otherwise: a server that is gone without a word is noticed within half a minute."""
LOCK_TIMEOUT = 5.0
"""Seconds that somebody else may hold a table."""

TYPES = SqlTypes(
    number="BIGINT",
    own_number="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    real="DOUBLE PRECISION",
    text='TEXT COLLATE "C"',
    blob="BYTEA",
    clustered="",
    once="",
)
_LOCK = 0x6370786C
"""Advisory, of whoever makes the tables."""
_KEY_OF_SERIES = " || ".join(f"md5({name})" for name in SERIES)
"""What each series has once. Their names themselves may be too long for an index."""
_ASKED_SERIES = " || ".join(["md5(%s)"] * len(SERIES))
_VERSION = "accounts_version"

_FIND_SERIES = f"SELECT id FROM series WHERE ({_KEY_OF_SERIES}) = ({_ASKED_SERIES})"
_NEW_SERIES = (
    f"INSERT INTO series ({', '.join(SERIES)}) VALUES ({', '.join(['%s'] * len(SERIES))}) ON CONFLICT DO NOTHING"
)
_STAGE = "CREATE TEMPORARY TABLE IF NOT EXISTS staged (LIKE attempts) ON COMMIT DELETE ROWS"
_COPY = f"COPY staged ({', '.join(ATTEMPTS)}) FROM STDIN"
_ENTER = (
    f"INSERT INTO attempts ({', '.join(ATTEMPTS)}) SELECT {', '.join(ATTEMPTS)} FROM staged"
    " ORDER BY request_id, attempt ON CONFLICT DO NOTHING RETURNING request_id, attempt"
)
_ADD = (
    f"INSERT INTO days (block, day, series, {', '.join(FIGURES)}) VALUES ({', '.join(['%s'] * (3 + len(FIGURES)))})"
    " ON CONFLICT (block, series, day) DO UPDATE SET "
    + ", ".join(f"{name} = days.{name} + excluded.{name}" for name in FIGURES)
)
_DAYS = "days WHERE block BETWEEN ? AND ? AND day BETWEEN ? AND ?"
_SUMS = ", ".join(f"sum({name})::bigint AS {name}" for name in FIGURES)
_LABEL = "coalesce(labels::jsonb ->> ?, '')" + ' COLLATE "C"'

Connection = psycopg.Connection[tuple[object, ...]]


def open_database(dsn: str, where: str, **more: str) -> Connection:
    """Connect, and make what the database lacks. Raises psycopg.Error, and ForeignLedger with *where* in it."""
    given = psycopg.conninfo.conninfo_to_dict(dsn)
    usual = {name: value for name, value in CONNECTED.items() if name not in given}
    whole = psycopg.conninfo.make_conninfo(dsn, **usual, **more)
    connection = psycopg.connect(whole, autocommit=True, prepare_threshold=None)
    try:
        connection.execute(f"SET lock_timeout = {int(LOCK_TIMEOUT * 1000)}")
        connection.execute("SET jit = off")  # to compile a statement takes longer than to answer it
        if "search_path" not in str(given.get("options", "")):
            connection.execute(f"SET search_path = {SCHEMA}")
        if _version(connection) < VERSION:
            _make_tables(connection)
        if (version := _version(connection)) > VERSION:
            raise ForeignLedger(f"{where} is of a later version ({version}; this one is {VERSION})")
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: Connection) -> int:
    """Return 0 where there are no tables yet."""
    if connection.execute(f"SELECT to_regclass('{_VERSION}')").fetchone() == (None,):
        return 0
    row = connection.execute(f"SELECT number FROM {_VERSION}").fetchone()
    return int(str(row[0])) if row else 0


def _make_tables(connection: Connection) -> None:
    """Once, however many daemons start at once."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if _version(connection) >= VERSION:
            return
        if connection.execute("SELECT current_schema()").fetchone() == (None,):
            connection.execute(f"CREATE SCHEMA {SCHEMA}")
        for statement in tables(TYPES):
            connection.execute(statement)
        connection.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS series_once ON series (({_KEY_OF_SERIES}))")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {_VERSION} (number BIGINT NOT NULL)")
        connection.execute(f"DELETE FROM {_VERSION}")
        connection.execute(f"INSERT INTO {_VERSION} VALUES (%s)", (VERSION,))


class PostgresLedger(LedgerDatabase):
    """One connection. What is done with it raises psycopg.Error and :class:`ForeignLedger`."""

    _quarter = f"floor(time / {QUARTER})::bigint"
    _label_names = 'SELECT DISTINCT jsonb_object_keys(labels::jsonb) COLLATE "C" AS name FROM series ORDER BY name'

    def __init__(self, where: str, connect: Callable[[], Connection]) -> None:
        """*where* it is, for people; *connect* opens it."""
        super().__init__(where)
        self._connect = connect
        self._connection: Connection | None = None

    @property
    def _entered_at_once(self) -> int:
        return ENTERED_AT_ONCE

    @property
    def _forgotten_at_once(self) -> int:
        return FORGOTTEN_AT_ONCE

    def _enter(self, records: Sequence[UsageRecord]) -> int:
        connection = self._opened()
        with connection.transaction():
            numbered = self._numbered([_storable(record) for record in records], partial(_number, connection))
            by_key: dict[tuple[object, ...], tuple[UsageRecord, int]] = {
                (record.request_id, record.attempt): (record, series) for record, series in reversed(numbered)
            }
            connection.execute(_STAGE)
            with connection.cursor() as cursor:
                with cursor.copy(_COPY) as copy:
                    for record, series in by_key.values():
                        copy.write_row(tuple(map(_value, row_of(record, series))))
                new = cursor.execute(_ENTER).fetchall()
                cursor.executemany(_ADD, sorted(day_rows(by_key[key] for key in new)))
        return len(new)

    def _forget(self, before: str) -> int:
        deleted = self._opened().execute(
            "DELETE FROM attempts WHERE (request_id, attempt) IN (SELECT request_id, attempt FROM attempts"
            " WHERE request_id < %s ORDER BY request_id, attempt LIMIT %s FOR UPDATE SKIP LOCKED)",
            (before, FORGOTTEN_AT_ONCE),
        )
        return deleted.rowcount

    def _ask(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Ask; once more where the connection turns out to have been lost before."""
        for last in (False, True):
            connection = self._opened()
            try:
                return connection.execute(statement.replace("?", "%s"), values).fetchall()
            except psycopg.OperationalError:
                if last or not connection.closed:
                    raise
        raise AssertionError

    def _text(self, value: str) -> str:
        return _text(value)

    def _label(self, name: str) -> str:
        return _text(name)

    def _column(self, name: str) -> str:
        return _LABEL if name.startswith("label.") else name

    def _totals(self, by: Sequence[str]) -> str:
        groups = [f"{self._column(name)} AS g{place}" for place, name in enumerate(by)]
        if "day" not in by:  # few series: they are named when they are added up
            days = f"(SELECT series, {_SUMS} FROM {_DAYS} GROUP BY series) AS f"
        else:
            days = f"(SELECT * FROM {_DAYS}) AS f"
        named = " JOIN series ON series.id = f.series" if list(by) not in ([], ["day"]) else ""
        grouped = f" GROUP BY {', '.join(f'g{place}' for place in range(len(by)))}" if by else ""
        return f"SELECT {', '.join([*groups, _SUMS])} FROM {days}{named}{grouped} ORDER BY {in_order(by)} LIMIT ?"

    def _first_of_many(self, by: Sequence[str]) -> str:
        names, columns, groups = ranked(by, self._column)
        # not materialized: the server knows how many series there are; OFFSET 0: and looks up the few rows in any case
        return (
            f"WITH named AS NOT MATERIALIZED (SELECT *, dense_rank() OVER (ORDER BY {names}) AS rank"
            f" FROM (SELECT id, {columns} FROM series) AS f),"
            f" first AS MATERIALIZED (SELECT rank, day, {_sum('nano_usd')} AS cost, {_sum('input_tokens')} AS given"
            f" FROM (SELECT * FROM {_DAYS}) AS f JOIN named ON named.id = f.series"
            " GROUP BY rank, day ORDER BY cost DESC, given DESC, rank, day LIMIT ?)"
            f" SELECT {groups}, {_SUMS} FROM first JOIN named USING (rank) CROSS JOIN LATERAL"
            f" (SELECT {', '.join(FIGURES)} FROM days WHERE block = first.day / {BLOCK} AND series = named.id"
            " AND day = first.day OFFSET 0) AS f"
            f" GROUP BY rank, first.day, {names} ORDER BY {in_order(by)}"
        )

    # -- the connection

    def close(self) -> None:
        """Let go of it."""
        super().close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self.close()
            self._connection = self._connect()
        return self._connection


def _number(connection: Connection, series: Series) -> int:
    """Return the number of a series, which is made where it is new."""
    found = connection.execute(_FIND_SERIES, series).fetchone()
    if found is None:
        connection.execute(_NEW_SERIES, series)
        found = connection.execute(_FIND_SERIES, series).fetchone()
    assert found is not None
    return int(str(found[0]))


def _sum(name: str) -> str:
    """Return the expression for the exact sum of figures below 2**62, in two halves; the server fails beyond that.

    What it keeps of a group are 32 bytes, and of ``sum`` of such figures, which is a numeric, 96: so very many groups
    have room in its ``work_mem``.
    """
    return f"sum(({name} >> 31)::integer) * 2147483648 + sum(({name} & 2147483647)::integer)"


def _text(value: str) -> str:
    """Return it as PostgreSQL takes it: its texts have no zero byte."""
    return value.replace("\0", "\ufffd")


def _storable(record: UsageRecord) -> UsageRecord:
    texts = {name: _text(value) for name in _TEXTS if "\0" in (value := getattr(record, name) or "")}
    labels = {_text(name): _text(value) for name, value in record.labels.items()}
    return msgspec.structs.replace(record, labels=labels, **texts) if texts or labels != record.labels else record


_TEXTS = (
    "request_id",
    "upstream_request_id",
    "client",
    "session",
    "model_asked",
    "model_served",
    "provider",
    "credential",
    "operation",
    "outcome",
    "stop_reason",
)


def _value(value: object) -> object:
    """A truth is a number in these tables."""
    return int(value) if isinstance(value, bool) else value


_BEGIN = {
    "BEGIN": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "BEGIN IMMEDIATE": "LOCK TABLE key_changes IN EXCLUSIVE MODE",
}
"""How a transaction goes on that SQLite begins so: one that sees a single time, and one that is alone in changing."""


class PostgresKeys:
    """A connection as :class:`~claudeproxyd.accounts.key_file.KeyFile` uses one. It is made again where it was lost."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection = connect()
        self._transaction: AbstractContextManager[object] | None = None

    def execute(self, statement: str, values: Sequence[object] = (), /) -> Iterable[Any]:
        """Return the rows."""
        cursor = self._opened().execute(_BEGIN.get(statement, statement.replace("?", "%s")), values)
        return cursor.fetchall() if cursor.description else ()

    def executemany(self, statement: str, values: Iterable[Sequence[object]], /) -> None:
        """Execute it for each of the values."""
        with self._opened().cursor() as cursor:
            cursor.executemany(statement.replace("?", "%s"), values)

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    def __enter__(self) -> PostgresKeys:
        transaction = self._opened().transaction()
        transaction.__enter__()
        self._transaction = transaction
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None:
        transaction, self._transaction = self._transaction, None
        assert transaction is not None
        return transaction.__exit__(kind, error, traceback)

    def _opened(self) -> Connection:
        if self._connection.closed and self._transaction is None:
            self._connection = self._connect()
        return self._connection
