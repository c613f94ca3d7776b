"""One socket to an upstream: requests go out on it one after the other, and their responses come in."""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.outcomes.types import AttemptPhase
from claudeproxyd.upstream.deadline import Deadline
from claudeproxyd.upstream.errors import Cut, FirstByteTimedOut, IdleTimedOut, InternalError, UpstreamError
from claudeproxyd.upstream.parser import CLOSE, DESYNCHRONIZED, End, Event, Head, ResponseParser
from claudeproxyd.upstream.response import Response
from claudeproxyd.upstream.upload import MAX_WRITE_BYTES, Upload

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from claudeproxyd.upstream.client import Origin
    from claudeproxyd.upstream.pending import PendingRequest

#: Seconds for a peer to agree to the end of an idle TLS connection.
_CLOSE_TIMEOUT = 5.0


class _State(Enum):
    """What goes on on a connection.

    ======== ================= ================== ================= ========================
    state    goes over into    a read             the time-out      the upstream's close
    ======== ================= ================== ================= ========================
    IDLE     WAITING, CLOSING  aborts: unasked    closes            is noted
    WAITING  HEAD, BODY        is of the head     FirstByteTimedOut Cut; sent again if reused
    HEAD     BODY              is of the head     FirstByteTimedOut Cut
    BODY     PAUSED, IDLE      is of the body     IdleTimedOut      the body's end, or Cut
    PAUSED   BODY, IDLE        is of the body     none              the body's end, or Cut
    CLOSING                    aborts: unasked    aborts            is noted
    CLOSED                                        none
    ======== ================= ================== ================= ========================

    Each may go over into CLOSED as well. tests/upstream/test_connection.py tries each cell.
    """

    IDLE = "no request; before the first one TLS may still be under way"
    WAITING = "a request goes out, and not a byte of its response came"
    HEAD = "some of the response came, but its head is not complete"
    BODY = "the body comes in"
    PAUSED = "the body is not read from the socket"
    CLOSING = "our close is out"
    CLOSED = "aborted, or lost"


# Bound to names of the module, where Python finds them ten times as fast as in the enum.
_IDLE, _WAITING, _HEAD, _BODY, _PAUSED, _CLOSING, _CLOSED = _State


