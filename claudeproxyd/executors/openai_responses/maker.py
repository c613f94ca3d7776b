"""The kind ``openai-responses`` as a configuration has it."""

from __future__ import annotations

from types import MappingProxyType

from claudeproxyd.executors.maker import Maker


class OpenAIResponsesMaker(Maker):
    """Keeps the name; makes nothing yet."""

    kind = "openai-responses"
    about = "OpenAI's Responses API. Its base URL ends with /v1, as in the SDKs."
    is_built = False
    default_base_url = "https://api.openai.com/v1"
    added_paths = ("/responses", "/models")
    credential_schema = ("api_key",)
    timeouts = MappingProxyType({"first_byte": 300.0})
    serves_claude = False
