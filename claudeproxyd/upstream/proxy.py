"""The way through an HTTP proxy: which one, and the tunnel that CONNECT opens."""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from zope.interface import implementer

from claudeproxyd.outcomes.types import AttemptPhase
from claudeproxyd.upstream.errors import ConnectFailed, Malformed, ProxyRefused, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from urllib.parse import SplitResult

    from twisted.internet.interfaces import IAddress, ITCPTransport
    from twisted.python.failure import Failure

_MAX_HEAD_BYTES = 16_384
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |\r\n)")
_NO_PROXY_ENTRY = re.compile(r"(\[.*\]|[^:]*|.*:.*:.*)(?::([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy and its credentials."""

    host: str
    port: int
    authorization: bytes = field(default=b"", repr=False)
    """A whole ``Proxy-Authorization`` line, or nothing."""


def proxy_for(setting: str, scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for one origin, None for a direct connection.

    *setting* is ``http://user:pass@host:port``, ``env`` (the variables that curl reads, from *environ*) or empty.
    Raises ValueError, which does not repeat the setting: it may hold a password.
    """
    if setting == "env":
        if _exempt(host, port, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
            return None
        # HTTP_PROXY in capitals can be set by a request header where the daemon runs under CGI: curl skips it too.
        capitals = environ.get("HTTPS_PROXY", "") if scheme == "https" else ""
        setting = environ.get(f"{scheme}_proxy") or capitals
        if setting and "://" not in setting:
            setting = "http://" + setting
    if not setting:
        return None
    parts = urlsplit(setting)
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
        raise ValueError("a proxy is written http://host:port or http://user:password@host:port")
    authorization = b""
    if parts.username is not None:
        authorization = f"Proxy-Authorization: Basic {_basic(parts)}\r\n".encode()
    return Proxy(parts.hostname, parts.port or 80, authorization)


def proxy_secrets(setting: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what is secret in a proxy's *setting*, as :func:`proxy_for` has it: its password, and what it is sent."""
    variables = ("http_proxy", "https_proxy", "HTTPS_PROXY")
    for each in [environ.get(name, "") for name in variables] if setting == "env" else [setting]:
        try:
            parts = urlsplit(each if "://" in each else f"http://{each}")
        except ValueError:  # told where it is used
            continue
        if parts.password:
            yield unquote(parts.password)
            yield _basic(parts)


def _basic(parts: SplitResult) -> str:
    """Return what the user and the password of a URL are sent as."""
    return b64encode(unquote_to_bytes(parts.username or "") + b":" + unquote_to_bytes(parts.password or "")).decode()


def _exempt(host: str, port: int, no_proxy: str) -> bool:
    """Return whether ``no_proxy`` names this host, a parent domain, its network or ``*``, and its port if any."""
    for entry in no_proxy.replace(",", " ").split():
        parts = _NO_PROXY_ENTRY.fullmatch(entry.lower())
        if parts is None or (parts[2] and int(parts[2]) != port):
            continue
        name = parts[1].strip("[]").removeprefix("*.").lstrip(".")
        if name in ("*", host) or host.endswith("." + name) or _in_network(host, name):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects to *authority* (``host:port``) through the proxy that *proxy* connects to.

    Its Deferred fails with :class:`ProxyRefused`, :class:`Malformed` or :class:`ConnectFailed`, or as *proxy*'s does.
    """

    def __init__(self, proxy: IStreamClientEndpoint, authority: bytes, authorization: bytes) -> None:
        self._proxy = proxy
        self._request = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (authority, authority, authorization)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        connected: Deferred[Any] = self._proxy.connect(_Tunnels(self._request, protocolFactory))
        return connected.addCallback(lambda tunnel: tunnel.established)


class _Tunnels(Factory):
    """Builds a tunnel for each connection to the proxy, without a line in the log for each."""

    noisy = False

    def __init__(self, request: bytes, inner: IProtocolFactory) -> None:
        self._request = request
        self._inner = inner

    def buildProtocol(self, addr: IAddress | None) -> _Tunnel:
        return _Tunnel(self._request, self._inner)


class _Tunnel(Protocol):
    """Asks the proxy for a tunnel, and then passes all data to the protocol inside."""

    transport: ITCPTransport

    def __init__(self, request: bytes, inner: IProtocolFactory) -> None:
        self._request = request
        self._factory = inner
        self._inner: IProtocol | None = None
        self._head = b""
        self.established: Deferred[IProtocol] = Deferred(lambda _: self.transport.abortConnection())

    def connectionMade(self) -> None:
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self.established.called:
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > _MAX_HEAD_BYTES:
                self._refuse(Malformed("the proxy's answer to CONNECT has no end", AttemptPhase.PROXY))
            return
        line = _STATUS_LINE.match(head + b"\r\n")
        if line is None or len(head) > _MAX_HEAD_BYTES:
            self._refuse(Malformed("the proxy's answer to CONNECT is not HTTP", AttemptPhase.PROXY))
        elif not 200 <= (status := int(line[1])) < 300:
            self._refuse(ProxyRefused(f"the proxy answered CONNECT with {status}", status))
        else:
            self._open(rest)

    def _open(self, rest: bytes) -> None:
        inner = self._factory.buildProtocol(self.transport.getPeer())
        assert inner is not None
        self._inner = inner
        self._head = b""
        inner.makeConnection(self.transport)
        self.established.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _refuse(self, error: UpstreamError) -> None:
        self.established.errback(error)
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
            self._inner = None
        elif not self.established.called:
            self.established.errback(ConnectFailed("the proxy closed the connection instead of answering CONNECT"))
