"""How much memory the bodies of all requests, and what is unfinished of their answers, may take together."""

from __future__ import annotations

from zope.interface import implementer

from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IBufferAccount

#: The bodies of one client may take so many times what is left free: four fifths of all where nobody else has any, four
#: ninths each of two. So there is always something left for somebody who comes new.
CLIENT_SHARE = 4


@implementer(IBufferAccount)
class BufferBudget:
    """See :class:`~claudeproxyd.interfaces.IBufferAccount`. It outlives reloads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """``server.max_buffered_bytes``; may change, and what is held already stays held."""
        self.held = 0
        self.peak = 0
        """The maximum of ``held`` since it was last reset."""
        self._of_client: dict[str, int] = {}

    def check(self, client: str, size: int) -> None:
        """See :meth:`IBufferAccount.check <claudeproxyd.interfaces.IBufferAccount.check>`."""
        free = self.limit - self.held - size
        if free < 0 or self._of_client.get(client, 0) + size > CLIENT_SHARE * free:
            raise ClaudeError(529, "Too many large requests at once", headers=[(b"retry-after", b"1")])

    def reserve(self, client: str, size: int) -> None:
        """See :meth:`IBufferAccount.reserve <claudeproxyd.interfaces.IBufferAccount.reserve>`."""
        self.check(client, size)
        self._count(client, size)

    def release(self, client: str, size: int) -> None:
        """See :meth:`IBufferAccount.release <claudeproxyd.interfaces.IBufferAccount.release>`."""
        self._count(client, -size)

    def adjust(self, change: int) -> None:
        """See :meth:`IBufferAccount.adjust <claudeproxyd.interfaces.IBufferAccount.adjust>`."""
        self.held += change
        if self.held > self.peak:
            self.peak = self.held

    def _count(self, client: str, change: int) -> None:
        self.adjust(change)
        held = self._of_client.get(client, 0) + change
        if held:
            self._of_client[client] = held
        else:
            self._of_client.pop(client, None)
