"""The stream of an upstream that speaks Claude already: its frames go on as they came, and a watch reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from claudeproxyd.framing.sse import FrameSplitter
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.reader import MalformedAnswer
from claudeproxyd.messages.watch import StreamWatch

if TYPE_CHECKING:
    from claudeproxyd.framing.types import Framing
    from claudeproxyd.messages.usage import Usage


@implementer(IStreamReader)
class ClaudeReader:
    """Reads such a stream."""

    __slots__ = ("_splitter", "_watch", "unfinished")

    request_id = ""
    """It comes in a header."""

    def __init__(self, max_event_bytes: int, splitter: Framing[bytes] | None = None) -> None:
        """*splitter*: of another framing than that of server-sent events."""
        self._splitter: Framing[bytes] = splitter or FrameSplitter(max_event_bytes)
        self._watch = StreamWatch()
        self.unfinished = 0

    @property
    def usage(self) -> Usage:
        """The usage that the watch has read so far; estimated where the stream was truncated."""
        self._watch.close()
        return self._watch.usage

    @property
    def stop_reason(self) -> str | None:
        """As the upstream's ``message_delta`` said it."""
        return self._watch.stop_reason

    @property
    def anomaly(self) -> str:
        """The first event that was out of the grammar's order, in words; or ''."""
        return self._watch.anomaly

    def feed(self, data: bytes) -> Batch:
        """See :meth:`IStreamReader.feed <claudeproxyd.interfaces.IStreamReader.feed>`."""
        splitter = self._splitter
        batch = self._watch.batch(splitter.feed(data))
        self.unfinished = splitter.unfinished
        return batch

    def end(self) -> Batch:
        """Read what is left; behind an event that ends a stream anyway the empty line may be missing."""
        try:
            batch = self._watch.batch(self._splitter.end())
        except MalformedAnswer:  # half of an event is: it was truncated
            return Batch(b"", 0, False)
        return batch if batch.ended or batch.error is not None else Batch(b"", 0, False)
