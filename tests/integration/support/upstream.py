"""An upstream that does exactly what a test tells it, byte by byte, and remembers exactly what it was sent.

It listens on the test's own reactor. A test gives it a script of answers, one for each request; the last stays in
force::

    upstream.script(answers.error(429, retry_after="1"), answers.stream("hello"))

An answer is a coroutine function that takes the :class:`Exchange`; :mod:`.answers` has the usual ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import termios
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IListeningPort, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer


@dataclass
class Recorded:
    """One request as it arrived."""

    head: bytes
    """From the request line to the blank line, both included."""
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in lower case, in the order in which they came."""
        pairs = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:] if line)
        return [(name.lower(), value.strip()) for name, _, value in pairs]

    def header(self, name: str) -> str | None:
        """The one value of a header; None where it is missing."""
        values = [value for each, value in self.headers if each == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def key(self) -> str:
        """The credential's secret, whichever header it came in."""
        of_key = self.header("x-api-key") or self.header("x-goog-api-key") or self.header("api-key")
        return of_key or (self.header("authorization") or "").removeprefix("Bearer ")

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Exchange:
    """One request, and the means to answer it. Handed to the answers of the script."""

    def __init__(self, connection: _Connection, request: Recorded, nth: int) -> None:
        self._connection = connection
        self.request = request
        self.nth = nth
        """The how-manieth request on its connection this is, from 1."""
        self.written = 0
        """Bytes that the socket took or holds."""
        self.pauses = 0
        """How often the socket was full."""
        self.lost: Deferred[None] = Deferred()
        """Fires when the connection is gone."""
        self.gone = False
        self.finished = False
        """The answer was given to its end, or the connection is gone."""

    @property
    def blocked(self) -> bool:
        """The socket is full now: the other side does not read."""
        return self._connection.room is not None

    async def write(self, data: bytes) -> None:
        """Send *data*, then wait until the socket would take more."""
        if self.gone:
            raise ConnectionLost
        self._connection.transport.write(data)
        self.written += len(data)
        if self._connection.room is not None:
            self.pauses += 1
            await self._connection.room

    async def sleep(self, seconds: float) -> None:
        """Do nothing for so long; fails at once where the connection goes."""
        done: Deferred[None] = Deferred()
        call = reactor.callLater(seconds, done.callback, None)
        try:
            await self._connection.or_lost(done)
        finally:
            if call.active():
                call.cancel()

    async def until_read(self) -> None:
        """Wait until the other side has read all that was written: what follows is a read of its own."""
        await self.sleep(0.01)
        while not self._connection.is_read():
            await self.sleep(0.01)

    async def until(self, done: Deferred[None]) -> None:
        """Wait for what the test decides; fails at once where the connection goes."""
        waiter: Deferred[None] = Deferred()

        def go_on(result: None) -> None:
            if not waiter.called:
                waiter.callback(None)

        done.addCallback(go_on)
        await self._connection.or_lost(waiter)

    async def until_gone(self) -> None:
        """Wait for the other side to close."""
        if not self.gone:
            await self.lost

    def close(self) -> None:
        """Send what is written, then FIN."""
        self._connection.transport.loseConnection()

    def reset(self) -> None:
        """RST, now."""
        self._connection.transport.abortConnection()


Answer = Callable[[Exchange], Awaitable[None]]


@implementer(IPushProducer)
class _Connection(Protocol):
    """One connection: reads requests one after another, and has each answered by the script."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.room: Deferred[None] | None = None
        self._received = bytearray()
        self._count = 0
        self._exchange: Exchange | None = None
        self._running: Deferred[None] | None = None
        self._lost_waiters: list[Deferred[None]] = []
        self.over: Deferred[None] = Deferred()
        """Fires when the connection is gone, and with it whatever was answering on it."""

    def connectionMade(self) -> None:
        self.upstream.connections.append(self)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if self.upstream.read_delay:
            self.transport.pauseProducing()
            reactor.callLater(self.upstream.read_delay, self._read_on)
        self._next()

    def _read_on(self) -> None:
        if self in self.upstream.connections:
            self.transport.resumeProducing()

    def _next(self) -> None:
        """Answer the next request, if it is whole and none is being answered."""
        end = self._received.find(b"\r\n\r\n")
        if self._running is not None or end < 0:
            return
        request = Recorded(bytes(self._received[: end + 4]), b"")
        length = int(request.header("content-length") or 0)
        if len(self._received) < end + 4 + length:
            return
        request.body = bytes(self._received[end + 4 : end + 4 + length])
        del self._received[: end + 4 + length]
        self._count += 1
        self._exchange = Exchange(self, request, self._count)
        answer = self.upstream.answer_for(self._exchange)
        self._running = ensureDeferred(answer(self._exchange))
        self._running.addErrback(self._failed)
        self._running.addCallback(self._answered)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError, ConnectionLost) is None:
            self.upstream.failures.append(failure)

    def _answered(self, _: None) -> None:
        self._exchange.finished = True
        self._running = None
        self._next()

    @property
    def unread(self) -> int:
        """Bytes of a request that is not whole yet."""
        return len(self._received)

    def is_read(self) -> bool:
        """Whether nothing that was written is on its way, or waits in the socket of the other side."""
        on_its_way = array("i", [0])
        fcntl.ioctl(self.transport.fileno(), termios.TIOCOUTQ, on_its_way)
        ends = tuple(f":{address.port:04X}" for address in (self.transport.getPeer(), self.transport.getHost()))
        sockets = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
        waiting = [each[4] for each in sockets if (each[1][-5:], each[2][-5:]) == ends]
        return not on_its_way[0] and all(each.endswith(":00000000") for each in waiting)

    async def or_lost(self, done: Deferred[None]) -> None:
        """Wait for *done*, or fail when the connection goes."""
        self._lost_waiters.append(done)
        try:
            await done
        finally:
            self._lost_waiters.remove(done)

    # IPushProducer: our own socket is full, has room again.
    def pauseProducing(self) -> None:
        self.room = Deferred()

    def resumeProducing(self) -> None:
        room, self.room = self.room, None
        if room is not None:
            room.callback(None)

    def stopProducing(self) -> None:
        """connectionLost follows."""

    def connectionLost(self, reason: Failure) -> None:
        self.upstream.connections.remove(self)
        if self._exchange is not None:
            self._exchange.gone = True
            self._exchange.lost.callback(None)
        for waiter in [*self._lost_waiters, *([self.room] if self.room else [])]:
            waiter.errback(Failure(ConnectionLost()))
        self.over.callback(None)


async def _no_models(exchange: Exchange) -> None:
    """Answer a question for the models that are served: none that it would name."""
    body = b'{"data":[],"has_more":false,"first_id":null,"last_id":null}'
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    await exchange.write(head.encode() + body)


class Upstream:
    """The scripted upstream: listens, records, answers."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.exchanges: list[Exchange] = []
        self.connections: list[_Connection] = []
        self.failures: list[Failure] = []
        self.read_delay = 0.0
        """Seconds of rest after each read: an upstream that takes the request slowly."""
        self._script: list[Answer] = []
        self._by_key: dict[str, list[Answer]] = {}
        self._port: IListeningPort | None = None

    async def start(self, port: int = 0) -> Upstream:
        factory = Factory.forProtocol(lambda: _Connection(self))
        self._port = await TCP4ServerEndpoint(reactor, port, backlog=1024, interface="127.0.0.1").listen(factory)
        return self

    async def stop(self) -> None:
        """Stop, cut what is open, and raise what went wrong in an answer."""
        if self._port is not None:
            await self._port.stopListening()
        for connection in list(self.connections):
            connection.transport.abortConnection()
            await connection.over  # what answers on it has timers
        for failure in self.failures:
            failure.raiseException()

    @property
    def url(self) -> str:
        assert self._port is not None
        return f"http://127.0.0.1:{self._port.getHost().port}"

    def script(self, *answers: Answer) -> None:
        """What to answer, request by request, whatever its key; the last one stays in force."""
        self._script = list(answers)

    def script_for(self, key: str, *answers: Answer) -> None:
        """The same for the requests that bear this key; goes before :meth:`script`."""
        self._by_key[key] = list(answers)

    def answer_for(self, exchange: Exchange) -> Answer:
        """Record the request and choose its answer; what the daemon asks on its own account is not of the script."""
        if exchange.request.path.startswith("/v1/models"):
            return _no_models
        self.requests.append(exchange.request)
        self.exchanges.append(exchange)
        answers = self._by_key.get(exchange.request.key, self._script)
        assert answers, f"no answer for {exchange.request.line}"
        return answers.pop(0) if len(answers) > 1 else answers[0]
