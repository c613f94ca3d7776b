"""Vertex AI: Google's own models and Claude's, behind one provider."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from claudeproxyd.executors.gemini.executor import check_google
from claudeproxyd.executors.vertex.claude import ClaudeOnVertex, is_claude
from claudeproxyd.executors.vertex.gemini import GeminiOnVertex
from claudeproxyd.executors.vertex.locations import GLOBAL, place_of, project
from claudeproxyd.interfaces import IExecutor, IExecutorMaker
from claudeproxyd.messages.threads import continues_thread
from claudeproxyd.messages.url_sources import forbidden
from claudeproxyd.outcomes.tables import MODEL_UNAVAILABLE
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.secrets.google import mistake_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claudeproxyd.config.schema import Credential as CredentialSection
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IBufferedResponse, IStreamingResponse
    from claudeproxyd.leases import Credential
    from claudeproxyd.upstream.client import Origin

_LOCATION = re.compile(r"global|us|eu|[a-z]+(-[a-z]+)+\d+", re.ASCII)
_PROJECT = re.compile(r"[a-z0-9]([a-z0-9.:-]*[a-z0-9])?", re.ASCII)
_NO_THREADS = "thread: Vertex AI keeps no conversations"
_NOT_FOR_KEYS = "an API key of Vertex AI serves Google's own models alone, not Claude's"


@implementer(IExecutor)
class VertexExecutor:
    """One provider's: for each host that its credentials lead to, a part for either publisher's models."""

    kind = "vertex"
    family = "google"

    def __init__(self, section: Provider, services: Services) -> None:
        self._url_sources = section.url_sources
        self._places = {each.name: place_of(each, section.base_url) for each in section.credentials}
        origins: dict[str, Origin] = {}

        def origin(base_url: str) -> Origin:
            """One for each host, whoever asks."""
            if base_url not in origins:
                origins[base_url] = services.origin(base_url)
            return origins[base_url]

        shared = replace(services, origin=origin)
        at = {place.base_url: replace(section, base_url=place.base_url) for place in self._places.values()}
        self._claude = {url: ClaudeOnVertex(there, shared, self._places) for url, there in at.items()}
        self._gemini = {url: GeminiOnVertex(there, shared, self._places) for url, there in at.items()}

    def cannot_carry(self, call: Any, route: Any) -> str | None:
        """What is brought goes on to Claude's models, if there is a credential for them; Google's are asked."""
        if is_claude(route.model):
            if continues_thread(call.envelope.body):
                return _NO_THREADS
            if not any(place.anthropic for place in self._places.values()):
                return _NOT_FOR_KEYS
            return forbidden(call.envelope.body, self._url_sources)
        return next(iter(self._gemini.values())).cannot_carry(call, route)

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        return await self._part(attempt).messages(attempt)

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        return await self._part(attempt).count_tokens(attempt)

    def models(self, credential: Credential) -> Deferred[list[dict[str, Any]]]:
        """Google's own models. Claude's are in no list that tells which of them a project has enabled."""
        return self._gemini[self._places[credential.name].base_url].models(credential)

    def _part(self, attempt: Attempt) -> ClaudeOnVertex | GeminiOnVertex:
        """Raises AttemptFailed: that credential has no such models."""
        place = self._places[attempt.credential.name]
        if not is_claude(attempt.model):
            return self._gemini[place.base_url]
        if not place.anthropic:
            raise AttemptFailed(replace(MODEL_UNAVAILABLE, reason=_NOT_FOR_KEYS))
        return self._claude[place.base_url]


@implementer(IExecutorMaker)
class VertexMaker:
    """Makes :class:`VertexExecutor`; ``vertex`` in a configuration."""

    kind = "vertex"
    default_base_url = GLOBAL
    credential_schema = ("service_account", "bearer_token", "api_key")

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """A credential is of a project and a location, an API key of neither."""
        return check_google(section) + [
            (f"credentials[{index}].{member}", mistake)
            for index, credential in enumerate(section.credentials)
            for member, mistake in (
                _of_key(section, credential) if credential.api_key is not None else _of_account(credential)
            )
        ]

    def base_urls(self, section: Provider) -> Sequence[str]:
        """Each location has its own."""
        return sorted({place_of(credential, section.base_url).base_url for credential in section.credentials})

    def make(self, section: Provider, services: Services) -> VertexExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return VertexExecutor(section, services)


def _of_key(section: Provider, credential: CredentialSection) -> Iterator[tuple[str, str]]:
    for member in ("project", "location"):
        if getattr(credential, member):
            yield member, "is nothing to an API key, which has its own; leave it out, or take a service_account"
    globs = section.models if credential.models == ["*"] else credential.models
    if globs and all(is_claude(glob) for glob in globs):
        yield "api_key", f"can serve none of its models: {_NOT_FOR_KEYS}; take a service_account"


def _of_account(credential: CredentialSection) -> Iterator[tuple[str, str]]:
    if not credential.location:
        yield "location", 'is missing: "global", "us", "eu", or a region such as "us-east5"'
    elif not _LOCATION.fullmatch(credential.location):
        yield "location", 'is no location of Google Cloud: "global", "us", "eu", or a region such as "us-east5"'
    if mistake := mistake_in(credential.service_account, os.environ):
        yield "service_account", mistake
    elif not (named := project(credential)):
        yield "project", "is missing, and no key file names it: the id of the Google Cloud project"
    elif not _PROJECT.fullmatch(named):
        yield "project", "is no id or number of a Google Cloud project"
