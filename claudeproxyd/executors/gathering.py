"""A stream from upstream as the whole answer that its client asked for.

For requests that can end before the model does: a whole answer would be made, and paid for, to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from zope.interface import implementer

from claudeproxyd.executors.responses import BufferedResponse
from claudeproxyd.interfaces import IEventConsumer, IStreamReader
from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.reader import MalformedAnswer

if TYPE_CHECKING:
    from claudeproxyd.executors.responses import ParsedMessage, StreamingResponse
    from claudeproxyd.messages.usage import Usage


@implementer(IStreamReader)
class Unshown:
    """Reads such a stream: its batches hold nothing.

    So nobody has seen any of it when it fails, and another credential can take over.
    """

    request_id = ""

    def __init__(self, reader: IStreamReader, limit: int) -> None:
        """*reader* makes the answer, of *limit* bytes at most."""
        self._reader = reader
        self._limit = limit
        self.unfinished = 0
        """Bytes of the answer so far: all of it is held."""

    @property
    def usage(self) -> Usage:
        """The reader's."""
        return self._reader.usage

    @property
    def stop_reason(self) -> str | None:
        """The reader's."""
        return self._reader.stop_reason

    @property
    def oddity(self) -> str:
        """The reader's."""
        return self._reader.oddity

    def feed(self, data: bytes) -> Batch:
        """See :meth:`IStreamReader.feed <claudeproxyd.interfaces.IStreamReader.feed>`."""
        self.unfinished += len(data)
        if self.unfinished > self._limit:
            raise MalformedAnswer(f"an answer of more than {self._limit} bytes")
        return _without_frames(self._reader.feed(data))

    def end(self) -> Batch:
        """See :meth:`IStreamReader.end <claudeproxyd.interfaces.IStreamReader.end>`."""
        return _without_frames(self._reader.end())


def _without_frames(batch: Batch) -> Batch:
    return Batch(b"", 0, False, batch.error, batch.ended)


@implementer(IEventConsumer)
class _Gathering:
    def __init__(self, answer: StreamingResponse, whole: Callable[[], ParsedMessage]) -> None:
        self._answer = answer
        self._whole = whole
        self.gathered: Deferred[BufferedResponse] = Deferred(lambda _: answer.stopProducing())

    def events(self, batch: Batch) -> None:
        """The answer is whole: no other batch comes."""
        answer = self._answer
        made = BufferedResponse(answer.headers, self._whole(), exhausted=answer.exhausted, request_id=answer.request_id)
        made.bytes_in = answer.bytes_in
        self.gathered.callback(made)

    def broken(self, reason: Exception) -> None:
        """It is not."""
        self.gathered.errback(reason)


def gathered(answer: StreamingResponse, whole: Callable[[], ParsedMessage]) -> Deferred[BufferedResponse]:
    """What *whole* makes of *answer*, whose reader is an :class:`Unshown`, at its end.

    Fails with :class:`~claudeproxyd.outcomes.types.AttemptFailed`. Cancelling closes the upstream's socket.
    """
    gathering = _Gathering(answer, whole)
    answer.deliver(gathering)
    return gathering.gathered
