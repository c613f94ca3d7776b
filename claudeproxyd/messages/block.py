"""One content block of a message that :class:`~claudeproxyd.messages.blocks.BlockMachine` puts together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Block:
    """One content block: the *live* one, whose events go out as they come, or one that waits behind it."""

    __slots__ = ("deltas", "held", "kind", "over", "signed", "start")

    def __init__(self, start: Mapping[str, Any], over: bool = False) -> None:
        self.kind: str = start["type"]
        self.start = start
        """As it is in content_block_start."""
        self.deltas: list[tuple[str, Any]] = []
        """Kind and value of each delta that is needed again: of what waits, of tool input, of a whole answer."""
        self.held = 0
        """Bytes of these."""
        self.over = over
        """Nothing more comes for it."""
        self.signed = False

    def joined(self, kind: str) -> str:
        """All deltas of one kind in one."""
        return "".join([value for of, value in self.deltas if of == kind])

    def is_whole(self) -> bool:
        """Whether it can be closed for the sake of the next: all but a tool call whose input is no JSON object yet."""
        if self.over or self.kind != "tool_use":
            return True
        return bool(self.deltas) and self.deltas[-1][1].rstrip().endswith("}") and is_object(self.joined("input_json"))

    def content(self) -> dict[str, Any]:
        """The block as a whole message has it."""
        content = dict(self.start)
        for kind in {kind for kind, _ in self.deltas}:
            if kind == "citations":
                content["citations"] = [value for of, value in self.deltas if of == kind]
            elif kind == "input_json":
                text = self.joined(kind)
                # Input that max_tokens has cut short is left out: the clients do not run such a call.
                content["input"] = msgspec.Raw(text.encode()) if is_object(text) else {}
            else:
                content[kind] = self.joined(kind)
        return content


def is_object(text: str) -> bool:
    """Whether that is the whole of a JSON object."""
    try:
        _decode_object(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True
