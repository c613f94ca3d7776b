"""What a client makes of a stream: the events put together as the official SDKs do it, judged strictly on the way."""

from __future__ import annotations

import json
from typing import Any

from tests.messages.grammar import Grammar


def accumulate(frames: bytes) -> dict[str, Any]:
    """The message that a whole, legal stream amounts to. Raises GrammarError for any other."""
    grammar = Grammar()
    events = grammar.frames(frames)
    grammar.end()
    message: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    for event in events:
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                message["content"].append(event["content_block"])
            case "content_block_delta":
                _grow(message["content"][event["index"]], event["delta"], event["index"], inputs)
            case "content_block_stop" if event["index"] in inputs:
                message["content"][event["index"]]["input"] = _lenient(inputs[event["index"]])
            case "message_delta":
                message.update(event["delta"])
                message["usage"].update(event["usage"])
    return message


def _grow(block: dict[str, Any], delta: dict[str, Any], index: int, inputs: dict[int, str]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block.setdefault("citations", []).append(delta["citation"])
        case "input_json_delta":
            inputs[index] = inputs.get(index, "") + delta["partial_json"]


def _lenient(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
