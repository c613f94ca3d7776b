"""State that is not saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from claudeproxyd.interfaces import IStateStore

if TYPE_CHECKING:
    from claudeproxyd.observe.exposition import Registry


@implementer(IStateStore)
class MemoryStore:
    """``memory:``: saves nothing, and so has nothing to load."""

    def load(self) -> Deferred[Mapping[str, object]]:
        """See the interface: nothing was saved."""
        return succeed({})

    def save(self, changes: Mapping[str, object]) -> None:
        """See the interface."""

    def close(self) -> Deferred[None]:
        """See the interface: nothing is to be written."""
        return succeed(None)

    def register(self, metrics: Registry) -> None:
        """See the interface: there are no metrics."""
