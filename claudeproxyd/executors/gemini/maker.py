"""The kind ``gemini`` as a configuration has it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from claudeproxyd.executors.gemini.executor import GeminiExecutor
from claudeproxyd.executors.google import check_safety_settings
from claudeproxyd.executors.maker import Maker

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.executors.services import Services


class GeminiMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.gemini.executor.GeminiExecutor`."""

    kind = "gemini"
    default_base_url = "https://generativelanguage.googleapis.com"
    credential_schema = ("api_key", "bearer_token")

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """What says something of the Messages API alone has no meaning here."""
        mistakes = check_safety_settings(section)
        for member in ("betas.add", "betas.drop", "drop_fields"):
            if attrgetter(member)(section):
                mistakes.append(
                    (member, "is about requests of the Messages API, which this kind does not send: leave it out")
                )
        return mistakes

    def make(self, section: Provider, services: Services) -> GeminiExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return GeminiExecutor(section, services)
