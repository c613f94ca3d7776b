"""The response to one request: its head, and its body on the way to whoever consumes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.interfaces import IBodyConsumer
from claudeproxyd.upstream.errors import InternalError, TooLarge
from claudeproxyd.upstream.parser import End

if TYPE_CHECKING:
    from collections.abc import Callable

    from claudeproxyd.upstream.parser import Head


class _Source(Protocol):
    """What a response needs of the connection that it comes on."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def linger(self, seconds: float) -> None: ...
    def drop(self) -> None: ...


@implementer(IPushProducer)
class Response:
    """A response whose head is in. Either :meth:`deliver` or :meth:`read` is called, once; or :meth:`stopProducing`.

    Until then the socket is paused, and what came in one read with the head is kept here. Once the body is complete,
    the connection may serve another request, even if the body is still here.
    """

    __slots__ = ("_buffered", "_connection", "_consumer", "_end", "_paused", "headers", "reason", "reused", "status")

    _log = Logger()

    def __init__(self, connection: _Source, head: Head, reused: bool) -> None:
        self.status = head.status
        self.reason = head.reason
        self.headers = head.headers
        self.reused = reused
        """The connection had served another request before."""
        self._connection: _Source | None = connection
        self._consumer: IBodyConsumer | None = None
        self._buffered = b""
        self._end: End | Exception | None = None
        self._paused = False

    def deliver(self, consumer: IBodyConsumer) -> None:
        """Hand the body to *consumer*: at once what is here of it, and the rest as it comes."""
        self._consumer = consumer
        buffered, self._buffered = self._buffered, b""
        if buffered or self._end is not None:
            self.take(buffered, self._end)
        if self._connection is not None and not self._paused:
            self._connection.resume()

    def read(self, limit: int, hold: Callable[[int], None] = lambda change: None) -> Deferred[bytes]:
        """Return the complete body. Fails with :class:`TooLarge` above *limit* bytes, or as the body broke.

        Cancelling drops the connection. *hold* is called with each change of the number of bytes that are gathered.
        """
        if isinstance(self._end, End) and len(self._buffered) <= limit:
            return succeed(self._buffered)
        reader = _BodyReader(self, limit, hold)
        self.deliver(reader)
        return reader.done

    @property
    def whole(self) -> bytes | None:
        """The body, where all of it came with the head: :meth:`read` without its Deferred."""
        return self._buffered if isinstance(self._end, End) else None

    def pauseProducing(self) -> None:
        """Read no more from the socket; what one read brought may still be delivered."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resumeProducing(self) -> None:
        """Read from the socket again; the idle time-out starts anew."""
        self._paused = False
        if self._connection is not None and self._consumer is not None:
            self._connection.resume()

    def stopProducing(self) -> None:
        """Abort the socket, unless the body is complete. The consumer is called no more."""
        self._consumer = None
        self._buffered = b""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    def linger(self, seconds: float) -> None:
        """Let the connection serve again if the body ends within *seconds*: the consumer has all that it wants."""
        if self._connection is not None:
            self._connection.linger(seconds)

    # -- called by the connection

    @property
    def has_consumer(self) -> bool:
        """Whether there is a consumer, so that reading may go on."""
        return self._consumer is not None

    def detach(self) -> None:
        """Let go of the connection, which is done with this response."""
        self._connection = None

    def take(self, chunk: bytes, end: End | Exception | None) -> None:
        """Deliver or keep what one read brought of the body. *end*: the body ends with it, or breaks."""
        consumer = self._consumer
        if consumer is None:
            self._buffered += chunk
            self._end = end
            return
        try:
            if chunk:
                consumer.data(chunk)
            if end is None or self._consumer is None:
                return
            self._consumer = None
            if isinstance(end, End):
                consumer.ended()
            else:
                consumer.broken(end)
        except Exception:
            self._log.failure("An upstream's answer could not be taken")
            ended = self._consumer is None
            self.stopProducing()
            if not ended:
                self._consumer = consumer
                self.take(b"", InternalError("the answer could not be taken"))


@implementer(IBodyConsumer)
class _BodyReader:
    """Gathers a body."""

    def __init__(self, response: Response, limit: int, hold: Callable[[int], None]) -> None:
        self._response = response
        self._limit = limit
        self._hold = hold
        self._size = 0
        self._pieces: list[bytes] = []
        self.done: Deferred[bytes] = Deferred(self._give_up)

    def data(self, chunk: bytes) -> None:
        """See the interface."""
        self._pieces.append(chunk)
        self._size += len(chunk)
        self._hold(len(chunk))
        if self._size > self._limit:
            self._give_up()
            self.done.errback(TooLarge(f"the upstream's answer is larger than {self._limit} bytes"))

    def ended(self) -> None:
        """See the interface."""
        self._hold(-self._size)
        self.done.callback(b"".join(self._pieces))

    def broken(self, reason: Exception) -> None:
        """See the interface."""
        self._hold(-self._size)
        self.done.errback(reason)

    def _give_up(self, _: object = None) -> None:
        self._hold(-self._size)
        self._response.stopProducing()
