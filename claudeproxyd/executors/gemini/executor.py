"""Google's Gemini API (https://ai.google.dev/api): Claude's requests translated, its answers translated back.

What differs on Vertex AI, the way to a model and the way to say who asks, is in methods of its own.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import quote

import msgspec
from zope.interface import implementer

from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.gathering import LimitedReader, gathered
from claudeproxyd.executors.gemini.models import entry, read_page
from claudeproxyd.executors.google import authorization
from claudeproxyd.executors.http import EVENT_STREAM, MAX_WHOLE_ANSWER, HTTPExecutor
from claudeproxyd.executors.responses import BufferedResponse, LocalStream, ParsedMessage
from claudeproxyd.executors.turns import in_turns
from claudeproxyd.interfaces import IExecutor
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.estimate import estimate_tokens
from claudeproxyd.messages.headers import DEFAULT_VERSION, value_of
from claudeproxyd.messages.reader import MalformedAnswer
from claudeproxyd.messages.usage import Usage
from claudeproxyd.outcomes.types import AttemptPhase, Failure
from claudeproxyd.steps import at_once
from claudeproxyd.translate.gemini.answers import FAMILY, GeminiReader, read_whole
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.gemini.requests import GeminiRequest, Terms, translation
from claudeproxyd.translate.gemini.responses import MAX_TOKENS
from claudeproxyd.translate.reading import reading
from claudeproxyd.translate.signatures import Signatures

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.executors.google import SafetySettings
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IBufferedResponse, IStreamingResponse
    from claudeproxyd.leases import Credential, Route
    from claudeproxyd.steps import Steps
    from claudeproxyd.upstream.client import Response

#: Of a stream: server-sent events, or the JSON array that Google sends where ``alt=sse`` got lost on the way.
_STREAMED = (EVENT_STREAM, b"application/json")

#: Bytes of a request that takes more than milliseconds to translate.
_LARGE_BYTES = 1_048_576

_JSON = ((b"content-type", b"application/json"),)

#: Where a model's name may say itself what it is of.
_COLLECTION = re.compile(r"(models|tunedModels)/(.+)", re.DOTALL)


class _Counted(msgspec.Struct, rename="camel"):
    total_tokens: Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


_decode_count = msgspec.json.Decoder(_Counted, strict=False).decode


@implementer(IExecutor)
class GeminiExecutor(HTTPExecutor):
    """One provider of the Gemini Developer API."""

    kind = "gemini"
    family = FAMILY
    on_vertex = False
    _url_sources: Sequence[str] = ()  # the Gemini API fetches from public hosts alone

    def __init__(self, section: Provider, services: Services) -> None:
        super().__init__(section, services)
        own: SafetySettings = section.own
        self._safety_settings = [
            (f"HARM_CATEGORY_{category}", threshold) for category, threshold in own.safety_settings.items()
        ]

    def prepare(self, request: ApiRequest, route: Route) -> GeminiRequest | Coroutine[Any, Any, GeminiRequest]:
        """Translate the request; a large one with turns for others in between. Raises Unsupported."""
        body = request.envelope.body
        steps = self._translation(request, route, body)
        return in_turns(steps, self.services.clock) if len(body) > _LARGE_BYTES else at_once(steps)

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        request = await self._request(attempt)
        if request.empty:
            return self._empty(attempt, request)
        with self._outcomes(attempt):
            if attempt.request.envelope.stream:
                return await self._stream(
                    await self._generate(attempt, request, streamed=True),
                    attempt,
                    self._reader(attempt, request, self._machine(attempt, request, whole=False)),
                    _STREAMED,
                )
            if request.stop_sequences:
                # Of a stream it need not make, and nobody pays for, what follows a stop sequence.
                return await self._gather(await self._generate(attempt, request, streamed=True), attempt, request)
            response = await self._generate(attempt, request, streamed=False)
            return await self._whole(response, attempt, lambda body: self._translated(body, attempt, request))

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        body = (await self._request(attempt)).count_body
        with self._outcomes(attempt):
            response = await self._send(
                attempt, self._target(attempt, "countTokens"), self._authorization(attempt.secret), body
            )
            return await self._whole(response, attempt, _counted)

    async def models(self, credential: Credential) -> list[dict[str, object]]:
        """See :meth:`IExecutor.models <claudeproxyd.interfaces.IExecutor.models>`."""
        secret = credential.source.present() or await credential.source.refresh()
        listed = await self._list("/v1beta/models?pageSize=1000", "pageToken", self._authorization(secret), read_page)
        return [entry(model) for model in listed if "generateContent" in model.supported_generation_methods]

    def client_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """None of Google's mean anything to a client of the Claude API."""
        return list(_JSON)

    # -- what Vertex AI has otherwise

    def _target(self, attempt: Attempt, method: str) -> bytes:
        """Path and query. A client may have chosen the model's name: it cannot lead out of its collection."""
        named = _COLLECTION.fullmatch(attempt.model)
        collection, name = named.groups() if named else ("models", attempt.model)
        return b"%b/v1beta/%b:%b" % (
            self._origin.base_path,
            f"{collection}/{quote(name, safe='')}".encode(),
            method.encode(),
        )

    def _authorization(self, secret: Mapping[str, str]) -> bytes:
        """The header lines that say who asks."""
        return authorization(secret, self._section.headers)

    # -- up

    def _generate(self, attempt: Attempt, request: GeminiRequest, *, streamed: bool) -> Coroutine[Any, Any, Response]:
        return self._send(
            attempt,
            self._target(attempt, "streamGenerateContent?alt=sse" if streamed else "generateContent"),
            self._authorization(attempt.secret),
            request.body,
            streamed=streamed,
        )

    def _translation(
        self, request: ApiRequest, route: Route, body: bytes, *, signed: bool = True
    ) -> Steps[GeminiRequest]:
        """*signed*: with what Google has signed. Raises Unsupported."""
        version = (value_of(request.headers, b"anthropic-version") or DEFAULT_VERSION).decode("latin-1")
        family = self.family if signed else ""
        conversation = yield from reading(body, family=family, policy=POLICY, version=version)
        translated = yield from translation(
            conversation,
            Terms(
                model=route.model,
                max_output_tokens=route.max_output_tokens,
                on_vertex=self.on_vertex,
                safety_settings=self._safety_settings,
                url_sources=self._url_sources,
                own_thinking=route.own_thinking,
            ),
            self.services.signatures if signed else Signatures(self.services.now),
        )
        return translated

    async def _request(self, attempt: Attempt) -> GeminiRequest:
        """What was prepared for the attempt's route. Raises AttemptFailed."""
        signed, prepared = attempt.body is None, attempt.prepared
        if signed and isinstance(prepared, GeminiRequest):
            return prepared
        # An upstream refused signatures: none that are remembered, or stand beside a search, go up either. Or a reload
        # has made this provider one of Google's while the request waited for it.
        asked = attempt.request
        steps = self._translation(asked, attempt.route, attempt.body or asked.envelope.body, signed=signed)
        try:
            return await in_turns(steps, self.services.clock)
        except Unsupported as e:
            reason = str(e).encode()
            raise self.judge.failed(
                attempt, phase=AttemptPhase.CONNECT, failure=Failure.UNSUPPORTED, body=reason
            ) from None

    # -- down

    def _machine(self, attempt: Attempt, request: GeminiRequest, *, whole: bool) -> BlockMachine:
        envelope = attempt.request.envelope
        return BlockMachine(
            envelope.model,
            family=self.family,
            stop_sequences=request.stop_sequences,
            whole=whole,
            estimate=lambda: estimate_tokens(envelope.body),
        )

    def _reader(self, attempt: Attempt, request: GeminiRequest, machine: BlockMachine) -> GeminiReader:
        services = self.services
        return GeminiReader(machine, request, services.signatures, services.max_event_bytes, last=attempt.last)

    async def _gather(self, response: Response, attempt: Attempt, request: GeminiRequest) -> BufferedResponse:
        """Return the message that a stream comes to."""
        machine = self._machine(attempt, request, whole=True)
        attempt.usage = machine.usage
        reader = self._reader(attempt, request, machine)

        def late(_: object, seconds: float) -> NoReturn:
            why = f"the answer was not whole within {seconds:g} seconds of its head"
            raise self.judge.failed(
                attempt, phase=AttemptPhase.STREAM, failure=Failure.CONTENT_TIMEOUT, body=why.encode()
            )

        stream = await self._stream(response, attempt, LimitedReader(reader, MAX_WHOLE_ANSWER), _STREAMED)
        whole = gathered(stream, lambda: _message(machine, reader))
        if limit := self.services.timeouts.content:
            whole.addTimeout(limit, self.services.clock, late)
        return await whole

    def _translated(self, body: bytes, attempt: Attempt, request: GeminiRequest) -> ParsedMessage:
        """Make a Claude message of a whole answer."""
        machine = self._machine(attempt, request, whole=True)
        attempt.usage = machine.usage
        return _message(machine, read_whole(body, machine, request, self.services.signatures, last=attempt.last))

    def _empty(self, attempt: Attempt, request: GeminiRequest) -> BufferedResponse | LocalStream:
        """``max_tokens: 0``, by which clients warm a cache: Google has no such request."""
        streamed = attempt.request.envelope.stream
        machine = self._machine(attempt, request, whole=not streamed)
        machine.usage.output = 0
        machine.finish("max_tokens")
        if streamed:
            return LocalStream(_JSON, machine.flush(), machine.usage, "max_tokens")
        return BufferedResponse(_JSON, ParsedMessage(machine.message(), machine.usage, "max_tokens"))


def _message(machine: BlockMachine, reader: GeminiReader) -> ParsedMessage:
    return ParsedMessage(machine.message(), reader.usage, reader.stop_reason, reader.request_id, reader.anomaly)


def _counted(body: bytes) -> ParsedMessage:
    """The answer of ``countTokens`` as that of count_tokens."""
    usage = Usage()
    try:
        usage.input = _decode_count(body).total_tokens
    except UNREADABLE as e:
        raise MalformedAnswer(f"no count: {e}") from None
    return ParsedMessage(b'{"input_tokens":%d}' % usage.input, usage)
