"""What becomes of a message's blocks: the frames of a stream, or one whole message.

:class:`~claudeproxyd.messages.blocks.BlockMachine` calls an output in legal order: ``start``, then ``open``, ``delta``
and ``close`` for one block after another, then ``finish``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.block import is_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ENCODER = msgspec.json.Encoder()
_encode, _encode_lines = _ENCODER.encode, _ENCODER.encode_lines

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b_delta","%b":'
_DELTA_END = b"}}\n\n"

#: The kinds of delta, and the member that each carries …
_MEMBERS = {
    "text": b"text",
    "thinking": b"thinking",
    "signature": b"signature",
    "input_json": b"partial_json",
    "citations": b"citation",
}
#: … and those of them that the model has not written.
_UNWRITTEN = ("signature", "citations")


class MessageOutput(Protocol):
    """Takes the events of one message."""

    def start(self, message: Mapping[str, object], usage: Mapping[str, object]) -> None:
        """Begin the message; *message* has all its members but the usage, those that come later empty."""

    def open(self, start: Mapping[str, object]) -> None:
        """Begin the next block, as content_block_start has it."""

    def delta(self, kind: str, value: object) -> None:
        """Add to the open block."""

    def close(self) -> None:
        """End the open block."""

    def ping(self) -> None:
        """Give a sign of life, if a client may see one now."""

    def finish(self, delta: Mapping[str, object], usage: Mapping[str, object]) -> None:
        """End the message; *delta* has why."""

    def flush(self) -> Batch:
        """Return what a client is to see of everything since the last call."""

    def message(self) -> bytes:
        """Return the whole message as JSON. Raises RuntimeError where there is none."""

    @property
    def written(self) -> int:
        """How many bytes the model has written so far: of text as JSON has it, of the input of calls."""


class FrameWriter:
    """Writes the events as frames of server-sent events, and keeps none.

    Deltas of one kind, one after another, are written together: JSON has no line ends within it, so that all that
    stands between two of them is put in at once.
    """

    __slots__ = (
        "_content",
        "_count",
        "_ended",
        "_frames",
        "_had_content",
        "_index",
        "_kind",
        "_prefix",
        "_run",
        "_written",
    )

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._count = 0
        """How many events those are."""
        self._run: list[Any] = []
        """Deltas of the open block, all of the kind ``_kind``, that come behind the frames."""
        self._kind = ""
        self._prefix = b""
        """The bytes of such a delta up to its value."""
        self._written = 0
        self._content = False
        """A content event is among the frames; ``_had_content``: one was, ever."""
        self._had_content = False
        self._ended = False
        self._index = -1

    def start(self, message: Mapping[str, object], usage: Mapping[str, object]) -> None:
        """Write ``message_start``."""
        self._frame(b"message_start", {"message": {**message, "usage": usage}})

    def open(self, start: Mapping[str, object]) -> None:
        """Write ``content_block_start``, with the next index."""
        self._index += 1
        self._frame(b"content_block_start", {"index": self._index, "content_block": start})

    def delta(self, kind: str, value: object) -> None:
        """Write ``content_block_delta``."""
        if kind != self._kind:
            self._write_run()
            self._kind, self._prefix = kind, _DELTA % (self._index, kind.encode(), _MEMBERS[kind])
        self._run.append(value)

    def close(self) -> None:
        """Write ``content_block_stop``."""
        self._frame(b"content_block_stop", {"index": self._index})
        self._content = self._had_content = True
        self._kind = ""

    def ping(self) -> None:
        """Write ``ping``: none ahead of the first content event, none after the end."""
        self._write_run()
        if self._had_content and not self._ended:
            self._frames.append(_PING)
            self._count += 1

    def finish(self, delta: Mapping[str, object], usage: Mapping[str, object]) -> None:
        """Write ``message_delta`` and ``message_stop``."""
        self._frame(b"message_delta", {"delta": delta, "usage": usage})
        self._frame(b"message_stop", {})
        self._content = self._ended = True

    def flush(self) -> Batch:
        """Return the frames since the last call, for one write."""
        if self._run:
            self._write_run()
        batch = Batch(b"".join(self._frames), self._count, self._content, ended=self._ended and self._count > 0)
        self._frames.clear()
        self._count, self._content = 0, False
        return batch

    def message(self) -> bytes:
        """Raise RuntimeError: a stream needs no memory."""
        raise RuntimeError("a stream keeps no message")

    @property
    def written(self) -> int:
        """See :attr:`MessageOutput.written`."""
        self._write_run()
        return self._written

    def _write_run(self) -> None:
        run, prefix = self._run, self._prefix
        if not run:
            return
        lines = _encode_lines(run)
        self._frames += (prefix, lines[:-1].replace(b"\n", _DELTA_END + prefix), _DELTA_END)
        self._count += len(run)
        self._written += _written(self._kind, run, len(lines) - len(run))
        self._content = self._had_content = True
        run.clear()

    def _frame(self, name: bytes, members: dict[str, object]) -> None:
        self._write_run()
        data = _encode({"type": name.decode(), **members})
        self._frames.append(b"event: %b\ndata: %b\n\n" % (name, data))
        self._count += 1


def _written(kind: str, deltas: Sequence[Any], size: int) -> int:
    """Return how many bytes the model wrote for these, which are *size* bytes of JSON."""
    if kind == "input_json":  # JSON itself, which is a string here
        return len("".join(deltas).encode())
    return 0 if kind in _UNWRITTEN else size - 2 * len(deltas)


class MessageCollector:
    """Puts the whole message together, and shows nothing before."""

    __slots__ = ("_block", "_content", "_deltas", "_ended", "_message", "_written")

    def __init__(self) -> None:
        self._message: dict[str, object] = {}
        self._content: list[dict[str, object]] = []
        """The blocks that are closed."""
        self._block: dict[str, object] = {}
        self._deltas: dict[str, list[Any]] = {}
        """Of the open block, by kind."""
        self._written = 0
        """Of the others."""
        self._ended = False

    def start(self, message: Mapping[str, object], usage: Mapping[str, object]) -> None:
        """Keep *message*; the usage is known better at the end."""
        self._message = dict(message)

    def open(self, start: Mapping[str, object]) -> None:
        """Begin the next block."""
        self._block = dict(start)
        self._deltas = {}

    def delta(self, kind: str, value: object) -> None:
        """Keep the delta."""
        self._deltas.setdefault(kind, []).append(value)

    def close(self) -> None:
        """Put the block together."""
        self._written = self.written
        block = self._block
        for kind, values in self._deltas.items():
            if kind == "citations":
                block["citations"] = values
            elif kind == "input_json":
                text = "".join(values)
                # Input that max_tokens has truncated is left out: the clients do not run such a call.
                block["input"] = msgspec.Raw(text.encode()) if is_object(text) else {}
            else:
                block[kind] = "".join(values)
        self._content.append(block)
        self._deltas = {}

    def ping(self) -> None:
        """Do nothing: nobody waits for frames."""

    def finish(self, delta: Mapping[str, object], usage: Mapping[str, object]) -> None:
        """Complete the message."""
        self._message |= {"content": self._content, **delta, "usage": usage}
        self._ended = True

    def flush(self) -> Batch:
        """Return a batch without frames; it says whether the message has ended."""
        return Batch(b"", 0, False, ended=self._ended)

    def message(self) -> bytes:
        """Return the whole message as JSON. Raises RuntimeError before the end."""
        if not self._ended:
            raise RuntimeError("the message is not finished")
        return _encode(self._message)

    @property
    def written(self) -> int:
        """See :attr:`MessageOutput.written`."""
        return self._written + sum(
            _written(kind, values, len(_encode_lines(values)) - len(values)) for kind, values in self._deltas.items()
        )
