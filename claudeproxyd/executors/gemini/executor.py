"""Google's Gemini API (https://ai.google.dev/api): Claude's requests translated, its answers translated back.

What differs on Vertex AI, the way to a model and the way to say who asks, is in methods of its own.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from zope.interface import implementer

from claudeproxyd.executors.gemini.models import entry, read_page
from claudeproxyd.executors.google import authorization
from claudeproxyd.executors.responses import count_reader
from claudeproxyd.executors.translating import TranslatingExecutor
from claudeproxyd.interfaces import IExecutor
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.translate.gemini.answers import FAMILY, GeminiReader
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.gemini.requests import GeminiRequest, Terms, translation
from claudeproxyd.translate.signatures import Signatures

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.executors.google import SafetySettings
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IBufferedResponse
    from claudeproxyd.leases import Credential, Route
    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Conversation
    from claudeproxyd.upstream.client import Response

#: Where a model's name may say itself what it is of.
_COLLECTION = re.compile(r"(models|tunedModels)/(.+)", re.DOTALL)


_read_count = count_reader("totalTokens")


@implementer(IExecutor)
class GeminiExecutor(TranslatingExecutor[GeminiRequest]):
    """One provider of the Gemini Developer API."""

    kind = "gemini"
    family = FAMILY
    policy = POLICY
    prepared_type = GeminiRequest
    on_vertex = False
    _url_sources: Sequence[str] = ()  # the Gemini API fetches from public hosts alone

    def __init__(self, section: Provider, services: Services) -> None:
        super().__init__(section, services)
        own: SafetySettings = section.own
        self._safety_settings = [
            (f"HARM_CATEGORY_{category}", threshold) for category, threshold in own.safety_settings.items()
        ]

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        body = (await self.translated(attempt)).count_body
        with self.outcomes(attempt):
            response = await self.send(
                attempt, self._target(attempt, "countTokens"), self._authorization(attempt.secret), body
            )
            return await self.whole(response, attempt, _read_count)

    async def models(self, credential: Credential) -> list[dict[str, object]]:
        """See :meth:`IExecutor.models <claudeproxyd.interfaces.IExecutor.models>`."""
        secret = credential.source.present() or await credential.source.refresh()
        listed = await self.pages("/v1beta/models?pageSize=1000", "pageToken", self._authorization(secret), read_page)
        return [entry(model) for model in listed if "generateContent" in model.supported_generation_methods]

    # -- what Vertex AI has otherwise

    def _target(self, attempt: Attempt, method: str) -> bytes:
        """Path and query. A client may have chosen the model's name: it cannot lead out of its collection."""
        named = _COLLECTION.fullmatch(attempt.model)
        collection, name = named.groups() if named else ("models", attempt.model)
        return b"%b/v1beta/%b:%b" % (
            self.origin.base_path,
            f"{collection}/{quote(name, safe='')}".encode(),
            method.encode(),
        )

    def _authorization(self, secret: Mapping[str, str]) -> bytes:
        """The header lines that say who asks."""
        return authorization(secret, self.section.headers)

    # -- up and down

    def generate(self, attempt: Attempt, request: GeminiRequest, *, streamed: bool) -> Awaitable[Response]:
        """By one method or the other."""
        return self.send(
            attempt,
            self._target(attempt, "streamGenerateContent?alt=sse" if streamed else "generateContent"),
            self._authorization(attempt.secret),
            request.body,
            streamed=streamed,
        )

    def translation(
        self, conversation: Conversation, request: ApiRequest, route: Route, *, signed: bool
    ) -> Steps[GeminiRequest]:
        """With the signatures that are remembered."""
        return translation(
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

    def reader(self, attempt: Attempt, request: GeminiRequest, machine: BlockMachine) -> GeminiReader:
        """Return a reader of events, or of the elements of an array."""
        services = self.services
        return GeminiReader(machine, request, services.signatures, services.max_event_bytes, last=attempt.last)
