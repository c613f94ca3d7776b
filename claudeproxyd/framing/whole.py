"""A body that is one object: to the whole of it."""

from __future__ import annotations

from claudeproxyd.framing.sse import FrameTooLarge


class WholeBody:
    """Keeps one body, and gives it at its end. Pure."""

    __slots__ = ("_body", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        """Bytes that it may have."""
        self._body = bytearray()

    def feed(self, data: bytes) -> tuple[()]:
        """Return nothing yet. Raises :class:`~claudeproxyd.framing.sse.FrameTooLarge`."""
        self._body += data
        if len(self._body) > self._limit:
            raise FrameTooLarge(f"an answer of more than {self._limit} bytes")
        return ()

    def end(self) -> list[bytes]:
        """Return the body, which is over."""
        return [bytes(self._body)]

    @property
    def unfinished(self) -> int:
        """Bytes of it so far."""
        return len(self._body)
