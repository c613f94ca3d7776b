"""All models on Amazon Bedrock that are not Claude's, by the Converse API: requests and answers are translated."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from claudeproxyd.executors.bedrock.reader import EVENT_STREAM
from claudeproxyd.executors.bedrock.regional import BedrockRuntime
from claudeproxyd.executors.translating import TranslatingExecutor
from claudeproxyd.outcomes.types import AttemptPhase, Failure
from claudeproxyd.translate.converse.answers import ConverseReader
from claudeproxyd.translate.converse.policy import POLICY
from claudeproxyd.translate.converse.requests import ConverseRequest, ConverseTerms, translation

if TYPE_CHECKING:
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.interfaces import IBufferedResponse
    from claudeproxyd.leases import Route
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Conversation
    from claudeproxyd.upstream.client import Response

NO_COUNT = "Bedrock counts tokens of Claude's models alone"
"""Why others have none."""


class ConverseOnBedrock(BedrockRuntime, TranslatingExecutor[ConverseRequest]):
    """The part of a provider's executor for other models than Claude's, in one of its regions."""

    policy = POLICY
    prepared_type = ConverseRequest
    streamed_types: ClassVar[tuple[bytes, ...]] = (EVENT_STREAM, b"application/json")

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """Fail: no such request has been prepared, unless for another kind that a reload made this one."""
        raise self.judge.failed(
            attempt, phase=AttemptPhase.CONNECT, failure=Failure.UNSUPPORTED, body=NO_COUNT.encode()
        )

    def translation(
        self, conversation: Conversation, request: ApiRequest, route: Route, *, signed: bool
    ) -> Steps[ConverseRequest]:
        """By the model's own id: what it takes is known by it."""
        return translation(
            conversation, ConverseTerms(route.model, route.max_output_tokens, own_thinking=route.own_thinking)
        )

    async def generate(self, attempt: Attempt, request: ConverseRequest, *, streamed: bool) -> Response:
        """By one operation or the other; some models do not stream when they have tools."""
        streamed = streamed and request.streams
        operation = "converse-stream" if streamed else "converse"
        return await self.invoke(attempt, operation, request.body, streamed=streamed)

    def reader(self, attempt: Attempt, request: ConverseRequest, machine: BlockMachine) -> ConverseReader:
        """Of an event stream, or of a whole answer."""
        return ConverseReader(machine, request, self.services.max_event_bytes, last=attempt.last)
