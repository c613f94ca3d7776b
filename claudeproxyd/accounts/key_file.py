"""Keys in the accounts' database. Blocks: runs in a thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from sqlite3 import OperationalError
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from claudeproxyd.accounts.database import TAKEN_AWAY, open_database
from claudeproxyd.config.regular_files import identity_of
from claudeproxyd.principals import DIGEST_CHARS, Principal

if TYPE_CHECKING:
    from sqlite3 import Connection

    from claudeproxyd.accounts.postgresql import PostgresKeys

    KeyConnection = Connection | PostgresKeys
    """In either a transaction is a ``with``."""

_encode = msgspec.json.Encoder(order="sorted").encode


class NameTaken(Exception):
    """There is a key of that name."""


class NoSuchKey(Exception):
    """There is no key of that name, or it was revoked."""


@dataclass(frozen=True)
class StoredDigest:
    """One of a key's secrets."""

    digest: bytes
    """Its SHA-256."""
    created: float
    expires: float | None
    """When another has taken its place for good; None: as its key."""
    last_used: float | None

    @property
    def shown(self) -> str:
        """What operators see of it."""
        return self.digest.hex()[:DIGEST_CHARS]


@dataclass(frozen=True)
class StoredKey:
    """A key as it is in the database. Times are seconds since the epoch."""

    principal: Principal
    """Whoever holds it."""
    created: float
    expires: float | None
    """None: never."""
    revoked: float | None
    digests: tuple[StoredDigest, ...]
    """The newest first; none once it is revoked."""

    @property
    def shown_digests(self) -> list[str]:
        """What operators see of its secrets."""
        return [each.shown for each in self.digests]

    def is_over(self, now: float) -> bool:
        """Whether it was revoked, or has expired."""
        return self.revoked is not None or (self.expires is not None and self.expires <= now)


Judge = Callable[[StoredKey], None]
"""Asked within a change whether whoever wants it may have it, by the key as it is then; raises what it likes."""


def nobody_objects(key: StoredKey) -> None:
    """Let every change be."""


class LiveSecret(NamedTuple):
    """A secret that lets in, until it expires."""

    digest: bytes
    principal: Principal
    expires: float


@dataclass(frozen=True)
class Stored:
    """All keys as they were at one time."""

    change: int
    """It is another one after each change."""
    keys: Mapping[str, StoredKey]
    live: Mapping[bytes, LiveSecret]
    """By digest; made here, since of many keys it takes longer than the reactor has."""


NOTHING = Stored(-1, {}, {})
"""Of a database that is not there."""


