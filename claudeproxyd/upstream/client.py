"""The HTTP/1.1 client of the data plane: requests to one origin, over connections that are kept and reused.

It follows no redirects, decodes no content, keeps no cookies and repeats nothing, except a request that met a kept
connection which the upstream had closed meanwhile.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import DNSLookupError, TimeoutError
from twisted.internet.protocol import Factory

from claudeproxyd.descriptors import are_out, is_lack
from claudeproxyd.sockets import Hub
from claudeproxyd.turnstile import Turnstile
from claudeproxyd.upstream.connection import Connection
from claudeproxyd.upstream.deadline import Deadline
from claudeproxyd.upstream.errors import ConnectFailed, ConnectTimedOut, Lacking, NameNotFound, TLSFailed, UpstreamError
from claudeproxyd.upstream.pending import PendingRequest
from claudeproxyd.upstream.proxy import TunnelEndpoint, proxy_for
from claudeproxyd.upstream.response import Response
from claudeproxyd.upstream.tls import TLSSettings, connection_creator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

__all__ = ["Origin", "Response", "TLSSettings"]

_PORTS = {"http": 80, "https": 443}
#: Seconds that stand for no bound, where Twisted wants a number.
_NO_TIMEOUT = 86_400.0
#: Seconds between attempts on a host's several addresses; also how long a refusal takes to show.
_ADDRESS_DELAY = 0.05
#: The bytes that a request target is made of; any other could begin a header line, or another request.
_VISIBLE_ASCII = bytes(range(0x21, 0x7F))


class Origin:
    """The client of one origin (scheme, host and port), with a proxy and TLS settings. It owns its connections."""

    def __init__(
        self,
        reactor: Any,
        base_url: str,
        *,
        connect_timeout: float,
        tls: TLSSettings = TLSSettings(),  # noqa: B008  # immutable
        proxy: str = "",
        environ: Mapping[str, str] = os.environ,
        max_connections: int = 0,
        max_idle: int = 256,
        idle_timeout: float = 50.0,
        hub: Hub | None = None,
    ) -> None:
        """*proxy* as :func:`~claudeproxyd.upstream.proxy.proxy_for` has it, *environ* for its ``env``.

        *connect_timeout* bounds name lookup, connecting and TLS together, and the wait for a free connection; 0: no
        bound. *max_connections* 0: no limit. *hub* is the process's; None: one of its own. Raises ValueError for what
        cannot be a base URL or a proxy, OSError or ValueError for a *tls* file of authorities that is none.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in _PORTS or not parts.hostname or set(base_url) & set(" ?#@"):
            raise ValueError("a base URL is written http://host/path or https://host/path, without a query")
        self.clock: IReactorTime = reactor
        self.hub = hub or Hub(reactor)
        """Reads and sends for its connections."""
        self.late = Turnstile(reactor)
        """Of its connections' deadlines."""
        self.base_path = parts.path.rstrip("/").encode("ascii")
        """The path part of the base URL, which callers put in front of their targets."""
        self._secure = parts.scheme == "https"
        self._connect_timeout = connect_timeout or _NO_TIMEOUT
        self._max_connections = max_connections
        self._max_idle = max_idle
        self._idle_timeout = idle_timeout
        self._live: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._connecting = 0
        self._waiting: deque[PendingRequest] = deque()
        self._closing: list[Deferred[None]] | None = None
        self._factory = _Connections(self)

        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
        name = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
        authority = name if port == _PORTS[parts.scheme] else f"{name}:{port}"
        self.authority = authority
        """As requests name it in ``Host``."""
        self._fixed_lines = f"Host: {authority}\r\n".encode("ascii")
        self._target_prefix = b""
        via = proxy_for(proxy, parts.scheme, host, port, environ)
        self.proxied = via is not None and not self._secure
        """Requests go to a proxy in absolute form, and some answers are the proxy's own."""
        if via is None:
            self._endpoint = self._tcp(host, port)
        elif self._secure:
            self._endpoint = TunnelEndpoint(
                self._tcp(via.host, via.port), f"{name}:{port}".encode("ascii"), via.authorization
            )
        else:
            self._endpoint = self._tcp(via.host, via.port)
            self._target_prefix = f"http://{authority}".encode("ascii")
            self._fixed_lines += via.authorization
        if self._secure:
            # One context for all its connections: loading the authorities costs milliseconds.
            self._endpoint = wrapClientTLS(connection_creator(host, tls), self._endpoint, clock=reactor)

    def _tcp(self, host: str, port: int) -> IStreamClientEndpoint:
        if isIPAddress(host):  # the other makes a class for each connection, which takes a quarter of a millisecond
            return TCP4ClientEndpoint(self.clock, host, port, timeout=self._connect_timeout)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(self.clock, host, port, timeout=self._connect_timeout)  # type: ignore[no-untyped-call]  # Twisted has no types here
        return HostnameEndpoint(self.clock, host, port, timeout=self._connect_timeout, attemptDelay=_ADDRESS_DELAY)

    @property
    def connections(self) -> int:
        """Number of connections: being made, busy and idle."""
        return self._connecting + len(self._live)

    @property
    def idle(self) -> int:
        """Number of connections kept for the next request."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Number of requests that wait for one of ``max_connections``."""
        return len(self._waiting)

    def request(
        self,
        method: bytes,
        target: bytes,
        header_lines: bytes,
        body: bytes,
        *,
        first_byte: float,
        idle: float,
        stale: Callable[[], object] = lambda: None,
    ) -> Deferred[Response]:
        """Send one request. The Deferred fires with the response once its head is in.

        *header_lines* are rendered (``b"name: value\\r\\n"`` …), without ``Host`` and ``Content-Length``. *first_byte*
        bounds the wait for the head once the request is out, *idle* each silence after it; 0: no bound. *stale* is
        called when the request goes out once more, since its connection was closed already. Fails with an
        :class:`~claudeproxyd.upstream.errors.UpstreamError`. Cancelling aborts the socket at once. Raises ValueError
        for a *target* that holds anything but visible ASCII.
        """
        if target.translate(None, _VISIBLE_ASCII):
            raise ValueError("a request target holds visible ASCII alone")
        length = b"Content-Length: %d\r\n" % len(body) if body or method not in (b"GET", b"HEAD") else b""
        head = b"%b %b%b HTTP/1.1\r\n%b%b%b\r\n" % (
            method,
            self._target_prefix,
            target,
            self._fixed_lines,
            length,
            header_lines,
        )
        request = PendingRequest(head, body, method == b"HEAD", first_byte, idle, stale)
        deferred = request.deferred
        assert deferred is not None
        if self._idle:
            connection, _ = self._idle.popitem()  # the youngest: the least likely to be closed already
            connection.send(request)
        elif self._max_connections and self.connections >= self._max_connections:
            self._queue(request)
        else:
            self._connect(request)
        return deferred

    def close(self) -> Deferred[None]:
        """Close the idle connections and keep none from now on. Fires once the busy ones are closed as well."""
        if self._closing is None:
            self._closing = []
        if not self.connections:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._closing.append(done)
        for connection in list(self._idle):
            connection.close()
        return done

    # -- called by its connections

    def released(self, connection: Connection) -> None:
        """Use *connection* for the next request, now or later: its response is complete."""
        if self._waiting:
            connection.send(self._next())
        elif self._closing is not None or len(self._idle) >= self._max_idle:
            connection.close()
        else:
            self._idle[connection] = None
            connection.mark_idle(self._idle_timeout)

    def discard(self, connection: Connection) -> None:
        """Do not use *connection* again, if it is idle."""
        self._idle.pop(connection, None)

    def lost(self, connection: Connection, unanswered: PendingRequest | None = None) -> None:
        """Remove *connection*, whose socket is gone.

        *unanswered* goes out again: in all likelihood the connection had died before the request went out on it.
        """
        self.discard(connection)
        self._live.discard(connection)
        if unanswered is not None:
            unanswered.stale()
            self._connect(unanswered)  # on a fresh connection: it cannot happen twice
        else:
            self._release_slot()

    # -- how a request gets its connection

    def _queue(self, request: PendingRequest) -> None:
        def late() -> None:
            self._waiting.remove(request)
            request.fail(
                ConnectTimedOut(
                    f"all {self._max_connections} connections to {self.authority} were busy"
                    f" for {self._connect_timeout:g} seconds"
                )
            )

        def leave() -> None:
            deadline.stop()
            self._waiting.remove(request)

        deadline = Deadline(self.clock, late, self.late)
        deadline.set(self._connect_timeout)
        request.cancel = leave
        self._waiting.append(request)

    def _next(self) -> PendingRequest:
        """Return the request that waits longest, and take it out of the queue."""
        request = self._waiting[0]
        request.cancel()
        return request

    def _release_slot(self) -> None:
        """Let a waiting request connect in the place of a connection that is gone, or finish :meth:`close`."""
        if self._waiting and self.connections < self._max_connections:
            self._connect(self._next())
        elif self._closing is not None and not self.connections:
            closing, self._closing = self._closing, []
            for done in closing:
                done.callback(None)

    def _connect(self, request: PendingRequest) -> None:
        def late() -> None:
            request.fail(ConnectTimedOut(f"no connection to {self.authority} within {self._connect_timeout:g} seconds"))
            made.cancel()

        self._connecting += 1
        made: Deferred[Any] = self._endpoint.connect(self._factory)
        if self._secure:
            made.addCallback(Connection.secured)
        request.cancel = made.cancel
        deadline = Deadline(self.clock, late, self.late)
        deadline.set(self._connect_timeout)
        made.addCallbacks(
            self._connected, self._not_connected, callbackArgs=(request, deadline), errbackArgs=(request, deadline)
        )

    def _connected(self, connection: Connection, request: PendingRequest, deadline: Deadline) -> None:
        deadline.stop()
        self._connecting -= 1
        self._live.add(connection)
        connection.send(request)

    def _not_connected(self, reason: Failure, request: PendingRequest, deadline: Deadline) -> None:
        deadline.stop()
        self._connecting -= 1
        request.fail(self._as_upstream_error(reason.value))
        self._release_slot()

    def _as_upstream_error(self, error: BaseException | None) -> UpstreamError:
        """Return the :class:`UpstreamError` for what an endpoint failed with."""
        if isinstance(error, UpstreamError):
            return error
        if is_lack(error) or (isinstance(error, DNSLookupError) and are_out()):
            return Lacking("no descriptor or port is left for a connection")
        if isinstance(error, SSL.Error):
            return TLSFailed(f"TLS with {self.authority} failed: {_openssl_reason(error)}")
        if isinstance(error, (DNSLookupError, ValueError)):
            return NameNotFound(f"no address was found for {self.authority}")
        if isinstance(error, TimeoutError):
            return ConnectTimedOut(f"no connection to {self.authority} within {self._connect_timeout:g} seconds")
        return ConnectFailed(f"no connection to {self.authority}: {error}")


def _openssl_reason(error: SSL.Error) -> str:
    """Return the last entry of OpenSSL's error queue, like ``certificate verify failed``."""
    queue = error.args[0] if error.args else None
    return str(queue[-1][-1]) if isinstance(queue, list) and queue else "the connection broke"


class _Connections(Factory):
    """Builds the connections of one origin, without a line in the log for each."""

    noisy = False

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        return Connection(self._origin)
