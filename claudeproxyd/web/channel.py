"""One client connection: reads heads fast, refuses in the API's own shape, and never waits without a deadline.

Twisted's channel splits its buffer once for each header line, body included, and answers what it cannot read with a
bare ``400``. Here a head is gathered whole and cut once; HTTP's own headers (those that frame the body or steer the
connection) still go to Twisted, which decides on them. What of Twisted's private parts is touched is
``_respondToBadRequestAndDisconnect``, the one place in which it refuses; tests/web/test_channel.py pins it.

A connection that was refused is not closed at once: the answer would be lost to a client that is still sending. What
it sends is dropped for a while, within a bound.
"""

from __future__ import annotations

import re
import socket
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from twisted.web.http import HTTPChannel

from claudeproxyd.dispatch.request import CancelReason
from claudeproxyd.errors import ClaudeError, shutting_down
from claudeproxyd.sockets import innermost, unsent
from claudeproxyd.web.request import GatewayRequest

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.resource import Resource

    from claudeproxyd.sockets import Outbox
    from claudeproxyd.web.gateway import Gateway

#: Bytes of a request line and its headers together.
MAX_HEAD_BYTES = 65_536
#: Seconds between two requests; above what load balancers in front keep (60).
KEEP_ALIVE_TIMEOUT = 75.0
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

#: The headers that say where the body ends and what becomes of the connection.
_OWN = frozenset({b"content-length", b"transfer-encoding", b"connection", b"expect"})
_MAX_CACHED_NAMES = 1000
_MAX_CACHED_NAME_BYTES = 100

_is_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_names: dict[bytes, bytes] = {}


class ChannelSite(Protocol):
    """The site, as its channels and their requests see it: a :class:`~claudeproxyd.web.site.GatewaySite`."""

    gateway: Gateway
    clock: IReactorTime
    outbox: Outbox
    draining: bool

    def opened(self, channel: GatewayChannel) -> None:
        """Note that a connection was made."""

    def closed(self, channel: GatewayChannel) -> None:
        """Note that a connection was lost."""

    def getResourceFor(self, request: GatewayRequest) -> Resource:
        """Return what answers a request whose head is in. Raises ClaudeError."""

    def log(self, request: GatewayRequest) -> None:
        """Record a request that is over."""


