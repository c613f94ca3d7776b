"""Captures: a whole request and its answers in a file, for finding faults. Off unless ``[capture]`` turns it on.

A capture collects references while the request runs, within bounds; what costs time (masking secrets, encoding,
writing, removing old files) happens in a thread when the request is over and worth keeping.
"""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.interfaces import ICapture, ICaptures, ITranscript
from claudeproxyd.messages.headers import SECRET
from claudeproxyd.observe.scrub import scrub, scrub_bytes

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from claudeproxyd.headers import Headers
    from claudeproxyd.observe.exposition import Registry


#: Bytes that all captures in progress hold together; beyond it bodies are cut short.
MAX_MEMORY_BYTES = 67_108_864
#: Captures in progress, those that are being written with them; beyond it requests go without.
MAX_OPEN_CAPTURES = 200
#: Reads of a body whose times are noted.
MAX_READS = 10_000
#: Bytes kept past the cut until secrets are masked, and dropped then: one that is cut in two is not known. Tokens that
#: carry their groups have so many.
MARGIN_BYTES = 16_384

_ours = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[\w.-]+\.json", re.ASCII).fullmatch
_unsafe = re.compile(r"[^\w.-]", re.ASCII).sub


class RecordedBody:
    """Collects one body, as it came."""

    __slots__ = ("_capture", "_parts", "_reads", "_size", "kept")

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._parts: list[bytes] = []
        self._reads: list[tuple[float, int]] = []
        self._size = 0
        self.kept = 0
        """Bytes in memory."""

    def add(self, chunk: bytes) -> None:
        """Add what one read brought of the body."""
        capture = self._capture
        if capture.finished:
            return
        self._size += len(chunk)
        if len(self._reads) < MAX_READS:
            self._reads.append((capture.seconds(), len(chunk)))
        part = chunk[: capture.take(len(chunk), self.kept)]
        if part:
            self._parts.append(part)
            self.kept += len(part)

    def plain(self, max_bytes: int) -> dict[str, object]:
        """Return it as the file has it: ``text``, or ``base64`` where it is not UTF-8; and when each read came."""
        data = scrub_bytes(b"".join(self._parts), _rest)
        if self.kept < self._size:
            data = data[:-MARGIN_BYTES]
        cut = self.kept < self._size or len(data) > max_bytes
        return {
            "bytes": self._size,
            "cut": cut,
            **_faithful(data[:max_bytes], cut),
            "reads": [(round(when * 1000, 1), size) for when, size in self._reads],
        }


@implementer(ITranscript)
class Transcript:
    """One request and its answer: the client's with us, or ours with an upstream."""

    def __init__(self, capture: Capture, about: dict[str, object]) -> None:
        self._about = about
        self._request: tuple[str, str, Headers] | None = None
        self._answer: tuple[int, Headers] | None = None
        self._failure: str | None = None
        self._sent = RecordedBody(capture)
        self._received = RecordedBody(capture)

    def request(self, method: str, path: str, headers: Headers, body: bytes) -> None:
        """The request, as it was sent; *path* is a path with its query or a URL."""
        self._request = (method, path, headers)
        self._sent.add(body)

    def answer(self, status: int, headers: Headers) -> None:
        """The head of the answer."""
        self._answer = (status, headers)

    def data(self, chunk: bytes) -> None:
        """A piece of the answer's body."""
        self._received.add(chunk)

    def failed(self, why: str) -> None:
        """There was no whole answer."""
        self._failure = why

    @property
    def kept(self) -> int:
        """Bytes in memory."""
        return self._sent.kept + self._received.kept

    def plain(self, max_bytes: int) -> dict[str, object]:
        """Return it as the file has it."""
        plain = dict(self._about)
        if self._request is not None:
            method, path, headers = self._request
            plain["request"] = {
                "method": method,
                "path": scrub(path),
                "headers": _masked(headers),
                "body": self._sent.plain(max_bytes),
            }
        if self._answer is not None:
            status, headers = self._answer
            plain["answer"] = {
                "status": status,
                "headers": _masked(headers),
                "body": self._received.plain(max_bytes),
            }
        if self._failure is not None:
            plain["failure"] = scrub(self._failure)
        return plain


