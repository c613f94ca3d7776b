"""The facts of OpenAI's side, read straight from the JSON of the Responses API."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tests.golden.digests import digest
from tests.golden.families.family import Fact, Id, Json, Name, ordered

FAILED = "The tool failed:"
_DATA = re.compile(r"data:([^;]+);base64,(.*)", re.DOTALL)


def _contents(value: Any) -> list[Json]:
    return [{"type": "input_text", "text": value}] if isinstance(value, str) else value


def _said(content: Any) -> Iterator[str]:
    yield from (part["text"] for part in _contents(content) if part["type"] == "input_text")


def texts(body: Json) -> Iterator[tuple[str, str]]:
    """See the protocol."""
    if "instructions" in body:
        yield "system", body["instructions"]
    results = itertools.count()
    for item in body["input"]:
        if item["type"] == "message":
            speaker = {"user": "user", "assistant": "model"}[item["role"]]
            yield from ((speaker, text) for text in _said(item["content"]))
        elif item["type"] == "function_call_output":
            number = next(results)
            yield f"result {number}", "\n".join(_said(item["output"])).removeprefix(FAILED)


def calls(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    names: dict[str, str] = {}
    for item in body["input"]:
        match item["type"]:
            case "function_call":
                names[item["call_id"]] = item["name"]
                yield "call", Name(item["name"]), ordered(json.loads(item["arguments"]))
            case "function_call_output":
                failed = "\n".join(_said(item["output"])).startswith(FAILED)
                yield "error" if failed else "output", Name(names[item["call_id"]]), Id(item["call_id"])
            case "reasoning":
                if thought := _thought(item):
                    yield "thought", thought
            case "web_search_call":
                yield "search", item


def _thought(item: Json) -> str:
    return "\n\n".join(part["text"] for part in item.get("content") or item["summary"])


def media(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for item in body["input"]:
        for part in _contents(item.get("content", item.get("output", ""))):
            where = part.get("image_url") or part.get("file_data") or part.get("file_url")
            if where is None:
                continue
            found = _DATA.fullmatch(where)
            yield ("data", found[1], digest(found[2])) if found else ("link", where)


def signatures(items: Sequence[Json]) -> Iterator[str]:
    """What has to travel of sealed reasoning, in base64."""
    for item in items:
        if item["type"] != "reasoning":
            continue
        sealed = {"id": item["id"]}
        if item.get("encrypted_content"):
            sealed["encrypted_content"] = item["encrypted_content"]
        elif not item.get("content"):
            continue
        yield base64.b64encode(json.dumps(sealed, separators=(",", ":")).encode()).decode()


def tools(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for tool in body.get("tools", []):
        if tool["type"] == "function":
            properties = sorted(tool["parameters"].get("properties", {}))
            yield "tool", Name(tool["name"]), tool.get("description", ""), properties


def wishes(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for name in ("temperature", "top_p", "top_k"):
        yield name, body.get(name)
    yield "stop", ()
    choice = body.get("tool_choice", "auto")
    kind, name = {"auto": "auto", "required": "any", "none": "none"}.get(str(choice), "any"), ""
    if isinstance(choice, dict):
        name = choice.get("name") or choice["tools"][0]["type"]
    yield "choice", kind, Name(name) if name else ""
    yield "search", kind != "none" and any(tool["type"] == "web_search" for tool in body.get("tools", []))


def pages(items: Sequence[Json]) -> Iterator[str]:
    """See the protocol."""
    for item in items:
        for source in item.get("action", {}).get("sources") or []:
            yield source["url"]
        for part in item.get("content") or []:
            yield from (cited["url"] for cited in part.get("annotations", []) if cited["type"] == "url_citation")


def answer(response: Json) -> Iterator[tuple[str, Any]]:
    """See the protocol."""
    items = response["output"]
    messages = [part for item in items if item["type"] == "message" for part in item["content"]]
    yield "text", "".join(part.get("text", part.get("refusal", "")) for part in messages)
    yield "thoughts", "".join(_thought(item) for item in items if item["type"] == "reasoning")
    yield "calls", [_arguments(item["arguments"]) for item in items if item["type"] == "function_call"]
    yield "searches", [item for item in items if item["type"] == "web_search_call"]
    usage = response.get("usage")
    if usage:
        details = usage["input_tokens_details"]
        yield "input", usage["input_tokens"] - details["cached_tokens"] - details.get("cache_write_tokens", 0)
        yield "cached", details["cached_tokens"]
        yield "output", usage["output_tokens"]
        yield "thinking", usage["output_tokens_details"]["reasoning_tokens"]


def _arguments(text: str) -> str:
    try:
        return ordered(json.loads(text or "{}") or {})
    except ValueError:
        return "{}"  # cut off: no client runs it
