"""What the tests of executors share: one of them on an upstream in memory."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import CredentialSection, Provider, Timeouts
from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.services import Services
from claudeproxyd.executors.turns import Turns
from claudeproxyd.leases import Credential, Route
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.secrets.sources import static_members
from claudeproxyd.secrets.static import StaticSecret
from claudeproxyd.testing import (
    EPOCH,
    EventRecorder,
    FakeAccount,
    MemoryConnection,
    MemoryUpstream,
    chunk,
    make_attempt,
    make_executor,
)
from claudeproxyd.translate.signatures import Signatures
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


class PlacedTestCase(ExecutorTestCase):
    """Of a kind whose credentials say where it is; whichever host they lead to is the one upstream."""

    section: Callable[..., Provider]
    """Makes a provider's settings of credentials and members."""
    model: str
    """Which is asked where a test does not say."""
    body: bytes

    def make(self, *credentials: CredentialSection, **members: Any) -> None:
        """The executor of such a provider."""
        self.net = MemoryUpstream()
        self.hosts: list[str] = []

        def origin(asked: str) -> Any:
            self.hosts.append(asked)
            return self.net.origin

        self.provider = provider = self.section(*credentials, **members)
        self.sources = {each.name: StaticSecret(static_members(each)) for each in provider.credentials}
        self.executor = self.maker.make(
            provider,
            Services(
                buffers=FakeAccount([]),
                clock=self.net.reactor,
                turns=Turns(self.net.reactor),
                origin=origin,
                timeouts=Timeouts(),
                max_event_bytes=100_000,
                now=lambda: EPOCH,
                signatures=Signatures(lambda: EPOCH),
            ),
        )

    def attempt(self, model: str | None = None, credential: str = "a", **call: Any) -> Attempt:
        """One attempt of a model with that credential, of a request that was found fit for it."""
        name, source = self.provider.name, self.sources[credential]
        made = House().request(**{"body": self.body, **call})
        route = Route(name, self.model if model is None else model)
        try:
            prepared = self.executor.prepare(made, route)
        except Unsupported:
            prepared = None
        return Attempt(made, Credential(name, credential, source), source.present(), route, 1, prepared=prepared)

    def up(self, count_tokens: bool = False, **attempt: Any) -> tuple[str, dict[str, str], bytes]:
        """What goes up: the target, the headers, the body."""
        _, _, head, body = self.send(self.attempt(count_tokens=count_tokens, **attempt), count_tokens)
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        self.assertEqual(len(headers), len(lines), "a header was sent twice")
        return first.split(" ")[1], headers, body
