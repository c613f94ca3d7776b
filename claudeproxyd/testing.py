"""For tests of plugins, and of ours: an upstream in memory, a client that notes what it gets, and requests.

No network, no reactor, no time that passes by itself. What is in ``__all__`` is as stable as
:mod:`claudeproxyd.plugin`::

    upstream = MemoryUpstream()
    executor = make_executor(MyMaker(), upstream, base_url="http://upstream.test")
    answering = ensureDeferred(executor.messages(make_attempt(make_request())))
    connection = upstream.accept()
    connection.respond(200, b"...", "content-type: application/json")
    response = self.successResultOf(answering)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from claudeproxyd.config.schema import Config, Provider
from claudeproxyd.config.timeouts import timeouts_for
from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.executors.services import Services
from claudeproxyd.executors.turns import Turns
from claudeproxyd.headers import Headers
from claudeproxyd.interfaces import IBufferAccount, IDownlink, IEventConsumer, IExecutor, IExecutorMaker
from claudeproxyd.leases import Credential, Route
from claudeproxyd.messages.envelope import read_envelope
from claudeproxyd.principals import Principal
from claudeproxyd.secrets.static import StaticSecret
from claudeproxyd.upstream.client import Origin

if TYPE_CHECKING:
    from twisted.internet.interfaces import IPushProducer, IReactorTime

    from claudeproxyd.errors import ClaudeError
    from claudeproxyd.messages.batch import Batch
    from claudeproxyd.outcomes.types import ErrorResponse

__all__ = [
    "EPOCH",
    "EVENT_STREAM",
    "EventRecorder",
    "FakeAccount",
    "FakeDownlink",
    "MemoryConnection",
    "MemoryUpstream",
    "chunk",
    "make_attempt",
    "make_executor",
    "make_request",
]

#: The wall clock of an executor under test: seconds since the epoch.
EPOCH = 1_700_000_000.0
#: The header of a stream of events.
EVENT_STREAM = "content-type: text/event-stream; charset=utf-8"


# -- upstreams


class MemoryConnection(StringTransport):
    """The transport of one connection, seen from the upstream: ends come a turn later, as with sockets."""

    aborted = False
    lost = False
    options: tuple[str, ...] = ()
    """Which TCP options were turned on."""

    def __init__(self, reactor: MemoryReactorClock) -> None:
        super().__init__(lenient=True)
        self.reactor = reactor
        self.protocol: Any = None

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See :class:`twisted.internet.interfaces.ITCPTransport`."""
        self.options += ("nodelay",) if enabled else ()

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See :class:`twisted.internet.interfaces.ITCPTransport`."""
        self.options += ("keepalive",) if enabled else ()

    def abortConnection(self) -> None:
        """End it at once; what was written may be lost."""
        self.aborted = True
        self.reactor.callLater(0, self.end, ConnectionAborted())

    def loseConnection(self) -> None:
        """End it."""
        self.disconnecting = True
        self.reactor.callLater(0, self.end, ConnectionDone())

    def say(self, data: bytes) -> None:
        """Have the upstream's bytes arrive, in one read."""
        if not self.aborted:
            self.protocol.dataReceived(data)

    def respond(self, status: int, body: bytes, *headers: str) -> None:
        """Have a whole response arrive, in one read. *headers* are lines, beside the length."""
        lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers]
        self.say("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def begin_stream(self, *headers: str) -> None:
        """Have the head of a stream arrive; its body follows as ``say(chunk(…))``. *headers* are lines."""
        lines = ["HTTP/1.1 200 OK", "transfer-encoding: chunked", *(headers or (EVENT_STREAM,))]
        self.say("\r\n".join(lines).encode() + b"\r\n\r\n")

    def end(self, reason: Exception | None = None) -> None:
        """End the connection; in an orderly way if nothing else is said."""
        if not self.lost:
            self.lost = True
            if self.producer is not None:
                self.producer.stopProducing()
                self.producer = None
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        written: bytes = self.value()
        self.clear()
        return written


class MemoryUpstream:
    """A reactor in memory with one upstream on it, which answers as a test says."""

    def __init__(self, base_url: str = "http://127.0.0.1:8080/base", **settings: Any) -> None:
        """*settings*: of the :class:`~claudeproxyd.upstream.client.Origin`."""
        self.base_url = base_url
        self.reactor = MemoryReactorClock()
        self.origin = Origin(self.reactor, base_url, **{"connect_timeout": 10.0, **settings})

    def accept(self, kind: type[MemoryConnection] = MemoryConnection) -> MemoryConnection:
        """Take the oldest connection that is being made, and return it."""
        factory = self._connecting()
        connection = kind(self.reactor)
        connection.protocol = factory.buildProtocol(None)
        connection.protocol.makeConnection(connection)
        return connection

    def refuse(self, reason: Exception) -> None:
        """Have the oldest connection that is being made fail."""
        factory = self._connecting()
        factory.clientConnectionFailed(None, Failure(reason))
        self.reactor.advance(1.0)

    def _connecting(self) -> Any:
        return self.reactor.tcpClients.pop(0)[2]

    def turn(self) -> None:
        """Have what was put off to the reactor's next turn happen."""
        self.reactor.advance(0)


def chunk(data: bytes) -> bytes:
    """Return a chunk of a body; of nothing, its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# -- clients


@implementer(IEventConsumer)
class EventRecorder:
    """Notes the batches of a stream, and that nothing comes after its end."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.failure: Any = None
        """What :meth:`broken` was told."""

    @property
    def frames(self) -> bytes:
        """All frames so far."""
        return b"".join(batch.frames for batch in self.batches)

    def events(self, batch: Batch) -> None:
        """Note it."""
        assert self.failure is None
        assert not (self.batches and self.batches[-1].ended)
        self.batches.append(batch)

    def broken(self, reason: Exception) -> None:
        """Note it."""
        assert self.failure is None
        self.failure = reason


@implementer(IDownlink)
class FakeDownlink:
    """Notes what a client would get, and that nothing is asked of it which makes no sense."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.head_committed = False
        self.message_committed = False
        self.last_write = 0.0
        self.sent = 0
        self.head: Headers = ()
        self.writes: list[bytes] = []
        """Each write of a stream: frames as they are, b'ping' for a ping, b'' for a head alone."""
        self.body: bytes | None = None
        self.error: ClaudeError | None = None
        self.answer: ErrorResponse | None = None
        self.aborted = False
        self.ended = False
        self.producer: Any = None

    def attach(self, producer: IPushProducer) -> None:
        """Note it."""
        assert self.producer is None
        self.producer = producer

    def commit_head(self, headers: Headers) -> None:
        """Note a head alone."""
        assert not self.head_committed
        self._commit(headers)
        self._write(b"")

    def frames(self, headers: Headers, frames: bytes, last: bool) -> None:
        """Note part of a message."""
        if not self.head_committed:
            self._commit(headers)
        self.message_committed = True
        self._write(frames)
        self.ended = last

    def ping(self) -> None:
        """Note a ping."""
        assert self.head_committed
        self._write(b"ping")

    def whitespace(self) -> None:
        """Note a blank."""
        if not self.head_committed:
            self._commit(())
        self._write(b" ")

    def whole(self, headers: Headers, body: bytes) -> None:
        """Note a whole answer."""
        self._end()
        if not self.head_committed:
            self.head = headers
        self.body = body

    def fail(self, error: ClaudeError, answer: ErrorResponse | None = None) -> None:
        """Note an error."""
        self._end()
        self.error = error
        self.answer = answer

    def abort(self) -> None:
        """Note that the client was cut off."""
        self._end()
        self.aborted = True

    def _commit(self, headers: Headers) -> None:
        self.head_committed = True
        self.head = headers

    def _write(self, data: bytes) -> None:
        assert not self.ended, "written after the end"
        self.last_write = self._clock.seconds()
        self.writes.append(data)

    def _end(self) -> None:
        assert not self.ended, "ended twice"
        self.ended = True


@implementer(IBufferAccount)
class FakeAccount:
    """Notes each change of what is buffered; refuses nothing."""

    def __init__(self, changes: list[int] | None = None) -> None:
        self.changes: list[int] = [] if changes is None else changes

    def check(self, client: str, size: int) -> None:
        """Find room for it."""

    def reserve(self, client: str, size: int) -> None:
        """Note it."""
        self.changes.append(size)

    def release(self, client: str, size: int) -> None:
        """Note it."""
        self.changes.append(-size)

    def adjust(self, change: int) -> None:
        """Note it."""
        self.changes.append(change)


# -- requests


def make_request(body: bytes = b"", *, stream: bool = False, count_tokens: bool = False, **members: Any) -> ApiRequest:
    """Return what a client asks; without a *body*, the least that it can. *members*: of :class:`ApiRequest`."""
    body = body or b'{"model":"m","max_tokens":9,"messages":[],"stream":%b}' % (b"true" if stream else b"false")
    made: dict[str, Any] = {
        "request_id": "req_ours",
        "principal": Principal("client", {"team": "x"}),
        "envelope": read_envelope(body),
        "headers": [(b"x-claude-code-session-id", b"session")],
        "query": b"beta=true",
        "count_tokens": count_tokens,
        "started": 0.0,
    }
    return ApiRequest(**{**made, **members})


def make_attempt(
    request: ApiRequest,
    secret: Mapping[str, str] = MappingProxyType({"api_key": "sk-test"}),
    *,
    model: str = "m",
    settings: object = None,
    **options: Any,
) -> Attempt:
    """Return an attempt at *request*, for :meth:`IExecutor.messages` and ``count_tokens``.

    *model*: the upstream's name for it. *settings*: the credential's own, an instance of its maker's
    ``credential_settings``. *options*: of :class:`Attempt`, ``prepared`` above all.
    """
    credential = Credential("p", "a", StaticSecret(dict(secret)), settings=settings)
    return Attempt(request, credential, dict(secret), Route("p", model), 1, **options)


def make_executor(
    maker: IExecutorMaker,
    upstream: MemoryUpstream,
    *,
    services: Mapping[str, Any] = MappingProxyType({}),
    **section: Any,
) -> IExecutor:
    """Return what *maker* makes of a section with these members, its own among them, on *upstream*.

    *services*: of :class:`Services`, instead of those in memory.
    """
    own = {each.name: section.pop(each.name) for each in fields(maker.settings) if each.name in section}
    provider = Provider(
        name="p", kind=maker.kind, own=maker.settings(**own), **{"base_url": upstream.base_url, **section}
    )
    made: dict[str, Any] = {
        "clock": upstream.reactor,
        "origin": lambda base_url: upstream.origin,
        "timeouts": timeouts_for(provider, Config(), {maker.kind: maker}),
        "now": lambda: EPOCH,
        "buffers": FakeAccount(),
        "turns": Turns(upstream.reactor),
        "max_event_bytes": 100_000,
    }
    return maker.make(provider, Services(**{**made, **services}))
