"""The state file: an SQLite database of keys and values. Blocks; runs in a thread, one call at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import msgspec

from claudeproxyd.config.regular_files import identity_of
from claudeproxyd.config.state import APPLICATION
from claudeproxyd.pool.state import stale_at
from claudeproxyd.store.salvage import salvage

VERSION = 1
_FILE_IDS = [APPLICATION, VERSION]
#: Seconds that another process may hold the file before it counts as locked.
LOCK_TIMEOUT = 1.0
#: Seconds between two deletions of what is stale.
SWEEP_INTERVAL = 3600.0

_FILE_ERRORS = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value BLOB NOT NULL, stale_at REAL NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""
_ALL = (
    "SELECT key, value FROM state WHERE stale_at > ?"
    """ ORDER BY key LIKE '["affinity",%' OR key LIKE '["signature",%', stale_at"""
)
_PUT = (
    "INSERT INTO state VALUES (?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, stale_at = excluded.stale_at"
)


class Locked(Exception):
    """Another process holds the file; later it may not."""


class Foreign(Exception):
    """The file is another program's database: it is left as it is, and where it is."""


class Database:
    """One state file.

    A file that is damaged, or that we may not read, is set aside, and a fresh one takes its place, in which credentials
    that were disabled stay so, as far as that can be read.
    """

    def __init__(self, path: str, wall_clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._wall_clock = wall_clock
        self._connection: sqlite3.Connection | None = None
        self._swept = -inf
        self._disabled: tuple[str, ...] = ()
        """Keys from a file that was set aside, for the one that takes its place."""
        self.aside = ""
        """The file that was set aside last, and why; emptied by whoever logs it."""
        self.was_replaced = False
        """Another file, or none, was at its place: what was written is gone. Made false by whoever writes it again."""
        self._identity: tuple[int, int] | None = None
        """Of the file that is open."""

    def read(self) -> dict[str, object]:
        """Return everything that is not stale; first what keeps requests from credentials, then the longest unused.

        Raises :class:`Locked`, :class:`Foreign`, or OSError or sqlite3.Error where no file can be.
        """
        rows: list[tuple[str, bytes]] = self._with_recovery(
            lambda connection: connection.execute(_ALL, (self._wall_clock(),)).fetchall()
        )
        saved = {}
        for key, value in rows:
            with contextlib.suppress(ValueError):
                saved[key] = msgspec.json.decode(value)
        return saved

    def write(self, changes: Mapping[str, tuple[float, object]]) -> None:
        """Write and delete, all or nothing. *changes* have stamps; raises as :meth:`read` does."""
        puts = [
            (key, msgspec.json.encode(value), stale_at(value))
            for key, (_, value) in changes.items()
            if value is not None
        ]
        deletes = [(key,) for key, (_, value) in changes.items() if value is None]
        now = self._wall_clock()

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany(_PUT, puts)
                connection.executemany("DELETE FROM state WHERE key = ?", deletes)
                if now - self._swept > SWEEP_INTERVAL:
                    connection.execute("DELETE FROM state WHERE stale_at <= ?", (now,))
                    self._swept = now

        self._with_recovery(write)

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _with_recovery(self, work: Callable[[sqlite3.Connection], object]) -> Any:
        """Do *work*; if the file is at fault that it fails, with a fresh file. Raises as :meth:`read` does."""
        try:
            return self._do(work)
        except (sqlite3.Error, OSError) as error:
            self._set_aside(error)
            return self._do(work)

    def _do(self, work: Callable[[sqlite3.Connection], object]) -> object:
        try:
            if self._connection is not None and identity_of(self.path) != self._identity:
                self.was_replaced = True
                self.close()
            if self._connection is None:
                self._connection = self._open()
                self._identity = identity_of(self.path)
            return work(self._connection)
        except sqlite3.OperationalError as error:
            # Python's own, of texts that are no UTF-8, have no code.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise Locked("another process holds it") from error
            raise
        except UnicodeDecodeError as error:  # so it says of damage in the schema
            raise sqlite3.DatabaseError(f"it is damaged: {error}") from error

    def _open(self) -> sqlite3.Connection:
        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        # With mode 0600 from the start, which SQLite gives the -wal and -shm files as well.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=LOCK_TIMEOUT, isolation_level="IMMEDIATE", check_same_thread=False
        )
        try:
            empty = _one(connection, "SELECT count(*) FROM sqlite_master") == 0
            application = _one(connection, "PRAGMA application_id")
            if application != APPLICATION and (application or not empty):
                raise Foreign(f"{self.path} is another program's database")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if empty:
                connection.executescript(_SCHEMA)
                with connection:
                    connection.executemany(_PUT, [(key, b"true", inf) for key in self._disabled])
            if [_one(connection, f"PRAGMA {name}") for name in ("application_id", "user_version")] != _FILE_IDS:
                raise sqlite3.DatabaseError("it is no state file of this version")
            verdict = _one(connection, "PRAGMA quick_check(1)")
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, reason: Exception) -> None:
        """Rename the file, its -wal and -shm. Raises *reason* where another file would fail as well."""
        with contextlib.suppress(sqlite3.Error):
            self.close()
        if not _is_fault_of_file(reason) or not os.path.isfile(self.path):
            raise reason
        aside = time.strftime(f"{self.path}.%Y%m%dT%H%M%S", time.gmtime(self._wall_clock()))
        for companion in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path + companion, aside + companion)
        salvaged = salvage(aside)
        self._disabled = salvaged.keys if salvaged.sure else ()
        self.aside = f"{self.path} is now {aside}: {reason}{salvaged}"


def _one(connection: sqlite3.Connection, query: str) -> object:
    return connection.execute(query).fetchone()[0]


def _is_fault_of_file(reason: Exception) -> bool:
    """Return whether another file would not fail: with a full disk, or too many open files, it would."""
    if isinstance(reason, sqlite3.Error):
        return getattr(reason, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _FILE_ERRORS
    return isinstance(reason, PermissionError)
