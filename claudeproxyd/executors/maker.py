"""The base of the makers of provider kinds: what a kind has where it does not say otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import implementer

from claudeproxyd.interfaces import IExecutor, IExecutorMaker

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.executors.services import Services


@implementer(IExecutorMaker)
class Maker:
    """A kind whose base URL must be named, and that takes no secret. See :class:`IExecutorMaker` for each member."""

    kind: str
    default_base_url: str = ""
    credential_schema: Sequence[str] = ()

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """Nothing beyond the schema."""
        return ()

    def base_urls(self, section: Provider) -> Sequence[str]:
        """The one that is configured, if one is."""
        return (section.base_url,) if section.base_url else ()

    def make(self, section: Provider, services: Services) -> IExecutor:
        """Must be written by each kind."""
        raise NotImplementedError(self.kind)
