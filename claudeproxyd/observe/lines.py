"""Where lines about requests go: to the daemon's log, or to a file of their own."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from claudeproxyd.observe.exposition import Registry

#: Takes an access entry or a usage record, and gets it written.
Write = Callable[[msgspec.Struct], None]

#: Seconds that a line may wait for others to go with it, where nobody says.
FLUSH_DELAY = 0.25
#: Characters of lines at which they are written at once.
FLUSH_CHARACTERS = 65_536
#: Characters that may wait for a disk that does not take them; lines beyond are dropped.
MAX_WAITING_CHARACTERS = 1_048_576
#: Seconds that the end waits for such a disk.
CLOSE_TIMEOUT = 2.0

_encode = msgspec.json.Encoder().encode


def json_line(entry: msgspec.Struct) -> str:
    """Return an entry as one line of ASCII JSON, in which nothing can pass for another line or move a cursor."""
    line = _encode(entry).decode()
    if line.isascii() and "\x7f" not in line:
        return line
    return json.dumps(json.loads(line), separators=(",", ":")).replace("\x7f", "\\u007f")


def to_log(namespace: str) -> Write:
    """Return what writes entries to the daemon's log, as events that carry them: see :mod:`.logging`."""
    log = Logger(namespace=namespace)

    def write(entry: msgspec.Struct) -> None:
        log.info("{entry}", entry=entry)

    return write


def to_file(file: LineFile, form: Callable[[Any], str]) -> Write:
    """Return what writes entries to *file*, by *form*: ``text_line`` of the access log, or :func:`json_line`."""

    def write(entry: msgspec.Struct) -> None:
        file.write(form(entry))

    return write


class LineFile:
    """A file that lines are added to, in batches and off the reactor: a disk that hangs costs lines, not answers.

    Lines are written as they come: who makes an entry masks in it what others have written. Never rotates: whoever
    does, renames the file and has :meth:`reopen` called. Raises OSError when it cannot be opened at first.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        reactor: IReactorTime,
        in_thread: Callable[[Callable[[], None]], Deferred[None]],
        delay: float = FLUSH_DELAY,
    ) -> None:
        """*in_thread* runs a function in a thread of its own, one at a time: a disk may hang.

        *delay*: seconds that a line may wait for others.
        """
        self._path = os.path.expanduser(path)
        self._reactor = reactor
        self._in_thread = in_thread
        self._delay = delay
        self._fd = _open(self._path)
        self._lines: list[str] = []
        self._size = 0
        """Characters of ``_lines`` and of the batch that a thread is writing."""
        self._timer: IDelayedCall | None = None
        self._writing = False
        self._in_hand = 0
        """Lines that a thread is writing."""
        self._again = False
        """A flush was due while the one before was not done."""
        self._reopen = False
        self._closed: Deferred[None] | None = None
        self._losing = False
        self._torn = False
        """The last write ended within a line."""
        self.dropped = 0
        """Lines lost to a disk that was full or too slow."""

    def register(self, metrics: Registry) -> None:
        """Add the metrics of the file."""
        metrics.gauge("claudeproxyd_log_waiting_bytes", "Lines not yet in the log's file.", lambda: self._size)
        metrics.counter(
            "claudeproxyd_log_dropped_lines_total", "Lines lost: the disk is full or too slow.", lambda: self.dropped
        )

    def write(self, line: str) -> None:
        """Add one line, which is given without its newline."""
        if self._size >= MAX_WAITING_CHARACTERS or self._closed is not None:
            self._drop(1, "the file is closed" if self._closed is not None else "the disk does not keep up")
            return
        self._lines.append(line)
        self._size += len(line) + 1
        if self._size >= FLUSH_CHARACTERS:
            self._flush()
        elif self._timer is None:
            self._timer = self._reactor.callLater(self._delay, self._flush)

    def reopen(self) -> None:
        """Open the path anew, from the next line on. For SIGHUP."""
        self._flush()
        self._reopen = True
        self._flush()

    def close(self) -> Deferred[None]:
        """Write what waits, then close. A line that comes later is lost, and counted; so is what hangs for too long."""
        self._closed = Deferred()
        self._closed.addTimeout(CLOSE_TIMEOUT, self._reactor, self._given_up)
        self._flush()
        self._close_if_done()
        return self._closed

    def _flush(self) -> None:
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None
        if self._writing:
            self._again = True
            return
        if not self._lines and not self._reopen:
            return
        lines, self._lines = self._lines, []
        reopen, self._reopen = self._reopen, False
        self._writing = True
        self._in_hand = len(lines)
        self._in_thread(lambda: self._write_batch(lines, reopen)).addBoth(self._written, lines)

    def _write_batch(self, lines: list[str], reopen: bool) -> None:
        """Write in a thread, one batch at a time."""
        if reopen:
            fresh = _open(self._path)
            os.close(self._fd)
            self._fd = fresh
        text = "".join([line + "\n" for line in lines])
        # What a full disk took of a line must not take the next one along.
        begin = "\n" if self._torn and os.fstat(self._fd).st_size else ""
        data = memoryview((begin + text).encode("utf-8", "backslashreplace"))
        while data:
            count = os.write(self._fd, data)
            self._torn = data[count - 1] != 10
            data = data[count:]

    def _written(self, result: object, lines: list[str]) -> None:
        self._writing = False
        self._in_hand = 0
        self._size -= sum(map(len, lines)) + len(lines)
        if isinstance(result, Failure):
            self._drop(len(lines), result.getErrorMessage())
        else:
            self._losing = False
        if self._again:
            self._again = False
            self._flush()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._closed is not None and not self._closed.called and not self._writing:
            os.close(self._fd)
            self._closed.callback(None)

    def _given_up(self, result: object, seconds: float) -> None:
        self._drop(len(self._lines) + self._in_hand, f"not written within {seconds:g} s")

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        if not self._losing:
            self._losing = True
            self._log.warn("lines for {path} are lost: {why}", path=self._path, why=why)


def _open(path: str) -> int:
    """Open for appending. A file that is new gets mode 0640 whatever the umask; what is there keeps its own.

    A pipe that nobody reads, which an open would wait for, raises OSError.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags | os.O_EXCL, 0o640)
    except FileExistsError:
        try:
            descriptor = os.open(path, flags, 0o640)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            raise OSError(errno.ENXIO, "a pipe that nobody reads, or a socket", path) from None
        os.set_blocking(descriptor, True)
        return descriptor
    os.fchmod(descriptor, 0o640)
    return descriptor
