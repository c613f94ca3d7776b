"""Minted keys in memory."""

from __future__ import annotations

import os
import sqlite3
from hashlib import sha256
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts.database import LedgerFile
from claudeproxyd.accounts.key_file import NameTaken, NoSuchKey
from claudeproxyd.accounts.keys import NOTE_INTERVAL, POLL_INTERVAL, SETTLE_TIMEOUT, RuntimeKeys
from claudeproxyd.principals import Principal
from tests.accounts.support import NOON, record
from tests.accounts.test_ledger import Thread


def digest(secret: str) -> bytes:
    """By which a key is looked up."""
    return sha256(secret.encode()).digest()


class RuntimeKeyTests(SynchronousTestCase):
    """On a Clock, with a thread that the test drives."""

    def setUp(self) -> None:
        self.path = os.path.abspath(os.path.join(self.mktemp(), "accounts.db"))
        self.clock = Clock()
        self.thread = Thread()
        self.seen = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        self.keys = self.daemon(self.thread)

    def daemon(self, thread: Thread | None = None) -> RuntimeKeys:
        keys = RuntimeKeys(self.path, self.clock, lambda: NOON + self.clock.seconds(), thread or Thread())
        keys.startService()

        def stop() -> None:
            if keys.running:
                self.successResultOf(keys.stopService())

        self.addCleanup(stop)
        return keys

    def mint(self, name: str = "ann", expires_in: float | None = None, **changes: Any) -> str:
        return self.successResultOf(self.keys.mint(Principal(name, **changes), expires_in)).secret

    def who(self, secret: str, keys: RuntimeKeys | None = None) -> str:
        principal = (keys or self.keys).principal(digest(secret))
        return "" if principal is None else principal.name

    def entry(self, name: str = "ann") -> dict[str, Any]:
        return next(each for each in self.keys.entries() if each["name"] == name)

    def test_mint(self) -> None:
        """A key lets in whom it was minted for at once, with what was said of it, and nobody else."""
        secret = self.mint(labels={"team": "ads"}, models=("claude-*",), max_concurrency=2)
        self.assertRegex(secret, r"^cpxd-[0-9a-f]{48}$")
        self.assertEqual(
            self.keys.principal(digest(secret)), Principal("ann", {"team": "ads"}, ("claude-*",), max_concurrency=2)
        )
        self.assertIsNone(self.keys.principal(digest(secret + "0")))
        self.assertNotEqual(secret, self.mint("bob"))

    def test_kept_as_digest(self) -> None:
        """No file has a key."""
        secret = self.mint().encode()
        for name in os.listdir(os.path.dirname(self.path)):
            with open(os.path.join(os.path.dirname(self.path), name), "rb") as file:
                self.assertNotIn(secret, file.read())

    def test_others_know_soon(self) -> None:
        """What one daemon mints, rotates and revokes the other goes by within a second."""
        other = self.daemon()
        secret = self.mint()
        self.assertEqual(self.who(secret, other), "")
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(self.who(secret, other), "ann")
        self.successResultOf(self.keys.revoke("ann"))
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(self.who(secret, other), "")
        self.assertLess(POLL_INTERVAL, 1)

    def test_rotate(self) -> None:
        """Both secrets hold for the overlap; then the one before is over, and its holder is told."""
        before = self.mint()
        after = self.successResultOf(self.keys.rotate("ann", 60)).secret
        self.assertEqual((self.who(before), self.who(after)), ("ann", "ann"))
        self.clock.advance(60)
        self.assertEqual(self.who(before), "")
        error = self.keys.expired(digest(before))
        assert error is not None
        self.assertEqual((error.status, error.headers), (401, ((b"x-should-retry", b"false"),)))
        self.assertIn("expired on 2026-12-01 at 12:01 UTC", error.message)
        self.assertEqual(self.who(after), "ann")
        self.assertIsNone(self.keys.expired(digest(after)))
        self.assertIsNone(self.keys.expired(digest("of nobody")))

    def test_expiry(self) -> None:
        """A key ends when it was said that it would, whatever secret it has since."""
        secret = self.mint(expires_in=60)
        second = self.successResultOf(self.keys.rotate("ann", 9999)).secret
        self.clock.advance(59)
        self.assertEqual(self.who(secret), "ann")
        self.clock.advance(1)
        for each in (secret, second):
            self.assertEqual((self.who(each), self.keys.expired(digest(each)) is None), ("", False))
        self.assertEqual(self.entry()["state"], "expired")

    def test_revoke(self) -> None:
        """A revoked key lets in nobody, here at once, with all its secrets."""
        secrets = [self.mint(), self.successResultOf(self.keys.rotate("ann", 60)).secret]
        self.successResultOf(self.keys.revoke("ann"))
        self.assertEqual([self.who(each) for each in secrets], ["", ""])
        self.assertEqual((self.entry()["state"], self.entry()["secrets"]), ("revoked", []))
        self.failureResultOf(self.keys.revoke("ann"), NoSuchKey)

    def test_taken(self) -> None:
        """A name has one key."""
        secret = self.mint()
        self.failureResultOf(self.keys.mint(Principal("ann")), NameTaken)
        self.assertEqual(self.who(secret), "ann")

    def test_files_win(self) -> None:
        """A client of the configuration takes a name over for as long as it is there."""
        secret = self.mint()
        self.keys.configure([Principal("ann")], is_open=False)
        self.assertEqual(self.who(secret), "")
        self.assertEqual(
            [(each["source"], each["state"]) for each in self.keys.entries()],
            [("file", "active"), ("minted", "shadowed")],
        )
        self.keys.configure([Principal("bob")], is_open=False)
        self.assertEqual(self.who(secret), "ann")

    def test_after_a_crash(self) -> None:
        """What was answered is there for whoever comes next."""
        secret = self.mint()
        self.assertEqual(self.who(secret, self.daemon()), "ann")

    def test_last_used(self) -> None:
        """That a key was used is known at once here, and written down a minute later, in one go."""
        secret = self.mint()
        self.assertIsNone(self.entry()["last_used"])
        for _ in range(1000):
            self.who(secret)
        self.assertEqual(self.entry()["last_used"], NOON)
        self.clock.pump([POLL_INTERVAL] * int(NOTE_INTERVAL / POLL_INTERVAL))
        keys = self.daemon()
        self.assertEqual([each["last_used"] for each in keys.entries()], [NOON + NOTE_INTERVAL])

    def test_last_used_at_the_end(self) -> None:
        """What was used since is written down when the daemon stops."""
        self.who(self.mint())
        self.successResultOf(self.keys.stopService())
        self.assertEqual([each["last_used"] for each in self.daemon().entries()], [NOON])

    def test_never_minted(self) -> None:
        """It is known that there never was a key, until there is; one that is revoked was there."""
        self.assertTrue(self.keys.known and self.keys.never_minted and self.keys.settled)
        self.mint()
        self.assertFalse(self.keys.never_minted)
        self.successResultOf(self.keys.revoke("ann"))
        self.assertFalse(self.keys.never_minted)
        self.assertFalse(self.daemon().never_minted)

    def damage(self) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "wb") as file:
            file.write(b"damaged" * 1000)

    def test_unreadable_at_the_start(self) -> None:
        """Of a database that cannot be read nothing is known, which is said once; when it can be, so is that."""
        self.damage()
        keys = self.daemon()
        self.assertEqual((keys.known, keys.never_minted, keys.settled), (False, False, True))
        self.clock.advance(POLL_INTERVAL)
        (warning,) = [
            event
            for event in self.seen
            if "cannot be read" in str(event.get("log_format")) and event["log_source"] is keys
        ]
        self.assertIn("nobody is let in", warning["what"])
        os.unlink(self.path)
        self.clock.advance(POLL_INTERVAL)
        self.assertTrue(keys.known)

    def test_unreadable_later(self) -> None:
        """Keys that are known hold while the database is away."""
        secret = self.mint()
        for away in (self.damage, lambda: os.unlink(self.path)):
            self.successResultOf(self.thread(self.keys._file.close))
            away()
            self.clock.advance(POLL_INTERVAL)
            self.assertEqual(self.who(secret), "ann")
            self.assertEqual((self.keys.known, self.keys.never_minted), (True, False))
        self.assertIn("those that are known hold", [event.get("what") for event in self.seen])

    def test_another_file(self) -> None:
        """A database that another has taken the place of is read when the one before is gone, and opens nothing."""
        self.mint()
        self.successResultOf(self.thread(self.keys._file.close))
        os.unlink(self.path)
        LedgerFile(self.path).enter([record()])
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(list(self.keys.entries()), [])
        self.assertFalse(self.keys.never_minted)

    def test_taken_away(self) -> None:
        """Into a file that was deleted no key is minted, and none is revoked there: a restart would know of neither.
        Those that are known hold."""
        secret = self.mint()
        for companion in ("", "-wal", "-shm"):
            os.unlink(self.path + companion)
        for change in (self.keys.mint(Principal("bob")), self.keys.rotate("ann", 0.0), self.keys.revoke("ann")):
            self.assertIn("deleted", self.failureResultOf(change, sqlite3.OperationalError).getErrorMessage())
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(self.who(secret), "ann")

    def test_disk_that_hangs_at_the_start(self) -> None:
        """The daemon is ready in the end, for the keys that it has from elsewhere."""
        thread = Thread()
        thread.at_once = False
        keys = self.daemon(thread)
        self.clock.advance(SETTLE_TIMEOUT - 0.1)
        self.assertFalse(keys.settled)
        self.clock.advance(0.1)
        self.assertEqual((keys.settled, keys.known), (True, False))
        thread.at_once = True
        thread.run()

    def test_disk_that_hangs(self) -> None:
        """Polls do not pile up behind one that hangs."""
        self.thread.at_once = False
        self.clock.pump([POLL_INTERVAL] * 10)
        self.assertEqual(len(self.thread.given), 1)
        self.thread.run()
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(len(self.thread.given), 1)
        self.thread.at_once = True
        self.thread.run()

    def test_nothing_in_a_request_s_way(self) -> None:
        """Who calls is told without the thread."""
        secret = self.mint()
        self.thread.at_once = False
        self.assertEqual(self.who(secret), "ann")
        self.assertEqual(self.thread.given, [])
        self.thread.at_once = True

    def test_failed_change(self) -> None:
        """A change that the database does not take is none."""
        secret = self.mint()

        def full(*_: object) -> None:
            raise OSError("disk full")

        self.patch(self.keys._file, "revoke", full)
        self.failureResultOf(self.keys.revoke("ann"), OSError)
        self.assertEqual(self.who(secret), "ann")
