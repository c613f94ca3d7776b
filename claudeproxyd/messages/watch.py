"""The commit, the end and the usage of a Claude stream that passes, without a change to its bytes.

The frames of an Anthropic-compatible upstream are the client's answer as they are. The watch reads just enough of each
to know what the daemon has to know, and rejects nothing that is well-formed: what the API adds next month passes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.delivered import Delivered
from claudeproxyd.messages.frame import read_frame
from claudeproxyd.messages.loose import LARGE_BYTES, is_word, read_object
from claudeproxyd.messages.reader import MalformedAnswer
from claudeproxyd.messages.usage import Usage, count, tokens_in


class MalformedEvent(MalformedAnswer):
    """A frame whose data is not the JSON of an event, or that begins another message: the stream is broken there."""


class _Event(msgspec.Struct):
    type: str
    index: int = -1


_decode = msgspec.json.Decoder(_Event).decode

_DELTA = b"event: content_block_delta\ndata: "
_DELTA_DATA = len(_DELTA)


class StreamWatch:
    """Reads along with one stream. Pure; fed by the Anthropic executor, one call a read."""

    __slots__ = (
        "_counted",
        "_delivered",
        "_id",
        "_open",
        "anomaly",
        "content",
        "ended",
        "started",
        "stop_reason",
        "usage",
    )

    def __init__(self) -> None:
        self.usage = Usage()
        self.stop_reason: str | None = None
        self.started = False
        """``message_start`` was seen."""
        self.ended = False
        """``message_stop`` was seen; whatever comes after it is nobody's."""
        self.anomaly = ""
        """The first thing that was out of the grammar's order, for one line in the log; '' as a rule."""
        self.content = False
        """A content event was seen: what a client has seen of the message can no longer be taken back."""
        self._id: object = None
        """The message's, once it has started."""
        self._open = -1
        self._counted = False
        """The output figure is that of a ``message_delta``."""
        self._delivered = Delivered()

    def batch(self, frames: Iterable[bytes]) -> Batch:
        """Return the batch of these frames. Raises :class:`MalformedEvent`."""
        passing: list[bytes] = []
        deltas = 0
        """How many of the last in *passing* are deltas that were not added up yet."""
        for frame in frames:
            # Nearly all frames are such, and this is the daemon's innermost loop.
            if frame[:_DELTA_DATA] == _DELTA and b"\n" not in (data := frame[_DELTA_DATA:]):
                name = b"content_block_delta"
            else:
                name, data = read_frame(frame)
                if not data:
                    continue
            try:
                event = _decode(data)
            except UNREADABLE:
                event = _event_of_unknown_shape(name, data)
            kind = event.type
            if kind == "content_block_delta":
                deltas += 1
                if event.index != self._open:
                    self._note(f"content_block_delta of block {event.index} while block {self._open} is open")
            else:
                if deltas:
                    self.content = True
                    self._delivered.add(_join(passing[-deltas:]), deltas)
                    deltas = 0
                if kind == "error":
                    return Batch(_join(passing), len(passing), self.content, data)
                if kind == "ping":
                    if not self.content:
                        continue
                else:
                    self._observe(kind, event.index, data)
            passing.append(frame if name else _named(kind, data))
            if self.ended:
                break
        count = len(passing)
        passing.append(b"")
        joined = b"\n\n".join(passing)
        if deltas:
            self.content = True
            self._delivered.add(joined if deltas == count else _join(passing[count - deltas : count]), deltas)
        return Batch(joined, count, self.content, None, self.ended)

    def close(self) -> None:
        """The stream is over: where the upstream has not counted the output, estimate what was delivered."""
        usage = self.usage
        counted = self._counted and (self.ended or self.stop_reason is not None)
        usage.estimated = not counted and (self.started or self.content)
        if usage.estimated:
            usage.output = max(usage.output or 0, self._delivered.tokens())

    def _observe(self, kind: str, index: int, data: bytes) -> None:
        """The events that come a few times in a stream."""
        if kind == "content_block_start":
            if not self.started or index != self._open + 1:
                self._note(f"content_block_start of block {index} after block {self._open}")
            self._open = index
            self._delivered.block(data)
        elif kind == "content_block_stop":
            self.content = True
            if index != self._open:
                self._note(f"content_block_stop of block {index} while block {self._open} is open")
        elif kind == "message_start":
            self._read_start(data)
        elif kind == "message_delta":
            self.content = True
            self._read_end(data)
        elif kind == "message_stop":
            self.ended = True

    def _read_start(self, data: bytes) -> None:
        """Read the message's id and its first figures.

        Raises :class:`MalformedEvent` for another message within the first.
        """
        message = (read_object(data) or {}).get("message")
        if not isinstance(message, dict):
            self._note("a message_start without a message")
            message = {}
        if self.started:
            if message.get("id") != self._id:
                # A repetition behind the upstream: clients would join the halves of two messages.
                raise MalformedEvent("another message began within the first")
            self._note("a second message_start")
        self.started = True
        self._id = message.get("id")
        self._note(count(self.usage, message.get("usage")))

    def _read_end(self, data: bytes) -> None:
        """Read the figures and the stop reason, where they have a known shape."""
        event = read_object(data) or {}
        usage, delta = event.get("usage"), event.get("delta")
        self._note(count(self.usage, usage))
        output = usage.get("output_tokens") if isinstance(usage, dict) else usage
        if output is not None:
            self._counted = tokens_in(output) is not None
        reason = delta.get("stop_reason") if isinstance(delta, dict) else None
        if is_word(reason):
            self.stop_reason = reason
        elif reason is not None:
            self._note("a stop_reason of an unknown shape")

    def _note(self, what: str) -> None:
        if not self.anomaly:
            self.anomaly = what


def _join(frames: list[bytes]) -> bytes:
    """Return frames as they go on the wire."""
    return b"\n\n".join((*frames, b""))


def _event_of_unknown_shape(name: bytes, data: bytes) -> _Event:
    """Return an event of JSON that is none as the API has them, by its ``event:`` name. Raises for what is not JSON.

    An object with an ``error`` is one, in whatever dialect: its words are the upstream's, and the client's to see.

    The last word is the standard library's: half a surrogate pair, as an upstream sends it that cuts text into pieces,
    is JSON to it.
    """
    try:
        event = json.loads(data.decode()) if len(data) <= LARGE_BYTES else _large(data)
        members = event if isinstance(event, dict) else {}
        kind, index = members.get("type"), members.get("index")
        if not isinstance(kind, str):
            kind = "error" if members.get("error") else name.decode()
    except (ValueError, RecursionError) as e:
        raise MalformedEvent(f"an event that is not JSON: {e}") from None
    if not kind:
        raise MalformedEvent("an event without a type")
    return _Event(kind, index if isinstance(index, int) else -1)


def _large(data: bytes) -> dict[str, object]:
    """An event's object, which is not taken apart. Raises ValueError."""
    event = read_object(data)
    if event is None:
        raise ValueError("or too odd for its size")
    return event


def _named(kind: str, data: bytes) -> bytes:
    """Return the frame of an event whose ``event:`` line is missing, with its data on one line."""
    if not kind.isidentifier():
        raise MalformedEvent(f"an event of type {kind!r}")
    return b"event: %b\ndata: %b" % (kind.encode(), data.replace(b"\n", b" "))
