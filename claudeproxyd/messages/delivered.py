"""How many tokens a stream has brought, guessed from its deltas: for one that is truncated before they were counted."""

from __future__ import annotations

import re
import sys

_BYTES_PER_TOKEN = 4
_END = b"\n\n"

#: Where a delta has what the model wrote, and what comes behind that.
_WRITTEN = re.compile(rb'"(?:text|thinking|partial_json)": ?"')
_BEHIND = b'"}}\n\n'
_INPUT = b'"partial_json"'
#: What the model did not write says so in its first bytes. Where it is so short it does not matter.
_SIGNATURE = b'"signature_delta"'
_CITATION = b'"citations_delta"'
_TYPE_WITHIN_BYTES = 160
_SHORT_BYTES = 200


class Delivered:
    """The deltas of one stream, added up by block. Pure; told by the watch, once a read rather than once a delta.

    Of a block of plain text the first read alone is looked at, of thinking also those that may hold a signature: what
    is around the text of a delta is the same for all of a block. A delta is one token at least.
    """

    __slots__ = ("_around", "_before", "_bytes", "_deltas", "_plain", "_unwritten")

    def __init__(self) -> None:
        self._before = 0
        """Tokens of the blocks before the open one."""
        self._deltas = self._bytes = self._around = 0
        """Of the open block; ``_around``: bytes of a frame beside its text, once there is one."""
        self._plain = 0
        """Reads of fewer bytes are added without a look at them."""
        self._unwritten = _SIGNATURE
        """What the model did not write of the open block, if it may hold such deltas."""

    def block(self, start: bytes) -> None:
        """Another block begins, with this ``content_block_start``."""
        self._before += self._of_block()
        self._deltas = self._bytes = self._around = 0
        self._plain = 0
        self._unwritten = _SIGNATURE if b'"thinking"' in start else _CITATION if b'"citations"' in start else b""

    def add(self, frames: bytes, deltas: int) -> None:
        """Some deltas more, each with its empty line."""
        size = len(frames)
        if size < self._plain:
            self._deltas += deltas
            self._bytes += size
        else:
            self._look_at(frames, deltas)

    def _look_at(self, frames: bytes, deltas: int) -> None:
        unwritten = self._unwritten
        if unwritten and len(frames) - deltas * self._around > _SHORT_BYTES and unwritten in frames:
            kept = [frame for frame in frames.split(_END)[:-1] if frame.find(unwritten, 0, _TYPE_WITHIN_BYTES) < 0]
            if not kept:
                return
            frames, deltas = _END.join((*kept, b"")), len(kept)
        escaped = b"\\" in frames
        if not self._around:
            written = _WRITTEN.search(frames)
            self._around = written.end() + len(_BEHIND) if written else len(frames) // deltas
            if written and not escaped and not written[0].startswith(_INPUT):
                self._plain = self._around + _SHORT_BYTES if unwritten else sys.maxsize
        self._deltas += deltas
        self._bytes += len(frames)
        if escaped:
            # Each is one byte of text, or three of them for the six of \u4f60.
            self._bytes -= frames.count(b"\\") - frames.count(b"\\\\") + 2 * frames.count(b"\\u")

    def tokens(self) -> int:
        """Return the estimate for all of them."""
        return self._before + self._of_block()

    def _of_block(self) -> int:
        return max(self._deltas, -(-(self._bytes - self._deltas * self._around) // _BYTES_PER_TOKEN))
