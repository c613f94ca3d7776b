"""Lines in a file of their own."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.access_log import AccessEntry
from claudeproxyd.observe.lines import (
    CLOSE_TIMEOUT,
    FLUSH_CHARACTERS,
    FLUSH_DELAY,
    MAX_WAITING_CHARACTERS,
    LineFile,
    to_file,
    to_log,
)
from claudeproxyd.observe.metrics import Metrics


class Threads:
    """Stands in for the thread pool: runs at once, or when it is told to."""

    def __init__(self) -> None:
        self.slow = False
        self._waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def __call__(self, job: Callable[[], None]) -> Deferred[None]:
        if not self.slow:
            return maybeDeferred(job)
        done: Deferred[None] = Deferred()
        self._waiting.append((job, done))
        return done

    def run(self) -> None:
        """Do the first job that waits."""
        job, done = self._waiting.pop(0)
        maybeDeferred(job).chainDeferred(done)

    def __len__(self) -> int:
        return len(self._waiting)


class LineFileTests(SynchronousTestCase):
    """A file that lines are added to."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.threads = Threads()
        self.path = self.mktemp()
        self.file = LineFile(self.path, self.clock, self.threads)

    def content(self, path: str = "") -> str:
        """What is in the file."""
        with open(path or self.path, encoding="utf-8") as file:
            return file.read()

    def test_flush_without_delay(self) -> None:
        """Lines that are to wait for no others are on the disk in the next turn."""
        file = LineFile(self.path, self.clock, self.threads, 0.0)
        self.addCleanup(file.close)
        file.write("one")
        self.clock.advance(0)
        self.assertEqual(self.content(), "one\n")

    def test_flush_by_time(self) -> None:
        """Lines are on the disk a quarter of a second later, and no timer is left."""
        self.file.write("one")
        self.file.write("two")
        self.assertEqual(self.content(), "")
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.content(), "one\ntwo\n")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_added_to(self) -> None:
        """What an earlier process wrote ends in a line of its own, and no empty line comes behind it."""
        self.file.write("one")
        self.clock.advance(FLUSH_DELAY)
        again = LineFile(self.path, self.clock, self.threads)
        again.write("two")
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.content(), "one\ntwo\n")

    def test_flush_by_size(self) -> None:
        """A burst does not wait for the timer."""
        self.file.write("x" * FLUSH_CHARACTERS)
        self.assertEqual(len(self.content()), FLUSH_CHARACTERS + 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_mode(self) -> None:
        """The file is for its owner and group alone, whatever the umask; one that was there keeps its mode."""
        before = os.umask(0o077)
        try:
            path = self.mktemp()
            LineFile(path, self.clock, self.threads).close()
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o640)
        os.chmod(path, 0o600)
        LineFile(path, self.clock, self.threads).close()
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_reopen(self) -> None:
        """After a rotation, what was written before is in the old file and what comes after is in the new."""
        self.file.write("old")
        os.rename(self.path, self.path + ".1")
        self.file.reopen()
        self.file.write("new")
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.content(self.path + ".1"), "old\n")
        self.assertEqual(self.content(), "new\n")

    def test_reopen_while_writing(self) -> None:
        """A rotation while the disk is busy is not forgotten."""
        self.threads.slow = True
        self.file.write("old")
        self.clock.advance(FLUSH_DELAY)
        os.rename(self.path, self.path + ".1")
        self.file.reopen()
        self.file.write("new")
        self.threads.run()
        self.threads.run()
        self.assertEqual(self.content(self.path + ".1"), "old\n")
        self.assertEqual(self.content(), "new\n")

    def test_device(self) -> None:
        """Lines can go to a device, which is left as it is."""
        mode = os.stat("/dev/null").st_mode
        file = LineFile("/dev/null", self.clock, self.threads)
        file.write("gone")
        file.reopen()
        self.successResultOf(file.close())
        self.assertEqual(os.stat("/dev/null").st_mode, mode)
        self.assertEqual(file.dropped, 0)

    def test_pipe_without_a_reader(self) -> None:
        """A named pipe that nobody reads does not keep the start waiting: it is a path that cannot be opened."""
        os.mkfifo(path := self.mktemp())
        error = self.assertRaises(OSError, LineFile, path, self.clock, self.threads)
        self.assertIn("nobody reads", str(error))

    def test_pipe(self) -> None:
        """Lines can go through a pipe, which is waited for in the thread when it is full; a reader who went and came
        back gets those that follow."""
        os.mkfifo(path := self.mktemp())
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        file = LineFile(path, self.clock, self.threads)
        self.assertTrue(os.get_blocking(file._fd))
        file.write("one")
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(os.read(reader, 100), b"one\n")
        os.close(reader)
        file.reopen()
        file.write("two")
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(file.dropped, 1)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        file.write("three")
        self.successResultOf(file.close())
        self.assertEqual(os.read(reader, 100), b"three\n")
        os.close(reader)

    def test_slow_disk(self) -> None:
        """While the disk hangs, memory is bounded, later lines are dropped and counted, and the log says so once."""
        self.threads.slow = True
        line = "x" * 1023
        with capturedLogs() as logs:
            for _ in range(MAX_WAITING_CHARACTERS // 1024 + 10):
                self.file.write(line)
        self.assertEqual(self.file.dropped, 10)
        self.assertEqual(len([event for event in logs if "lost" in event["log_format"]]), 1)
        self.assertEqual(len(self.threads), 1)
        while self.threads:
            self.threads.run()
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(len(self.content()), MAX_WAITING_CHARACTERS)
        self.threads.slow = False
        self.file.write("after")
        self.clock.advance(FLUSH_DELAY)
        self.assertTrue(self.content().endswith("after\n"))

    def test_full_disk(self) -> None:
        """Lines that a full disk refuses are counted, and the daemon goes on."""
        file = LineFile("/dev/full", self.clock, self.threads)
        file.write("one")
        file.write("two")
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(file.dropped, 2)
        self.successResultOf(file.close())

    def test_torn_line(self) -> None:
        """What a disk took of a line before it was full is a line of its own, and swallows none that follows."""
        room = [len("whole\nto")]
        really_write = os.write

        def write(fd: int, data: memoryview) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = data[: room[0]]
            room[0] -= len(taken)
            return really_write(fd, taken)

        self.patch(os, "write", write)
        self.file.write("whole")
        self.file.write("torn")
        self.clock.advance(FLUSH_DELAY)
        self.file.write("none of it")
        self.clock.advance(FLUSH_DELAY)
        room[0] = 100
        self.file.write("next")
        self.clock.advance(FLUSH_DELAY)
        self.file.write("after")
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.content(), "whole\nto\nnext\nafter\n")

    def test_torn_line_and_another_file(self) -> None:
        """A file that a rotation left behind ends as it ends; the fresh one begins with a line."""
        self.patch(self.file, "_torn", True)
        os.rename(self.path, self.path + ".1")
        self.file.reopen()
        self.file.write("new")
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.content(), "new\n")

    def test_failed_reopen(self) -> None:
        """If the path cannot be opened anew, later lines still go somewhere: to the file as it was."""
        os.rename(self.path, self.path + ".1")
        os.mkdir(self.path)
        self.file.reopen()
        self.file.write("kept")
        self.successResultOf(self.file.close())
        self.assertEqual(self.content(self.path + ".1"), "kept\n")

    def test_close(self) -> None:
        """Nothing that was written is missing after a stop, even if the disk was busy just then."""
        self.threads.slow = True
        self.file.write("one")
        self.clock.advance(FLUSH_DELAY)
        self.file.write("two")
        closed = self.file.close()
        self.assertNoResult(closed)
        self.threads.run()
        self.assertNoResult(closed)
        self.threads.run()
        self.successResultOf(closed)
        self.assertEqual(self.content(), "one\ntwo\n")
        self.file.write("late")
        self.assertEqual(self.file.dropped, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_on_a_disk_that_hangs(self) -> None:
        """A stop waits two seconds for a disk, or for a pipe's reader, and counts what was not taken as lost."""
        self.threads.slow = True
        self.file.write("one")
        self.clock.advance(FLUSH_DELAY)
        self.file.write("two")
        closed = self.file.close()
        self.clock.advance(CLOSE_TIMEOUT - 0.1)
        self.assertNoResult(closed)
        with capturedLogs() as logs:
            self.clock.advance(0.1)
        self.successResultOf(closed)
        self.assertEqual(self.file.dropped, 2)
        self.assertEqual([event["log_format"] for event in logs], ["lines for {path} are lost: {why}"])
        self.threads.run()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unusable_path(self) -> None:
        """A path that cannot be opened stops the start."""
        self.assertRaises(OSError, LineFile, "/nowhere/at/all", self.clock, self.threads)

    def test_metrics(self) -> None:
        """What waits and what was lost can be watched."""
        metrics = Metrics()
        self.file.register(metrics)
        self.file.write("one")
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(metrics.render().decode())
            for sample in family.samples
        }
        self.assertEqual(samples["claudeproxyd_log_waiting_bytes"], 4)
        self.assertEqual(samples["claudeproxyd_log_dropped_lines_total"], 0)

    def test_to_file(self) -> None:
        """Entries are written in the form that was asked for."""
        write = to_file(self.file, lambda entry: f"<{entry.request_id}>")
        write(AccessEntry(time=1.0, request_id="req_1"))
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.content(), "<req_1>\n")

    def test_to_log(self) -> None:
        """An entry in the daemon's log comes with the entry itself, for observers that know it."""
        entry = AccessEntry(time=1.0, request_id="req_1")
        with capturedLogs() as logs:
            to_log("access")(entry)
        self.assertIs(logs[0]["entry"], entry)
        self.assertEqual(logs[0]["log_namespace"], "access")
