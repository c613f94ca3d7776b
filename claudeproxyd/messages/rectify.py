"""Taking thinking out of a conversation whose signatures the upstream does not accept any more."""

from __future__ import annotations

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.splicing import THINKING, with_blocks, with_thinking_off


class _Block(msgspec.Struct):
    type: str = ""


_decode_block = msgspec.json.Decoder(_Block).decode


def without_thinking(body: bytes) -> bytes:
    """Return the request with thinking out of its history and off.

    Called after the upstream refused the client's own.
    """
    return with_thinking_off(with_blocks(body, _instead))


def _instead(block: bytes) -> bytes | None:
    try:
        return b"" if _decode_block(block).type in THINKING else None
    except UNREADABLE:
        return None
