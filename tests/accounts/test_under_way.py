"""Attempts that are under way, as the next start finds them."""

from __future__ import annotations

import os

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts import under_way
from claudeproxyd.accounts.journal import deserted
from claudeproxyd.accounts.under_way import SUFFIX, AttemptsUnderWay, lost_in
from claudeproxyd.observe.usage import UsageRecord
from tests.accounts.support import record

decode = msgspec.json.Decoder(UsageRecord).decode


class AttemptsUnderWayTests(SynchronousTestCase):
    """A file that is added to."""

    def setUp(self) -> None:
        """A folder that is not there yet."""
        self.folder = os.path.join(self.mktemp(), "waiting")
        self.attempts = AttemptsUnderWay(self.folder)
        self.addCleanup(self.attempts.close)

    def begin(self, number: int, attempt: int = 1) -> None:
        """One, in a turn of its own."""
        self.attempts.begin(record(number, attempt=attempt))
        self.attempts.write()

    def files(self) -> list[str]:
        """Their paths."""
        return sorted(f"{self.folder}/{name}" for name in os.listdir(self.folder))

    def lost(self) -> list[UsageRecord]:
        """What another process would find, were this one killed now."""
        return [each for path in self.files() for each in lost_in(path, decode)]

    def test_begun(self) -> None:
        """Is there at once, and gone when it is over and something else was written."""
        self.begin(1)
        self.begin(1, attempt=2)
        self.assertEqual(self.lost(), [record(1), record(1, attempt=2)])
        self.attempts.end(record(1, outcome="ok"))
        self.begin(2)
        self.assertEqual(self.lost(), [record(1, attempt=2), record(2)])
        self.attempts.end(record(2))
        self.attempts.flush()
        self.assertEqual(self.lost(), [record(1, attempt=2)])

    def test_one_write_each(self) -> None:
        """What an attempt's end leaves to be written goes with the next one's beginning."""
        written: list[int] = []
        real = os.write
        self.patch(os, "write", lambda file, data: written.append(1) or real(file, data))
        for number in range(10):
            self.begin(number)
            self.attempts.end(record(number))
        self.assertEqual(len(written), 10)
        for number in range(10):
            self.attempts.begin(record(number))
        self.attempts.write()
        self.attempts.write()
        self.assertEqual(len(written), 11, "one for all of a turn")

    def test_over_at_once(self) -> None:
        """An attempt that is over in the turn that it began in is not noted, whatever became of its record since."""
        self.begin(3)
        began = record(1)
        self.attempts.begin(began)
        self.attempts.begin(record(2))
        self.attempts.end(record(1))
        began.attempt, began.outcome = 2, "\ud800"
        self.attempts.write()
        self.assertEqual(self.lost(), [record(3), record(2)])

    def test_bound_while_idle(self) -> None:
        """No file is left behind where nothing is under way as often as what is over is noted."""
        self.patch(under_way, "SPARE_BYTES", 2_000)
        for number in range(50):
            self.begin(number)
            self.attempts.end(record(number))
            self.attempts.flush()
        self.assertLessEqual(len(self.files()), 2)
        self.assertEqual(self.lost(), [])
        self.attempts.close()
        self.assertEqual(self.files(), [])

    def test_that_was_not_begun(self) -> None:
        """To count tokens is not noted, and its end leaves nothing."""
        self.attempts.end(record(1))
        self.attempts.flush()
        self.assertFalse(os.path.exists(self.folder))

    def test_bound(self) -> None:
        """The file has what is under way, and not much beside."""
        self.patch(under_way, "SPARE_BYTES", 2_000)
        stays = [record(number) for number in range(3)]
        for each in stays:
            self.attempts.begin(each)
            self.attempts.write()
        for number in range(10, 200):
            self.begin(number)
            self.attempts.end(record(number))
            size = sum(map(os.path.getsize, self.files()))
            self.assertLess(size, 2 * 2_000 + 12 * len(msgspec.json.encode(record(number))))
        self.attempts.flush()
        (_,) = self.files()
        self.assertEqual(sorted(each.request_id for each in self.lost()), [each.request_id for each in stays])

    def test_moves_bit_by_bit(self) -> None:
        """However many are under way, no beginning writes them all; and none is missing in between."""
        self.patch(under_way, "SPARE_BYTES", 20_000)
        written: list[int] = []
        real = os.write
        self.patch(os, "write", lambda file, data: written.append(len(data)) or real(file, data))
        ids = [record(number).request_id for number in range(1, 1_000)]
        line = len(msgspec.json.encode(record(1))) + 1
        for number in range(1, 1_000):
            self.begin(number)
            if number > 300:
                self.attempts.end(record(number - 300))
            if number % 50 == 0:
                found = {each.request_id for each in self.lost()}
                self.assertLessEqual(set(ids[max(0, number - 300) : number]), found)
        self.assertLess(max(written), 17 * line)
        self.assertGreater(self.attempts._number, 3)
        self.assertLessEqual(len(self.files()), 2)

    def test_deserted(self) -> None:
        """Nobody takes a living process's."""
        self.begin(1)
        self.assertEqual(deserted(self.folder, SUFFIX), {})
        self.attempts.close()
        self.assertEqual(list(deserted(self.folder, SUFFIX)), self.files())

    def test_close(self) -> None:
        """Leaves a file only where something is under way."""
        self.begin(1)
        self.attempts.close()
        self.assertEqual(self.lost(), [record(1)])
        self.attempts.end(record(1))
        self.begin(2)
        self.attempts.end(record(2))
        self.attempts.close()
        self.assertEqual(len(self.files()), 1)

    def test_half_a_line(self) -> None:
        """Of a machine that lost power, is nothing."""
        self.begin(1)
        (path,) = self.files()
        with open(path, "ab") as file:
            file.write(msgspec.json.encode(record(2))[:50])
        self.assertEqual(self.lost(), [record(1)])

    def test_full_disk(self) -> None:
        """Is no request's affair, is told once, and over when there is room again."""
        self.begin(1)
        real = os.write
        self.patch(os, "write", lambda file, data: real(file, data[:20]))
        for number in (2, 3):
            self.begin(number)
            self.attempts.flush()
            self.assertEqual((len(self.files()), self.lost()), (1, [record(1)]))
        self.patch(os, "write", real)
        self.attempts.end(record(2))
        self.attempts.flush()
        self.begin(4)
        self.assertEqual(self.lost(), [record(1), record(3), record(4)])

    def test_folder_that_cannot_be(self) -> None:
        """Nothing is raised."""
        with open(self.mktemp(), "w") as file:
            attempts = AttemptsUnderWay(os.path.join(file.name, "waiting"))
        attempts.begin(record(1))
        attempts.write()
        attempts.flush()
        attempts.end(record(1))
        attempts.close()
