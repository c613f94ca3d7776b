"""The kind ``sandbox`` as a configuration has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from claudeproxyd.executors.maker import Maker
from claudeproxyd.executors.sandbox.executor import SandboxExecutor

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.executors.services import Services


class SandboxMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.sandbox.executor.SandboxExecutor`."""

    kind = "sandbox"

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """It calls nobody."""
        if section.base_url:
            return (("base_url", "the sandbox calls nobody: leave base_url out"),)
        return ()

    def make(self, section: Provider, services: Services) -> SandboxExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return SandboxExecutor(services)
