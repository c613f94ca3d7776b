"""An origin on a reactor in memory, and the far end of its connections."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.interfaces import IBodyConsumer
from claudeproxyd.upstream.client import Origin


class Wire(StringTransport):
    """The transport of one connection, seen from the upstream: ends come a turn later, as with sockets."""

    aborted = False
    lost = False
    options: tuple[str, ...] = ()

    def __init__(self, reactor: MemoryReactorClock) -> None:
        super().__init__(lenient=True)
        self.reactor = reactor
        self.protocol: Any = None

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.options += ("nodelay",) if enabled else ()

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.options += ("keepalive",) if enabled else ()

    def abortConnection(self) -> None:
        self.aborted = True
        self.reactor.callLater(0, self.end, ConnectionAborted())

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.reactor.callLater(0, self.end, ConnectionDone())

    def say(self, data: bytes) -> None:
        """The upstream's bytes arrive, in one read."""
        if not self.aborted:
            self.protocol.dataReceived(data)

    def end(self, reason: Exception | None = None) -> None:
        """The connection ends; in an orderly way if nothing else is said."""
        if not self.lost:
            self.lost = True
            if self.producer is not None:
                self.producer.stopProducing()
                self.producer = None
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    def taken(self) -> bytes:
        """What was written since the last time."""
        written: bytes = self.value()
        self.clear()
        return written


class FullWire(Wire):
    """One whose buffer is full after every write."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()


class Net:
    """A reactor in memory with one origin on it."""

    def __init__(self, base_url: str = "http://127.0.0.1:8080/base", **settings: Any) -> None:
        self.reactor = MemoryReactorClock()
        self.origin = Origin(self.reactor, base_url, **{"connect_timeout": 10.0, **settings})

    def ask(self, method: bytes = b"POST", body: bytes = b"{}", **options: Any) -> Any:
        """Send a request."""
        options = {"first_byte": 120.0, "idle": 300.0, **options}
        return self.origin.request(method, b"/v1/messages", b"x: y\r\n", body, **options)

    def accept(self, kind: type[Wire] = Wire) -> Wire:
        """The upstream takes the oldest connection that is being made."""
        _, _, factory, _, _ = self.reactor.tcpClients.pop(0)
        wire = kind(self.reactor)
        wire.protocol = factory.buildProtocol(None)
        wire.protocol.makeConnection(wire)
        return wire

    def refuse(self, reason: Exception) -> None:
        """Nobody takes the oldest connection that is being made."""
        _, _, factory, _, _ = self.reactor.tcpClients.pop(0)
        factory.clientConnectionFailed(None, Failure(reason))
        self.reactor.advance(1.0)

    def turn(self) -> None:
        """What was put off to the reactor's next turn happens."""
        self.reactor.advance(0)


@implementer(IBodyConsumer)
class Sink:
    """Notes what it is given."""

    def __init__(self, producer: IPushProducer | None = None) -> None:
        self.producer = producer
        self.reads: list[bytes] = []
        self.end: Any = None

    @property
    def body(self) -> bytes:
        return b"".join(self.reads)

    def data(self, chunk: bytes) -> None:
        assert self.end is None
        assert chunk
        self.reads.append(chunk)

    def ended(self) -> None:
        assert self.end is None
        self.end = "whole"

    def broken(self, reason: Exception) -> None:
        assert self.end is None
        self.end = reason


verifyClass(IBodyConsumer, Sink)
