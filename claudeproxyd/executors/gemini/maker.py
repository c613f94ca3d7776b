"""The kind ``gemini`` as a configuration has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from claudeproxyd.executors.gemini.executor import GeminiExecutor
from claudeproxyd.executors.google import FIRST_BYTE, SafetySettings, check_safety_settings
from claudeproxyd.executors.maker import Maker, provider

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.executors.services import Services


class GeminiMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.gemini.executor.GeminiExecutor`."""

    kind = "gemini"
    traced_as = "gcp.gemini"
    about = "Google's Gemini Developer API; see [Gemini](gemini.md). Its base URL has no version."
    default_base_url = "https://generativelanguage.googleapis.com"
    added_paths = ("/v1beta/models", "/v1beta", "/v1/models", "/v1")
    credential_schema = ("api_key", "bearer_token")
    settings = SafetySettings
    timeouts = FIRST_BYTE
    serves_claude = False
    environment_doc = ("gemini", "`GEMINI_API_KEY` or `GOOGLE_API_KEY`")

    def from_environment(self, environ: Mapping[str, str]) -> Mapping[str, object] | None:
        """By the variables of Google's SDKs."""
        for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
            if environ.get(name):
                return provider("gemini", api_key={"env": name})
        return None

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """Look at categories and thresholds."""
        return check_safety_settings(section.own)

    def make(self, section: Provider, services: Services) -> GeminiExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return GeminiExecutor(section, services)
