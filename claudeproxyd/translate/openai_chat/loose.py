"""Chunks that are odd beside what they say: arguments as an object, reasoning as a list, figures as text."""

from __future__ import annotations

import msgspec

from claudeproxyd.json_guards import as_array, as_object, as_string
from claudeproxyd.translate.fitting import LooseReader
from claudeproxyd.translate.openai_chat.chunks import Chunk

_encode = msgspec.json.Encoder().encode


def _mend(chunk: dict[str, object]) -> None:
    """Tell as a string what has to be one."""
    for choice in as_array(chunk.get("choices")):
        for name in ("delta", "message"):
            said = choice.get(name) if isinstance(choice, dict) else None
            if isinstance(said, dict):
                _mend_said(said)


def _mend_said(said: dict[str, object]) -> None:
    for name in ("reasoning_content", "reasoning"):
        if isinstance(said.get(name), dict | list):
            said[name] = _text(said[name])
    if isinstance(said.get("tool_calls"), dict):
        said["tool_calls"] = [said["tool_calls"]]
    for call in as_array(said.get("tool_calls")):
        function = as_object(call).get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
            function["arguments"] = _encode(function["arguments"]).decode()


def _text(reasoning: object) -> str:
    """Return the words of reasoning that is an object or a list of them."""
    if isinstance(reasoning, list):
        return "".join(map(_text, reasoning))
    if isinstance(reasoning, str):
        return reasoning
    said = as_object(reasoning)
    return next((text for name in ("text", "content", "summary") if (text := as_string(said.get(name)))), "")


read_loosely = LooseReader(
    Chunk,
    said=("choices", "delta", "message", "content", "text", "tool_calls", "function", "name", "arguments"),
    instead={"finish_reason": "unknown"},
    mend=_mend,
).read
