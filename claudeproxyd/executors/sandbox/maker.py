"""The kind ``sandbox`` as a configuration has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from claudeproxyd.executors.maker import Maker
from claudeproxyd.executors.sandbox.executor import SandboxExecutor

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.executors.services import Services


class SandboxMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.sandbox.executor.SandboxExecutor`."""

    kind = "sandbox"
    about = "A model that lives in the daemon and calls nobody; see [sandbox](sandbox.md)."
    passes_requests = True
    environment_doc = ("sandbox", "none of these")
    is_fallback = True

    def from_environment(self, environ: Mapping[str, str]) -> Mapping[str, object] | None:
        """Make a provider of nothing: it needs no variable."""
        return {"name": "sandbox"}

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """Refuse a base URL."""
        if section.base_url:
            return (("base_url", "the sandbox calls nobody: leave base_url out"),)
        return ()

    def make(self, section: Provider, services: Services) -> SandboxExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return SandboxExecutor(services)
