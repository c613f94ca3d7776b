"""What executors have in common whose upstreams do not speak Claude's protocol.

A subclass says how a conversation is translated, sent, and read; the order of it all is here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.gathering import LimitedReader, gathered
from claudeproxyd.executors.http import EVENT_STREAM, MAX_WHOLE_ANSWER, HTTPExecutor
from claudeproxyd.executors.responses import BufferedResponse, LocalStream, ParsedMessage
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.headers import DEFAULT_VERSION, value_of
from claudeproxyd.outcomes.types import AttemptPhase, Failure
from claudeproxyd.steps import at_once
from claudeproxyd.translate.prepared import TranslatedRequest
from claudeproxyd.translate.reading import reading

if TYPE_CHECKING:
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.headers import Headers
    from claudeproxyd.interfaces import IBufferedResponse, IStreamingResponse, IStreamReader
    from claudeproxyd.leases import Route
    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.answer_reader import AnswerReader
    from claudeproxyd.translate.conversation import Conversation
    from claudeproxyd.translate.field_policy import FieldPolicy
    from claudeproxyd.upstream.client import Response

#: Bytes of a request that takes more than milliseconds to translate.
_LARGE_BYTES = 1_048_576

_JSON = ((b"content-type", b"application/json"),)

Translated = TypeVar("Translated", bound=TranslatedRequest)


class TranslatingExecutor(HTTPExecutor, Generic[Translated]):
    """The base of one provider's executor that translates requests on their way up, and answers on their way down."""

    policy: FieldPolicy
    signature_family: ClassVar[str] = ""
    """Whose minted signatures are taken back, where several kinds share a family of errors; '': the family's."""
    prepared_type: type[Translated]
    """What :meth:`translation` makes."""
    streamed_types: ClassVar[tuple[bytes, ...]] = (EVENT_STREAM, b"application/json")
    """Of a stream: the reader takes a whole answer too, from servers that do not stream."""

    # -- what a subclass has

    @abstractmethod
    def translation(
        self, conversation: Conversation, request: ApiRequest, route: Route, *, signed: bool
    ) -> Steps[Translated]:
        """Return the request in the upstream's words, in steps. Raises Unsupported.

        *signed*: with what the upstream has signed; not after it refused signatures.
        """

    @abstractmethod
    def generate(self, attempt: Attempt, request: Translated, *, streamed: bool) -> Awaitable[Response]:
        """Send it. Raises what :meth:`send` does."""

    @abstractmethod
    def reader(self, attempt: Attempt, request: Translated, machine: BlockMachine) -> AnswerReader[Any]:
        """Return what drives *machine* by an answer."""

    # -- IExecutor

    def prepare(self, request: ApiRequest, route: Route) -> Translated | Awaitable[Translated]:
        """Translate the request; a large one with turns for others in between. Raises Unsupported."""
        body = request.envelope.body
        steps = self._translation(request, route, body, signed=True)
        return self.services.turns.run(steps) if len(body) > _LARGE_BYTES else at_once(steps)

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        request = await self.translated(attempt)
        if request.empty:
            # By ``max_tokens: 0`` clients warm a cache: no other API has such a request.
            return self.ended_here(attempt, request, "max_tokens")
        with self.outcomes(attempt):
            if attempt.request.envelope.stream:
                response = await self.generate(attempt, request, streamed=True)
                reader = self.reader(attempt, request, self._machine(attempt, request, whole=False))
                return await self.stream(response, attempt, reader, self.streamed_types)
            if request.stop_sequences:
                # Of a stream it need not make, and nobody pays for, what follows a stop sequence.
                return await self._gather(await self.generate(attempt, request, streamed=True), attempt, request)
            response = await self.generate(attempt, request, streamed=False)
            return await self.whole(response, attempt, lambda body: self._parsed(body, attempt, request))

    def client_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """None of another protocol's mean anything to a client of the Claude API."""
        return list(_JSON)

    # -- up

    async def translated(self, attempt: Attempt) -> Translated:
        """What was prepared for the attempt's route. Raises AttemptFailed."""
        signed, prepared = attempt.body is None, attempt.prepared
        if signed and isinstance(prepared, self.prepared_type):
            return prepared
        # An upstream refused signatures: none that are remembered go up either. Or a reload has made this provider one
        # of this kind while the request waited for it.
        asked = attempt.request
        steps = self._translation(asked, attempt.route, attempt.body or asked.envelope.body, signed=signed)
        try:
            return await self.services.turns.run(steps)
        except Unsupported as e:
            reason = str(e).encode()
            raise self.judge.failed(
                attempt, phase=AttemptPhase.CONNECT, failure=Failure.UNSUPPORTED, body=reason
            ) from None

    @property
    def _mints(self) -> str:
        return self.signature_family or self.family

    def _translation(self, request: ApiRequest, route: Route, body: bytes, *, signed: bool) -> Steps[Translated]:
        version = (value_of(request.headers, b"anthropic-version") or DEFAULT_VERSION).decode("latin-1")
        family = self._mints if signed else ""
        conversation = yield from reading(body, family=family, policy=self.policy, version=version)
        translated = yield from self.translation(conversation, request, route, signed=signed)
        return translated

    # -- down

    def _machine(self, attempt: Attempt, request: Translated, *, whole: bool) -> BlockMachine:
        envelope = attempt.request.envelope
        return BlockMachine(
            envelope.model,
            family=self._mints,
            stop_sequences=request.stop_sequences,
            whole=whole,
            estimate=lambda: attempt.estimate.tokens(attempt.route),
        )

    async def _gather(self, response: Response, attempt: Attempt, request: Translated) -> BufferedResponse:
        """Return the message that a stream comes to."""
        machine = self._machine(attempt, request, whole=True)
        attempt.usage = machine.usage
        reader = self.reader(attempt, request, machine)

        def late(_: object, seconds: float) -> NoReturn:
            why = f"the answer was not whole within {seconds:g} seconds of its head"
            raise self.judge.failed(
                attempt, phase=AttemptPhase.STREAM, failure=Failure.CONTENT_TIMEOUT, body=why.encode()
            )

        stream = await self.stream(response, attempt, LimitedReader(reader, MAX_WHOLE_ANSWER), self.streamed_types)
        whole = gathered(stream, lambda: _message(machine, reader))
        if limit := self.services.timeouts.content:
            whole.addTimeout(limit, self.services.clock, late)
        return await whole

    def _parsed(self, body: bytes, attempt: Attempt, request: Translated) -> ParsedMessage:
        """Make a Claude message of a whole answer."""
        machine = self._machine(attempt, request, whole=True)
        attempt.usage = machine.usage
        reader = self.reader(attempt, request, machine)
        reader.read_whole(body)
        return _message(machine, reader)

    def ended_here(
        self,
        attempt: Attempt,
        request: Translated,
        stop_reason: str,
        stop_details: Mapping[str, object] | None = None,
    ) -> BufferedResponse | LocalStream:
        """Return an answer without content, which no upstream gave."""
        streamed = attempt.request.envelope.stream
        machine = self._machine(attempt, request, whole=not streamed)
        machine.usage.output = 0
        machine.finish(stop_reason, stop_details)
        if streamed:
            return LocalStream(_JSON, machine.flush(), machine.usage, stop_reason)
        return BufferedResponse(_JSON, ParsedMessage(machine.message(), machine.usage, stop_reason))


def _message(machine: BlockMachine, reader: IStreamReader) -> ParsedMessage:
    return ParsedMessage(machine.message(), reader.usage, reader.stop_reason, reader.request_id, reader.anomaly)
