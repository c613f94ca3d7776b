"""The kind ``openai-chat`` as a configuration has it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from claudeproxyd.executors.maker import Maker, provider


class OpenAIChatMaker(Maker):
    """Keeps the name and what the environment says; makes nothing yet."""

    kind = "openai-chat"
    about = "OpenAI's Chat Completions API, and everything that speaks it. Its base URL ends with /v1, as in the SDKs."
    is_built = False
    added_paths = ("/chat/completions", "/models")
    credential_schema = ("api_key",)
    timeouts = MappingProxyType({"first_byte": 300.0})
    serves_claude = False
    environment_doc = ("openai", "`OPENAI_API_KEY` (`OPENAI_BASE_URL`)")

    def from_environment(self, environ: Mapping[str, str]) -> Mapping[str, object] | None:
        """By the variables of OpenAI's SDKs."""
        if not environ.get("OPENAI_API_KEY"):
            return None
        base_url = environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        return provider("openai", base_url, api_key={"env": "OPENAI_API_KEY"})
