"""The stream of InvokeModelWithResponseStream: Claude's own events, each in a message of AWS's. Pure."""

from __future__ import annotations

import msgspec
from zope.interface import implementer

from claudeproxyd.framing.event_stream import DamagedMessage, EventStreamSplitter
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.aws_errors import error_in
from claudeproxyd.messages.loose import read_object
from claudeproxyd.messages.members import without_members
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.messages.reader import MalformedAnswer

EVENT_STREAM = b"application/vnd.amazon.eventstream"

#: Members that Bedrock puts into Claude's objects begin so; strict clients refuse them.
_BEDROCKS_OWN = "amazon-bedrock-"
_OWN_MARK = f'"{_BEDROCKS_OWN}'.encode()
_ON_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
_DELTA = b'{"type":"content_block_delta",'
_DELTA_FRAME = b"event: content_block_delta\ndata: "


class _Chunk(msgspec.Struct, gc=False):
    data: bytes = msgspec.field(name="bytes")
    """In base64, which msgspec decodes."""


class _Event(msgspec.Struct):
    type: str = ""


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_encode = msgspec.json.Encoder().encode


def without_bedrocks_own(body: bytes) -> bytes:
    """Return an object of Claude's without what Bedrock has put into it."""
    if _OWN_MARK not in body:
        return body
    members = read_object(body) or {}
    return without_members(body, [name for name in members if name.startswith(_BEDROCKS_OWN)])


class _FrameSplitter:
    """Makes frames of server-sent events of the messages of a stream: an error becomes an ``error`` event."""

    __slots__ = ("_splitter",)

    def __init__(self, limit: int) -> None:
        self._splitter = EventStreamSplitter(limit)

    @property
    def unfinished(self) -> int:
        """Bytes of a message whose end has not come."""
        return self._splitter.unfinished

    def end(self) -> list[bytes]:
        """Return nothing: what is left is no event."""
        return []

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that *data* completes. Raises MalformedAnswer and FrameTooLarge."""
        events: list[bytes] = []
        error: dict[str, object] | None = None
        try:
            for message in self._splitter.feed(data):
                headers, payload = message
                if headers.get(":event-type") == "chunk":
                    events.append(_decode_chunk(payload).data)
                elif (error := error_in(message)) is not None:
                    break
        except DamagedMessage as e:
            raise MalformedAnswer(str(e)) from None
        except UNREADABLE as e:
            raise MalformedAnswer(f"a chunk that is none: {e}") from None
        frames = _frames(events)
        if error is not None:
            frames.append(b"event: error\ndata: " + _encode({**error, "type": "error"}))
        return frames


def _frames(events: list[bytes]) -> list[bytes]:
    """Return the frames of one read's events."""
    joined = b"".join(events)  # what next to none has is looked for once
    if _OWN_MARK in joined or b"\n" in joined or b"\r" in joined:
        events = [without_bedrocks_own(event).translate(_ON_ONE_LINE) for event in events]
    frames = [_DELTA_FRAME + event if event.startswith(_DELTA) else _frame(event) for event in events]
    return [frame for frame in frames if frame] if b"" in frames else frames


def _frame(event: bytes) -> bytes:
    """Return the frame of an event; b'' for what is none of Claude's."""
    kind = _type_of(event)
    return b"event: %b\ndata: %b" % (kind, event) if kind else b""


def _type_of(event: bytes) -> bytes:
    """Return an event's type; b'' for an object that has none, such as a guardrail's mark."""
    try:
        kind = _decode_event(event).type
    except UNREADABLE:
        read = read_object(event)
        if read is None:
            raise MalformedAnswer("an event that is not JSON") from None
        found = read.get("type")
        kind = found if isinstance(found, str) else ""
    if kind and not kind.isidentifier():
        raise MalformedAnswer(f"an event of type {kind!r}")
    return kind.encode()


@implementer(IStreamReader)
class ChunkedClaudeReader(ClaudeReader):
    """Reads such a stream."""

    __slots__ = ()

    def __init__(self, max_event_bytes: int) -> None:
        super().__init__(max_event_bytes, _FrameSplitter(max_event_bytes))
