"""What the whole answer would have been that came as these events; shares no code with the daemon."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from tests.golden.families.family import Json


def merge(events: Sequence[Json]) -> Json:
    """One ConverseResponse: blocks in the order of their indices, each put together."""
    blocks: dict[int, Json] = {}
    whole: Json = {"output": {"message": {"role": "assistant", "content": []}}, "metrics": {"latencyMs": 1}}
    for event in events:
        ((name, members),) = event.items()
        index = members.get("contentBlockIndex", 0)
        match name:
            case "contentBlockStart":
                blocks[index] = _begun(members["start"])
            case "contentBlockDelta":
                _add(blocks.setdefault(index, {}), members["delta"])
            case "messageStop":
                whole["stopReason"] = members["stopReason"]
            case "metadata":
                whole["usage"] = members["usage"]
    content = [_ended(blocks[index]) for index in sorted(blocks)]
    whole["output"]["message"]["content"] = [block for block in content if block]
    return whole


def is_mergeable(events: Sequence[Json]) -> bool:
    """Whether there is such an answer: one that has an end, and no call that cannot be read but by being cut off."""
    names = [name for event in events for name in event]
    if "messageStop" not in names or any(name.endswith("Exception") for name in names):
        return False
    reason = next(event["messageStop"]["stopReason"] for event in events if "messageStop" in event)
    inputs: dict[int, str] = {}
    for delta in (event["contentBlockDelta"] for event in events if "contentBlockDelta" in event):
        if "toolUse" in delta["delta"]:
            index = delta["contentBlockIndex"]
            inputs[index] = inputs.get(index, "") + delta["delta"]["toolUse"]["input"]
    return reason == "max_tokens" or all(_value(text, None) is not None for text in inputs.values())


def _begun(start: Json) -> Json:
    if "toolUse" in start:
        return {"toolUse": {**start["toolUse"], "input": ""}}
    return {"image": {**start["image"], "source": {"bytes": "AAAA"}}} if "image" in start else {}


def _add(block: Json, delta: Json) -> None:
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    elif "reasoningContent" in delta:
        reasoning = block.setdefault("reasoningContent", {})
        for name, value in delta["reasoningContent"].items():
            if name == "redactedContent":
                held = base64.b64decode(reasoning.get(name, "")) + base64.b64decode(value)
                reasoning[name] = base64.b64encode(held).decode()
            else:
                text = reasoning.setdefault("reasoningText", {})
                text[name] = text.get(name, "") + value


def _ended(block: Json) -> Json:
    if "toolUse" in block:
        block["toolUse"]["input"] = _value(block["toolUse"]["input"], {})
    return block


def _value(text: str, otherwise: Json | None) -> Json | None:
    """A call's input, if it can be read."""
    try:
        made: Json = json.loads(text or "{}")
    except ValueError:
        return otherwise
    return made
