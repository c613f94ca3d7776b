"""The kind ``anthropic`` as a configuration has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.executors.anthropic.executor import THE_API, AnthropicExecutor
from claudeproxyd.executors.maker import Maker

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.executors.services import Services


class AnthropicMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.anthropic.executor.AnthropicExecutor`."""

    kind = "anthropic"
    default_base_url = THE_API
    credential_schema = ("api_key", "bearer_token")

    def make(self, section: Provider, services: Services) -> AnthropicExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return AnthropicExecutor(section, services)
