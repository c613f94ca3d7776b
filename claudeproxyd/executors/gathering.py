"""A stream from upstream as the whole answer that its client asked for.

For requests that can end before the model does: a whole answer would be made, and paid for, to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from zope.interface import implementer

from claudeproxyd.executors.responses import BufferedResponse, ReaderFacts
from claudeproxyd.interfaces import IEventConsumer, IStreamReader
from claudeproxyd.messages.reader import MalformedAnswer

if TYPE_CHECKING:
    from claudeproxyd.executors.responses import ParsedMessage, StreamingResponse
    from claudeproxyd.messages.batch import Batch


@implementer(IStreamReader)
class LimitedReader(ReaderFacts):
    """Reads such a stream with a reader that makes a whole message, and so shows nothing before the end.

    Nobody has seen any of it when it fails, and another credential can take over.
    """

    __slots__ = ("_limit", "unfinished")

    request_id = ""

    def __init__(self, reader: IStreamReader, limit: int) -> None:
        """*reader* makes the message, of *limit* bytes at most."""
        super().__init__(reader)
        self._limit = limit
        self.unfinished = 0
        """Bytes of the message so far: all of it is held."""

    def feed(self, data: bytes) -> Batch:
        """See :meth:`IStreamReader.feed <claudeproxyd.interfaces.IStreamReader.feed>`."""
        self.unfinished += len(data)
        if self.unfinished > self._limit:
            raise MalformedAnswer(f"an answer of more than {self._limit} bytes")
        return self._reader.feed(data)

    def end(self) -> Batch:
        """See :meth:`IStreamReader.end <claudeproxyd.interfaces.IStreamReader.end>`."""
        return self._reader.end()


@implementer(IEventConsumer)
class _Gathering:
    """Waits for the end of a stream."""

    def __init__(self, answer: StreamingResponse, whole: Callable[[], ParsedMessage]) -> None:
        self._answer = answer
        self._whole = whole
        self.gathered: Deferred[BufferedResponse] = Deferred(lambda _: answer.stopProducing())

    def events(self, batch: Batch) -> None:
        """Make the response, or fail with what *whole* raises: the message is whole, and no other batch comes."""
        answer = self._answer
        try:
            whole = self._whole()
        except Exception:
            self.gathered.errback()
            return
        made = BufferedResponse(answer.headers, whole, exhausted=answer.exhausted, request_id=answer.request_id)
        made.bytes_in = answer.bytes_in
        self.gathered.callback(made)

    def broken(self, reason: Exception) -> None:
        """Fail: the message is not whole."""
        self.gathered.errback(reason)


def gathered(answer: StreamingResponse, whole: Callable[[], ParsedMessage]) -> Deferred[BufferedResponse]:
    """Return what *whole* makes of *answer* at its end; its reader is a :class:`LimitedReader`.

    Fails with :class:`~claudeproxyd.outcomes.types.AttemptFailed`, and with what *whole* raises. Cancelling closes the
    upstream's socket.
    """
    gathering = _Gathering(answer, whole)
    answer.deliver(gathering)
    return gathering.gathered
