"""A listener without a network: a site on a clock, connections on string transports, and a dispatcher that obeys."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath
from twisted.web.resource import Resource
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.dispatch.body import Body
from claudeproxyd.dispatch.request import ApiRequest, CancelReason
from claudeproxyd.dispatch.request_log import RequestLog
from claudeproxyd.interfaces import ICaptures, ICatalog, IDispatcher, IDownlink, IRunningRequest
from claudeproxyd.observe.access_log import AccessEntry
from claudeproxyd.observe.audit import AuditEntry
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.principals import Principal
from claudeproxyd.web.access import BrowserGuard, KeyAuthenticator, OpenAccess, TrustedProxies
from claudeproxyd.web.buffers import BufferBudget
from claudeproxyd.web.channel import GatewayChannel
from claudeproxyd.web.gateway import AdminGateway, Limits, PublicGateway
from claudeproxyd.web.public import PublicRoot
from claudeproxyd.web.roles import Operator, Role
from claudeproxyd.web.site import GatewaySite

BODY = b'{"model":"m","max_tokens":9,"messages":[]}'
JSON = b"application/json"


@implementer(IRunningRequest)
class FakeRunning:
    """A request that dispatch has."""

    def __init__(self, request: ApiRequest, body: Body, downlink: IDownlink) -> None:
        self.request = request
        self.body = body
        self.downlink = downlink
        self.log = RequestLog()
        self.cancelled: CancelReason | None = None
        self.done: Deferred[None] = Deferred()
        self.done.addErrback(self._ended)

    def cancel(self, reason: CancelReason) -> None:
        if self.cancelled is None:
            self.cancelled = reason
        self.done.cancel()

    def _ended(self, failure: Failure) -> None:
        failure.trap(CancelledError)
        assert self.cancelled is not None
        self.log.outcome = "cancelled"
        self.log.error = self.cancelled.value
        self.body.release()


verifyClass(IRunningRequest, FakeRunning)


@implementer(IDispatcher)
class FakeDispatcher:
    """Answers each request at once, unless it is told to hold them."""

    def __init__(self) -> None:
        self.hold = False
        self.running: list[FakeRunning] = []
        self.bodies: list[bytes] = []
        self.body = b'{"type":"message"}'

    def serve(self, request: ApiRequest, body: Body, downlink: IDownlink, capture: Any = None) -> FakeRunning:
        running = FakeRunning(request, body, downlink)
        self.running.append(running)
        self.bodies.append(body.data)
        if not self.hold:
            running.log.outcome = "ok"
            self.answer(-1)
        return running

    def answer(self, index: int = 0) -> None:
        """Answer a request that was held."""
        running = self.running[index]
        running.downlink.whole([(b"content-type", JSON)], self.body)
        running.body.release()
        running.done.callback(None)


verifyClass(IDispatcher, FakeDispatcher)


@implementer(ICatalog)
class FakeCatalog:
    """Lists what it is told to."""

    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def entries(self) -> list[dict[str, Any]]:
        return [{"type": "model", "id": each} for each in self.ids]


verifyClass(ICatalog, FakeCatalog)


@implementer(ICaptures)
class NoCaptures:
    """Captures, turned off."""

    def begin(self, request_id: str) -> None:
        return None


verifyClass(ICaptures, NoCaptures)


class Reply:
    """One answer, taken apart; whatever a client could not read fails the test."""

    def __init__(self, data: bytes) -> None:
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        version, status, self.phrase = line.split(b" ", 2)
        assert version in (b"HTTP/1.1", b"HTTP/1.0"), line
        self.status = int(status)
        self.pairs = [tuple(each.split(b": ", 1)) for each in lines]
        self.headers = {name.lower(): value for name, value in self.pairs}
        length = int(self.headers.get(b"content-length", b"0"))
        self.body, self.rest = rest[:length], rest[length:]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def replies(data: bytes) -> list[Reply]:
    """Every answer in *data*."""
    found = []
    while data:
        found.append(Reply(data))
        data = found[-1].rest
    return found


def turns(clock: MemoryReactorClock, connection: Connection) -> list[bytes]:
    """What each turn of the reactor brought, up to an answer."""
    brought: list[bytes] = []
    while not any(brought):
        call = clock.calls.pop(0)
        assert call.getTime() <= clock.seconds()
        call.called = 1
        call.func(*call.args, **call.kw)
        brought.append(connection.take())
    return brought


class Connection:
    """A client's connection to a site."""

    def __init__(self, site: GatewaySite, peer: str = "192.0.2.7") -> None:
        address = IPv4Address("TCP", peer, 50000)
        self.transport = StringTransport(peerAddress=address)
        self.channel: GatewayChannel = site.buildProtocol(address)
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Bytes from the client."""
        self.channel.dataReceived(data)

    def take(self) -> bytes:
        """What the client got since the last time."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def ask(self, data: bytes) -> Reply:
        """Send, and take exactly one answer."""
        self.send(data)
        (reply,) = replies(self.take())
        return reply

    def lose(self) -> None:
        """The client goes, or is sent away."""
        self.channel.connectionLost(Failure(ConnectionDone()))

    @property
    def closing(self) -> bool:
        """We have ended it."""
        return bool(self.transport.disconnecting or self.transport.disconnected)


