"""A JSON array that comes in pieces, as Google's streams without ``alt=sse`` are: to its elements."""

from __future__ import annotations

import re

from claudeproxyd.framing.sse import FrameTooLarge

_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


class ElementSplitter:
    """Cuts an array into the objects in it, and takes a lone object for an array of one. Pure.

    What stands between the objects is not looked at, and neither is what is inside: whoever decodes them will.
    """

    __slots__ = ("_at", "_depth", "_in_string", "_limit", "_rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        """Bytes that one element may have."""
        self._rest = bytearray()
        """From the beginning of an element on, or nothing."""
        self._at = 0
        """How far that was searched: a large element is searched once, not once a read."""
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the elements that *data* completes. Raises :class:`~claudeproxyd.framing.sse.FrameTooLarge`."""
        elements: list[bytes] = []
        rest = self._rest
        rest += data
        start = 0
        while found := (_INSIDE if self._in_string else _OUTSIDE).search(rest, self._at):
            self._at = found.end()
            match found.group():
                case b'"':
                    self._in_string = not self._in_string and self._depth > 0
                case b"\\":
                    self._at += 1
                case b"{":
                    start = start if self._depth else found.start()
                    self._depth += 1
                case b"}" if self._depth:
                    self._depth -= 1
                    if not self._depth:
                        elements.append(bytes(rest[start : self._at]))
        self._at = max(self._at, len(rest))
        if not self._depth:
            start = len(rest)
        del rest[:start]
        self._at -= start
        if len(rest) > self._limit:
            raise FrameTooLarge(f"an element of more than {self._limit} bytes")
        return elements

    def end(self) -> list[bytes]:
        """Return the element whose end has not come, if there is one."""
        return [bytes(self._rest)] if self._rest else []

    @property
    def unfinished(self) -> int:
        """Bytes of an element whose end has not come."""
        return len(self._rest)
