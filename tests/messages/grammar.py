"""The strict grammar of a Claude stream, for what the daemon writes itself: translators and the sandbox.

::

    message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

``ping`` may come anywhere, ``error`` only as the last event; indices count from 0 without gaps; a delta's type fits its
block; unknown events, blocks and deltas pass. An Anthropic upstream's own stream is never judged by this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_decode = msgspec.json.Decoder(dict[str, Any]).decode

#: State and event to the next state. *between*: no block is open; *inside*: one is.
_NEXT: Mapping[tuple[str, str], str] = {
    ("start", "message_start"): "between",
    ("between", "content_block_start"): "inside",
    ("inside", "content_block_delta"): "inside",
    ("inside", "content_block_stop"): "between",
    ("between", "message_delta"): "closing",
    ("closing", "message_stop"): "over",
}
_EVENTS = {event for _, event in _NEXT}

#: The kinds of block that a known delta may grow; a block of a type that nobody knows takes any.
_FITS: Mapping[str, tuple[str, ...]] = {
    "text_delta": ("text",),
    "citations_delta": ("text",),
    "thinking_delta": ("thinking",),
    "signature_delta": ("thinking",),
    "input_json_delta": ("tool_use", "server_tool_use", "mcp_tool_use"),
}
_GROWING = {kind for kinds in _FITS.values() for kind in kinds}


class GrammarError(Exception):
    """An event that is not legal where it stands: a mistake in the daemon's code."""


class Grammar:
    """Watches one stream from its first event to its last."""

    def __init__(self) -> None:
        self.state = "start"
        """start, between, inside, closing, over, or error."""
        self._index = -1
        self._kind = ""

    def frames(self, data: bytes) -> list[dict[str, Any]]:
        """Judge whole frames as they go on the wire; gives their events. Raises :class:`GrammarError`."""
        if data and not data.endswith(b"\n\n"):
            raise GrammarError("the last frame is not whole")
        return [self._frame(frame) for frame in data.split(b"\n\n")[:-1]]

    def end(self) -> None:
        """The stream is at its end. Raises :class:`GrammarError` where that is too early."""
        if self.state not in ("over", "error"):
            raise GrammarError(f"the stream ended in state {self.state}")

    def _frame(self, frame: bytes) -> dict[str, Any]:
        name, separator, data = frame.partition(b"\ndata: ")
        if not name.startswith(b"event: ") or not separator or b"\n" in data:
            raise GrammarError(f"not one event line and one data line: {frame[:80]!r}")
        try:
            event = _decode(data)
        except msgspec.MsgspecError as e:
            raise GrammarError(f"{e} in {frame[:80]!r}") from None
        if event.get("type") != name[7:].decode():
            raise GrammarError(f"{name!r} holds an event of type {event.get('type')!r}")
        self.event(event)
        return event

    def event(self, event: Mapping[str, Any]) -> None:
        """Judge one event by its JSON. Raises :class:`GrammarError`."""
        name = event["type"]
        if self.state in ("over", "error"):
            raise GrammarError(f"{name} after the end")
        if name == "error":
            self.state = "error"
            return
        if name not in _EVENTS:
            return
        following = _NEXT.get((self.state, name))
        if following is None:
            raise GrammarError(f"{name} in state {self.state}")
        if name == "content_block_start":
            self._index += 1
            self._kind = event["content_block"]["type"]
        if name.startswith("content_block_") and event["index"] != self._index:
            raise GrammarError(f"{name} for index {event['index']} where {self._index} is due")
        if name == "content_block_delta":
            self._delta(event["delta"]["type"])
        self.state = following

    def _delta(self, kind: str) -> None:
        if kind in _FITS and self._kind in _GROWING and self._kind not in _FITS[kind]:
            raise GrammarError(f"{kind} in a {self._kind} block")
