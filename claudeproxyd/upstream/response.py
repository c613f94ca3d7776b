"""The answer to one request: its head, and its body on the way to whoever consumes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.interfaces import IBodyConsumer
from claudeproxyd.upstream.errors import InternalError, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from claudeproxyd.upstream.connection import Connection


class Whole:
    """How a body ends that nothing is missing of; the other ends are errors."""


WHOLE: Final = Whole()


@implementer(IPushProducer)
class Response:
    """An answer whose head is in. Either :meth:`deliver` or :meth:`read` is called, once; or :meth:`stopProducing`.

    Until then the socket is paused and what came in one read with the head is held here. A body that is whole needs
    the connection no more, which then may serve another request already.
    """

    __slots__ = ("_connection", "_consumer", "_end", "_held", "_paused", "headers", "reason", "reused", "status")

    _log = Logger()

    def __init__(
        self, connection: Connection, status: int, reason: bytes, headers: list[tuple[bytes, bytes]], reused: bool
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        """In the order in which they came, names in lower case; trailers are not among them."""
        self.reused = reused
        """The connection had served another request before."""
        self._connection: Connection | None = connection
        self._consumer: IBodyConsumer | None = None
        self._held = b""
        self._end: Whole | Exception | None = None
        self._paused = False

    def deliver(self, consumer: IBodyConsumer) -> None:
        """Hand the body to *consumer*, at once what is here of it, the rest as it comes."""
        self._consumer = consumer
        held, self._held = self._held, b""
        if held or self._end is not None:
            self._hand_over(held, self._end)
        if self._connection is not None and not self._paused:
            self._connection.resume()

    def read(self, limit: int, hold: Callable[[int], None] = lambda change: None) -> Deferred[bytes]:
        """The whole body. Fails with :class:`TooLarge` above *limit* bytes, or as the body broke.

        Cancelling drops the connection. *hold* is told how many bytes more, or less, are gathered than before.
        """
        if self._end is WHOLE and len(self._held) <= limit:
            return succeed(self._held)
        whole = _Whole(self, limit, hold)
        self.deliver(whole)
        return whole.done

    @property
    def whole(self) -> bytes | None:
        """The body, where all of it came with the head: :meth:`read` without its Deferred."""
        return self._held if self._end is WHOLE else None

    def pauseProducing(self) -> None:
        """No more reads from the socket; what one read brought may still be delivered."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resumeProducing(self) -> None:
        """The reverse; the idle clock starts anew."""
        self._paused = False
        if self._connection is not None and self._consumer is not None:
            self._connection.resume()

    def stopProducing(self) -> None:
        """Nobody wants the rest: the socket is aborted, unless the body is whole; the consumer is called no more."""
        self._consumer = None
        self._held = b""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    def linger(self, seconds: float) -> None:
        """The consumer has all that it wants: the connection may serve again if the body ends within that time."""
        if self._connection is not None:
            self._connection.linger(seconds)

    # What the connection calls.

    @property
    def awaited(self) -> bool:
        """There is a consumer, so reading may go on."""
        return self._consumer is not None

    def detach(self) -> None:
        """The connection is done with this answer."""
        self._connection = None

    def take(self, chunk: bytes, end: Whole | Exception | None) -> None:
        """What one read brought of the body, and whether it was the end of it."""
        if self._consumer is not None:
            self._hand_over(chunk, end)
        else:
            self._held += chunk
            self._end = end

    def _hand_over(self, chunk: bytes, end: Whole | Exception | None) -> None:
        consumer = self._consumer
        assert consumer is not None
        try:
            if chunk:
                consumer.data(chunk)
            if end is None or self._consumer is None:
                return
            self._consumer = None
            if end is WHOLE:
                consumer.ended()
            else:
                assert isinstance(end, Exception)
                consumer.broken(end)
        except Exception:
            self._log.failure("An upstream's answer could not be taken")
            ended = self._consumer is None
            self.stopProducing()
            if not ended:
                self._consumer = consumer
                self._hand_over(b"", InternalError("the answer could not be taken"))


@implementer(IBodyConsumer)
class _Whole:
    """Gathers a body."""

    def __init__(self, response: Response, limit: int, hold: Callable[[int], None]) -> None:
        self._response = response
        self._limit = limit
        self._hold = hold
        self._size = 0
        self._pieces: list[bytes] = []
        self.done: Deferred[bytes] = Deferred(self._give_up)

    def data(self, chunk: bytes) -> None:
        self._pieces.append(chunk)
        self._size += len(chunk)
        self._hold(len(chunk))
        if self._size > self._limit:
            self._give_up()
            self.done.errback(TooLarge(f"the upstream's answer is larger than {self._limit} bytes"))

    def ended(self) -> None:
        self._hold(-self._size)
        self.done.callback(b"".join(self._pieces))

    def broken(self, reason: Exception) -> None:
        self._hold(-self._size)
        self.done.errback(reason)

    def _give_up(self, _: object = None) -> None:
        self._hold(-self._size)
        self._response.stopProducing()
