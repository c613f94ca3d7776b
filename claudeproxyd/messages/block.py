"""One content block of a message, from its first delta to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from claudeproxyd.json_guards import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class BlockError(Exception):
    """The upstream sent what no Claude message can hold; for executors a malformed answer."""


class Block:
    """One content block, moved on by a :class:`~claudeproxyd.messages.block_sequence.BlockSequence`.

    It waits, or is the live one: its content_block_start goes out when it is *opened*, and its end when it is closed.
    """

    __slots__ = (
        "buffered",
        "complete",
        "deltas",
        "early_citations",
        "input",
        "kind",
        "opened",
        "signed",
        "space",
        "start",
    )

    def __init__(self, start: Mapping[str, Any], complete: bool = False) -> None:
        self.kind: str = start["type"]
        self.start = start
        """As it is in content_block_start."""
        self.complete = complete
        """Nothing more comes for it."""
        self.opened = False
        self.signed = False
        self.deltas: list[tuple[str, Any]] = []
        """Kind and value of each delta, while it waits."""
        self.input: list[str] = []
        """Of a tool call, all that has come: whether it is whole, it shows itself."""
        self.buffered = 0
        """Characters of these."""
        self.early_citations: list[Any] = []
        """Those that came before any text of it could be shown."""
        self.space = ""
        """White space that it would begin with, if more came."""

    def input_json(self) -> str:
        """Return the input of a tool call as far as it has come."""
        return "".join(self.input)

    def may_close(self) -> bool:
        """Whether the next block may begin: all but a tool call whose input is no JSON object yet let it."""
        if self.complete or self.kind != "tool_use":
            return True
        return bool(self.input) and self.input[-1].rstrip().endswith("}") and is_object(self.input_json())


def is_object(text: str) -> bool:
    """Whether *text* is one whole JSON object."""
    try:
        _decode_object(text)
    except UNREADABLE:
        return False
    return True
