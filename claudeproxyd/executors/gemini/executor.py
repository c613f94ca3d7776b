"""Google's Gemini API (https://ai.google.dev/api): Claude's requests translated, its answers translated back.

What differs on Vertex AI, the way to a model and the way to say who asks, is in methods of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import quote

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from claudeproxyd.executors.answers import MadeStream, Whole, WholeAnswer
from claudeproxyd.executors.gathering import Unshown, gathered
from claudeproxyd.executors.gemini.models import entry, read_page
from claudeproxyd.executors.google import authorization
from claudeproxyd.executors.http import EVENT_STREAM, MAX_WHOLE_ANSWER, HTTPExecutor
from claudeproxyd.interfaces import IExecutor, IExecutorMaker
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.estimate import estimate_tokens
from claudeproxyd.messages.headers import DEFAULT_VERSION, value_of
from claudeproxyd.messages.reader import Damaged
from claudeproxyd.messages.usage import Usage
from claudeproxyd.outcomes.types import Phase
from claudeproxyd.translate.conversation import Unsupported
from claudeproxyd.translate.gemini.answers import FAMILY, GeminiReader, read_whole
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.gemini.requests import GeminiRequest, Terms, translate
from claudeproxyd.translate.gemini.responses import MOST_TOKENS
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.call import Call
    from claudeproxyd.executors.services import Services
    from claudeproxyd.leases import Credential, Route
    from claudeproxyd.upstream.client import Response

#: Of a stream: server-sent events, or the JSON array that Google sends where ``alt=sse`` got lost on the way.
_STREAMED = (EVENT_STREAM, b"application/json")

_JSON = ((b"content-type", b"application/json"),)

#: Where a model's name may say itself what it is of.
_COLLECTION = re.compile(r"(models|tunedModels)/(.+)", re.DOTALL)

_CATEGORIES = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY", "JAILBREAK")
_THRESHOLDS = ("OFF", "BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE")


class _Counted(msgspec.Struct, rename="camel"):
    total_tokens: Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


_decode_count = msgspec.json.Decoder(_Counted, strict=False).decode


@implementer(IExecutor)
class GeminiExecutor(HTTPExecutor):
    """One provider of the Gemini Developer API."""

    kind = "gemini"
    family = FAMILY
    on_vertex = False

    def __init__(self, section: Provider, services: Services) -> None:
        super().__init__(section, services)
        self._safety_settings = [
            (f"HARM_CATEGORY_{category}", threshold) for category, threshold in section.safety_settings.items()
        ]

    def cannot_carry(self, call: Call, route: Route) -> str | None:
        """Translates the request, and keeps what comes of it for the attempts."""
        try:
            call.prepare(route, self._translate(call, route, call.envelope.body))
        except Unsupported as e:
            return str(e)
        return None

    def messages(self, attempt: Attempt) -> Deferred[Any]:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        return maybeDeferred(self._ask, attempt)

    def count_tokens(self, attempt: Attempt) -> Deferred[Any]:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        return maybeDeferred(self._count, attempt)

    def models(self, credential: Credential) -> Deferred[list[dict[str, Any]]]:
        """See :meth:`IExecutor.models <claudeproxyd.interfaces.IExecutor.models>`."""
        return Deferred.fromCoroutine(self._models(credential))

    async def _models(self, credential: Credential) -> list[dict[str, Any]]:
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

    def _ask(self, attempt: Attempt) -> Any:
        request = self._request(attempt)
        if request.empty:
            return self._empty(attempt, request)
        if attempt.call.envelope.stream:
            read = self._events
        else:
            # Of a stream it need not make, and nobody pays for, what follows a stop sequence.
            read = self._gathered if request.stop_sequences else self._message
        streamed = read != self._message
        return self._send(
            attempt,
            self._target(attempt, "streamGenerateContent?alt=sse" if streamed else "generateContent"),
            self._authorization(attempt.secret),
            request.body,
            lambda response, attempt: read(response, attempt, request),
            streamed=streamed,
        )

    def _count(self, attempt: Attempt) -> Any:
        return self._send(
            attempt,
            self._target(attempt, "countTokens"),
            self._authorization(attempt.secret),
            self._request(attempt).count_body,
            lambda response, attempt: self._whole(response, attempt, _counted),
        )

    def _translate(self, call: Call, route: Route, body: bytes, *, signed: bool = True) -> GeminiRequest:
        """*signed*: with what Google has signed. Raises Unsupported."""
        version = value_of(call.headers, b"anthropic-version") or DEFAULT_VERSION
        return translate(
            read_conversation(
                body, family=self.family if signed else "", policy=POLICY, version=version.decode("latin-1")
            ),
            Terms(
                model=route.model,
                max_output_tokens=route.max_output_tokens,
                on_vertex=self.on_vertex,
                safety_settings=self._safety_settings,
                url_sources=self._section.url_sources,
                own_thinking=route.own_thinking,
            ),
            self.services.signatures if signed else Signatures(self.services.now),
        )

    def _request(self, attempt: Attempt) -> GeminiRequest:
        """What was prepared for the attempt's route. Raises AttemptFailed."""
        call, route, signed = attempt.call, attempt.route, attempt.body is None
        if signed and route in call.prepared:
            request: GeminiRequest = call.prepared[route]
            return request
        # An upstream refused signatures: none that are remembered, or stand beside a search, go up either. Or a reload
        # has made this provider one of Google's while the request waited for it.
        try:
            return self._translate(call, route, attempt.body or call.envelope.body, signed=signed)
        except Unsupported as e:
            raise self.failed(attempt, phase=Phase.CONNECT, failure="cannot_carry", body=str(e).encode()) from None

    # -- down

    def _machine(self, attempt: Attempt, request: GeminiRequest, *, whole: bool) -> BlockMachine:
        envelope = attempt.call.envelope
        return BlockMachine(
            envelope.model,
            family=self.family,
            stop_sequences=request.stop_sequences,
            whole=whole,
            estimate=lambda: estimate_tokens(envelope.body),
        )

    def _events(self, response: Response, attempt: Attempt, request: GeminiRequest) -> Any:
        machine = self._machine(attempt, request, whole=False)
        services = self.services
        reader = GeminiReader(machine, request, services.signatures, services.max_event_bytes, last=attempt.last)
        return self._stream(response, attempt, reader, _STREAMED)

    def _gathered(self, response: Response, attempt: Attempt, request: GeminiRequest) -> Any:
        machine = self._machine(attempt, request, whole=True)
        attempt.usage = machine.usage
        services = self.services
        reader = GeminiReader(machine, request, services.signatures, services.max_event_bytes, last=attempt.last)

        def whole() -> Whole:
            return Whole(machine.message(), reader.usage, reader.stop_reason, reader.request_id, reader.oddity)

        def late(_: object, seconds: float) -> NoReturn:
            why = f"the answer was not whole within {seconds:g} seconds of its head"
            raise self.failed(attempt, phase=Phase.STREAM, failure="content_timeout", body=why.encode())

        made = maybeDeferred(self._stream, response, attempt, Unshown(reader, MAX_WHOLE_ANSWER), _STREAMED)
        made.addCallback(gathered, whole)
        if limit := services.timeouts.content:
            made.addTimeout(limit, services.clock, late)
        return made

    def _message(self, response: Response, attempt: Attempt, request: GeminiRequest) -> Any:
        def translated(body: bytes) -> Whole:
            machine = self._machine(attempt, request, whole=True)
            attempt.usage = machine.usage
            reader = read_whole(body, machine, request, self.services.signatures, last=attempt.last)
            return Whole(machine.message(), reader.usage, reader.stop_reason, reader.request_id, reader.oddity)

        return self._whole(response, attempt, translated)

    def _empty(self, attempt: Attempt, request: GeminiRequest) -> WholeAnswer | MadeStream:
        """``max_tokens: 0``, by which clients warm a cache: Google has no such request."""
        streamed = attempt.call.envelope.stream
        machine = self._machine(attempt, request, whole=not streamed)
        machine.usage.output = 0
        machine.finish("max_tokens")
        if streamed:
            return MadeStream(_JSON, machine.flush(), machine.usage, "max_tokens")
        return WholeAnswer(_JSON, Whole(machine.message(), machine.usage, "max_tokens"))


