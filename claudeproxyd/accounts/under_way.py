"""The attempts that are under way, in a file: should the process be killed, the next start knows of them.

A line is written before an attempt is sent, and a mark when its record is in the journal. What has a line and no mark
is *lost*, and entered as it was when it began. Marks wait for the next line or for :meth:`~AttemptsUnderWay.flush`, so
that they cost no write of their own: an attempt whose mark is missing is entered already, and a record counts once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from secrets import token_hex
from typing import TYPE_CHECKING

import msgspec
from twisted.logger import Logger

from claudeproxyd.accounts.journal import create_locked

if TYPE_CHECKING:
    from claudeproxyd.observe.usage import UsageRecord

SUFFIX = ".begun"

LINE_BYTES = 600
"""Of a usual line."""

SPARE_BYTES = 1_048_576
"""That lines of attempts which are over may take, beside as much again as the others."""

MOVED_AT_ONCE = 16
"""Lines that go from one file to the next with each that is added: all at once would hold the reactor."""

_encode_lines = msgspec.json.Encoder().encode_lines


class AttemptsUnderWay:
    """Those of one process, in a folder that others may use beside it. Blocks for no longer than a write into the page
    cache takes; raises nothing."""

    _log = Logger()

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._process = token_hex(4)
        self._number = 0
        self._file: int | None = None
        self._path = ""
        self._size = 0
        self._max_size = 0
        """Beyond it another file takes its place, with what is under way alone."""
        self._before: tuple[int, str] | None = None
        """The file ahead of this one, while it has lines that this one has not."""
        self._moving: list[str] = []
        """Their keys."""
        self._records: dict[str, UsageRecord] = {}
        """Those under way, by key."""
        self._begun: dict[str, UsageRecord] = {}
        """Those of them that have no line yet."""
        self._marks: list[str] = []
        """Keys of those that are over, and have no mark yet."""
        self._failing = False

    def begin(self, record: UsageRecord) -> None:
        """Have the next :meth:`write` note an attempt by the record that it is to have if nothing more is heard."""
        key = _key(record)
        self._records[key] = record
        if not self._failing:
            self._begun[key] = record

    def end(self, record: UsageRecord) -> None:
        """Forget an attempt whose *record* is kept elsewhere; most of those that count tokens were never noted."""
        key = _key(record)
        if self._records.pop(key, None) is None or self._failing:
            return
        if self._begun.pop(key, None) is None:
            self._marks.append(key)

    def write(self) -> None:
        """Note what has begun. What is over is noted with it, but not for itself."""
        if self._begun:
            self._write()

    def flush(self) -> None:
        """Note what is over, too. Called once in a while; tries again what could not be written."""
        if self._failing or self._begun or (self._marks and self._file is not None):
            self._write()

    def _write(self) -> None:
        begun, marks, self._begun, self._marks = self._begun, self._marks, {}, []
        try:
            if self._failing or self._file is None:
                self._write_anew()
            else:
                if begun and self._size >= self._max_size and not self._moving:
                    self._turn_over()
                self._add([*marks, *begun.values()])
                if self._moving and begun:
                    self._move(MOVED_AT_ONCE * len(begun))
        except OSError as error:
            self._failed(error)
        else:
            if self._failing:
                self._failing = False
                self._log.info("attempts under way are noted again")

    def close(self) -> None:
        """End it. What is still under way stays in its file; what begins later opens another."""
        self.flush()
        self._let_go(keep=bool(self._records))

    def _add(self, lines: Sequence[UsageRecord | str]) -> None:
        assert self._file is not None
        self._size += _write_lines(self._file, lines)

    def _write_anew(self) -> None:
        """Begin a file with what is under way, and forget about any before it."""
        file, path = self._create()
        try:
            size = _write_lines(file, list(self._records.values()))
        except OSError:
            os.close(file)
            os.unlink(path)
            raise
        self._let_go()
        self._use(file, path, size)

    def _turn_over(self) -> None:
        """Go on in another file, to which what is under way moves bit by bit."""
        assert self._file is not None
        created = self._create()
        self._before, self._moving = (self._file, self._path), list(self._records)
        self._use(*created, 0)

    def _move(self, count: int) -> None:
        keys = self._moving[-count:]
        self._add([self._records[key] for key in keys if key in self._records])
        del self._moving[-count:]
        if not self._moving:
            _close(self._before)
            self._before = None

    def _create(self) -> tuple[int, str]:
        os.makedirs(self._folder, 0o700, exist_ok=True)
        self._number += 1
        path = os.path.join(self._folder, f"{self._process}-{self._number:08d}{SUFFIX}")
        return create_locked(path), path

    def _use(self, file: int, path: str, size: int) -> None:
        self._file, self._path, self._size = file, path, size
        self._max_size = 2 * LINE_BYTES * len(self._records) + SPARE_BYTES

    def _let_go(self, keep: bool = False) -> None:
        if self._file is not None:
            _close((self._file, self._path), keep)
        _close(self._before, keep)
        self._file, self._before, self._moving = None, None, []

    def _failed(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            self._log.error(
                "attempts under way are not noted, and have no record should the process be killed: {folder}: {why}",
                folder=self._folder,
                why=str(error),
            )


def lost_in(path: str, read: Callable[[bytes], UsageRecord]) -> Iterator[UsageRecord]:
    """Return the records of attempts that were under way when the file's process ended. Blocks."""
    lost: dict[str, UsageRecord] = {}
    with open(path, "rb") as file:
        for line in file:
            if not line.startswith(b"{"):
                lost.pop(line.strip(b'"\n').decode("latin-1"), None)
                continue
            try:
                record = read(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):  # half a line
                continue
            lost[_key(record)] = record
    return iter(lost.values())


def _close(opened: tuple[int, str] | None, keep: bool = False) -> None:
    if opened is not None:
        file, path = opened
        os.close(file)
        if not keep:
            os.unlink(path)


def _write_lines(file: int, lines: Sequence[UsageRecord | str]) -> int:
    """Write records and marks. Return how many bytes that was."""
    data = _encode_lines(lines)
    written = os.write(file, data)
    if written < len(data):
        raise OSError("no space left for a whole line")
    return written


def _key(record: UsageRecord) -> str:
    return f"{record.request_id} {record.attempt}"
