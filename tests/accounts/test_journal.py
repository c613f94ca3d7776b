"""Records on their way into the ledger."""

from __future__ import annotations

import errno
import os
import stat

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts.journal import SUFFIX, Journal, deserted, lines_of
from claudeproxyd.observe.usage import UsageRecord
from tests.accounts.support import record

decode = msgspec.json.Decoder(UsageRecord).decode


class JournalTests(SynchronousTestCase):
    """Files of records."""

    def setUp(self) -> None:
        """A folder that is not there yet."""
        self.folder = os.path.join(self.mktemp(), "waiting")

    def journal(self, max_bytes: int = 10**6) -> Journal:
        """One process's."""
        journal = Journal(self.folder, max_bytes)
        self.addCleanup(journal.close)
        return journal

    def write(self, journal: Journal, number: int) -> None:
        """A record, in a turn of its own."""
        journal.add(record(number))
        journal.write()

    def read(self) -> list[UsageRecord]:
        """All that lies in the folder."""
        return [each for name in sorted(os.listdir(self.folder)) for each in lines_of(f"{self.folder}/{name}", decode)]

    def test_written_at_once(self) -> None:
        """Another process sees a record as soon as the call is over, and nobody else may read it."""
        journal = self.journal()
        self.write(journal, 1)
        self.assertEqual(self.read(), [record(1)])
        (name,) = os.listdir(self.folder)
        self.assertEqual(stat.S_IMODE(os.stat(f"{self.folder}/{name}").st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.folder).st_mode), 0o700)

    def test_one_write(self) -> None:
        """For all that came in a turn; what was not written yet when a segment is closed is in it."""
        written: list[int] = []
        real = os.write
        self.patch(os, "write", lambda file, data: written.append(1) or real(file, data))
        journal = self.journal()
        for number in (1, 2, 3):
            journal.add(record(number))
        journal.write()
        journal.write()
        journal.add(record(4))
        journal.cut()
        self.assertEqual(self.read(), [record(number) for number in (1, 2, 3, 4)])
        self.assertEqual(len(written), 2)

    def test_as_it_was(self) -> None:
        """A line is of its record as that was when it was added, and one that has none keeps no other from its own."""
        journal = self.journal()
        changed = record(1)
        journal.add(changed)
        self.assertRaises(UnicodeEncodeError, journal.add, record(2, outcome="\ud800"))
        journal.add(record(3))
        changed.client = "\ud800"
        journal.write()
        self.write(journal, 4)
        self.assertEqual(self.read(), [record(number) for number in (1, 3, 4)])

    def test_cut(self) -> None:
        """What is cut waits, in order; what comes then is another segment's."""
        journal = self.journal()
        journal.cut()
        self.assertEqual(journal.waiting, {})
        for number in (1, 2):
            self.write(journal, number)
            journal.cut()
        first, second = journal.waiting
        self.assertEqual(list(lines_of(second, decode)), [record(2)])
        self.assertEqual(journal.size, os.path.getsize(first) + os.path.getsize(second))
        journal.entered(first)
        self.assertEqual(journal.size, os.path.getsize(second))

    def test_deserted(self) -> None:
        """A segment is another process's while that lives, and anybody's then."""
        self.assertEqual(deserted(self.folder), {})
        living, dead = self.journal(), self.journal()
        self.write(living, 1)
        self.write(dead, 2)
        assert dead._file is not None
        os.close(dead._file)  # as the kernel does
        dead._file = None
        found = deserted(self.folder)
        self.assertEqual([list(lines_of(path, decode)) for path in found], [[record(2)]])
        third = self.journal()
        third.adopt(found)
        self.assertEqual(third.size, os.path.getsize(dead._path))

    def test_what_is_no_file(self) -> None:
        """A folder, a pipe and what may not be read are left where they are, and hold up nothing: not who looks, and
        none of the others. What may not be read is told."""
        journal = self.journal()
        self.write(journal, 1)
        journal.cut()
        os.mkdir(f"{self.folder}/folder{SUFFIX}")
        os.mkfifo(f"{self.folder}/pipe{SUFFIX}")
        os.symlink("nowhere", f"{self.folder}/link{SUFFIX}")
        for name in ("another", "garbage"):
            with open(f"{self.folder}/{name}{SUFFIX}", "wb") as file:
                file.write(b"\0\xff garbage" * 100)
        open_file = os.open

        def refused(path: str, flags: int, *mode: int) -> int:
            if path.endswith(f"another{SUFFIX}"):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            assert not path.endswith(f"pipe{SUFFIX}"), "it would be waited for"
            return open_file(path, flags, *mode)

        self.patch(os, "open", refused)
        unreadable: list[str] = []
        found = deserted(self.folder, SUFFIX, unreadable)
        self.assertEqual([each for path in found for each in lines_of(path, decode)], [record(1)])
        self.assertEqual(unreadable, [f"{self.folder}/another{SUFFIX}"])

    def test_bound(self) -> None:
        """Beyond the bound records are lost, counted, and told once; there is room again when some were entered."""
        journal = self.journal(max_bytes=3 * len(msgspec.json.encode(record(1))))
        for number in range(1, 6):
            self.write(journal, number)
        self.assertEqual((len(self.read()), journal.lost), (2, 3))
        self.assertEqual(len(self.flushLoggedErrors()), 0)
        journal.cut()
        for path in journal.waiting.copy():
            os.unlink(path)
            journal.entered(path)
        self.write(journal, 6)
        self.assertEqual((self.read(), journal.lost), ([record(6)], 3))

    def test_folder_that_cannot_be(self) -> None:
        """Nothing is raised."""
        with open(self.mktemp(), "w") as file:
            journal = Journal(os.path.join(file.name, "waiting"), 1000)
        self.write(journal, 1)
        self.assertEqual((journal.lost, journal.size), (1, 0))

    def test_full_disk(self) -> None:
        """Of a line that has room in part, nothing is left that spoils the next."""
        journal = self.journal()
        self.write(journal, 1)
        real = os.write
        self.patch(os, "write", lambda file, data: real(file, data[:20]))
        self.write(journal, 2)
        self.patch(os, "write", real)
        self.write(journal, 3)
        self.assertEqual((self.read(), journal.lost), ([record(1), record(3)], 1))

    def test_disk_fills_up(self) -> None:
        """Of some that come together, those that have room are kept."""
        journal = self.journal()
        journal.add(record(1))
        journal.add(record(2))
        line = len(msgspec.json.encode(record(1))) + 1
        real = os.write
        self.patch(os, "write", lambda file, data: real(file, data[: line + 20]))
        journal.write()
        self.patch(os, "write", real)
        self.write(journal, 3)
        self.assertEqual((self.read(), journal.lost), ([record(1), record(3)], 1))
        self.assertEqual(
            journal.size, sum(os.path.getsize(f"{self.folder}/{name}") for name in os.listdir(self.folder))
        )
