"""What one upstream read came to: whole frames for the client, and the few facts that dispatch decides by."""

from __future__ import annotations


class Batch:
    """The events of one read, between an executor's stream and dispatch.

    The frames are joined already: a client gets them in one write. Pings that came ahead of the first content event
    are not among them, and neither is an ``error`` event: the executor takes :attr:`error` out and classifies it.
    """

    __slots__ = ("content", "count", "ended", "error", "frames", "progress")

    def __init__(
        self, frames: bytes, count: int, content: bool, error: bytes | None = None, ended: bool = False
    ) -> None:
        self.frames = frames
        """Whole frames as they go on the wire; b'' when the read held none."""
        self.count = count
        """How many events those are."""
        self.content = content
        """Whether a *content event* is among them: content_block_delta, content_block_stop or message_delta."""
        self.error = error
        """The JSON of an ``error`` event that ended this read, or None. Nothing of the stream counts after it."""
        self.ended = ended
        """``message_stop`` is its last event: the stream is whole, and no batch comes after it."""
        self.progress = False
        """The read brought something of the answer, even if nothing that a client is shown."""
