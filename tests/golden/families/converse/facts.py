"""The facts of AWS's side, read straight from the JSON of the Converse API."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from tests.golden.digests import digest
from tests.golden.families.family import Fact, Json, Name, Signed, ordered

#: What the daemon says where the API has no word.
FAILED = "The call failed:"
NO_TOOLS = "No tool can be called now. Answer in words."

_SPEAKERS = {"user": "user", "assistant": "model"}
_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "csv": "text/csv",
}


def blocks(body: Json) -> Iterator[tuple[str, Json]]:
    """Every block, with its speaker's role."""
    for message in body["messages"]:
        for block in message["content"]:
            yield message["role"], block


def texts(body: Json) -> Iterator[tuple[str, str]]:
    """See the protocol."""
    for block in body.get("system", []):
        if "text" in block:
            yield "system", block["text"]
    results = itertools.count()
    for role, block in blocks(body):
        if "text" in block:
            yield _SPEAKERS[role], block["text"]
        elif "toolResult" in block:
            held = block["toolResult"]["content"]
            yield f"result {next(results)}", "\n".join(inner["text"] for inner in held if "text" in inner)


def calls(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    names: dict[str, str] = {}
    for _, block in blocks(body):
        if "toolUse" in block:
            call = block["toolUse"]
            names[call["toolUseId"]] = call["name"]
            yield "call", Name(call["name"]), ordered(call["input"])
        elif "toolResult" in block:
            result = block["toolResult"]
            failed = result.get("status") == "error" or result["content"][0].get("text") == FAILED
            yield "error" if failed else "output", Name(names[result["toolUseId"]]), result["toolUseId"]
        elif "reasoningText" in block.get("reasoningContent", {}):
            yield "thought", block["reasoningContent"]["reasoningText"]["text"]


def media(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for _, block in blocks(body):
        for each in (block, *block.get("toolResult", {}).get("content", [])):
            held = each.get("image") or each.get("document")
            if held:
                yield "data", _TYPES[held["format"]], digest(held["source"]["bytes"])


def signatures(body: Json) -> Iterator[str]:
    """See the protocol."""
    for _, block in blocks(body):
        reasoning = block.get("reasoningContent", {})
        yield from filter(None, [reasoning.get("redactedContent")])
        yield from filter(None, [reasoning.get("reasoningText", {}).get("signature")])


def tools(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for tool in body.get("toolConfig", {}).get("tools", []):
        spec = tool["toolSpec"]
        schema = spec["inputSchema"]["json"]
        yield "tool", Name(spec["name"]), spec.get("description", ""), sorted(schema.get("properties", {}))


def wishes(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    config = body.get("inferenceConfig", {})
    yield "temperature", config.get("temperature")
    yield "top_p", config.get("topP")
    yield "top_k", body.get("additionalModelRequestFields", {}).get("inferenceConfig", {}).get("topK")
    yield "stop", tuple(config.get("stopSequences", []))
    said = body["messages"][-1]["content"][-1].get("text", "")
    choice = body.get("toolConfig", {}).get("toolChoice", {"auto": {}})
    ((kind, members),) = choice.items()
    if NO_TOOLS in said:
        kind = "none"
    yield "choice", "any" if kind == "tool" else kind, Name(members["name"]) if "name" in members else ""
    yield "search", False


def answer(events: Sequence[Json]) -> Iterator[tuple[str, Any]]:
    """See the protocol."""
    deltas = [event["contentBlockDelta"] for event in events if "contentBlockDelta" in event]
    starts = [event["contentBlockStart"] for event in events if "contentBlockStart" in event]
    pictures = [
        f"[Here the model gave image/{start['start']['image']['format']}, which an answer of this API cannot hold]"
        for start in starts
        if "image" in start["start"]
    ]
    yield "text", "".join([*(each["delta"].get("text", "") for each in deltas), *pictures])
    yield "thoughts", "".join(each["delta"].get("reasoningContent", {}).get("text", "") for each in deltas)
    calls = []
    for start in starts:
        if "type" in start["start"].get("toolUse", {"type": ""}):
            continue
        index = start["contentBlockIndex"]
        pieces = (each["delta"]["toolUse"]["input"] for each in deltas if each["contentBlockIndex"] == index)
        calls.append(ordered(_value("".join(pieces))))
    yield "calls", calls
    yield "searches", []
    for event in events:
        usage = event.get("metadata", {}).get("usage")
        if usage is not None:
            yield "input", usage["inputTokens"]
            yield "cached", usage.get("cacheReadInputTokens", 0)
            yield "output", usage["outputTokens"]


def answer_signatures(events: Sequence[Json]) -> Sequence[Signed]:
    """See the protocol."""
    found: dict[tuple[int, str], list[str]] = {}
    for event in events:
        delta = event.get("contentBlockDelta", {})
        for name, value in delta.get("delta", {}).get("reasoningContent", {}).items():
            if name != "text":
                found.setdefault((delta["contentBlockIndex"], name), []).append(value)
    return [
        Signed("".join(held) if name == "signature" else _joined(held), due=True) for (_, name), held in found.items()
    ]


def _joined(pieces: Sequence[str]) -> str:
    return base64.b64encode(b"".join(map(base64.b64decode, pieces))).decode()


def _value(text: str) -> Any:
    try:
        return json.loads(text or "{}") or {}
    except ValueError:
        return {}
