"""Vertex AI: Google's own models and Claude's, behind one provider."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from zope.interface import implementer

from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.vertex.claude import ClaudeOnVertex, is_claude
from claudeproxyd.executors.vertex.gemini import GeminiOnVertex
from claudeproxyd.executors.vertex.locations import place_of
from claudeproxyd.interfaces import IExecutor
from claudeproxyd.messages.threads import continues_thread
from claudeproxyd.messages.url_sources import forbidden
from claudeproxyd.outcomes.tables import MODEL_UNAVAILABLE
from claudeproxyd.outcomes.types import AttemptFailed, Family

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IBufferedResponse, IStreamingResponse
    from claudeproxyd.leases import Credential, Route
    from claudeproxyd.translate.gemini.requests import GeminiRequest

_NO_THREADS = "thread: Vertex AI keeps no conversations"
#: Why an API key has no Claude.
NOT_FOR_KEYS = "an API key of Vertex AI serves Google's own models alone, not Claude's"


@implementer(IExecutor)
class VertexExecutor:
    """One provider's: for each host that its credentials lead to, a part for either publisher's models."""

    kind = "vertex"
    family = Family.GOOGLE

    def __init__(self, section: Provider, services: Services) -> None:
        self._url_sources = section.own.url_sources
        self._places = {each.name: place_of(each, section.base_url) for each in section.credentials}
        shared = replace(services, origin=cache(services.origin))  # one for each host, whoever asks
        at = {place.base_url: replace(section, base_url=place.base_url) for place in self._places.values()}
        self._claude = {url: ClaudeOnVertex(there, shared, self._places) for url, there in at.items()}
        self._gemini = {url: GeminiOnVertex(there, shared, self._places) for url, there in at.items()}

    def prepare(self, request: ApiRequest, route: Route) -> GeminiRequest | Awaitable[GeminiRequest] | None:
        """Let what is for Claude's models pass, if there is a credential for them; translate what is for Google's.

        Raises Unsupported.
        """
        if not is_claude(route.model):
            return next(iter(self._gemini.values())).prepare(request, route)
        if continues_thread(request.envelope.body):
            raise Unsupported(_NO_THREADS)
        if not any(place.anthropic for place in self._places.values()):
            raise Unsupported(NOT_FOR_KEYS)
        if reason := forbidden(request.envelope.body, self._url_sources):
            raise Unsupported(reason)
        return None

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        return await self._part(attempt).messages(attempt)

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        return await self._part(attempt).count_tokens(attempt)

    async def models(self, credential: Credential) -> list[dict[str, object]]:
        """Google's own models. Claude's are in no list that tells which of them a project has enabled."""
        return await self._gemini[self._places[credential.name].base_url].models(credential)

    def _part(self, attempt: Attempt) -> ClaudeOnVertex | GeminiOnVertex:
        """Raises AttemptFailed: that credential has no such models."""
        place = self._places[attempt.credential.name]
        if not is_claude(attempt.model):
            return self._gemini[place.base_url]
        if not place.anthropic:
            raise AttemptFailed(replace(MODEL_UNAVAILABLE, reason=NOT_FOR_KEYS))
        return self._claude[place.base_url]
