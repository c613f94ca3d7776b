"""OpenAI's Responses API: Claude's requests translated, its answers translated back."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from zope.interface import implementer

from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.openai import OpenAIExecutor
from claudeproxyd.executors.openai_responses.models import entry, read_list
from claudeproxyd.executors.responses import count_reader
from claudeproxyd.interfaces import IExecutor
from claudeproxyd.outcomes.types import AttemptFailed, AttemptPhase, Failure, Family, Kind
from claudeproxyd.translate.openai_responses.answers import ResponsesReader
from claudeproxyd.translate.openai_responses.policy import POLICY
from claudeproxyd.translate.openai_responses.records import SIGNATURES
from claudeproxyd.translate.openai_responses.requests import ResponsesRequest, ResponsesTerms, translation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.executors.openai_responses.settings import ResponsesSettings
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IBufferedResponse
    from claudeproxyd.leases import Credential, Route
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Conversation
    from claudeproxyd.upstream.client import Response


_read_count = count_reader("input_tokens")


_NO_COUNT = "count_tokens: this server does not count tokens"

#: Where Azure has its resources: keys go in a header of its own there.
_AZURE = ".azure.com"


@implementer(IExecutor)
class ResponsesExecutor(OpenAIExecutor[ResponsesRequest]):
    """One provider of the Responses API."""

    kind = "openai-responses"
    family = Family.OPENAI
    signature_family = SIGNATURES
    policy = POLICY
    prepared_type = ResponsesRequest

    def __init__(self, section: Provider, services: Services) -> None:
        super().__init__(section, services)
        own: ResponsesSettings = section.own
        self._summary = "" if own.reasoning_summary == "none" else own.reasoning_summary
        self._like = own.models_like
        self._url_sources = own.url_sources
        self._query = f"?api-version={quote(own.api_version, safe='')}".encode() if own.api_version else b""
        host = urlsplit(section.base_url).hostname or ""
        self._is_azure = bool(own.api_version) or host.lower().endswith(_AZURE)
        self._counts = own.count_tokens == "auto"
        """The upstream has ``/responses/input_tokens``, as far as is known."""

    def prepare(self, request: ApiRequest, route: Route) -> ResponsesRequest | Awaitable[ResponsesRequest]:
        """Translate the request. Raises Unsupported, of what is to be counted too where the server cannot."""
        if request.count_tokens and not self._counts:
            raise Unsupported(_NO_COUNT)
        return super().prepare(request, route)

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        body = (await self.translated(attempt)).count_body
        if not self._counts:
            why = _NO_COUNT.encode()
            raise self.judge.failed(attempt, phase=AttemptPhase.CONNECT, failure=Failure.UNSUPPORTED, body=why)
        with self.outcomes(attempt):
            try:
                response = await self.send(
                    attempt, self._target("/responses/input_tokens"), self._authorization(attempt.secret), body
                )
            except AttemptFailed as failure:
                if failure.outcome.kind is Kind.UNSUPPORTED:
                    self._counts = False
                raise
            return await self.whole(response, attempt, _read_count)

    async def models(self, credential: Credential) -> list[dict[str, object]]:
        """See :meth:`IExecutor.models <claudeproxyd.interfaces.IExecutor.models>`."""
        if self._is_azure:
            return []  # it lists every model that there is, and not what is deployed
        secret = credential.source.present() or await credential.source.refresh()
        listed = await self.pages("/models", "after", self._authorization(secret), read_list)
        return [entry(model, self._like) for model in listed if model.answers]

    # -- up and down

    def _target(self, path: str) -> bytes:
        return b"%b%b%b" % (self.origin.base_path, path.encode(), self._query)

    def _authorization(self, secret: Mapping[str, str]) -> bytes:
        return self.authorization(secret, by_own_header=self._is_azure)

    async def generate(self, attempt: Attempt, request: ResponsesRequest, *, streamed: bool) -> Response:
        """By a member of the body."""
        return await self.send(
            attempt,
            self._target("/responses"),
            self._authorization(attempt.secret),
            request.streamed_body if streamed else request.body,
            streamed=streamed,
        )

    def translation(
        self, conversation: Conversation, request: ApiRequest, route: Route, *, signed: bool
    ) -> Steps[ResponsesRequest]:
        """What was sealed travels with the conversation."""
        return translation(
            conversation,
            ResponsesTerms(
                model=route.model,
                max_output_tokens=route.max_output_tokens,
                own_thinking=route.own_thinking,
                summary=self._summary,
                like=self._like.get(route.model, ""),
                url_sources=self._url_sources,
            ),
        )

    def reader(self, attempt: Attempt, request: ResponsesRequest, machine: BlockMachine) -> ResponsesReader:
        """Of events, or of a whole answer."""
        return ResponsesReader(machine, request, self.services.max_event_bytes)
