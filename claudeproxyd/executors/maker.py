"""The base of the makers of provider kinds: what a kind has where it does not say otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from claudeproxyd.config.setting import NoSettings
from claudeproxyd.interfaces import IExecutor, IExecutorMaker

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.executors.services import Services


@implementer(IExecutorMaker)
class Maker:
    """A kind whose base URL must be named, and that takes no secret. See :class:`IExecutorMaker` for each member."""

    kind: str
    about: str = ""
    default_base_url: str = ""
    added_paths: Sequence[str] = ()
    credential_schema: Sequence[str] = ()
    settings: type[Any] = NoSettings
    credential_settings: type[Any] = NoSettings
    timeouts: Mapping[str, float] = MappingProxyType({})
    passes_requests: bool = False
    serves_claude: bool = True
    traced_as: str = ""
    environment_doc: tuple[str, str] | None = None
    is_fallback: bool = False

    def from_environment(self, environ: Mapping[str, str]) -> Mapping[str, object] | None:
        """Make nothing of it."""
        return None

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """Find nothing wrong beyond the schema."""
        return ()

    def base_urls(self, section: Provider) -> Sequence[str]:
        """Return the one that is configured, if one is."""
        return (section.base_url,) if section.base_url else ()

    def make(self, section: Provider, services: Services) -> IExecutor:
        """Refuse: a kind that is built has its own."""
        raise NotImplementedError(self.kind)


def provider(name: str, base_url: str = "", **credential: object) -> Mapping[str, object]:
    """Return the table of a provider with one credential, for ``from_environment``."""
    return {"name": name, "base_url": base_url, "credentials": [{"name": "environment", **credential}]}
