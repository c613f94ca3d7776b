"""Claude's models on Amazon Bedrock by InvokeModel: the Messages API's own bodies and events, otherwise wrapped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING

from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.bedrock.body import Allowed, InvokeModelRequest, invoke_model_request
from claudeproxyd.executors.bedrock.dialect import VERSIONS
from claudeproxyd.executors.bedrock.names import api_name
from claudeproxyd.executors.bedrock.reader import EVENT_STREAM, ChunkedClaudeReader, without_bedrocks_own
from claudeproxyd.executors.bedrock.regional import BedrockRuntime
from claudeproxyd.executors.responses import ParsedMessage, count_reader, read_message
from claudeproxyd.messages.headers import DEFAULT_VERSION, value_of
from claudeproxyd.messages.url_sources import named_in
from claudeproxyd.outcomes.types import AttemptPhase, Failure

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.executors.bedrock.places import AwsPlace
    from claudeproxyd.executors.bedrock.settings import BedrockSettings
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IBufferedResponse, IStreamingResponse
    from claudeproxyd.leases import Route

_NO_URLS = "messages: a source is by url, and Bedrock fetches nothing"


_read_count = count_reader("inputTokens")


class ClaudeOnBedrock(BedrockRuntime):
    """The part of a provider's executor for Claude's models, in one of its regions."""

    def __init__(self, section: Provider, services: Services, places: Mapping[str, AwsPlace]) -> None:
        """*places*: where each credential's models are."""
        super().__init__(section, services, places)
        self._own: BedrockSettings = section.own

    def prepare(self, request: ApiRequest, route: Route) -> InvokeModelRequest:
        """Return the request as it goes up. Raises Unsupported."""
        body = request.envelope.body
        prepared = self._request(request, route, body)
        try:
            has_urls = next(named_in(body), None) is not None
        except ValueError as e:
            raise Unsupported(f"messages: {e}") from None
        if has_urls:
            raise Unsupported(_NO_URLS)
        return prepared

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        streamed = attempt.request.envelope.stream
        body = self._invocation(attempt)
        with self.outcomes(attempt):
            operation = "invoke-with-response-stream" if streamed else "invoke"
            response = await self.invoke(attempt, operation, body, streamed=streamed)
            if not streamed:
                return await self.whole(response, attempt, _message)
            reader = ChunkedClaudeReader(self.services.max_event_bytes)
            return await self.stream(response, attempt, reader, (EVENT_STREAM,))

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        counted = b'{"input":{"invokeModel":{"body":"%b"}}}' % b64encode(self._invocation(attempt))
        with self.outcomes(attempt):
            response = await self.invoke(attempt, "count-tokens", counted, streamed=False)
            return await self.whole(response, attempt, _read_count)

    def _invocation(self, attempt: Attempt) -> bytes:
        """What goes up. Raises AttemptFailed."""
        prepared = attempt.prepared
        if attempt.body is None and isinstance(prepared, InvokeModelRequest):
            return prepared.body
        # A second try, or a reload has made this provider one of this kind while the request waited for it.
        request = attempt.request
        try:
            return self._request(request, attempt.route, attempt.body or request.envelope.body).body
        except Unsupported as e:
            reason = str(e).encode()
            raise self.judge.failed(
                attempt, phase=AttemptPhase.CONNECT, failure=Failure.UNSUPPORTED, body=reason
            ) from None

    def _request(self, request: ApiRequest, route: Route, body: bytes) -> InvokeModelRequest:
        headers, own = request.headers, self._own
        version = value_of(headers, b"anthropic-version") or DEFAULT_VERSION
        asked = b",".join(value for name, value in headers if name == b"anthropic-beta").decode("latin-1")
        return invoke_model_request(
            body,
            api_name(route.model) or request.envelope.model,
            VERSIONS.get(version, version.decode("latin-1")),
            list(dict.fromkeys(beta for each in asked.split(",") if (beta := each.strip()))),
            Allowed(
                add_betas=own.betas.add,
                drop_betas=own.betas.drop,
                drop_fields=own.drop_fields,
                counts=request.count_tokens,
            ),
        )


def _message(body: bytes) -> ParsedMessage:
    return read_message(without_bedrocks_own(body))
