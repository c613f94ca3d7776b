"""One client connection: gathers heads, refuses in the API's own shape, and never waits without a deadline.

A request is answered before the next one on its connection is read; what a client sends ahead waits, within a bound.
A client that takes no answers is read from no more.

A connection that was refused is not closed at once: the answer would be lost to a client that is still sending. What
it sends is dropped for a while, within a bound.
"""

from __future__ import annotations

import socket
from math import inf
from typing import TYPE_CHECKING, Any
from typing import Protocol as Shape

from twisted.internet.interfaces import IPushProducer, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.web.http import _ChunkedTransferDecoder, _MalformedChunkedDataError
from zope.interface import implementer

from claudeproxyd.dispatch.request import CancelReason
from claudeproxyd.errors import ClaudeError, shutting_down
from claudeproxyd.slices import SLICE
from claudeproxyd.sockets import has_hung_up, innermost, is_readable, unsent
from claudeproxyd.web.head import RequestHead, not_http, read_head
from claudeproxyd.web.request import GatewayRequest

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.resource import Resource

    from claudeproxyd.sockets import Hub
    from claudeproxyd.turnstile import Turnstile
    from claudeproxyd.web.gateway import Gateway

#: Bytes of a request line and its headers together.
MAX_HEAD_BYTES = 65_536
#: Seconds between two requests; above what load balancers in front keep (60).
KEEP_ALIVE_TIMEOUT = 75.0
#: Seconds for whoever is asked who calls, where that is not known at once.
IDENTIFY_TIMEOUT = 30.0
#: Bytes of a body that a client must bring in a second, once ``timeouts.request_body`` is over.
MIN_BODY_RATE = 32_768
#: Seconds for which what a refused client goes on sending is read and discarded.
DISCARD_TIMEOUT = 5.0
#: Bytes of it. Python's http.client reads no answer before it has sent all.
MAX_DISCARDED_BYTES = 64 * 1024 * 1024
#: Seconds to wait for the peer to close after our FIN, or after our close_notify in TLS.
CLOSE_TIMEOUT = 60.0
#: Seconds to wait for the peer to close during a forced shutdown.
ABORT_TIMEOUT = 2.0
#: Bytes of an answer that the kernel may buffer; Linux doubles it.
SEND_BUFFER_BYTES = 65_536

#: Bytes of chunks that are read in one go, before others have a turn if that took long: of a byte each some 10 ms.
CHUNKED_BYTES = 16_384

MAX_AHEAD_BYTES = 16_384
"""Bytes that a client may send ahead, while its request is answered, before it is read from no more."""


class ChannelSite(Shape):
    """The site, as its channels and their requests see it: a :class:`~claudeproxyd.web.site.GatewaySite`."""

    gateway: Gateway
    clock: IReactorTime
    hub: Hub
    turnstile: Turnstile
    heavy: Turnstile
    draining: bool
    keep_alive: float
    """Seconds between two requests of a connection."""

    def opened(self, channel: GatewayChannel) -> None:
        """Note that a connection was made."""

    def closed(self, channel: GatewayChannel) -> None:
        """Note that a connection was lost."""

    def getResourceFor(self, request: GatewayRequest) -> Resource:
        """Return what answers a request whose head is in. Raises ClaudeError."""

    def log(self, request: GatewayRequest) -> None:
        """Record a request that is over."""


