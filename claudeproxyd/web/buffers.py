"""How much memory the bodies of all requests, and what is unfinished of their answers, may take together."""

from __future__ import annotations

from claudeproxyd.errors import ClaudeError


class BufferBudget:
    """Counts bytes that are held for clients, up to a limit. One for all listeners; it outlives reloads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """``server.max_buffered_bytes``; may change, and what is held already stays held."""
        self.held = 0

    def check(self, size: int) -> None:
        """Raise :class:`~claudeproxyd.errors.ClaudeError` (529) if *size* bytes more would be too many."""
        if self.held + size > self.limit:
            raise ClaudeError(529, "Too many large requests at once", headers=[(b"retry-after", b"1")])

    def take(self, size: int) -> None:
        """Hold *size* bytes more, or raise as :meth:`check` does."""
        self.check(size)
        self.held += size

    def note(self, change: int) -> None:
        """So many bytes more, or less, are held already: of unfinished frames and answers, or of translations."""
        self.held += change

    def give_back(self, size: int) -> None:
        """*size* bytes are free again."""
        self.held -= size