class GatewayChannel(HTTPChannel):
    """Made by :class:`~claudeproxyd.web.site.GatewaySite` for each connection."""

    site: ChannelSite
    transport: Any
    requests: list[GatewayRequest]
    _networkProducer: Any
    totalHeadersSize = MAX_HEAD_BYTES

    deadline = inf
    """When :meth:`expired` is called, on the reactor's clock. The site checks once a second: no request has a timer."""
    _body_by = inf
    """The latest deadline for a body of which nothing has come."""
    over_limit = False
    """One connection more than ``max_connections``: its first request is refused, and is its last."""

    _unread = b""
    _searched = 0
    """Bytes of ``_unread`` that are known to hold no end of a head."""
    _busy = False
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
    _peer: IAddress | None = None
    _host: IAddress | None = None

    # -- the connection

    def connectionMade(self) -> None:
        """Begin: bound the socket's buffer, and wait for a head."""
        super().connectionMade()
        _bound_send_buffer(self.transport)
        self.site.outbox.adopt(self.transport)
        self.site.opened(self)
        self._wait(self.site.gateway.limits.request_head)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Protocol's has a default
        """Tell the site and the requests that the connection is lost."""
        self._note_unsent(0)
        self.site.closed(self)
        super().connectionLost(reason)

    def getPeer(self) -> IAddress:
        """Return the client's address; Twisted would make it anew for each request."""
        if self._peer is None:
            self._peer = super().getPeer()
        return self._peer

    def getHost(self) -> IAddress:
        """Return our address."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def loseConnection(self) -> None:
        """Close once what was written is sent; after a refusal only our half."""
        if self._closing:
            return
        self._closing = True
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if not self._refused or half_close is None:
            self._await_delivery(CLOSE_TIMEOUT)
            super().loseConnection()
            return
        self._undelivered = 0
        self._wait(DISCARD_TIMEOUT)
        self._networkProducer.unregisterProducer()
        # TLS has no half of a connection to close.
        if not self.isSecure():
            half_close()

    @property
    def idle(self) -> bool:
        """Whether it is between two requests, or before the first."""
        return not self.requests and not self._unread

    def expired(self) -> None:
        """Act on a deadline that has passed. Called by the site."""
        self.deadline = inf
        if self._undelivered:
            self._check_delivery()
        elif self._closing:
            self.transport.abortConnection()
        elif self.idle:
            self.loseConnection()
        else:
            self.refuse(ClaudeError(408, "The request did not arrive in time"))

    def refuse(self, error: ClaudeError) -> None:
        """Answer a request that is not read to its end with *error*. It is the last on this connection."""
        if self._refused or self._closing:
            return
        self._refused = True
        self.persistent = False
        self._unread = b""
        if not self.requests:
            self.requests.append(GatewayRequest(self))
        self.requests[-1].refuse(error)

    def shut_down(self) -> None:
        """Abort everything on this connection with an error, for shutdown. Called by the site."""
        for request in list(self.requests):
            if request.cancel is not None:
                request.cancel(CancelReason.DRAIN)
        if not self.idle and not self._handlingRequest:
            self.refuse(shutting_down())
        self.loseConnection()
        self._undelivered = 0
        self._wait(ABORT_TIMEOUT)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(ClaudeError(400, "The request is not valid HTTP"))

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
        if self._busy:
            return
        self._busy = True
        try:
            while self._unread and self._advance():
                pass
        except ClaudeError as error:
            self.refuse(error)
        finally:
            self._busy = False

    def _advance(self) -> bool:
        """Consume some of ``_unread``. Return False when more of it must come first."""
        if self.line_mode:
            return self._find_head()
        data, self._unread = self._unread, b""
        self.rawDataReceived(data)
        if self._refused:
            return False
        if not self._handlingRequest and self.requests:
            self._wait_for_body(self.requests[-1])
        return True

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
            self._read_head(head)
            return not self._refused
        if len(self._unread) > MAX_HEAD_BYTES:
            raise ClaudeError(431, f"The request's headers are larger than {MAX_HEAD_BYTES} bytes")
        if self._unread and not self._unread[:1].isalpha():
            # No method begins so; a TLS hello does, and would otherwise wait for the deadline.
            raise ClaudeError(400, "The request is not valid HTTP")
        if not self._searched and self._unread:
            idle_until, self.deadline = self.deadline, inf
            self._wait(self.site.gateway.limits.request_head)
            self.deadline = min(self.deadline, idle_until)
        self._searched = max(0, len(self._unread) - 3)
        return False

    def _read_head(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        breaks = len(lines) - 1
        if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
            raise ClaudeError(400, "The request's head holds a stray CR, LF or NUL")
        if breaks > self.maxHeaders:
            raise ClaudeError(431, f"The request has more than {self.maxHeaders} headers")
        self.lineReceived(lines[0])
        if self._refused:
            return
        headers = []
        chunked = False
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            lower = _names.get(name) or _lower(name)
            if not colon or not lower:
                raise ClaudeError(400, "The request has a malformed header")
            value = value.strip(b" \t")
            headers.append((lower, value))
            if lower in _OWN:
                if lower == b"content-length" and len(value) > 18:
                    raise ClaudeError(413, "The request's content-length has more than 18 digits")
                if lower == b"transfer-encoding":
                    # Twisted passes over "identity"; who stands before us may not.
                    if chunked or value.lower() != b"chunked":
                        raise ClaudeError(400, "The request's transfer-encoding is not plainly chunked")
                    chunked = True
                if not self.headerReceived(line):
                    return
        if sum(name == b"host" for name, _ in headers) > 1:
            raise ClaudeError(400, "The request has more than one Host header")
        method, target, version = lines[0].split(b" ")
        if self.length is None and version == b"HTTP/1.0":
            raise ClaudeError(400, "HTTP/1.0 knows no transfer-encoding")
        request = self.requests[-1]
        request.headReceived(method, target, version, headers)
        if self.length != 0:
            self._wait(DISCARD_TIMEOUT if request.refused else self.site.gateway.limits.request_body)
            self._body_by = self.deadline
            self._wait_for_body(request)
        # The empty line after the last header: Twisted takes over.
        self.lineReceived(b"")

    def _wait_for_body(self, request: GatewayRequest) -> None:
        """Set the deadline for a body: it must make progress, and keep a rate. A refused one has a fixed deadline."""
        if request.refused:
            self.deadline = self._body_by
        else:
            self._wait(self.site.gateway.limits.request_body)
            self.deadline = min(self.deadline, self._body_by + request.received / MIN_BODY_RATE)

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Return whether there may be another request after this one."""
        if version != b"HTTP/1.1" or self.site.draining or self.over_limit:
            return False
        values = request.requestHeaders.getRawHeaders(b"connection", ())
        return not any(token.strip().lower() == b"close" for value in values for token in value.split(b","))

    def allContentReceived(self) -> None:
        """Stop the deadline: the request is whole, and dispatch bounds how long its answer takes."""
        self.deadline = inf
        super().allContentReceived()

    def requestDone(self, request: GatewayRequest) -> None:
        """Wait for the client to take the answer, which is written; then keep the connection alive."""
        if self.site.draining:
            self.persistent = False
        self._await_delivery(KEEP_ALIVE_TIMEOUT)
        super().requestDone(request)

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


def _lower(name: bytes) -> bytes:
    """Return *name* in lower case, and remember it; b'' if it is no name."""
    if not _is_token(name):
        return b""
    lower = name.lower()
    if len(_names) < _MAX_CACHED_NAMES and len(name) < _MAX_CACHED_NAME_BYTES:
        _names[name] = lower
    return lower


def _bound_send_buffer(transport: Any) -> None:
    below = innermost(transport)
    handle = below.getHandle() if hasattr(below, "getHandle") else None
    if isinstance(handle, socket.socket):
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