def _counted(body: bytes) -> Whole:
    """The answer of ``countTokens`` as that of count_tokens."""
    usage = Usage()
    try:
        usage.input = _decode_count(body).total_tokens
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise Damaged(f"no count: {e}") from None
    return Whole(b'{"input_tokens":%d}' % usage.input, usage)


def check_google(section: Provider) -> list[tuple[str, str]]:
    """Mistakes in what all of Google's kinds have in common, for their makers."""
    mistakes = []
    for category, threshold in section.safety_settings.items():
        place = f"safety_settings.{category}"
        if category not in _CATEGORIES:
            mistakes.append((place, f"is no category; there are {', '.join(_CATEGORIES)}"))
        elif threshold not in _THRESHOLDS:
            mistakes.append((place, f"is no threshold; there are {', '.join(_THRESHOLDS)}"))
    return mistakes


@implementer(IExecutorMaker)
class GeminiMaker:
    """Makes :class:`GeminiExecutor`; ``gemini`` in a configuration."""

    kind = "gemini"
    default_base_url = "https://generativelanguage.googleapis.com"
    credential_schema = ("api_key", "bearer_token")

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """What says something of the Messages API alone has no meaning here."""
        mistakes = check_google(section)
        for member in ("betas.add", "betas.drop", "drop_fields"):
            if attrgetter(member)(section):
                mistakes.append(
                    (member, "is about requests of the Messages API, which this kind does not send: leave it out")
                )
        return mistakes

    def base_urls(self, section: Provider) -> Sequence[str]:
        """The one that is configured."""
        return (section.base_url,)

    def make(self, section: Provider, services: Services) -> GeminiExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return GeminiExecutor(section, services)
