"""How much memory the bodies of all requests, and what is unfinished of their answers, may take together."""

from __future__ import annotations

from collections import Counter

from claudeproxyd.errors import ClaudeError

SHARE = 4
"""The bodies of one client may take so many times what is left free: four fifths of all where nobody else has any,
four ninths each of two. So there is always something left for somebody who comes new."""


class BufferBudget:
    """Counts bytes that are held for clients, up to a limit. One for all listeners; it outlives reloads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """``server.max_buffered_bytes``; may change, and what is held already stays held."""
        self.held = 0
        self.peak = 0
        """The most that was held since somebody set it back."""
        self._of_client: Counter[str] = Counter()

    def check(self, client: str, size: int) -> None:
        """Raise :class:`~claudeproxyd.errors.ClaudeError` (529) if *size* bytes more would be too many.

        They are too many for all, or for this *client*.
        """
        free = self.limit - self.held - size
        if free < 0 or self._of_client[client] + size > SHARE * free:
            raise ClaudeError(529, "Too many large requests at once", headers=[(b"retry-after", b"1")])

    def take(self, client: str, size: int) -> None:
        """Hold *size* bytes more of the client's, or raise as :meth:`check` does."""
        self.check(client, size)
        self._count(client, size)

    def note(self, change: int) -> None:
        """So many bytes more, or less, are held already: of unfinished frames and answers, of answers that nobody
        takes, or of translations."""
        self._change(change)

    def give_back(self, client: str, size: int) -> None:
        """*size* bytes of what the client took are free again."""
        self._count(client, -size)

    def _change(self, change: int) -> None:
        self.held += change
        if self.held > self.peak:
            self.peak = self.held

    def _count(self, client: str, change: int) -> None:
        self._change(change)
        self._of_client[client] += change
        if not self._of_client[client]:
            del self._of_client[client]
