"""Standard output that somebody reads, or nobody."""

from __future__ import annotations

import contextlib
import fcntl
import os

from prometheus_client.parser import text_string_to_metric_families
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.logging import observer
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.output import MAX_WAITING_BYTES, Output


class Pipes(SynchronousTestCase):
    """A pipe as stdout."""

    def setUp(self) -> None:
        self.reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 65_536)
        self.file = os.fdopen(writer, "w")
        self.addCleanup(self.file.close)
        self.output = Output(self.file)

    def read(self) -> str:
        """What is in the pipe."""
        os.set_blocking(self.reader, False)
        data = b""
        try:
            while more := os.read(self.reader, 1_000_000):
                data += more
        except BlockingIOError:
            pass
        return data.decode()

    def test_lines(self) -> None:
        """A line is out when it is written, whole, whatever it is made of."""
        for line in ("one\n", "zwei – \udc80\n", "x" * 20_000 + "\n"):
            self.output.write(line)
            self.assertEqual(self.read(), line.replace("\udc80", "\\udc80"))
        self.assertEqual((self.output.waiting, self.output.dropped), (0, 0))

    def test_as_a_log(self) -> None:
        """Log observers write to it, and it is no terminal."""
        Logger("test", observer=observer(self.output)).info("hello")
        self.assertIn("[test#info] hello\n", self.read())

    def test_others_write(self) -> None:
        """Another process may take the room that there was a moment ago: nobody waits for the reader all the same."""
        self.assertTrue(os.get_blocking(self.file.fileno()))
        self.assertFalse(os.get_blocking(self.output._fd))
        others = os.open(f"/proc/self/fd/{self.file.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, others)

        class TooLate:
            """Says that there is room, which is gone then."""

            def poll(self, timeout: int) -> list[object]:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        os.write(others, b"o" * 4096)
                return [1]

        asking, self.output._poll = self.output._poll, TooLate()  # type: ignore[assignment]  # in all but its type
        self.output.write("mine\n")
        self.assertEqual((self.output.waiting, self.output.dropped), (5, 0))
        self.read()
        self.output._poll = asking
        self.output.flush()
        self.assertEqual(self.read(), "mine\n")

    def test_nobody_reads(self) -> None:
        """Lines wait for a reader, within a bound, and the daemon for nobody; those beyond are counted."""
        lines = [f"{number} {'x' * 100}\n" for number in range(20_000)]
        for line in lines:
            self.output.write(line)
        self.assertLess(self.output.waiting, MAX_WAITING_BYTES + 200)
        self.assertGreater(self.output.dropped, 0)
        metrics = Metrics()
        self.output.register(metrics)
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(metrics.render().decode())
            for sample in family.samples
        }
        self.assertEqual(samples["claudeproxyd_output_waiting_bytes"], self.output.waiting)
        self.assertEqual(samples["claudeproxyd_output_dropped_lines_total"], self.output.dropped)
        read = ""
        while self.output.waiting:
            read += self.read()
            self.output.flush()
        read += self.read()
        self.assertEqual(read, "".join(lines[: len(lines) - self.output.dropped]))

    def test_reader_gone(self) -> None:
        """A reader that goes costs lines."""
        os.close(self.reader)
        self.output.write("one\n")
        self.assertEqual((self.output.waiting, self.output.dropped), (0, 1))