@implementer(IPushProducer)
class GatewayChannel(Protocol):
    """Made by :class:`~claudeproxyd.web.site.GatewaySite` for each connection."""

    transport: Any

    deadline = inf
    """When :meth:`expired` is called, on the reactor's clock. The site checks once a second: no request has a timer."""
    _body_by = inf
    """The latest deadline for a body of which nothing has come."""
    over_limit = False
    """One connection more than ``max_connections``: its first request is its last, and refused unless it is a probe."""

    persistent = True
    """Whether another request may follow the present one."""
    _request: GatewayRequest | None = None
    """The one that comes in, or is answered."""
    _head: RequestHead | None = None
    """Its head, while somebody is asked who sends it: its body is not read before."""
    _answering = False
    """All of it is in; the next one waits until it is answered."""
    _producer: IPushProducer | None = None
    """What makes the answer, and is told when the client does not take it."""
    _full = False
    """The client's socket is, and what is written waits here."""
    _reading = True

    _unread = b""
    _searched = 0
    """Bytes of ``_unread`` that are known to hold no end of a head."""
    _left = 0
    """Bytes of the body that are still to come, where it has a length."""
    _chunks: _ChunkedTransferDecoder | None = None
    """Reads a body that has none."""
    _pieces: list[bytes]
    """What a read brought of that."""
    _busy = False
    _admitted = False
    """A turnstile has let it in: what is read now may take its time."""
    _waits_at: Turnstile | None = None
    """Nothing is read meanwhile."""
    _refused = False
    _dropped = 0
    _closing = False
    _undelivered = 0.0
    """Bytes of finished answers that the client had not taken at the last check; 0: none."""
    _noted = 0
    """How many of these bytes are counted in the buffer budget."""
    _cut_at = inf
    """When the connection is aborted, unless the client takes some of them."""
    _idle_timeout = 0.0
    """Seconds that the connection may stay open once the client has taken all of them."""
    peer: IAddress | None = None
    """The client's address."""

    def __init__(self, site: ChannelSite) -> None:
        self.site = site

    # -- the connection

    def connectionMade(self) -> None:
        """Begin: bound the socket's buffer, and wait for a head."""
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        self.peer = transport.getPeer()
        _bound_send_buffer(transport)
        self.site.hub.adopt(transport)
        self.site.opened(self)
        self._wait(self.site.gateway.limits.request_head)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Protocol's has a default
        """Tell the site and the request that the connection is lost."""
        self._note_unsent(0)
        if self._waits_at is not None:
            self._waits_at.leave(self)
        self.site.closed(self)
        self._chunks = self._producer = None
        if self._request is not None:
            self._request.connectionLost()

    def loseConnection(self) -> None:
        """Close once what was written is sent; after a refusal only our half."""
        if self._closing:
            return
        self._wait_no_more()
        self._closing = True
        half_close = getattr(self.transport, "loseWriteConnection", None)
        self.transport.unregisterProducer()
        if not self._refused or half_close is None:
            self._await_delivery(CLOSE_TIMEOUT)
            self.transport.loseConnection()
            return
        self._undelivered = 0
        self._wait(DISCARD_TIMEOUT)
        # TLS has no half of a connection to close.
        if not ISSLTransport.providedBy(self.transport):
            half_close()

    @property
    def idle(self) -> bool:
        """Whether it is between two requests, or before the first."""
        return self._request is None and not self._unread

    def expired(self) -> None:
        """Act on a deadline that has passed. Called by the site."""
        self.deadline = inf
        if self._undelivered:
            self._check_delivery()
        elif self._closing:
            self.transport.abortConnection()
        elif self.idle and is_readable(self.transport):
            self.deadline = self.site.clock.seconds()  # it is not: the reactor has yet to see what came
        elif self.idle:
            self.loseConnection()
        elif self._head is not None:
            what = "The gateway could not find out in time who calls"
            self.refuse(ClaudeError(503, what, headers=[(b"retry-after", b"5")]))
        else:
            self.refuse(ClaudeError(408, "The request did not arrive in time"))

    def refuse(self, error: ClaudeError) -> None:
        """Answer a request that is not read to its end with *error*. It is the last on this connection."""
        if self._refused or self._closing:
            return
        self._wait_no_more()
        self._refused = True
        self.persistent = False
        self._unread = b""
        self._chunks = None  # it and this hold each other
        if self._request is None:
            self._request = GatewayRequest(self)
        self._request.refuse(error)

    def leave(self) -> None:
        """Have the answer that is not begun yet be the last. Called by the site, as each new request asks it anyway."""
        if self._request is not None and not self._request.startedWriting:
            self.persistent = False

    def hasten(self, seconds: float) -> None:
        """Stay idle for no longer than *seconds*. Called by the site, to drain."""
        if self._closing or not self.idle:
            return
        self._idle_timeout = min(self._idle_timeout, seconds)
        self.deadline = min(self.deadline, self.site.clock.seconds() + seconds)

    def shut_down(self) -> None:
        """Abort everything on this connection with an error, for shutdown. Called by the site."""
        if self._request is not None and self._request.cancel is not None:
            self._request.cancel(CancelReason.DRAIN)
        if not self.idle and not self._answering:
            self.refuse(shutting_down())
        self.loseConnection()
        self._undelivered = 0
        self._wait(ABORT_TIMEOUT)

    def _wait(self, seconds: float) -> None:
        self.deadline = self.site.clock.seconds() + seconds if seconds else inf

    # -- requests

    def dataReceived(self, data: bytes) -> None:
        """Take one read: heads, pieces of bodies, pipelined requests, or what is to be discarded."""
        if self._closing or self._refused:
            self._dropped += len(data)
            if self._dropped > MAX_DISCARDED_BYTES:
                self.transport.abortConnection()
            return
        self._unread += data
        self._go_on()

    def _go_on(self) -> None:
        """Read what is there, as far as it may be read now."""
        if self._busy or self._head is not None:
            return
        if self._request is not None and not self._is_heavy:
            self._read_on()
            return
        turnstile = self.site.heavy if self._is_heavy else self.site.turnstile
        if not turnstile.admit(self):
            self._read(False)
            self._waits_at = turnstile

    def enter(self) -> None:
        """Deal with what was read. Called by a turnstile, where that may take a while."""
        if self._waits_at is not None and has_hung_up(self.transport):
            self._wait_no_more()
            self.transport.abortConnection()
            return
        self._wait_no_more()
        self._admitted = True
        self._read_on()
        self._admitted = False

    def _read_on(self) -> None:
        heavy = self._is_heavy
        began = self.site.clock.seconds() if heavy else None
        is_late = False
        self._busy = True
        try:
            if self._head is not None and self._request is not None:
                head, self._head = self._head, None
                self._expect(self._request, head)
            while self._unread and not is_late and heavy == self._is_heavy and self._advance():
                if self._unread:  # requests that were sent ahead, or more chunks
                    now = self.site.clock.seconds()
                    began = now if began is None else began
                    is_late = now - began >= SLICE
        except ClaudeError as error:
            self.refuse(error)
        finally:
            self._busy = False
        if self._unread and heavy != self._is_heavy:
            self._go_on()
        elif self._unread and is_late and not self._closing:
            self._read(False)
            self._waits_at = self.site.heavy if heavy else self.site.turnstile
            self._waits_at.wait(self)

    @property
    def _is_heavy(self) -> bool:
        """Whether what is read next is of a compressed body, or of one in chunks: a read may bring ten thousand."""
        request = self._request
        return request is not None and self._head is None and (self._chunks is not None or request.compressed)

    def _wait_no_more(self) -> None:
        if self._waits_at is not None:
            self._waits_at.leave(self)
            self._waits_at = None
            if not self._full:
                self._read(True)

    def _advance(self) -> bool:
        """Consume some of ``_unread``. Return False when more of it must come first, or the present answer must go."""
        request = self._request
        if request is None:
            return self._find_head()
        if self._head is not None:
            return False
        if self._answering:
            if len(self._unread) > MAX_AHEAD_BYTES:
                self._read(False)
            return False
        self._read_body(request)
        if self._request is request and not self._answering:
            self._wait_for_body(request)
        return not self._refused

    def _find_head(self) -> bool:
        if not self._searched:
            self._unread = self._unread.lstrip(b"\r\n")
            if self._unread and self._undelivered:
                # It goes on; should it leave too much of the last answer, no more is read from it.
                self._undelivered, self.deadline = 0, inf
                self._note_unsent(0)
        end = self._unread.find(b"\r\n\r\n", self._searched, MAX_HEAD_BYTES + 4)
        if end >= 0:
            head, self._unread = self._unread[:end], self._unread[end + 4 :]
            self._searched = 0
            self._begin(read_head(head))
            return not self._refused
        if len(self._unread) > MAX_HEAD_BYTES:
            raise ClaudeError(431, f"The request's headers are larger than {MAX_HEAD_BYTES} bytes")
        if self._unread and not self._unread[:1].isalpha():
            # No method begins so; a TLS hello does, and would otherwise wait for the deadline.
            raise not_http()
        if not self._searched and self._unread:
            idle_until, self.deadline = self.deadline, inf
            self._wait(self.site.gateway.limits.request_head)
            self.deadline = min(self.deadline, idle_until)
        self._searched = max(0, len(self._unread) - 3)
        return False

    def _begin(self, head: RequestHead) -> None:
        """Begin a request, whose head is in."""
        request = self._request = GatewayRequest(self)
        request.headReceived(head)
        if request.identified:
            self._expect(request, head)
        else:
            self._head = head
            self._read(False)
            self._wait(IDENTIFY_TIMEOUT)
            request.when_identified(lambda: self._identified(request))

    def _identified(self, request: GatewayRequest) -> None:
        """Go on with a request once it is known whose it is."""
        if request.channel is None:
            return
        self.deadline = inf
        if not self.site.turnstile.admit(self):
            self._waits_at = self.site.turnstile
        elif not self._full:
            self._read(True)

    def _expect(self, request: GatewayRequest, head: RequestHead) -> None:
        """Expect the body of a request, or answer it if there is none."""
        if head.length != 0:
            self._wait(DISCARD_TIMEOUT if request.refused else self.site.gateway.limits.request_body)
            self._body_by = self.deadline
        self.persistent = head.persistent and not self.site.draining and not self.over_limit
        request.expect_body(head)
        if head.asks_first:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if head.length is None:
            self._pieces = []
            self._chunks = _ChunkedTransferDecoder(self._pieces.append, self._chunks_ended)
        elif head.length:
            self._left = head.length
        else:
            self._answer(request)

    def _read_body(self, request: GatewayRequest) -> None:
        if self._chunks is not None:
            data, self._unread = self._unread[:CHUNKED_BYTES], self._unread[CHUNKED_BYTES:]
            try:
                self._chunks.dataReceived(data)
            except _MalformedChunkedDataError:
                raise not_http() from None
            self._take_pieces(request)
            return
        data, self._unread = self._unread, b""
        piece = data[: self._left]
        self._left -= len(piece)
        request.bodyReceived(piece)
        if not self._left:
            self._unread = data[len(piece) :]
            self._answer(request)

    def _take_pieces(self, request: GatewayRequest) -> None:
        """Hand on what the read has brought, as one piece: the chunks may be as small as the client likes."""
        if self._pieces:
            piece = b"".join(self._pieces)
            self._pieces.clear()
            request.bodyReceived(piece)

    def _chunks_ended(self, rest: bytes) -> None:
        request = self._request
        assert request is not None
        self._take_pieces(request)
        self._chunks = None
        self._unread = rest + self._unread
        self._answer(request)

    def _answer(self, request: GatewayRequest) -> None:
        """Have a request answered that is whole. Dispatch bounds how long that takes: there is no deadline."""
        self.deadline = inf
        self._answering = True
        request.requestReceived(self._admitted)

    def _wait_for_body(self, request: GatewayRequest) -> None:
        """Set the deadline for a body: it must make progress, and keep a rate. A refused one has a fixed deadline."""
        if request.refused:
            self.deadline = self._body_by
        else:
            self._wait(self.site.gateway.limits.request_body)
            self.deadline = min(self.deadline, self._body_by + request.received / MIN_BODY_RATE)

    def requestDone(self, request: GatewayRequest) -> None:
        """Wait for the client to take the answer, which is written; then keep the connection alive."""
        self._request = None
        self._await_delivery(self.site.keep_alive)
        if not self._full:
            self._read(True)
        if not self.persistent:
            self.loseConnection()
            return
        self._answering = False
        if self._unread:
            self._go_on()

    def _await_delivery(self, timeout: float) -> None:
        """Check each second whether the client takes what is written, until it has all of it.

        It is aborted after ``streaming.stall`` without any; once it has all, it may stay for *timeout* seconds.
        """
        self._undelivered, self._idle_timeout = inf, timeout
        self.deadline = self.site.clock.seconds()

    def _note_unsent(self, size: int) -> None:
        """Count *size* bytes of answers that wait here for their client in the buffer budget."""
        self.site.gateway.buffers.adjust(size - self._noted)
        self._noted = size

    def _check_delivery(self) -> None:
        left, now = unsent(self.transport), self.site.clock.seconds()
        self._note_unsent(left)
        if left < self._undelivered:
            self._undelivered, self._cut_at = left, now + self.site.gateway.limits.stall
        if not left:
            self._wait(self._idle_timeout)
        elif now >= self._cut_at:
            self.transport.abortConnection()
        else:
            self.deadline = now

    # -- the way out: IPushProducer, for the transport

    def register(self, producer: IPushProducer) -> None:
        """Tell *producer* from now on when the client's socket is full, and when it is empty again."""
        self._producer = producer

    def unregister(self) -> None:
        """Tell nobody any more."""
        self._producer = None

    def pauseProducing(self) -> None:
        """The client's socket is full: whoever goes on asking must take what it has asked for."""
        self._full = True
        if self._producer is not None:
            self._producer.pauseProducing()
        if not self._answering:
            self._read(False)

    def resumeProducing(self) -> None:
        """The client took what there was."""
        self._full = False
        if self._producer is not None:
            self._producer.resumeProducing()
        if not self._answering and self._head is None:
            self._read(True)

    def stopProducing(self) -> None:
        """The client is gone."""
        if self._producer is not None:
            self._producer.stopProducing()

    def _read(self, reading: bool) -> None:
        """Read from the client's socket, or leave what comes there."""
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()


def _bound_send_buffer(transport: Any) -> None:
    below = innermost(transport)
    handle = below.getHandle() if hasattr(below, "getHandle") else None
    if isinstance(handle, socket.socket):
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
