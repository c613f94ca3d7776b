"""State that is kept nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from claudeproxyd.interfaces import IStateStore

if TYPE_CHECKING:
    from claudeproxyd.observe.metrics import Metrics


@implementer(IStateStore)
class MemoryStore:
    """``memory:``: the daemon's own memory is all there is."""

    def load(self) -> Deferred[Mapping[str, Any]]:
        """Nothing."""
        return succeed({})

    def save(self, changes: Mapping[str, Any]) -> None:
        """Forget it."""

    def close(self) -> Deferred[None]:
        """There is nothing to write."""
        return succeed(None)

    def register(self, metrics: Metrics) -> None:
        """There is nothing to tell."""
