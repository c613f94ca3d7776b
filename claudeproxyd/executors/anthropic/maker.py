"""The kind ``anthropic`` as a configuration has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from claudeproxyd.executors.anthropic.executor import THE_API, AnthropicExecutor
from claudeproxyd.executors.maker import Maker, provider
from claudeproxyd.executors.messages_api import MessagesSettings, check_url_sources

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.executors.services import Services


class AnthropicMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.anthropic.executor.AnthropicExecutor`."""

    kind = "anthropic"
    about = "The Claude API itself, and everything that speaks it. Its base URL has no version, as in the SDKs."
    default_base_url = THE_API
    added_paths = ("/v1/messages/count_tokens", "/v1/messages", "/v1/models", "/v1")
    credential_schema = ("api_key", "bearer_token")
    settings = MessagesSettings
    passes_requests = True
    environment_doc = ("anthropic", "`ANTHROPIC_API_KEY` (`ANTHROPIC_BASE_URL`)")

    def from_environment(self, environ: Mapping[str, str]) -> Mapping[str, object] | None:
        """By the variables of Anthropic's SDKs."""
        if not environ.get("ANTHROPIC_API_KEY"):
            return None
        return provider("anthropic", environ.get("ANTHROPIC_BASE_URL", ""), api_key={"env": "ANTHROPIC_API_KEY"})

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """Look at what clients may have the upstream fetch."""
        return check_url_sources(section.own)

    def make(self, section: Provider, services: Services) -> AnthropicExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return AnthropicExecutor(section, services)