@implementer(ICapture)
class Capture:
    """One request, in the making. Exactly one :meth:`finish` ends it."""

    def __init__(self, captures: Captures, request_id: str) -> None:
        self._captures = captures
        self._request_id = request_id
        self._time = captures.wall_clock()
        self._began = captures.clock.seconds()
        self._attempts: list[Transcript] = []
        self.finished = False
        self.client = Transcript(self, {})
        """What the client sent, and what it got. Filled by web."""

    def attempt(self, provider: str, credential: str) -> Transcript:
        """One more attempt; to be filled as it goes."""
        transcript = Transcript(self, {"provider": provider, "credential": credential})
        self._attempts.append(transcript)
        return transcript

    def finish(self, status: int, broken: bool = False) -> None:
        """The request is over: *status* is what the client was told, *broken* that its stream did not end well."""
        self.finished = True
        self._captures.done(self, status >= 400 or broken)

    def seconds(self) -> float:
        """Since the beginning."""
        return self._captures.clock.seconds() - self._began

    def take(self, wanted: int, kept: int) -> int:
        """How many of *wanted* bytes a body may keep that has *kept* already; they count as held."""
        captures = self._captures
        room = max(0, min(wanted, captures.max_bytes + MARGIN_BYTES - kept, MAX_MEMORY_BYTES - captures.held))
        captures.held += room
        return room

    @property
    def kept(self) -> int:
        """Bytes in memory."""
        return self.client.kept + sum(transcript.kept for transcript in self._attempts)

    def file(self) -> tuple[str, bytes]:
        """Its name, which sorts by time, and its content: JSON. Runs in a thread."""
        when = datetime.fromtimestamp(self._time, UTC)
        name = f"{when:%Y%m%dT%H%M%S}.{when.microsecond // 1000:03d}Z-{_unsafe('_', self._request_id)[:100]}.json"
        content = {
            "request_id": self._request_id,
            "time": when.isoformat(timespec="milliseconds"),
            "client": self.client.plain(self._captures.max_bytes),
            "attempts": [transcript.plain(self._captures.max_bytes) for transcript in self._attempts],
        }
        return name, msgspec.json.format(msgspec.json.encode(content), indent=1)


@implementer(ICaptures)
class Captures:
    """Makes captures, writes those worth keeping, and keeps as many as it is told to. One in a process."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        in_thread: Callable[[Callable[[], None]], Deferred[None]],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Off until :meth:`reload`. *in_thread* as :class:`~claudeproxyd.observe.lines.LineFile` has it."""
        self.clock = clock
        self.wall_clock = wall_clock
        self.held = 0
        """Bytes that captures hold in memory, all together."""
        self._in_thread = in_thread
        self._open = 0
        self._skipped = 0
        self._failing = False
        """The last one could not be written, and that was told."""
        self.reload("never", "", 0, 0)

    def reload(self, when: str, directory: str, max_bytes: int, keep: int) -> None:
        """``[capture]``, in force from now on, for captures in progress too."""
        self.max_bytes = max_bytes
        self._when = when
        self._directory = os.path.expanduser(directory)
        self._keep = keep

    def register(self, metrics: Registry) -> None:
        """Add the metrics of captures."""
        metrics.gauge("claudeproxyd_captures_open", "Captures in memory.", lambda: self._open)
        metrics.gauge("claudeproxyd_captures_held_bytes", "What they hold.", lambda: self.held)
        metrics.counter(
            "claudeproxyd_captures_skipped_total",
            "Requests that were not captured for lack of room, or could not be written.",
            lambda: self._skipped,
        )

    def begin(self, request_id: str) -> Capture | None:
        """A capture for this request, or None: they are off, or too many are open."""
        if self._when == "never":
            return None
        if self._open >= MAX_OPEN_CAPTURES:
            self._skipped += 1
            return None
        self._open += 1
        return Capture(self, request_id)

    def done(self, capture: Capture, fault: bool) -> None:
        """Called by a capture that is finished."""
        if self._when == "always" or (fault and self._when == "errors"):
            written = self._in_thread(lambda: self._write(capture))
            written.addCallbacks(self._written, self._failed).addBoth(self._release, capture)
        else:
            self._release(None, capture)

    def _release(self, _: object, capture: Capture) -> None:
        self._open -= 1
        self.held -= capture.kept

    def _written(self, _: object) -> None:
        self._failing = False

    def _failed(self, failure: Failure) -> None:
        """Log that a capture was not written: once, until one can be written again."""
        self._skipped += 1
        if not self._failing:
            self._failing = True
            why = failure.getErrorMessage()
            self._log.error("no captures in {directory}: {why}", directory=self._directory, why=why)

    def _write(self, capture: Capture) -> None:
        """Write one capture, in a thread."""
        directory = self._directory
        name, content = capture.file()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        path = os.path.join(directory, name)
        # Written under another name, so that nobody finds half a file.
        descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            os.replace(path + ".new", path)
        except OSError:
            os.remove(path + ".new")
            raise
        ours = sorted(filter(_ours, os.listdir(directory)))
        for old in ours[: max(0, len(ours) - self._keep)]:
            with suppress(FileNotFoundError):
                os.remove(os.path.join(directory, old))


def _rest() -> None:
    """Let the reactor's thread run: the search for secrets holds the interpreter for long where there are many."""
    time.sleep(0.001)


def _masked(headers: Headers) -> list[tuple[str, str]]:
    return [
        (scrub(name.decode("latin-1")), "***" if name.lower() in SECRET else scrub(value.decode("latin-1")))
        for name, value in headers
    ]


def _faithful(data: bytes, cut: bool) -> dict[str, str]:
    """Return *data* so that it can be had back exactly. Of a cut body, a last character that is not whole goes."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError as error:
        if cut and error.end == len(data) and error.reason == "unexpected end of data":
            return {"text": data[: error.start].decode()}
        return {"base64": base64.b64encode(data).decode()}
