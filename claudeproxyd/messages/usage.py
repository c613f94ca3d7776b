"""How many tokens an answer took, in the API's own figures."""

from __future__ import annotations

from typing import Annotated

import msgspec

#: No answer takes more: what claims to would spoil every sum that it is added to.
MAX_TOKENS = 2**31 - 1

TokenCount = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
"""A figure that can be one."""


class Usage:
    """Token counts of one answer; of a stream they grow while its events pass.

    A figure is None where the upstream has said nothing, which is not the same as 0.
    """

    __slots__ = (
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "estimated",
        "guessed_input",
        "input",
        "output",
        "thinking",
    )

    def __init__(self) -> None:
        self.input: int | None = None
        """Without what was read from or written to a cache."""
        self.output: int | None = None
        """With thinking."""
        self.cache_read: int | None = None
        self.cache_write: int | None = None
        self.cache_write_1h: int | None = None
        """Of these, what is kept for an hour."""
        self.thinking: int | None = None
        self.guessed_input: int | None = None
        """Our estimate, where it stands for the input. Whoever counts that takes it away: the two may be the same."""
        self.estimated = False
        """Not as the upstream counted it: the output figure is ours, since the answer ended before."""

    @property
    def guessed(self) -> bool:
        """Whether the input figure is our estimate."""
        return self.input is not None and self.input == self.guessed_input

    @property
    def counted_input(self) -> int | None:
        """What the upstream has counted of the whole input, caches too; None where it has said nothing of it."""
        if self.input is None or self.guessed:
            return None
        return self.input + (self.cache_read or 0) + (self.cache_write or 0)


_FIGURES = (
    ("input_tokens", "input"),
    ("output_tokens", "output"),
    ("cache_read_input_tokens", "cache_read"),
    ("cache_creation_input_tokens", "cache_write"),
)
_DETAILS = "output_tokens_details"
_WRITES = "cache_creation"


def count(total: Usage, seen: object) -> str:
    """Add to *total* what *seen* tells: the ``usage`` of a message, a ``message_start`` or a ``message_delta``.

    Later figures take the place of earlier ones; what is not named stays, since the API's counts are cumulative. What
    cannot be read stays, too. Gives the first of that, in words for a log, or ''.
    """
    if seen is None:
        return ""
    if not isinstance(seen, dict):
        return "figures of an unknown shape: usage is no object"
    odd = []
    for member, figure in _FIGURES:
        if member in seen and not _take(total, figure, seen[member]):
            odd.append(member)
    details = seen.get(_DETAILS)
    if isinstance(details, dict):
        if not _take(total, "thinking", details.get("thinking_tokens")):
            odd.append("thinking_tokens")
    elif details is not None:
        odd.append(_DETAILS)
    writes = seen.get(_WRITES)
    if isinstance(writes, dict):
        if not _take(total, "cache_write_1h", writes.get("ephemeral_1h_input_tokens")):
            odd.append("ephemeral_1h_input_tokens")
    elif writes is not None:
        odd.append(_WRITES)
    return f"figures of an unknown shape: usage.{odd[0]}" if odd else ""


def _take(total: Usage, figure: str, value: object) -> bool:
    """Set a figure, if *value* is there. Return False for one that is no figure."""
    if value is None:
        return True
    tokens = tokens_in(value)
    if tokens is None:
        return False
    setattr(total, figure, tokens)
    return True


def tokens_in(value: object) -> int | None:
    """Return the number of tokens that a JSON value is, or None: 11.0 is one, "11", true, -1 and 10¹² are none."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def usage_members(usage: Usage, searches: int = 0) -> dict[str, object]:
    """Return *usage*, and how many web searches there were, in the shape of the API's ``usage``."""
    members: dict[str, object] = {
        "input_tokens": usage.input or 0,
        "cache_creation_input_tokens": usage.cache_write or 0,
        "cache_read_input_tokens": usage.cache_read or 0,
        "output_tokens": usage.output or 0,
    }
    if usage.thinking is not None:
        members["output_tokens_details"] = {"thinking_tokens": usage.thinking}
    if searches:
        members["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    return members
