"""The kind ``openai-chat`` as a configuration has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from claudeproxyd.executors.maker import Maker, provider
from claudeproxyd.executors.openai_chat.executor import ChatExecutor
from claudeproxyd.executors.openai_chat.settings import ChatSettings, check_settings

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.executors.services import Services


class OpenAIChatMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.openai_chat.executor.ChatExecutor`."""

    kind = "openai-chat"
    traced_as = "openai"
    about = (
        "OpenAI's Chat Completions API, and everything that speaks it; see [openai](openai.md). Its base URL ends with"
        " /v1, as in the SDKs."
    )
    default_base_url = "https://api.openai.com/v1"
    added_paths = ("/chat/completions", "/models")
    credential_schema = ("api_key", "bearer_token")
    settings = ChatSettings
    timeouts = MappingProxyType({"first_byte": 300.0})
    serves_claude = False
    environment_doc = ("openai", "`OPENAI_API_KEY` (`OPENAI_BASE_URL`)")

    def from_environment(self, environ: Mapping[str, str]) -> Mapping[str, object] | None:
        """By the variables of OpenAI's SDKs."""
        if not environ.get("OPENAI_API_KEY"):
            return None
        base_url = environ.get("OPENAI_BASE_URL") or self.default_base_url
        return provider("openai", base_url, api_key={"env": "OPENAI_API_KEY"})

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """Look at the words for what a server takes, and at hosts."""
        return check_settings(section.own)

    def make(self, section: Provider, services: Services) -> ChatExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return ChatExecutor(section, services)
