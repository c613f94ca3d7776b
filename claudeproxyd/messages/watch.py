"""Watching a Claude stream go by: its commit, its end, its usage; without changing a byte of it.

The frames of an Anthropic-compatible upstream are the client's answer as they are. The watch reads just enough of each
to know what the daemon has to know, and rejects nothing that is well-formed: what the API adds next month passes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.frame import read_frame
from claudeproxyd.messages.reader import Damaged
from claudeproxyd.messages.usage import Usage, UsageMembers, count


class DamagedEvent(Damaged):
    """A frame whose data is not the JSON of an event: the stream is broken there."""


class _Event(msgspec.Struct):
    type: str
    index: int = -1


class _Message(msgspec.Struct):
    usage: UsageMembers | None = None


class _MessageStart(msgspec.Struct):
    message: _Message


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _MessageDelta(msgspec.Struct):
    delta: _Delta | None = None
    usage: UsageMembers | None = None


_decode = msgspec.json.Decoder(_Event).decode
_MESSAGE_START = msgspec.json.Decoder(_MessageStart)
_MESSAGE_DELTA = msgspec.json.Decoder(_MessageDelta)

_DELTA = b"event: content_block_delta\ndata: "
_DELTA_DATA = len(_DELTA)

#: Bytes of a ``content_block_delta`` around its text: what an estimate of the delivered tokens leaves out.
_DELTA_FRAME = 85
_BYTES_A_TOKEN = 4


class StreamWatch:
    """Reads along with one stream. Pure; fed by the Anthropic executor, one call a read."""

    __slots__ = ("_delivered", "_open", "content", "ended", "oddity", "started", "stop_reason", "usage")

    def __init__(self) -> None:
        self.usage = Usage()
        self.stop_reason: str | None = None
        self.started = False
        """``message_start`` was seen."""
        self.ended = False
        """``message_stop`` was seen; whatever comes after it is nobody's."""
        self.oddity = ""
        """The first thing that was out of the grammar's order, for one line in the log; '' as a rule."""
        self.content = False
        """A content event was seen: what a client has seen of the message can no longer be taken back."""
        self._open = -1
        self._delivered = 0

    def batch(self, frames: Iterable[bytes]) -> Batch:
        """What these frames come to. Raises :class:`DamagedEvent`."""
        passing: list[bytes] = []
        for frame in frames:
            # Nearly all frames are such, and this is the daemon's innermost loop.
            if frame.startswith(_DELTA) and b"\n" not in (data := frame[_DELTA_DATA:]):
                name = b"content_block_delta"
            else:
                name, data = read_frame(frame)
                if not data:
                    continue
            try:
                event = _decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                event = _event_of_unknown_shape(name, data)
            kind = event.type
            if kind == "content_block_delta":
                self.content = True
                self._delivered += len(data) - _DELTA_FRAME
                if event.index != self._open:
                    self._note(f"content_block_delta of block {event.index} while block {self._open} is open")
            elif kind == "error":
                return self._joined(passing, error=data)
            elif kind == "ping" and not self.content:
                continue
            else:
                self._observe(kind, event.index, data)
            passing.append(frame if name else _named(kind, data))
            if self.ended:
                break
        return self._joined(passing)

    def close(self) -> None:
        """The stream is over: where the upstream has not counted the output, estimate what was delivered."""
        self.usage.estimated = not self.ended and self.stop_reason is None and self._delivered > 0
        if self.usage.estimated:
            self.usage.output = max(self.usage.output or 0, -(-self._delivered // _BYTES_A_TOKEN))

    def _joined(self, passing: list[bytes], error: bytes | None = None) -> Batch:
        passing.append(b"")
        return Batch(b"\n\n".join(passing), len(passing) - 1, self.content, error, self.ended)

    def _observe(self, kind: str, index: int, data: bytes) -> None:
        """The events that come a few times in a stream."""
        if kind == "content_block_start":
            if not self.started or index != self._open + 1:
                self._note(f"content_block_start of block {index} after block {self._open}")
            self._open = index
        elif kind == "content_block_stop":
            self.content = True
            if index != self._open:
                self._note(f"content_block_stop of block {index} while block {self._open} is open")
        elif kind == "message_start":
            if self.started:
                self._note("a second message_start")
            self.started = True
            self._read_figures(_MESSAGE_START, data)
        elif kind == "message_delta":
            self.content = True
            self._read_figures(_MESSAGE_DELTA, data)
        elif kind == "message_stop":
            self.ended = True

    def _read_figures(
        self, decoder: msgspec.json.Decoder[_MessageStart] | msgspec.json.Decoder[_MessageDelta], data: bytes
    ) -> None:
        """Usage and stop reason, where they have the shape that we know; the event passes all the same."""
        try:
            event = decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            self._note(f"figures of an unknown shape: {e}")
            return
        if isinstance(event, _MessageStart):
            count(self.usage, event.message.usage)
            return
        count(self.usage, event.usage)
        if event.delta is not None and event.delta.stop_reason is not None:
            self.stop_reason = event.delta.stop_reason

    def _note(self, what: str) -> None:
        if not self.oddity:
            self.oddity = what


def _event_of_unknown_shape(name: bytes, data: bytes) -> _Event:
    """JSON that is no event as we know them passes under its ``event:`` name; what is not JSON is a broken stream.

    The last word is the standard library's: half a surrogate pair, as an upstream sends it that cuts text into pieces,
    is JSON to it.
    """
    try:
        event = json.loads(data.decode())
        members = event if isinstance(event, dict) else {}
        kind, index = members.get("type"), members.get("index")
        if not isinstance(kind, str):
            kind = name.decode()
    except (ValueError, RecursionError) as e:
        raise DamagedEvent(f"an event that is not JSON: {e}") from None
    if not kind:
        raise DamagedEvent("an event without a type")
    return _Event(kind, index if isinstance(index, int) else -1)


def _named(kind: str, data: bytes) -> bytes:
    """The frame of an event whose ``event:`` line is missing, with its data on one line."""
    if not kind.isidentifier():
        raise DamagedEvent(f"an event of type {kind!r}")
    return b"event: %b\ndata: %b" % (kind.encode(), data.replace(b"\n", b" "))
