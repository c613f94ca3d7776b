"""How many tokens an answer took, in the API's own five figures."""

from __future__ import annotations


class Usage:
    """Token counts of one answer; of a stream they grow while its events pass.

    A figure is None where the upstream has said nothing, which is not the same as 0.
    """

    __slots__ = ("cache_read", "cache_write", "estimated", "input", "output", "thinking")

    def __init__(self) -> None:
        self.input: int | None = None
        """Without what was read from or written to a cache."""
        self.output: int | None = None
        """With thinking."""
        self.cache_read: int | None = None
        self.cache_write: int | None = None
        self.thinking: int | None = None
        self.estimated = False
        """The output figure is our estimate, since the answer ended before the upstream counted it."""
