"""How many tokens an answer took, in the API's own figures."""

from __future__ import annotations

import msgspec


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


class OutputDetails(msgspec.Struct):
    """``usage.output_tokens_details``."""

    thinking_tokens: int | None = None


class UsageMembers(msgspec.Struct):
    """``usage`` as it stands in a message, a ``message_start`` or a ``message_delta``."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


def count(total: Usage, seen: UsageMembers | None) -> None:
    """Later figures take the place of earlier ones; what is not named stays, since the API's counts are cumulative."""
    if seen is None:
        return
    if seen.input_tokens is not None:
        total.input = seen.input_tokens
    if seen.output_tokens is not None:
        total.output = seen.output_tokens
    if seen.cache_read_input_tokens is not None:
        total.cache_read = seen.cache_read_input_tokens
    if seen.cache_creation_input_tokens is not None:
        total.cache_write = seen.cache_creation_input_tokens
    if seen.output_tokens_details is not None:
        total.thinking = seen.output_tokens_details.thinking_tokens
