"""The daemon's standard output: written to as long as it takes what is written, and never waited for."""

from __future__ import annotations

import os
import select
from collections import deque
from contextlib import suppress
from stat import S_ISFIFO
from typing import IO, TYPE_CHECKING
from weakref import finalize

if TYPE_CHECKING:
    from claudeproxyd.observe.exposition import Registry

#: Bytes that may wait for a reader; lines beyond are dropped.
MAX_WAITING_BYTES = 1_048_576
#: A pipe that says it has room takes so much at once: POSIX's PIPE_BUF on Linux.
_STEP = 4096


class Output:
    """A file for log observers. A pipe that nobody reads, or a terminal that is stopped, costs lines and not answers.

    It is asked before each write whether it has room, and a pipe is written to by a descriptor of our own: to make the
    one non-blocking that others share would make it so for all of them. What waits goes out with the next line, or at
    the next :meth:`flush`.
    """

    def __init__(self, out: IO[str]) -> None:
        """*out* has a descriptor: ``sys.stdout``."""
        out.flush()
        self.isatty = out.isatty
        self._fd = own = _own(out.fileno())
        if own != out.fileno():
            finalize(self, os.close, own)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._lines: deque[bytes] = deque()
        self.waiting = 0
        """Bytes in ``_lines``."""
        self.dropped = 0
        """Lines lost."""

    def register(self, metrics: Registry) -> None:
        """Add the metrics of the output."""
        metrics.gauge("claudeproxyd_output_waiting_bytes", "Log not yet taken from stdout.", lambda: self.waiting)
        metrics.counter(
            "claudeproxyd_output_dropped_lines_total", "Log lines lost: nobody reads stdout.", lambda: self.dropped
        )

    def write(self, line: str) -> None:
        """Write a line, which ends with its newline, or keep it until it can be written. Raises nothing."""
        data = line.encode("utf-8", "backslashreplace")
        if self.waiting >= MAX_WAITING_BYTES:
            self.dropped += 1
        else:
            self._lines.append(data)
            self.waiting += len(data)
        self.flush()

    def flush(self) -> None:
        """Write what waits, as far as there is room for it."""
        while self._lines and self._poll.poll(0):
            line = self._lines.popleft()
            try:
                done = os.write(self._fd, line[:_STEP])
            except BlockingIOError:  # another process was faster
                self._lines.appendleft(line)
                return
            except OSError:  # nobody can read it any more, or the disk is full
                done = len(line)
                self.dropped += 1
            self.waiting -= done
            if done < len(line):
                self._lines.appendleft(line[done:])


def _own(shared: int) -> int:
    """Return a descriptor of the same pipe that does not block, and is nobody else's; of anything else *shared*."""
    if S_ISFIFO(os.fstat(shared).st_mode):
        with suppress(OSError):  # it is another user's
            return os.open(f"/proc/self/fd/{shared}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return shared
