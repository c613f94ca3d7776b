"""What the tests of executors share: one of them on an upstream in memory, and who takes its events."""

from __future__ import annotations

from dataclasses import fields
from inspect import isawaitable
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.config.schema import Provider, Timeouts
from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.services import Services
from claudeproxyd.interfaces import IEventConsumer
from claudeproxyd.leases import Credential, Route
from claudeproxyd.messages.batch import Batch
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.secrets.static import StaticSecret
from tests.dispatch.fakes import EPOCH, FakeAccount, House
from tests.upstream.fakes import Net, Wire

EVENT_STREAM = "content-type: text/event-stream; charset=utf-8"


@implementer(IEventConsumer)
class Events:
    """Notes what it is given, and that nothing comes after the end."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.failure: Any = None

    @property
    def frames(self) -> bytes:
        return b"".join(batch.frames for batch in self.batches)

    def events(self, batch: Batch) -> None:
        assert self.failure is None
        assert not (self.batches and self.batches[-1].ended)
        self.batches.append(batch)

    def broken(self, reason: Exception) -> None:
        assert self.failure is None
        self.failure = reason


verifyClass(IEventConsumer, Events)


class ExecutorTestCase(SynchronousTestCase):
    """An executor, its upstream, and requests."""

    maker: Any
    """Of its kind."""

    def setUp(self) -> None:
        self.make()

    def make(self, services: Any = (), **section: Any) -> None:
        """With these settings."""
        self.net = Net()
        own = {each.name: section.pop(each.name) for each in fields(self.maker.settings) if each.name in section}
        section["own"] = self.maker.settings(**own)
        self.executor = self.maker.make(
            Provider(name="p", kind=self.maker.kind, **{"base_url": "http://127.0.0.1:8080/base", **section}),
            Services(
                clock=self.net.reactor,
                origin=lambda base_url: self.net.origin,
                timeouts=Timeouts(),
                now=lambda: EPOCH,
                **{"buffers": FakeAccount([]), "max_event_bytes": 100_000, **dict(services)},
            ),
        )

    def attempt(self, secret: Any = (("api_key", "sk-house"),), model: str = "m", **call: Any) -> Attempt:
        """One attempt with that secret."""
        capture = call.pop("capture", None)
        made = House().request(**call)
        return Attempt(
            made, Credential("p", "a", StaticSecret(dict(secret))), dict(secret), Route("p", model), 1, capture=capture
        )

    def unsupported(self, request: ApiRequest, route: Route) -> str | None:
        """Why *request* cannot be prepared for *route*; None where it can."""
        try:
            prepared = self.executor.prepare(request, route)
        except Unsupported as e:
            return str(e)
        result = self.result(ensureDeferred(prepared)) if isawaitable(prepared) else None
        return str(result) if isinstance(result, Unsupported) else None

    def models(self, credential: Credential) -> Any:
        """Ask what that credential can use."""
        return ensureDeferred(self.executor.models(credential))

    def send(self, attempt: Attempt | None = None, count_tokens: bool = False) -> tuple[Any, Wire, bytes, bytes]:
        """Send one; its Deferred, the wire, and the head and body that went up."""
        attempt = attempt or self.attempt()
        ask = self.executor.count_tokens if count_tokens else self.executor.messages
        sent = ensureDeferred(ask(attempt))
        if self.net.reactor.tcpClients:
            self.wire = self.net.accept()
        wire = self.wire
        head, _, body = wire.taken().partition(b"\r\n\r\n")
        return sent, wire, head, body

    def answer(self, status: int, body: bytes, *headers: str, count_tokens: bool = False, **call: Any) -> Any:
        """The whole answer of an upstream to one attempt: what the executor makes of it, or fails with."""
        sent, wire, _, _ = self.send(self.attempt(count_tokens=count_tokens, **call), count_tokens)
        lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers]
        wire.say("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return self.result(sent)

    def so_far(self, sent: Any) -> list[Any]:
        """What a Deferred has come to, if it has come to anything."""
        found: list[Any] = []

        def note(result: Any) -> Any:
            found.append(result)
            return result

        sent.addBoth(note)
        return found

    def result(self, sent: Any) -> Any:
        """What a Deferred has come to."""
        found: list[Any] = []
        sent.addBoth(found.append)
        self.assertEqual(len(found), 1, "nothing yet")
        return getattr(found[0], "value", found[0])

    def failed(self, *answer: Any, **options: Any) -> AttemptFailed:
        """The failure that an answer comes to."""
        failure = self.answer(*answer, **options)
        self.assertIsInstance(failure, AttemptFailed)
        assert isinstance(failure, AttemptFailed)
        return failure

    def stream(self, *headers: str) -> tuple[Any, Wire]:
        """A stream whose head is in, and its wire."""
        sent, wire, _, _ = self.send(self.attempt(stream=True))
        lines = ["HTTP/1.1 200 OK", "transfer-encoding: chunked", *(headers or (EVENT_STREAM,))]
        wire.say("\r\n".join(lines).encode() + b"\r\n\r\n")
        return self.result(sent), wire

    def deliver(self, *reads: bytes, end: bool = False) -> tuple[Any, Events, Wire]:
        """A stream that came in these reads."""
        answer, wire = self.stream()
        events = Events()
        answer.deliver(events)
        for read in reads:
            wire.say(chunk(read))
        if end:
            wire.say(chunk(b""))
        return answer, events, wire


def chunk(data: bytes) -> bytes:
    """A chunk of a body; of nothing, its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)