@implementer(IHandshakeListener)
class Connection(Protocol):
    """A connection of one origin, which it tells when it can carry another request and when it is lost."""

    _log = Logger()

    transport: Any
    """An ITCPTransport that is an IPushProducer and an IConsumer as well."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._parser = ResponseParser(through_proxy=origin.proxied)
        self._handshake: Deferred[Connection] | None = None
        self._state = _IDLE
        self._used = False
        """It has carried a request, so that the next one may meet an upstream that has closed it."""
        self._request: PendingRequest | None = None
        """In WAITING and HEAD."""
        self._response: Response | None = None
        """In BODY and PAUSED."""
        self._upload: Upload | None = None
        self._idle_timeout = inf
        """Seconds of silence within a body."""
        self._deadline = Deadline(origin.clock, self._time_out, origin.late)

    # -- the life of the socket

    def connectionMade(self) -> None:
        self._origin.hub.adopt(self.transport)
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)

    def secured(self) -> Deferred[Connection]:
        """Fires once TLS is up, or fails as the connection does. Cancelling drops the connection."""
        self._handshake = Deferred(lambda _: self.drop())
        return self._handshake

    def handshakeCompleted(self) -> None:
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        state, self._state = self._state, _CLOSED
        request, self._request = self._request, None
        response, self._response = self._response, None
        handshake, self._handshake = self._handshake, None
        self._upload = None  # it and the connection hold each other
        self._deadline.stop()
        end = self._parser.eof(orderly=isinstance(reason.value, ConnectionDone))
        self._parser.close()
        if handshake is not None:
            if not handshake.called:  # it was cancelled
                handshake.errback(reason)
        elif state is _WAITING and self._used:
            self._origin.lost(self, request)
        else:
            self._origin.lost(self)
            if request is not None:
                assert isinstance(end, Cut)
                request.fail(end)
            elif response is not None:
                response.detach()
                response.take(b"", end)

    def drop(self) -> None:
        """Abort the socket at once. Nobody is told who waits for something on it."""
        self._state = _CLOSED
        self._origin.discard(self)
        self._request = None
        response, self._response = self._response, None
        if response is not None:
            response.detach()
        self._deadline.clear()
        self.transport.abortConnection()

    def close(self) -> None:
        """Close an idle connection."""
        self._state = _CLOSING
        self._origin.discard(self)
        self.transport.loseConnection()
        self._deadline.set(_CLOSE_TIMEOUT)

    def _fail(self, error: UpstreamError) -> None:
        """Drop the connection and fail what waits for the response's head or body."""
        request, response = self._request, self._response
        self.drop()
        if request is not None:
            request.fail(error)
        elif response is not None:
            response.take(b"", error)

    # -- the way out

    def send(self, request: PendingRequest) -> None:
        """Send *request*; the connection is idle."""
        self._state = _WAITING
        self._request = request
        request.cancel = self.drop
        self._parser.start(request.head_request)
        self._deadline.set(request.first_byte)
        if len(request.body) <= MAX_WRITE_BYTES:
            self.transport.write(request.head + request.body)
        else:
            self.transport.write(request.head)
            self._upload = Upload(self.transport, request.body, self._upload_progressed, self._upload_finished)
            self.transport.registerProducer(self._upload, True)
            self._upload.resumeProducing()

    def _upload_progressed(self) -> None:
        """Start the wait for the response anew: the upstream took some more of the body."""
        if self._request is not None:
            self._deadline.set(self._request.first_byte)

    def _upload_finished(self) -> None:
        self.transport.unregisterProducer()
        self._upload = None

    def mark_idle(self, seconds: float) -> None:
        """Close the connection after *seconds*, unless it is used before."""
        self._deadline.set(seconds)

    # -- the way in

    def dataReceived(self, data: bytes) -> None:
        request, response = self._request, self._response
        if request is None and response is None:
            self.drop()  # a response that nobody asked for
            return
        try:
            events = self._parser.feed(data)
        except Exception:
            self._log.failure("An upstream's answer could not be read")
            self._fail(
                InternalError("the answer could not be read", AttemptPhase.HEAD if request else AttemptPhase.ANSWER)
            )
            return
        if response is None:
            response = self._receive_head(events)
            if response is None:
                return
            events = events[1:]
        chunk, end = b"", None
        for event in events:
            if isinstance(event, bytes):
                chunk = event
            elif not isinstance(event, Head):
                end = event
        if end is None:
            if self._state is _BODY:
                self._deadline.set(self._idle_timeout)
        elif isinstance(end, End):
            self._release(response, end)
        else:
            self.drop()
        response.take(chunk, end)
        if request is not None:
            request.succeed(response)
            if self._response is response and not response.has_consumer:
                self.pause()

    def _receive_head(self, events: list[Event]) -> Response | None:
        """Return the response, once its head is in."""
        if not events:
            self._state = _HEAD
            return None
        request, head = self._request, events[0]
        assert request is not None
        if not isinstance(head, Head):
            assert isinstance(head, UpstreamError)
            self._fail(head)
            return None
        self._state = _BODY
        self._request = None
        self._response = Response(self, head, self._used)
        self._idle_timeout = request.idle
        return self._response

    def _release(self, response: Response, end: End) -> None:
        """Give the connection back to its origin if it can carry another request, and end it if not."""
        response.detach()
        self._response = None
        if self._state is _PAUSED:
            self.transport.resumeProducing()
        self._state = _IDLE
        if self._upload is not None or end is DESYNCHRONIZED:
            self.drop()
        elif end is CLOSE:
            self.close()
        else:
            self._used = True
            self._origin.released(self)

    # -- waiting, and letting wait

    def pause(self) -> None:
        """Read no more. There is no time-out meanwhile, since the silence is ours."""
        if self._state is _BODY:
            self._state = _PAUSED
            self._deadline.clear()
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again; the time-out starts anew."""
        if self._state is _PAUSED:
            self._state = _BODY
            self._deadline.set(self._idle_timeout)
            self.transport.resumeProducing()

    def linger(self, seconds: float) -> None:
        """Read on for at most *seconds* of silence, so that the connection can be used again."""
        self._idle_timeout = seconds
        if self._state is _PAUSED:
            self.resume()
        else:
            self._deadline.set(seconds)

    def _time_out(self) -> None:
        if self._request is not None:
            self._fail(FirstByteTimedOut(f"no answer came within {self._request.first_byte:g} seconds"))
        elif self._response is not None:
            self._fail(IdleTimedOut(f"nothing more of the answer came for {self._idle_timeout:g} seconds"))
        elif self._state is _IDLE:
            self.close()
        else:
            self.drop()
