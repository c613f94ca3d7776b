"""Keys that operators mint at run time, held in memory: no request waits for the database.

It is asked twice a second, in a thread, whether another daemon that shares it has changed a key. While it is away, the
keys that are known stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from claudeproxyd.accounts.key_file import Judge, KeyFile, LiveSecret, Stored, StoredKey, nobody_objects
from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError
from claudeproxyd.principals import Principal

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from claudeproxyd.accounts.key_file import KeyConnection
    from claudeproxyd.threads import InThread

POLL_INTERVAL = 0.5
"""Seconds between two looks at what other daemons did."""
NOTE_INTERVAL = 60.0
"""Seconds between two notes of which keys were used."""
SETTLE_TIMEOUT = 5.0
"""Seconds that the daemon may be unready for the sake of the first look: the keys of the configuration need none."""
PREFIX = "cpxd-"
"""How every minted key begins: what looks like one is masked wherever it might be written."""
SECRET_BYTES = 24


class Minted(NamedTuple):
    """A key with its secret, which nobody can tell again."""

    secret: str
    key: StoredKey


class RuntimeKeys(Service):
    """The keys of the accounts' database. One for the daemon; it outlives reloads."""

    _log = Logger()

    def __init__(
        self,
        path: str,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        in_thread: InThread,
        connect: Callable[[], KeyConnection] | None = None,
    ) -> None:
        """*path* is the database's; *in_thread* runs one function after the other. See :class:`KeyFile`."""
        self._path = path
        self._clock = clock
        self._wall_clock = wall_clock
        self._in_thread = in_thread
        self._file = KeyFile(path, connect)
        self._stored: Stored | None = None
        self._was_minted = False
        """For good: what becomes of the database opens nothing."""
        self._configured: Mapping[str, Principal] = {}
        self.is_open = False
        """Anybody may call, and no key is to be minted."""
        self._used: set[bytes] = set()
        self._reading = False
        self._failing = False
        self._answered = False
        self._patience = 0.0
        self.announce: Callable[[], Deferred[None]] | None = None
        """Has other processes of this daemon read what was changed, before anybody is told that it was."""
        self._polling, self._noting = LoopingCall(self._poll), LoopingCall(self._note_used)
        self._polling.clock = self._noting.clock = clock

    def startService(self) -> None:
        """Read the keys, and look at the database now and then."""
        super().startService()
        self._patience = self._clock.seconds() + SETTLE_TIMEOUT
        self._polling.start(POLL_INTERVAL)
        self._noting.start(NOTE_INTERVAL)

    def stopService(self) -> Deferred[None]:
        """Note what was used, and let go of the database."""
        super().stopService()
        for timer in (self._polling, self._noting):
            if timer.running:
                timer.stop()
        self._note_used()
        return self._in_thread(self._file.close)

    # -- who calls

    @property
    def settled(self) -> bool:
        """Whether the database was asked once, whatever came of it, or a disk has hung for long enough."""
        return self._answered or (bool(self.running) and self._clock.seconds() >= self._patience)

    @property
    def known(self) -> bool:
        """Whether the database was read: before that nobody can be told that there is no such key."""
        return self._stored is not None

    @property
    def never_minted(self) -> bool:
        """Whether it is known that there never was a key."""
        return self._stored is not None and not self._was_minted

    def configure(self, clients: Iterable[Principal], *, is_open: bool) -> None:
        """Give way to the configuration's clients: a key of one of their names lets nobody in."""
        self._configured = {client.name: client for client in clients}
        self.is_open = is_open

    def is_configured(self, name: str) -> bool:
        """Whether a client of the configuration has that name."""
        return name in self._configured

    def is_live(self, name: str) -> bool:
        """Whether there is a key of that name that is neither revoked nor expired."""
        key = self.get(name)
        return key is not None and not key.is_over(self._wall_clock())

    def principal(self, digest: bytes) -> Principal | None:
        """Return whom the key of that SHA-256 belongs to; None where there is no such key, or not any more."""
        live = self._find(digest)
        if live is None or self._wall_clock() >= live.expires:
            return None
        self._used.add(digest)
        return live.principal

    def expired(self, digest: bytes) -> ClaudeError | None:
        """Return the refusal of a key that was good until it expired, if it is one."""
        live = self._find(digest)
        if live is None or self._wall_clock() < live.expires:
            return None
        when = datetime.fromtimestamp(live.expires, UTC)
        return ClaudeError(
            401,
            f"This key expired on {when:%Y-%m-%d at %H:%M UTC}: ask whoever runs the gateway for another",
            headers=[DO_NOT_RETRY],
            logged=f"expired key of {live.principal.name}",
        )

    def _find(self, digest: bytes) -> LiveSecret | None:
        live = None if self._stored is None else self._stored.live.get(digest)
        if live is None or not compare_digest(live.digest, digest) or live.principal.name in self._configured:
            return None
        return live

    # -- what operators do

    def mint(
        self, principal: Principal, expires_in: float | None = None, judge: Judge = nobody_objects
    ) -> Deferred[Minted]:
        """Add a key for so many seconds, or for good. Fails with ``NameTaken``, or as *judge* and the database do.

        *judge* is asked, in a thread, of a key that is over and had the name before.
        """

        def add(digest: bytes, now: float) -> Stored:
            return self._file.add(principal, digest, None if expires_in is None else now + expires_in, now, judge)

        return self._with_secret(principal.name, add)

    def rotate(self, name: str, overlap: float, judge: Judge = nobody_objects) -> Deferred[Minted]:
        """Give a key another secret, beside the one before for *overlap* seconds. Fails with ``NoSuchKey``.

        *judge* is asked of the key, in a thread; so it is in :meth:`revoke`.
        """
        return self._with_secret(name, lambda digest, now: self._file.rotate(name, digest, now + overlap, now, judge))

    def revoke(self, name: str, judge: Judge = nobody_objects) -> Deferred[None]:
        """End a key: at once here, and within a second in daemons that share the database. Fails with ``NoSuchKey``."""
        return self._changed(lambda: self._file.revoke(name, self._wall_clock(), judge)).addCallback(lambda _: None)

    def get(self, name: str) -> StoredKey | None:
        """Return a key as it was last read, also one that is over."""
        return None if self._stored is None else self._stored.keys.get(name)

    def entries(self, seen: Callable[[Mapping[str, str]], bool] | None = None) -> Iterator[dict[str, object]]:
        """Yield what may be told of each key: of those of the configuration, then by name of those that were minted.

        *seen*: of those alone with whose labels it is content.
        """
        for client in self._configured.values():
            if seen is None or seen(client.labels):
                yield {"source": "file", "state": "active", **_terms(client)}
        now = self._wall_clock()
        for key in () if self._stored is None else self._stored.keys.values():
            if seen is None or seen(key.principal.labels):
                yield self._entry(key, now)

    def _entry(self, key: StoredKey, now: float) -> dict[str, object]:
        used = [now if each.digest in self._used else each.last_used for each in key.digests]
        return {
            "source": "minted",
            **described(key),
            "state": self._state(key, now),
            "revoked": key.revoked,
            "last_used": max(filter(None, used), default=None),
            "secrets": [
                {
                    "digest": each.shown,
                    "created": each.created,
                    "expires": each.expires,
                    "last_used": last_used,
                }
                for each, last_used in zip(key.digests, used, strict=True)
                if each.expires is None or each.expires > now
            ],
        }

    def _state(self, key: StoredKey, now: float) -> str:
        if key.is_over(now):
            return "expired" if key.revoked is None else "revoked"
        return "shadowed" if key.principal.name in self._configured else "active"

    # -- the database

    def _with_secret(self, name: str, work: Callable[[bytes, float], Stored]) -> Deferred[Minted]:
        secret = PREFIX + token_hex(SECRET_BYTES)
        digest, now = sha256(secret.encode()).digest(), self._wall_clock()
        return self._changed(lambda: work(digest, now)).addCallback(lambda stored: Minted(secret, stored.keys[name]))

    def _changed(self, work: Callable[[], Stored]) -> Deferred[Stored]:
        def take(stored: Stored) -> Stored:
            self._take(stored)
            return stored

        changed = self._in_thread(work).addCallback(take)
        return changed if self.announce is None else changed.addCallback(self._announced, self.announce)

    @staticmethod
    def _announced(stored: Stored, announce: Callable[[], Deferred[None]]) -> Deferred[Stored]:
        return announce().addCallback(lambda _: stored)

    def read(self) -> Deferred[None]:
        """Read what was changed by now."""
        known = None if self._stored is None else self._stored.change
        return self._in_thread(self._file.read, known).addCallbacks(self._read, self._not_read)

    def _poll(self) -> None:
        if self._reading:  # the disk hangs
            return
        self._reading = True
        self.read()

    def _read(self, stored: Stored | None) -> None:
        self._reading, self._answered = False, True
        if self._failing:
            self._failing = False
            self._log.info("keys are read from {path} again", path=self._path)
        if stored is not None:
            self._take(stored)

    def _not_read(self, failure: Failure) -> None:
        self._reading, self._answered = False, True
        if not self._failing:
            self._failing = True
            self._log.warn(
                "keys cannot be read from {path}: {why}; {what}",
                path=self._path,
                why=failure.getErrorMessage(),
                what="those that are known hold" if self.known else "nobody is let in by one, or without one",
            )

    def _take(self, stored: Stored) -> None:
        self._stored = stored
        self._was_minted |= bool(stored.keys)

    def _note_used(self) -> None:
        if self._used:
            used, self._used = self._used, set()
            self._in_thread(self._file.used, used, self._wall_clock()).addErrback(self._not_noted, used)

    def _not_noted(self, failure: Failure, used: set[bytes]) -> None:
        self._used |= used  # for the next time; the polls tell of a database that is away


def described(key: StoredKey) -> dict[str, object]:
    """Return a key's terms, as operators see them."""
    return {**_terms(key.principal), "created": key.created, "expires": key.expires}


def _terms(principal: Principal) -> dict[str, object]:
    return {
        "name": principal.name,
        "labels": principal.labels,
        "models": principal.models,
        "max_concurrency": principal.max_concurrency,
    }
