"""What the tests of executors share: one of them on an upstream in memory."""

from __future__ import annotations

from inspect import isawaitable
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Timeouts
from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.errors import Unsupported
from claudeproxyd.leases import Credential, Route
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.testing import EventRecorder, MemoryConnection, MemoryUpstream, chunk, make_attempt, make_executor
from tests.dispatch.fakes import House


class ExecutorTestCase(SynchronousTestCase):
    """An executor, its upstream, and requests."""

    maker: Any
    """Of its kind."""

    def setUp(self) -> None:
        self.make()

    def make(self, services: Any = (), **section: Any) -> None:
        """With these settings."""
        self.net = MemoryUpstream()
        self.executor = make_executor(
            self.maker, self.net, services={"timeouts": Timeouts(), **dict(services)}, **section
        )

    def attempt(self, secret: Any = (("api_key", "sk-house"),), model: str = "m", **call: Any) -> Attempt:
        """One attempt with that secret."""
        capture = call.pop("capture", None)
        return make_attempt(House().request(**call), dict(secret), model=model, capture=capture)

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

    def send(
        self, attempt: Attempt | None = None, count_tokens: bool = False
    ) -> tuple[Any, MemoryConnection, bytes, bytes]:
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
        wire.respond(status, body, *headers)
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

    def stream(self, *headers: str) -> tuple[Any, MemoryConnection]:
        """A stream whose head is in, and its wire."""
        sent, wire, _, _ = self.send(self.attempt(stream=True))
        wire.begin_stream(*headers)
        return self.result(sent), wire

    def deliver(self, *reads: bytes, end: bool = False) -> tuple[Any, EventRecorder, MemoryConnection]:
        """A stream that came in these reads."""
        answer, wire = self.stream()
        events = EventRecorder()
        answer.deliver(events)
        for read in reads:
            wire.say(chunk(read))
        if end:
            wire.say(chunk(b""))
        return answer, events, wire
