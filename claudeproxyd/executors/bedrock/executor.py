"""Amazon Bedrock: Claude's models and all others, behind one provider."""

from __future__ import annotations

import os
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING

from zope.interface import implementer

from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.bedrock.claude import ClaudeOnBedrock
from claudeproxyd.executors.bedrock.converse import NO_COUNT, ConverseOnBedrock
from claudeproxyd.executors.bedrock.lists import Lists
from claudeproxyd.executors.bedrock.names import is_claude
from claudeproxyd.executors.bedrock.places import place_of
from claudeproxyd.interfaces import IExecutor
from claudeproxyd.outcomes.types import Family

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.executors.bedrock.body import InvokeModelRequest
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IBufferedResponse, IStreamingResponse
    from claudeproxyd.leases import Credential, Route
    from claudeproxyd.translate.converse.requests import ConverseRequest


@implementer(IExecutor)
class BedrockExecutor:
    """One provider's: for each region that its credentials lead to, a part for each API of models."""

    kind = "bedrock"
    family = Family.BEDROCK

    def __init__(self, section: Provider, services: Services) -> None:
        self._claude_models = section.own.claude_models
        self._places = {each.name: place_of(each, section.base_url, os.environ) for each in section.credentials}
        shared = replace(services, origin=cache(services.origin))  # one for each host, whoever asks
        at = {place.base_url: replace(section, base_url=place.base_url) for place in self._places.values()}
        self._claude = {url: ClaudeOnBedrock(there, shared, self._places) for url, there in at.items()}
        self._others = {url: ConverseOnBedrock(there, shared, self._places) for url, there in at.items()}
        self._lists = {
            url: Lists(replace(section, base_url=url), shared)
            for url in {place.control_url for place in self._places.values()}
            if url
        }

    def prepare(
        self, request: ApiRequest, route: Route
    ) -> InvokeModelRequest | ConverseRequest | Awaitable[ConverseRequest]:
        """Return the request as it goes up. Raises Unsupported."""
        if not route.model.strip("."):
            raise Unsupported(f"{route.model}: no model has such a name")  # nor would its path lead to one
        if self._is_claude(route.model):
            return next(iter(self._claude.values())).prepare(request, route)
        if request.count_tokens:
            raise Unsupported(NO_COUNT)
        return next(iter(self._others.values())).prepare(request, route)

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        return await self._part(attempt).messages(attempt)

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        return await self._part(attempt).count_tokens(attempt)

    async def models(self, credential: Credential) -> list[dict[str, object]]:
        """What the region lists; nothing where an operator's own host takes the place of AWS's."""
        place = self._places[credential.name]
        if not place.control_url:
            return []
        return await self._lists[place.control_url].models(credential, place)

    def _is_claude(self, model: str) -> bool:
        return is_claude(model) or any(fnmatchcase(model, glob) for glob in self._claude_models)

    def _part(self, attempt: Attempt) -> ClaudeOnBedrock | ConverseOnBedrock:
        base_url = self._places[attempt.credential.name].base_url
        return self._claude[base_url] if self._is_claude(attempt.route.model) else self._others[base_url]
