"""Server-sent events: bytes in any splits to whole frames.

The format is WHATWG's (https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation):
lines end with LF, CRLF or CR, and an empty line ends an event. A frame here is what stands between two empty lines.
Line ends become LF on the way; nothing else is changed.
"""

from __future__ import annotations

_EMPTY_CRLF = b"\r\n\r\n"
#: What may stand between two empty lines without being a frame.
_EMPTY = (b"", b"\n")


class FrameTooLarge(Exception):
    """A frame passed the bound before its end was seen."""


class FrameSplitter:
    """Cuts one stream into frames. Pure; used by every executor whose upstream streams server-sent events."""

    __slots__ = ("_after_cr", "_limit", "_rest", "_searched", "_started", "unfinished")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        """Bytes that one frame may have."""
        self._rest = bytearray()
        self._searched = 0
        """How far ``_rest`` was searched for an empty line already: a large event is searched once, not once a read."""
        self._after_cr = False
        self._started = False
        self.unfinished = 0
        """Bytes of a frame whose end has not come."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that *data* completes, without the empty lines around them.

        Raises :class:`FrameTooLarge`.
        """
        if self._after_cr or b"\r" in data:
            if data.endswith(_EMPTY_CRLF) and (frames := self._of_one_line_each(data)):
                return frames
            data = self._with_line_feeds(data)
        rest = self._rest
        if rest:
            rest += data
            if rest.find(b"\n\n", max(0, self._searched - 1)) < 0:
                self._check_size()
                return []
            data = bytes(rest)
            rest.clear()
            self.unfinished = 0
        frames = data.split(b"\n\n")
        last = frames.pop()
        if last:
            rest += last
            self._check_size()
        if frames and not self._started:
            self._started = True
            frames[0] = frames[0].removeprefix(b"\xef\xbb\xbf")
        if b"" in frames or b"\n" in frames:
            return [frame for frame in frames if frame not in _EMPTY]
        return frames

    def end(self) -> list[bytes]:
        """Return the frame whose empty line has not come, if there is one."""
        return self.feed(b"\n\n")

    def _of_one_line_each(self, data: bytes) -> list[bytes]:
        """Return whole frames with CRLF, as Google sends them, whose bytes need no change; [] if they do."""
        if self._after_cr or self._rest or not self._started:
            return []
        frames = data.split(_EMPTY_CRLF)
        if frames.pop() or b"" in frames:
            return []  # a third line end, which belongs to the next frame; or none at all
        joined = b"".join(frames)  # to be searched once
        return [] if b"\n" in joined or b"\r" in joined else frames

    def _check_size(self) -> None:
        self._searched = self.unfinished = len(self._rest)
        if self._searched > self._limit:
            raise FrameTooLarge(f"an event of more than {self._limit} bytes")

    def _with_line_feeds(self, data: bytes) -> bytes:
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
