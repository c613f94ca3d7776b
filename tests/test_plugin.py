"""A kind of a third party's that reaches its provider by HTTP, made and tested with what is public alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from claudeproxyd.plugin import (
    ApiRequest,
    Attempt,
    AttemptFailed,
    ClaudeReader,
    Credential,
    Headers,
    HTTPExecutor,
    IBufferedResponse,
    IExecutor,
    IExecutorMaker,
    IStreamingResponse,
    Kind,
    Maker,
    Provider,
    Route,
    Services,
    Unsupported,
    client_headers,
    setting,
)
from claudeproxyd.testing import (
    EventRecorder,
    MemoryConnection,
    MemoryUpstream,
    chunk,
    make_attempt,
    make_executor,
    make_request,
)

MESSAGE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":"end_turn",'
    b'"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":4}}'
)
START = b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n' % MESSAGE
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


@implementer(IExecutor)
class MirrorExecutor(HTTPExecutor):
    """Sends Claude's own requests to somebody who speaks like Anthropic, under another path and header."""

    kind = "mirror"
    family = "anthropic"

    def client_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        return client_headers(headers)

    def prepare(self, request: ApiRequest, route: Route) -> None:
        if route.model == "unknown":
            raise Unsupported("model: unknown")

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        lines = b"x-mirror-key: %b\r\n" % attempt.secret["api_key"].encode()
        body = attempt.body or attempt.request.envelope.with_model(attempt.model)
        with self.outcomes(attempt):
            response = await self.send(attempt, self.section.own.path.encode(), lines, body)
            if not attempt.request.envelope.stream:
                return await self.whole(response, attempt)
            reader = ClaudeReader(self.services.max_event_bytes)
            return await self.stream(response, attempt, reader, (b"text/event-stream",))

    async def count_tokens(self, attempt: Attempt) -> Any:
        raise NotImplementedError

    def models(self, credential: Credential) -> Deferred[list[dict[str, Any]]]:
        return succeed([])


@dataclass(frozen=True, kw_only=True)
class MirrorSettings:
    """Settings of a provider."""

    path: str = setting("/mirror", "Where it answers.")


@implementer(IExecutorMaker)
class MirrorMaker(Maker):
    """Makes them."""

    kind = "mirror"
    credential_schema = ("api_key",)
    settings = MirrorSettings

    def make(self, section: Provider, services: Services) -> MirrorExecutor:
        return MirrorExecutor(section, services)


class Mirror(SynchronousTestCase):
    """The base class does for it what it does for ours."""

    def setUp(self) -> None:
        self.upstream = MemoryUpstream()
        self.executor = make_executor(MirrorMaker(), self.upstream, path="/there")

    def ask(self, **options: Any) -> tuple[Deferred[Any], MemoryConnection]:
        """Send one, and take its connection."""
        answering = ensureDeferred(self.executor.messages(make_attempt(make_request(**options), model="theirs")))
        return answering, self.upstream.accept()

    def test_interfaces(self) -> None:
        """It is one, by what the daemon looks at."""
        verifyObject(IExecutorMaker, MirrorMaker())
        verifyObject(IExecutor, self.executor)
        self.assertRaises(Unsupported, self.executor.prepare, make_request(), Route("p", "unknown"))

    def test_whole(self) -> None:
        """A whole message, of a request with its own path, key and the route's model."""
        answering, connection = self.ask()
        sent = connection.taken()
        self.assertTrue(sent.startswith(b"POST /there HTTP/1.1\r\n"), sent)
        self.assertIn(b"x-mirror-key: sk-test\r\n", sent)
        self.assertIn(b'"model":"theirs"', sent)
        connection.respond(200, MESSAGE, "content-type: application/json")
        response = self.successResultOf(answering)
        self.assertEqual((response.body, response.usage.output, response.stop_reason), (MESSAGE, 4, "end_turn"))

    def test_stream(self) -> None:
        """A stream, which comes in reads and is over at its end."""
        answering, connection = self.ask(stream=True)
        connection.begin_stream()
        events = EventRecorder()
        self.successResultOf(answering).deliver(events)
        connection.say(chunk(START))
        self.assertFalse(events.batches[-1].ended)
        connection.say(chunk(STOP) + chunk(b""))
        self.assertEqual((events.frames, events.batches[-1].ended), (START + STOP, True))

    def test_cut(self) -> None:
        """A stream that is cut before any content has failed in passing: somebody else can take over."""
        answering, connection = self.ask(stream=True)
        connection.begin_stream()
        events = EventRecorder()
        self.successResultOf(answering).deliver(events)
        connection.say(chunk(START))
        connection.end()
        self.assertIs(events.failure.outcome.kind, Kind.TRANSIENT)

    def test_refusal(self) -> None:
        """An upstream's error is classified by its dialect."""
        answering, connection = self.ask()
        error = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'
        connection.respond(429, error, "content-type: application/json", "retry-after: 7")
        outcome = self.failureResultOf(answering, AttemptFailed).value.outcome
        self.assertEqual((outcome.kind, outcome.until_hint), (Kind.QUOTA, 7.0))

    def test_unreachable(self) -> None:
        """A provider that takes no connection is one that fails by itself."""
        answering = ensureDeferred(self.executor.messages(make_attempt(make_request())))
        self.upstream.refuse(ConnectionRefusedError())
        self.assertIs(self.failureResultOf(answering, AttemptFailed).value.outcome.kind, Kind.TRANSIENT)