class Listener:
    """A public site with everything that it needs."""

    def __init__(self, *principals: Principal, **changes: Any) -> None:
        """Each principal's key is its name."""
        self.clock = MemoryReactorClock()
        self.dispatcher = FakeDispatcher()
        self.log: list[AccessEntry] = []
        self.is_ready = True
        self.catalog = FakeCatalog()
        keys = {sha256(each.name): each for each in principals}
        gateway = PublicGateway(
            authenticator=KeyAuthenticator(keys) if keys else OpenAccess(),
            guard=BrowserGuard(check_host=False, check_origin=False),
            proxies=TrustedProxies(),
            limits=Limits(),
            buffers=BufferBudget(10_000_000),
            metrics=Metrics(),
            access_log=self.log.append,
            ready=lambda: self.is_ready,
            dispatcher=self.dispatcher,
            catalog=self.catalog,
            captures=NoCaptures(),
        )
        self.site = GatewaySite(PublicRoot(), replace(gateway, **changes), self.clock)

    def connect(self, peer: str = "192.0.2.7") -> Connection:
        """One more client."""
        return Connection(self.site, peer)

    def ask(self, data: bytes) -> Reply:
        """One request on a connection of its own."""
        return self.connect().ask(data)


class AdminListener:
    """An admin site on *root*, and what its audit was told."""

    def __init__(self, root: Resource, *operators: Operator) -> None:
        """Each operator's key is its name; without any, whoever comes may do everything."""
        self.audit: list[AuditEntry] = []
        public = Listener()
        self.clock = public.clock
        gateway = public.site.gateway
        keys: dict[str, Principal] = {sha256(each.name): each for each in operators}
        self.gateway = AdminGateway(
            authenticator=KeyAuthenticator(keys) if keys else OpenAccess(Operator("operator", role=Role.OPERATE)),
            guard=BrowserGuard(check_host=not operators, check_origin=True, has_page=True),
            proxies=gateway.proxies,
            limits=gateway.limits,
            buffers=gateway.buffers,
            metrics=gateway.metrics,
            access_log=gateway.access_log,
            ready=gateway.ready,
            audit=self._write,
        )
        self.site = GatewaySite(root, self.gateway, self.clock)

    def _write(self, entry: Struct) -> None:
        assert isinstance(entry, AuditEntry)
        self.audit.append(entry)

    def ask(self, data: bytes) -> Reply:
        """One request on a connection of its own, with as many turns of the reactor as it takes."""
        connection = Connection(self.site)
        connection.send(data)
        data = connection.take()
        while not data:
            self.clock.advance(0)
            data = connection.take()
        (reply,) = replies(data)
        return reply


def sha256(key: str) -> str:
    """A key's digest."""
    import hashlib

    return hashlib.sha256(key.encode()).hexdigest()


def post(path: str = "/v1/messages", body: bytes = BODY, *headers: str) -> bytes:
    """A request with a body."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    if not any(each.lower().startswith("content-type") for each in headers):
        lines.append("Content-Type: application/json")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """A request without one."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers]).encode() + b"\r\n\r\n"


def new_certificate(path: FilePath[str], days: int) -> float:
    """Write a certificate for so many days, and its key. Return its end, in seconds since the epoch."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC).replace(microsecond=0)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    ends = now + timedelta(days=days)
    unsigned = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, ends)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.setContent(unsigned.sign(key, hashes.SHA256()).public_bytes(pem) + secret)
    return ends.timestamp()
