"""The facts of the other side, read straight from the JSON of chat completions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tests.golden.digests import digest
from tests.golden.families.family import Fact, Id, Json, Name, ordered

#: How a result begins that is an error.
FAILED = "The tool failed: "
IMAGE = "[Here the model gave an image, which an answer of this API cannot hold]"
_SPEAKERS = {"system": "system", "developer": "system", "user": "user", "assistant": "model"}


def parts_of(message: Json) -> list[Json]:
    """Its content as a list."""
    content = message.get("content") or []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def texts(body: Json) -> Iterator[tuple[str, str]]:
    """See the protocol."""
    numbers: dict[str, int] = {}
    for message in body["messages"]:
        for call in message.get("tool_calls", []):
            numbers[call["id"]] = len(numbers)
        if message["role"] == "tool":
            yield f"result {numbers[message['tool_call_id']]}", message["content"].removeprefix(FAILED)
            continue
        for part in parts_of(message):
            if part["type"] == "text":
                yield _SPEAKERS[message["role"]], part["text"]


def calls(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    names: dict[str, str] = {}
    for message in body["messages"]:
        if thought := _thought(message):
            yield "thought", thought
        for call in message.get("tool_calls", []):
            function = call["function"]
            names[call["id"]] = function["name"]
            yield "call", Name(function["name"]), ordered(json.loads(function["arguments"]))
        if message["role"] == "tool":
            id = message["tool_call_id"]
            kind = "error" if message["content"].startswith(FAILED) else "output"
            yield kind, Name(names[id]), Id(id)


def _thought(message: Json) -> str:
    details = message.get("reasoning_details", [])
    told = "".join(part.get("text") or part.get("summary") or "" for part in details)
    parts = message.get("content") if isinstance(message.get("content"), list) else []
    within = "".join(each["text"] for part in parts or [] if part["type"] == "thinking" for each in part["thinking"])
    return message.get("reasoning_content") or message.get("reasoning") or told or within


def media(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for message in body["messages"]:
        for part in parts_of(message):
            if part["type"] == "image_url":
                yield _place(part["image_url"]["url"])
            elif part["type"] == "file":
                yield _place(part["file"]["file_data"])


def _place(url: str) -> Fact:
    if not url.startswith("data:"):
        return "link", url
    head, _, data = url.partition(";base64,")
    return "data", head.removeprefix("data:"), digest(data)


def tools(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for tool in body.get("tools", []):
        function = tool["function"]
        properties = function["parameters"].get("properties", {})
        yield "tool", Name(function["name"]), function.get("description", ""), sorted(properties)


def wishes(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for name in ("temperature", "top_p", "top_k"):
        yield name, body.get(name)
    yield "stop", tuple(body.get("stop", ()))
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        yield "choice", "any", Name(choice["function"]["name"])
    else:
        yield "choice", {"required": "any"}.get(choice, choice), ""
    yield "search", False


# Answers.


def choices_of(chunks: Sequence[Json]) -> Iterator[Json]:
    """What each chunk says of the first choice."""
    for chunk in chunks:
        for choice in chunk.get("choices") or []:
            if not choice.get("index"):
                yield choice


def deltas_of(chunks: Sequence[Json]) -> Iterator[Json]:
    """What each chunk adds to it."""
    for choice in choices_of(chunks):
        yield choice.get("delta") or choice.get("message") or {}


def calls_of(chunks: Sequence[Json]) -> list[dict[str, str]]:
    """The calls, put together: by their ids, else by their index, else one after the other."""
    made: list[dict[str, str]] = []
    at: dict[Any, dict[str, str]] = {}
    for delta in deltas_of(chunks):
        for piece in delta.get("tool_calls") or []:
            function = piece.get("function") or {}
            name, id, index = function.get("name") or "", (piece.get("id") or "").strip(), piece.get("index")
            call = at.get(id) if id else None
            if call is None:
                call = at.get(index)
                over = call is not None and name and call["name"] and (index is None or _is_whole(call["arguments"]))
                if call is None or over or (id and call["id"]):
                    call = {"id": "", "name": "", "arguments": ""}
                    made.append(call)
            at[index] = at[None] = call
            if id:
                call["id"] = id
                at[id] = call
            call["name"] = call["name"] or name
            arguments = function.get("arguments") or ""
            call["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)
    return made


def _is_whole(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except ValueError:
        return False
    return True


def answer(chunks: Sequence[Json]) -> Iterator[tuple[str, Any]]:
    """See the protocol."""
    deltas = list(deltas_of(chunks))
    met = [choice["stop_reason"] for choice in choices_of(chunks) if isinstance(choice.get("stop_reason"), str)]
    yield "text", "".join(_said(delta) for delta in deltas) + "".join(met)  # vLLM has cut that off
    yield "thoughts", "".join(_reasoned(delta) for delta in deltas)
    yield "calls", [ordered(_arguments(call["arguments"])) for call in calls_of(chunks)]
    yield "searches", []
    usage: Json = {}
    for chunk in chunks:
        usage |= chunk.get("usage") or {}
    for choice in choices_of(chunks):
        usage |= choice.get("usage") or {}
    if not usage.get("prompt_tokens") and not usage.get("completion_tokens"):
        return
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or usage.get("cached_tokens") or 0
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    yield "input", usage["prompt_tokens"] - cached - (details.get("cache_write_tokens") or 0)
    yield "cached", cached
    beside = reasoning and usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] + reasoning
    yield "output", usage["completion_tokens"] + (reasoning if beside else 0)
    if reasoning is not None:
        yield "thinking", reasoning


def _arguments(text: str) -> Any:
    """Of a call that was cut nothing is left; of one without arguments there is nothing."""
    return json.loads(text) or {} if _is_whole(text) else {}


def _said(delta: Json) -> str:
    content = delta.get("content") or ""
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content if part["type"] == "text")
    return content + IMAGE * len(delta.get("images") or [])


def _reasoned(delta: Json) -> str:
    """Whichever of its forms has it; they all say the same."""
    for name in ("reasoning_content", "reasoning"):
        if text := delta.get(name):
            return text if isinstance(text, str) else "".join(part["text"] for part in text)
    if told := "".join(part.get("text") or part.get("summary") or "" for part in delta.get("reasoning_details") or []):
        return told
    content = delta.get("content")
    thoughts = [part["thinking"] for part in content if part["type"] == "thinking"] if isinstance(content, list) else []
    return "".join(each if isinstance(each, str) else "".join(p["text"] for p in each) for each in thoughts)
