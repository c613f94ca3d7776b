"""A secret that stands in the configuration and stays what it is."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from claudeproxyd.interfaces import ISecretSource


@implementer(ISecretSource)
class StaticSecret:
    """An API key or a token that was configured as such."""

    refreshable = False

    def __init__(self, members: Mapping[str, str]) -> None:
        self._members = members

    def __repr__(self) -> str:
        return f"<StaticSecret {', '.join(self._members)}>"

    def present(self) -> Mapping[str, str]:
        """See the interface: it is always there."""
        return self._members

    def refresh(self) -> Deferred[Mapping[str, str]]:
        """See the interface: there is nothing newer."""
        return succeed(self._members)
