"""Writes a request body that is too large for one write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable

#: Up to here a body goes out in one write with its head; above it in steps of this size.
MAX_WRITE_BYTES = 65_536


@implementer(IPushProducer)
class Upload:
    """Writes *body* as fast as *transport* takes it, and no faster.

    *progressed* is called each time before more is written, *finished* once, after the last write.
    """

    def __init__(
        self, transport: Any, body: bytes, progressed: Callable[[], object], finished: Callable[[], object]
    ) -> None:
        self._transport = transport
        self._progressed = progressed
        self._finished = finished
        self._unsent = memoryview(body)
        self._paused = False

    def resumeProducing(self) -> None:
        """See the interface."""
        self._paused = False
        self._progressed()
        while self._unsent and not self._paused:
            step, self._unsent = self._unsent[:MAX_WRITE_BYTES], self._unsent[MAX_WRITE_BYTES:]
            self._transport.write(bytes(step))
        if not self._unsent:
            self._finished()

    def pauseProducing(self) -> None:
        """See the interface."""
        self._paused = True

    def stopProducing(self) -> None:
        """See the interface."""
        self._paused = True
        self._unsent = memoryview(b"")
