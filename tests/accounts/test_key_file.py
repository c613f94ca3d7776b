"""Keys in the database."""

from __future__ import annotations

import os
import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts import database
from claudeproxyd.accounts.database import LedgerFile
from claudeproxyd.accounts.key_file import NOTHING, KeyFile, NameTaken, NoSuchKey, Stored, StoredKey
from claudeproxyd.accounts.schema import SQLITE, tables
from claudeproxyd.interfaces import ILedgerDatabase
from claudeproxyd.principals import Principal
from tests.accounts.support import NOON, record

ANN = Principal("ann", {"team": "ads"}, ("claude-*",), 3)


class KeysTestCase(SynchronousTestCase):
    """Two daemons on one file."""

    taken: type[Exception] = sqlite3.IntegrityError
    """Raised where there is such a secret already."""

    def setUp(self) -> None:
        self.path = os.path.abspath(os.path.join(self.mktemp(), "accounts.db"))
        self.file, self.other = self.open(), self.open()

    def open(self) -> KeyFile:
        file = KeyFile(self.path)
        self.addCleanup(file.close)
        return file

    def open_ledger(self) -> ILedgerDatabase:
        """The one beside the keys."""
        ledger = LedgerFile(self.path)
        self.addCleanup(ledger.close)
        return ledger

    def read(self, file: KeyFile | None = None) -> Stored:
        stored = (file or self.other).read(None)
        assert stored is not None
        return stored

    def key(self, name: str = "ann") -> StoredKey:
        return self.read().keys[name]


class KeyFileTests(KeysTestCase):
    """Keys, and those who change them."""

    def test_file_that_comes(self) -> None:
        """A file that another daemon makes is read from then on."""
        self.file.add(ANN, b"1", None, NOON)
        stored = self.other.read(NOTHING.change)
        assert stored is not None
        self.assertEqual(list(stored.keys), ["ann"])

    def test_unchanged(self) -> None:
        """Nothing is read again while nothing changed; what the ledger enters and when a key was used is no change."""
        change = self.file.add(ANN, b"1", None, NOON).change
        self.open_ledger().enter([record()])
        self.file.used([b"1"], NOON)
        self.assertIsNone(self.other.read(change))
        self.file.revoke("ann", NOON)
        self.assertIsNotNone(self.other.read(change))

    def test_add(self) -> None:
        """A key is there as it was minted, for others too."""
        self.assertEqual(self.file.add(ANN, b"1", NOON + 9, NOON), self.read())
        key = self.key()
        self.assertEqual((key.principal, key.created, key.expires, key.revoked), (ANN, NOON, NOON + 9, None))
        self.assertEqual([(each.digest, each.expires, each.last_used) for each in key.digests], [(b"1", None, None)])

    def test_name_taken(self) -> None:
        """A name has one key, until that is over."""
        self.file.add(ANN, b"1", NOON + 10, NOON)
        change = self.read().change
        self.assertRaises(NameTaken, self.other.add, ANN, b"2", None, NOON + 9)
        self.assertEqual(self.read().change, change)
        self.other.add(ANN, b"2", None, NOON + 10)
        self.assertEqual([each.digest for each in self.key().digests], [b"2"])
        self.file.revoke("ann", NOON + 11)
        self.file.add(ANN, b"3", None, NOON + 12)
        self.assertEqual((self.key().revoked, [each.digest for each in self.key().digests]), (None, [b"3"]))

    def test_rotate(self) -> None:
        """The secret before holds for the overlap, and no longer than it did; what is over is forgotten."""
        self.file.add(ANN, b"1", None, NOON)
        self.file.rotate("ann", b"2", NOON + 100, NOON + 1)
        self.file.rotate("ann", b"3", NOON + 500, NOON + 2)
        self.assertEqual(
            [(each.digest, each.expires) for each in self.key().digests],
            [(b"3", None), (b"2", NOON + 500), (b"1", NOON + 100)],
        )
        self.file.rotate("ann", b"4", NOON + 200, NOON + 200)
        self.assertEqual([each.digest for each in self.key().digests], [b"4"])

    def test_revoke(self) -> None:
        """Of a revoked key its name stays, and no secret."""
        self.file.add(ANN, b"1", None, NOON)
        self.file.rotate("ann", b"2", NOON + 100, NOON)
        self.file.revoke("ann", NOON + 5)
        self.assertEqual((self.key().revoked, self.key().digests), (NOON + 5, ()))

    def test_no_such_key(self) -> None:
        """What is not there, or not any more, is neither rotated nor revoked; what expired can be revoked."""
        self.file.add(ANN, b"1", NOON + 1, NOON)
        self.assertRaises(NoSuchKey, self.file.rotate, "ann", b"2", NOON, NOON + 1)
        self.file.revoke("ann", NOON + 2)
        for name in ("ann", "bob"):
            self.assertRaises(NoSuchKey, self.file.revoke, name, NOON)
            self.assertRaises(NoSuchKey, self.file.rotate, name, b"2", NOON, NOON)

    def test_same_digest(self) -> None:
        """Two keys of one secret there cannot be; nothing is left of the second."""
        self.file.add(ANN, b"1", None, NOON)
        self.assertRaises(self.taken, self.file.add, Principal("bob"), b"1", None, NOON)
        self.assertEqual(list(self.read(self.file).keys), ["ann"])

    def test_used(self) -> None:
        """When a secret was used is noted with it."""
        self.file.add(ANN, b"1", None, NOON)
        self.file.rotate("ann", b"2", NOON + 100, NOON + 1)
        self.file.used([b"1"], NOON + 7)
        self.assertEqual([each.last_used for each in self.key().digests], [None, NOON + 7])


class FileOfKeysTests(KeysTestCase):
    """The file itself."""

    def test_no_file(self) -> None:
        """Where there is no file there is no key, and looking makes none."""
        self.assertEqual(self.read(), NOTHING)
        self.assertIsNone(self.file.read(NOTHING.change))
        self.assertFalse(os.path.exists(self.path))

    def test_file_of_the_first_version(self) -> None:
        """One that has the ledger alone gets the tables of keys when it is opened, and keeps what it has."""
        os.makedirs(os.path.dirname(self.path))
        connection = sqlite3.connect(self.path)
        for statement in tables(SQLITE)[:3]:
            connection.execute(statement)
        connection.execute("INSERT INTO series VALUES (1, 'ann', '{}', 'm', 'm', 'p', 'c')")
        connection.execute(f"PRAGMA application_id = {database.APPLICATION}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
        self.assertEqual(self.read().keys, {})
        self.assertEqual(connection.execute("SELECT count(*) FROM series").fetchone(), (1,))
        connection.close()
        self.file.add(ANN, b"1", None, NOON)
        self.assertEqual(list(self.read().keys), ["ann"])

    def test_cannot_be_read(self) -> None:
        """What is no database of ours is an error, and never taken for one without keys."""
        os.makedirs(os.path.dirname(self.path))
        with open(self.path, "wb") as file:
            file.write(b"not a database" * 100)
        self.assertRaises(sqlite3.Error, self.file.read, None)
