"""Records on their way into the ledger, in files: what is written here outlives the process, whatever ends it.

A line is written in the turn in which its attempt is over, into the segment that is open; a moment later that segment
is closed and handed on to be entered into the database, and deleted only when it is. So the same files are the queue
of ordinary days, what waits while the database is away, and what the next start enters after a crash. Entering a line
twice changes nothing: a record's key is its request and attempt.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from secrets import token_hex
from typing import TYPE_CHECKING

import msgspec
from twisted.logger import Logger

if TYPE_CHECKING:
    from claudeproxyd.observe.usage import UsageRecord

SUFFIX = ".jsonl"

_encode = msgspec.json.Encoder().encode


class Journal:
    """The segments of one process in a folder that others may use beside it. Never blocks for longer than a write into
    the page cache takes."""

    _log = Logger()

    def __init__(self, folder: str, max_bytes: int) -> None:
        """*max_bytes*: of all that waits; beyond it records are lost, and counted."""
        self.folder = folder
        self._max_bytes = max_bytes
        self._process = token_hex(4)
        self._number = 0
        self._file: int | None = None
        self._path = ""
        self._lines: list[bytes] = []
        """Those that are to be written."""
        self.open_bytes = 0
        """What the open segment has."""
        self.waiting: dict[str, int] = {}
        """The closed segments and their sizes, the oldest first."""
        self._waiting_bytes = 0
        self.lost = 0
        """Records that could not be kept."""
        self._failing = False

    @property
    def size(self) -> int:
        """Bytes that are not in the database yet."""
        return self.open_bytes + self._waiting_bytes

    def add(self, record: UsageRecord) -> None:
        """Have the next :meth:`write` write a line of *record* as it is now. Raises UnicodeError, TypeError."""
        self._lines.append(_encode(record))

    def write(self) -> None:
        """Write what was added. Raises nothing: what cannot be kept is counted, and the first of it logged."""
        if not self._lines:
            return
        count, written = len(self._lines), 0
        lines = b"\n".join([*self._lines, b""])
        size = len(lines)
        self._lines.clear()
        try:
            if self.open_bytes + self._waiting_bytes + size > self._max_bytes:
                raise OSError(f"{self._max_bytes} bytes wait for the database already")
            if self._file is None:
                self._open()
            assert self._file is not None
            written = os.write(self._file, lines)
            self.open_bytes += written
            if written < size:
                raise OSError("no space left for a whole line")
        except OSError as error:
            self.lost += count - lines.count(b"\n", 0, written)
            if not self._failing:
                self._failing = True
                self._log.error("usage records are lost: {folder}: {why}", folder=self.folder, why=str(error))
            self._end_line()
        else:
            if self._failing:
                self._failing = False
                self._log.info("usage records are kept again; {lost} were lost", lost=self.lost)

    def cut(self) -> None:
        """Close the open segment, if there is anything in it: it is among those that wait."""
        self.write()
        if self._file is not None and self.open_bytes:
            os.close(self._file)
            self._add(self._path, self.open_bytes)
            self._file, self.open_bytes = None, 0

    def adopt(self, found: Mapping[str, int]) -> None:
        """Take over segments that :func:`deserted` has found."""
        for path, size in found.items():
            if path not in self.waiting and path != self._path:
                self._add(path, size)

    def entered(self, path: str) -> None:
        """All that a segment holds is in the database: it goes."""
        self._waiting_bytes -= self.waiting.pop(path, 0)

    def close(self) -> None:
        """End it; what is written later opens a new segment."""
        self.cut()
        if self._file is not None:  # nothing in it
            os.close(self._file)
            os.unlink(self._path)
            self._file = None

    def _add(self, path: str, size: int) -> None:
        self.waiting[path] = size
        self._waiting_bytes += size

    def _open(self) -> None:
        os.makedirs(self.folder, 0o700, exist_ok=True)
        self._number += 1
        self._path = os.path.join(self.folder, f"{self._process}-{self._number:08d}{SUFFIX}")
        self._file = create_locked(self._path)

    def _end_line(self) -> None:
        """Let nothing be added to half a line."""
        if self._file is not None and self.open_bytes:
            self.cut()


def create_locked(path: str) -> int:
    """Create a file to add to, and return its descriptor; :func:`deserted` does not find it until that is closed."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def deserted(folder: str, suffix: str = SUFFIX, unreadable: list[str] | None = None) -> dict[str, int]:
    """Return the files that no living process writes to, and their sizes. Blocks.

    Those that may not be read are added to *unreadable*: they hold up none of the others.
    """
    try:
        named = (entry for entry in os.scandir(folder) if entry.name.endswith(suffix))
        found = sorted(entry.path for entry in named if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return {}
    sizes = {}
    for path in found:
        try:
            if size := _deserted_size(path):  # with nothing in it, one is being made
                sizes[path] = size
        except PermissionError:
            if unreadable is not None:
                unreadable.append(path)
    return sizes


def _deserted_size(path: str) -> int | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(file).st_size
    except BlockingIOError:  # its writer lives
        return None
    finally:
        os.close(file)


def lines_of(path: str, read: Callable[[bytes], UsageRecord]) -> Iterator[UsageRecord]:
    """Yield the records of a segment. Half a line, where a machine lost power, is none. Blocks."""
    with open(path, "rb") as file:
        for line in file:
            try:
                yield read(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
