"""Google's own models on Vertex AI: the Gemini API under a project's URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from claudeproxyd.executors.gemini.executor import GeminiExecutor
from claudeproxyd.executors.gemini.models import ListedModel, entry, read_page

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.executors.services import Services
    from claudeproxyd.executors.vertex.locations import Place
    from claudeproxyd.leases import Credential

_PUBLISHED = "publishers/google/models/"


class GeminiOnVertex(GeminiExecutor):
    """The part of a provider's executor for Google's own models, at one of its hosts."""

    kind = "vertex"
    on_vertex = True

    def __init__(self, section: Provider, services: Services, places: Mapping[str, Place]) -> None:
        """*places*: where each credential's models are."""
        super().__init__(section, services)
        self._url_sources = section.own.url_sources
        self._places = places

    def _target(self, attempt: Attempt, method: str) -> bytes:
        name = quote(attempt.model, safe="@").encode()
        return b"%b%b%b:%b" % (
            self.origin.base_path,
            self._places[attempt.credential.name].google,
            name,
            method.encode(),
        )

    async def models(self, credential: Credential) -> list[dict[str, object]]:
        """Return the Gemini models alone; the publisher's list is not filtered by project."""
        secret = credential.source.present() or await credential.source.refresh()
        target = f"/v1beta1/{_PUBLISHED[:-1]}?pageSize=100"
        listed = await self.pages(target, "pageToken", self._authorization(secret), read_page)
        names = [model.name.removeprefix(_PUBLISHED) for model in listed]
        return [entry(ListedModel(name)) for name in names if name.startswith("gemini-")]
