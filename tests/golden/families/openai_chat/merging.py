"""What the whole answer would have been that came as these chunks; shares no code with the daemon."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from tests.golden.families.family import Json
from tests.golden.families.openai_chat.facts import calls_of, choices_of


def merge(chunks: Sequence[Json]) -> Json | None:
    """One chat.completion; None where it could not say in which order things came."""
    seen: list[int] = []
    message: Json = {"role": "assistant", "content": None}
    finish: Json = {}
    whole: Json = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    for chunk in chunks:
        whole |= {name: chunk[name] for name in ("id", "usage") if chunk.get(name)}
    for choice in choices_of(chunks):
        delta = copy.deepcopy(choice.get("delta") or {})
        for name in ("content", "refusal", "reasoning", "reasoning_content", "reasoning_details", "images"):
            if delta.get(name):
                message[name] = _joined(message.get(name), delta[name])
        kinds = [
            any(delta.get(name) for name in ("reasoning", "reasoning_content", "reasoning_details")),
            bool(delta.get("content") or delta.get("refusal") or delta.get("images")),
            bool(delta.get("tool_calls")),
        ]
        seen += [number for number, there in enumerate(kinds) if there]
        finish |= {name: choice[name] for name in ("finish_reason", "stop_reason", "usage") if choice.get(name)}
    if seen != sorted(seen):
        return None
    if calls := calls_of(chunks):
        message["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in calls
        ]
    whole["choices"] = [{"index": 0, "message": message, **finish}]
    return whole


def _joined(before: Any, more: Any) -> Any:
    """Both, as a text if both are, else as a list of parts."""
    if not before:
        return more
    if type(before) is type(more):
        return before + more
    return [
        part
        for each in (before, more)
        for part in ([{"type": "text", "text": each}] if isinstance(each, str) else each)
    ]