class KeyFile:
    """The keys of one file, or of another database. What changes them raises that one's errors as well."""

    def __init__(self, path: str, connect: Callable[[], KeyConnection] | None = None) -> None:
        """*connect* opens another database than the file at *path*."""
        self._path = path
        self._connect = connect
        self._connection: KeyConnection | None = None
        self._identity: tuple[int, int] | None = None
        """Of the file that is open."""

    def read(self, known: int | None) -> Stored | None:
        """Return all keys; None where the *known* change is still the last.

        Where there is no file there are no keys, unless some are known: then it is away, which raises as well.
        """
        if self._connection is None and self._connect is None and known in (None, NOTHING.change):
            try:
                os.stat(self._path)
            except FileNotFoundError:
                return None if known is not None else NOTHING
        try:
            ((change,),) = self._opened(must_exist=True).execute("SELECT number FROM key_changes")
            return None if change == known else self._snapshot()
        except Exception:
            self.close()  # it may be put right, or be another file
            raise

    def add(
        self,
        principal: Principal,
        digest: bytes,
        expires: float | None,
        now: float,
        judge: Judge = nobody_objects,
    ) -> Stored:
        """Add a key for somebody. Raises :class:`NameTaken`; the name of a key that is over is free.

        *judge* is asked of that one.
        """
        name = principal.name
        with self._changing() as connection:
            before = self._all(connection).keys.get(name)
            if before is not None and not before.is_over(now):
                raise NameTaken(name)
            if before is not None:
                judge(before)
            labels, models = _encode(principal.labels).decode(), _encode(principal.models).decode()
            connection.execute("DELETE FROM key_digests WHERE name = ?", (name,))
            connection.execute(
                "INSERT INTO keys (name, labels, models, max_concurrency, created, expires) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET labels = excluded.labels, models = excluded.models,"
                " max_concurrency = excluded.max_concurrency, created = excluded.created, expires = excluded.expires,"
                " revoked = NULL",
                (name, labels, models, principal.max_concurrency, now, expires),
            )
            self._add_digest(connection, name, digest, now)
        return self._snapshot()

    def rotate(self, name: str, digest: bytes, until: float, now: float, judge: Judge = nobody_objects) -> Stored:
        """Give a key another secret; those before hold *until* then, or as long as they did. Raises NoSuchKey."""
        with self._changing() as connection:
            judge(self._known(connection, name, now))
            connection.execute(
                "UPDATE key_digests SET expires = CASE WHEN expires < ? THEN expires ELSE ? END WHERE name = ?",
                (until, until, name),
            )
            connection.execute("DELETE FROM key_digests WHERE name = ? AND expires <= ?", (name, now))
            self._add_digest(connection, name, digest, now)
        return self._snapshot()

    def revoke(self, name: str, now: float, judge: Judge = nobody_objects) -> Stored:
        """End a key: its secrets are gone, that it was there is not. Raises NoSuchKey."""
        with self._changing() as connection:
            judge(self._known(connection, name, None))
            connection.execute("UPDATE keys SET revoked = ? WHERE name = ?", (now, name))
            connection.execute("DELETE FROM key_digests WHERE name = ?", (name,))
        return self._snapshot()

    def used(self, digests: Collection[bytes], now: float) -> None:
        """Note that these were used lately. This is no change that others would have to know of."""
        with self._opened() as connection:
            connection.executemany(
                "UPDATE key_digests SET last_used = ? WHERE digest = ?", [(now, digest) for digest in digests]
            )

    def close(self) -> None:
        """Let go of it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _changing(self) -> Iterator[KeyConnection]:
        """One change, which is on the disk when it is done: what was revoked stays so after a loss of power."""
        connection = self._opened()
        if self._connect is None and identity_of(self._path) != self._identity:
            raise OperationalError(TAKEN_AWAY)  # a restart would know nothing of the change
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("UPDATE key_changes SET number = number + 1")

    def _known(self, connection: KeyConnection, name: str, now: float | None) -> StoredKey:
        """Return a key. Raises NoSuchKey for one that is gone, and with *now* for one that has expired as well."""
        key = self._all(connection).keys.get(name)
        if key is None or key.revoked is not None or (now is not None and key.is_over(now)):
            raise NoSuchKey(name)
        return key

    @staticmethod
    def _add_digest(connection: KeyConnection, name: str, digest: bytes, now: float) -> None:
        connection.execute("INSERT INTO key_digests (digest, name, created) VALUES (?, ?, ?)", (digest, name, now))

    def _snapshot(self) -> Stored:
        connection = self._opened()
        with connection:
            connection.execute("BEGIN")  # all of one time
            return self._all(connection)

    @staticmethod
    def _all(connection: KeyConnection) -> Stored:
        ((change,),) = connection.execute("SELECT number FROM key_changes")
        digests: dict[str, list[StoredDigest]] = {}
        for name, *rest in connection.execute(
            "SELECT name, digest, created, expires, last_used FROM key_digests"
            " ORDER BY expires IS NOT NULL, created DESC"
        ):
            digests.setdefault(name, []).append(StoredDigest(*rest))
        keys = {}
        for name, labels, models, max_concurrency, created, expires, revoked in connection.execute(
            "SELECT name, labels, models, max_concurrency, created, expires, revoked FROM keys ORDER BY name"
        ):
            principal = Principal(
                name,
                msgspec.json.decode(labels, type=dict[str, str]),
                msgspec.json.decode(models, type=tuple[str, ...]),
                max_concurrency,
            )
            keys[name] = StoredKey(principal, created, expires, revoked, tuple(digests.get(name, ())))
        return Stored(change, keys, {each.digest: each for each in _live(keys.values())})

    def _opened(self, *, must_exist: bool = False) -> KeyConnection:
        if self._connection is None and self._connect is not None:
            self._connection = self._connect()
        if self._connection is None:
            if must_exist:
                os.stat(self._path)
            connection = open_database(self._path)
            connection.execute("PRAGMA synchronous = FULL")
            self._connection = connection
            self._identity = identity_of(self._path)
        return self._connection


def _live(keys: Iterable[StoredKey]) -> Iterator[LiveSecret]:
    for key in keys:
        for each in () if key.revoked is not None else key.digests:
            ends = [end for end in (key.expires, each.expires) if end is not None]
            yield LiveSecret(each.digest, key.principal, min(ends, default=inf))
