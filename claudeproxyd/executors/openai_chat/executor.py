"""OpenAI's Chat Completions, and every server that speaks them: requests translated, answers translated back.

Servers differ; what one of them takes is in :mod:`claudeproxyd.translate.openai_chat.dialects`. How it is reached and
who asks is here: Azure has keys in a header of its own, and may have a path for each deployment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, urlsplit

from zope.interface import implementer

from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.openai import OpenAIExecutor
from claudeproxyd.executors.openai_chat.models import entry, read_page
from claudeproxyd.interfaces import IExecutor
from claudeproxyd.outcomes.types import AttemptPhase, Failure
from claudeproxyd.translate.openai_chat.answers import FAMILY, ChatReader
from claudeproxyd.translate.openai_chat.dialects import server_of
from claudeproxyd.translate.openai_chat.policy import POLICY
from claudeproxyd.translate.openai_chat.requests import ChatRequest, ChatTerms, translation
from claudeproxyd.translate.signatures import Signatures

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.executors.openai_chat.settings import ChatSettings
    from claudeproxyd.executors.services import Services
    from claudeproxyd.leases import Credential, Route
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Conversation
    from claudeproxyd.upstream.client import Response

#: Stretches of reasoning that are remembered by the call behind them, and bytes of them. They are the model's words,
#: and stay in memory: what the state holds outlives a conversation.
MAX_REMEMBERED = 4_096
MAX_REMEMBERED_BYTES = 16 * 1024 * 1024

_NO_COUNT = "count_tokens: no server of this kind counts tokens"


@implementer(IExecutor)
class ChatExecutor(OpenAIExecutor[ChatRequest]):
    """One server of chat completions."""

    kind = "openai-chat"
    family = FAMILY
    policy = POLICY
    prepared_type = ChatRequest

    def __init__(self, section: Provider, services: Services) -> None:
        super().__init__(section, services)
        own: ChatSettings = section.own
        self._settings = own
        self._overrides = own.overrides
        self._server = own.dialect or server_of((urlsplit(section.base_url).hostname or "").lower())
        self._memory = Signatures(services.now, count=MAX_REMEMBERED, size=MAX_REMEMBERED_BYTES)
        self._query = f"?api-version={quote(own.api_version, safe='')}".encode() if own.api_version else b""
        self._has_deployments = bool(own.api_version) and not section.base_url.endswith("/v1")

    # -- IExecutor

    def prepare(self, request: ApiRequest, route: Route) -> ChatRequest | Awaitable[ChatRequest]:
        """Translate the request. Raises Unsupported, of count_tokens always: the daemon estimates."""
        if request.count_tokens:
            raise Unsupported(_NO_COUNT)
        return super().prepare(request, route)

    async def count_tokens(self, attempt: Attempt) -> NoReturn:
        """Fail as what is not there: see :meth:`prepare`."""
        raise self.judge.failed(
            attempt, phase=AttemptPhase.CONNECT, failure=Failure.UNSUPPORTED, body=_NO_COUNT.encode()
        )

    async def models(self, credential: Credential) -> list[dict[str, object]]:
        """See :meth:`IExecutor.models <claudeproxyd.interfaces.IExecutor.models>`. Azure does not list deployments."""
        if self._has_deployments or self._server == "azure":
            return []
        secret = credential.source.present() or await credential.source.refresh()
        listed = await self.pages(f"/models{self._query.decode()}", "after", self._authorization(secret), read_page)
        return [entry(model) for model in listed]

    # -- up and down

    def _target(self, attempt: Attempt) -> bytes:
        base = self.origin.base_path
        if self._has_deployments:
            base = b"%b/openai/deployments/%b" % (
                base.removesuffix(b"/openai"),
                quote(attempt.model, safe="").encode(),
            )
        return b"%b/chat/completions%b" % (base, self._query)

    def _authorization(self, secret: Mapping[str, str]) -> bytes:
        return self.authorization(secret, by_own_header=self._server == "azure" or self._has_deployments)

    def generate(self, attempt: Attempt, request: ChatRequest, *, streamed: bool) -> Awaitable[Response]:
        """To the one address that there is."""
        return self.send(
            attempt,
            self._target(attempt),
            self._authorization(attempt.secret),
            request.streamed_body if streamed else request.body,
            streamed=streamed,
        )

    def translation(
        self, conversation: Conversation, request: ApiRequest, route: Route, *, signed: bool
    ) -> Steps[ChatRequest]:
        """With the reasoning that is remembered."""
        return translation(
            conversation,
            ChatTerms(
                server=self._server,
                model=route.model,
                max_output_tokens=route.max_output_tokens,
                overrides=self._overrides,
                url_sources=self._settings.url_sources,
                own_thinking=route.own_thinking,
            ),
            self._memory if signed else Signatures(self.services.now),
        )

    def reader(self, attempt: Attempt, request: ChatRequest, machine: BlockMachine) -> ChatReader:
        """Of events, or of one object."""
        return ChatReader(machine, request, self._memory, self.services.max_event_bytes, last=attempt.last)
