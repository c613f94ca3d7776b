"""Taking thinking out of a conversation whose signatures the upstream does not accept any more."""

from __future__ import annotations

from typing import Any

import msgspec

_THINKING = ("thinking", "redacted_thinking")


def without_thinking(body: bytes) -> bytes:
    """The request with thinking out of its history and off.

    The one place where an Anthropic body is decoded and encoded as a whole: it happens once a request at most, after
    the upstream refused the client's own bytes.
    """
    request: dict[str, Any] = msgspec.json.decode(body)
    request.pop("thinking", None)
    kept = []
    for turn in request.get("messages", ()):
        content = turn.get("content") if isinstance(turn, dict) else None
        if isinstance(content, list):
            content = [block for block in content if not (isinstance(block, dict) and block.get("type") in _THINKING)]
            if not content:
                continue
            turn = {**turn, "content": content}
        kept.append(turn)
    request["messages"] = kept
    return msgspec.json.encode(request)
