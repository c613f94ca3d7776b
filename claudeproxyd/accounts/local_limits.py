"""Limits that this process counts by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from claudeproxyd.interfaces import ILimitStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claudeproxyd.accounts.limits import Counter, UsageLimits
    from claudeproxyd.observe.exposition import Registry


@implementer(ILimitStore)
class LocalLimits:
    """In memory: what it is told is known at once."""

    def __init__(self, limits: UsageLimits) -> None:
        """*limits* are the daemon's, which reloads them."""
        self._limits = limits
        self.settle = limits.settle
        self.reserve = limits.reserve
        self.recall = self.assume = limits.add

    def start(self) -> Deferred[None]:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`."""
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`."""
        return succeed(None)

    def snapshot(self, now: float) -> Deferred[Sequence[Counter]]:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`."""
        return succeed(list(self._limits))

    def register(self, metrics: Registry) -> None:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`: there is nothing to tell."""
