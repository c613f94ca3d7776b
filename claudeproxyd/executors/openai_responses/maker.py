"""The kind ``openai-responses`` as a configuration has it."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from claudeproxyd.executors.maker import Maker
from claudeproxyd.executors.messages_api import check_url_sources
from claudeproxyd.executors.openai_responses.executor import ResponsesExecutor
from claudeproxyd.executors.openai_responses.settings import ResponsesSettings

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.executors.services import Services


class OpenAIResponsesMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.openai_responses.executor.ResponsesExecutor`."""

    kind = "openai-responses"
    traced_as = "openai"
    about = (
        "OpenAI's Responses API; see [OpenAI Responses](openai-responses.md). Its base URL ends with /v1, as in the"
        " SDKs."
    )
    default_base_url = "https://api.openai.com/v1"
    added_paths = ("/responses", "/models")
    credential_schema = ("api_key", "bearer_token")
    settings = ResponsesSettings
    timeouts = MappingProxyType({"first_byte": 300.0})
    serves_claude = False

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """Look at the hosts."""
        return check_url_sources(section.own)

    def make(self, section: Provider, services: Services) -> ResponsesExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return ResponsesExecutor(section, services)
