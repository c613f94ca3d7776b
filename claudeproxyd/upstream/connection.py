"""One socket to an upstream: requests go out on it one after the other, and their answers are parsed.

llhttp does the parsing. Its callbacks only collect; what they mean is decided in :meth:`Connection.dataReceived` once
the parser has returned, since a consumer may well ask for the next request at once.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.outcomes.types import Phase
from claudeproxyd.upstream.errors import (
    Cut,
    FirstByteTimedOut,
    IdleTimedOut,
    InternalError,
    Malformed,
    ProxyRefused,
    UpstreamError,
)
from claudeproxyd.upstream.exchange import Exchange
from claudeproxyd.upstream.response import WHOLE, Response

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from claudeproxyd.upstream.client import Origin

#: The most that an answer may bring without any of its body: heads, trailers, chunk extensions.
MAX_HEAD = 65_536
MAX_HEADERS = 256
#: Up to here a body goes out in one write with its head; above it in steps of this size.
ONE_WRITE = 65_536
#: The longest that a connection's timer sleeps, in seconds.
_LOOK_EVERY = 30.0
#: How long a peer may take to agree to the end of an idle TLS connection.
_FAREWELL = 5.0


@implementer(IHandshakeListener)
class Connection(Protocol):
    """A connection of one origin. It is idle, or sends one exchange, or receives one response, or is being dropped."""

    _log = Logger()

    transport: Any
    """An ITCPTransport that is an IPushProducer and an IConsumer as well."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._clock = origin.clock
        self._handshake: Deferred[Connection] | None = None
        self._exchange: Exchange | None = None
        self._response: Response | None = None
        self._upload: _Upload | None = None
        self._used = False
        self._leaving = False
        self._paused = False
        self._idle_limit = inf
        # The one timer: it may fire too early, and then looks at the deadline again, but never too late.
        self._deadline = inf
        self._timer: IDelayedCall | None = None
        self._timer_at = inf
        # What the parser's callbacks collect.
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._clear()

    def _clear(self) -> None:
        """Ready for the next answer."""
        self._status = 0
        self._version = ""
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_in = False
        self._complete = False
        self._whole_at = 0
        self._kept_alive = False
        self._surplus = False
        self._until_close = False
        self._barren = 0
        self._heard = False

    # The life of the socket.

    def connectionMade(self) -> None:
        self._origin.outbox.adopt(self.transport)
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)

    def secured(self) -> Deferred[Connection]:
        """Fires once TLS is up, or fails as the connection does. Cancelling drops it."""
        self._handshake = Deferred(lambda _: self.drop())
        return self._handshake

    def handshakeCompleted(self) -> None:
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._parser = None  # it and we hold each other
        self._upload = None  # and so do these
        self._deadline = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            if not handshake.called:  # it was cancelled
                handshake.errback(reason)
            return
        exchange, self._exchange = self._exchange, None
        response, self._response = self._response, None
        if exchange is not None and self._used and not self._heard:
            self._origin.lost(self, exchange)
            return
        self._origin.lost(self)
        if exchange is not None:
            exchange.fail(Cut("the upstream closed the connection without an answer", Phase.HEAD))
        elif response is not None:
            response.detach()
            # A TLS connection that ends without saying so, like a reset one, may have lost its last bytes.
            whole = self._until_close and isinstance(reason.value, ConnectionDone)
            response.take(b"", WHOLE if whole else Cut("the upstream closed the connection within its answer"))

    def drop(self) -> None:
        """Abort the socket at once. Whoever waits for something of it hears no more."""
        self._origin.forget(self)
        self._exchange = None
        response, self._response = self._response, None
        if response is not None:
            response.detach()
        self._deadline = inf
        self.transport.abortConnection()

    def close(self) -> None:
        """Say farewell; nothing is going on here."""
        self._origin.forget(self)
        self._leaving = True
        self.transport.loseConnection()
        self._wait(_FAREWELL)

    def _fail(self, error: UpstreamError) -> None:
        """Drop the connection and tell whoever waits for the answer's head or body."""
        exchange, response = self._exchange, self._response
        self.drop()
        if exchange is not None:
            exchange.fail(error)
        elif response is not None:
            response.take(b"", error)

    # The way out.

    def send(self, exchange: Exchange) -> None:
        """Carry this one; the connection is idle."""
        self._exchange = exchange
        exchange.undo = self.drop
        self._wait(exchange.first_byte)
        if len(exchange.body) <= ONE_WRITE:
            self.transport.write(exchange.head + exchange.body)
        else:
            self.transport.write(exchange.head)
            self._upload = _Upload(self, exchange)
            self.transport.registerProducer(self._upload, True)
            self._upload.resumeProducing()

    def rest(self, seconds: float) -> None:
        """Idle, for at most so long."""
        self._wait(seconds)

    # The way in.

    def on_message_begin(self) -> None:
        self._surplus = self._complete

    def on_status(self, reason: bytes) -> None:
        if not self._head_in:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_in:
            self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self._complete:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self._status = status
        self._version = self._parser.get_http_version()
        self._head_in = True

    def on_message_complete(self) -> None:
        if self._complete:
            return
        if self._head_in:
            self._complete = True
            self._whole_at = len(self._pieces)
            assert self._parser is not None
            self._kept_alive = self._parser.should_keep_alive()
        else:  # 100 Continue, 103 Early Hints and the like: the answer is still to come
            self._headers = []
            self._reason = b""

    def dataReceived(self, data: bytes) -> None:
        if self._exchange is None and self._response is None:
            self.drop()  # an answer that nobody asked for
            return
        assert self._parser is not None
        self._heard = True
        damage: UpstreamError | None = None
        try:
            self._parser.feed_data(data)
        except HttpParserCallbackError:
            self._log.failure("An upstream's answer could not be read")
            damage = InternalError("the answer could not be read")
        except (HttpParserError, HttpParserUpgrade) as error:
            damage = Malformed(f"the upstream's answer is not valid HTTP: {error}")
        if self._response is None:
            self._take_head(len(data), damage)
        elif self._pieces or self._complete or damage is not None:
            self._take_body(self._response, damage)
        else:
            if not self._paused:
                self._wait(self._idle_limit)
            self._count_barren(len(data))

    def _take_head(self, size: int, damage: UpstreamError | None) -> None:
        exchange = self._exchange
        assert exchange is not None
        if not self._head_in:
            if damage is not None:
                damage.phase = Phase.HEAD
                self._fail(damage)
            else:
                self._count_barren(size)
            return
        refusal = self._judge_head(exchange, size)
        if refusal is not None:
            self._fail(refusal)
            return
        response = Response(self, self._status, self._reason, self._headers, self._used)
        self._exchange = None
        self._response = response
        self._idle_limit = exchange.idle
        self._barren = 0
        self._take_body(response, damage)
        exchange.succeed(response)
        if self._response is response and not response.awaited:
            self.pause()

    def _judge_head(self, exchange: Exchange, size: int) -> UpstreamError | None:
        """What llhttp lets pass and we do not; also finds out how the body will end."""
        status, version, headers = self._status, self._version, self._headers
        if status == 101 or status < 100:
            return Malformed(f"the upstream answered with status {status}", Phase.HEAD)
        if status == 407 and self._origin.proxied:
            return ProxyRefused("the proxy answered with 407", status)
        if version not in ("1.1", "1.0"):
            return Malformed(f"the upstream answered in HTTP {version}", Phase.HEAD)
        if len(headers) > MAX_HEADERS:
            return Malformed(f"the answer has more than {MAX_HEADERS} headers", Phase.HEAD)
        if self._barren + size > MAX_HEAD and sum(len(n) + len(v) + 4 for n, v in headers) > MAX_HEAD:
            return Malformed(f"the answer's head is larger than {MAX_HEAD} bytes", Phase.HEAD)
        if b"\0" in self._reason:
            return Malformed("the answer's reason phrase holds a NUL", Phase.HEAD)
        names = dict(headers)
        if b"transfer-encoding" in names:
            codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
            if codings != [b"chunked"] or version != "1.1":
                return Malformed("the answer's transfer-encoding is not plainly chunked", Phase.HEAD)
        elif b"content-length" not in names:
            self._until_close = not self._complete
        if exchange.bodiless and not self._complete:
            # The parser waits for a body that will not come: this connection has served its last request.
            self._complete = self._surplus = True
        return None

    def _take_body(self, response: Response, damage: UpstreamError | None) -> None:
        pieces = self._pieces
        if self._surplus:
            del pieces[self._whole_at :]  # they belong to no answer of ours
        chunk = b"".join(pieces) if len(pieces) > 1 else pieces[0] if pieces else b""
        pieces.clear()
        self._barren = 0
        if self._complete:
            self._release(response, damage is not None)
            response.take(chunk, WHOLE)
        elif damage is not None:
            self.drop()
            response.take(chunk, damage)
        else:
            if not self._paused:
                self._wait(self._idle_limit)
            response.take(chunk, None)

    def _release(self, response: Response, damaged: bool) -> None:
        """The answer is whole: the connection goes back to its origin if it can carry another, and closes if not."""
        response.detach()
        self._response = None
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        if self._upload is not None or self._surplus or damaged:
            self.drop()
        elif not self._kept_alive:
            self.close()
        else:
            self._used = True
            self._clear()
            self._origin.freed(self)

    def _count_barren(self, size: int) -> None:
        """A read that brought nothing of a body: heads, trailers and chunk extensions have a bound."""
        self._barren += size
        if not self._head_in and len(self._headers) > MAX_HEADERS:
            self._fail(Malformed(f"the answer has more than {MAX_HEADERS} headers", Phase.HEAD))
        elif self._barren > MAX_HEAD and not self._head_in:
            self._fail(Malformed(f"the answer's head is larger than {MAX_HEAD} bytes", Phase.HEAD))
        elif self._barren > MAX_HEAD:
            self._fail(Malformed(f"the answer brings {MAX_HEAD} bytes and nothing of its body", Phase.ANSWER))

    # Waiting, and letting wait.

    def pause(self) -> None:
        """No more reads; the clock stands still, since the silence is ours."""
        if not self._paused:
            self._paused = True
            self._deadline = inf
            self.transport.pauseProducing()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._wait(self._idle_limit)
            self.transport.resumeProducing()

    def linger(self, seconds: float) -> None:
        """Wait for no more than the body's end, and not for long."""
        self._idle_limit = seconds
        if self._paused:
            self.resume()
        else:
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        """From now on give up after so long; what is set already fires later, or is moved only to fire earlier."""
        deadline = self._deadline = self._clock.seconds() + seconds
        if deadline < self._timer_at:
            self._arm(seconds)

    def _arm(self, seconds: float) -> None:
        """Look at the deadline in so many seconds, or sooner.

        Never much later than a kept connection's own wait: to move a timer forward takes the reactor a search through
        all of its timers, and that would come with each request that ends.
        """
        seconds = min(seconds, _LOOK_EVERY)
        self._timer_at = self._clock.seconds() + seconds
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._look)
        else:
            self._timer.reset(seconds)

    def _look(self) -> None:
        self._timer = None
        self._timer_at = inf
        left = self._deadline - self._clock.seconds()
        if left > 0:
            if left < inf:
                self._arm(left)
        elif self._exchange is not None:
            self._fail(FirstByteTimedOut(f"no answer came within {self._exchange.first_byte:g} seconds"))
        elif self._response is not None:
            self._fail(IdleTimedOut(f"nothing more of the answer came for {self._idle_limit:g} seconds"))
        elif self._leaving:
            self.drop()
        else:
            self.close()

    def uploading(self, exchange: Exchange) -> None:
        """The upstream took some more of the body: the wait for its answer has not begun."""
        if self._exchange is exchange:
            self._wait(exchange.first_byte)

    def uploaded(self) -> None:
        self.transport.unregisterProducer()
        self._upload = None


@implementer(IPushProducer)
class _Upload:
    """Writes a large body as fast as the transport takes it, and no faster."""

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        self._connection = connection
        self._exchange = exchange
        self._rest = memoryview(exchange.body)
        self._paused = False

    def resumeProducing(self) -> None:
        self._paused = False
        self._connection.uploading(self._exchange)
        while self._rest and not self._paused:
            step, self._rest = self._rest[:ONE_WRITE], self._rest[ONE_WRITE:]
            self._connection.transport.write(bytes(step))
        if not self._rest:
            self._connection.uploaded()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True
        self._rest = memoryview(b"")
