"""The types of openai, and what OpenAI is documented to refuse beside them, by model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from openai.types.responses import ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from tests.golden.families.family import Json
from tests.golden.families.sdk_types import extra, strict_adapter

_REQUEST = strict_adapter(ResponseCreateParamsNonStreaming)
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SEALED = "reasoning.encrypted_content"

#: The efforts that each model takes; (): it refuses to be told of reasoning at all. From the pages on the models.
EFFORTS = {
    "gpt-4.1*": (),
    "gpt-4o*": (),
    "gpt-5-pro": ("high",),
    "gpt-5-chat*": (),
    "gpt-5-codex": ("low", "medium", "high"),
    "gpt-5": ("minimal", "low", "medium", "high"),
    "gpt-5-mini": ("minimal", "low", "medium", "high"),
    "gpt-5.1": ("none", "low", "medium", "high"),
    "gpt-5.2": ("none", "low", "medium", "high", "xhigh"),
    "gpt-5.4": ("none", "low", "medium", "high", "xhigh"),
    "gpt-5.6": ("none", "low", "medium", "high", "xhigh", "max"),
    "gpt-oss*": ("low", "medium", "high"),
    "o3-mini": ("low", "medium", "high"),
    "o3": ("low", "medium", "high"),
    "o4-mini": ("low", "medium", "high"),
}
#: Those that sum up nothing, seal nothing, search nothing.
NO_SUMMARY = ("gpt-oss*", "o3-mini")
NO_SEAL = ("gpt-oss*",)
NO_SEARCH = ("gpt-oss*", "o3-mini", "gpt-4.1-nano", "unheard-of")
MOST_TOKENS = {"gpt-4o*": 16_384, "gpt-4.1*": 32_768, "gpt-5-chat*": 16_384, "gpt-5*": 128_000, "o[34]*": 100_000}
#: Members of requests that stand for nothing of the client's; nobody but the whole comparison sees them missing.
NOT_OURS = ("background", "conversation", "metadata", "previous_response_id", "prompt", "truncation", "user")


def check_request(body: Json) -> None:
    """Raise unless it is a request that OpenAI takes, as far as types and pages can tell."""
    _REQUEST.validate_python([body])
    assert body["store"] is False, "OpenAI would keep the answer"
    assert not set(NOT_OURS) & body.keys()
    assert len(body.get("safety_identifier", "")) <= 64
    assert body.get("instructions") != "", "empty instructions"
    _check_reasoning(body)
    _check_items(body)
    _check_calls(body["input"])
    _check_tools(body)
    assert body.get("max_output_tokens", 16) >= 16
    most = [tokens for glob, tokens in MOST_TOKENS.items() if fnmatchcase(body["model"], glob)]
    assert not most or body.get("max_output_tokens", 16) <= most[0]
    if "text" in body:
        assert body["text"]["format"]["strict"] is False
        _check_schema(body["text"]["format"]["schema"])


def check_event(event: Json) -> None:
    """Raise unless it is an event of known members."""
    unknown = [*extra(_EVENT.validate_python(event), event["type"])]
    assert not unknown, f"unknown to the SDK: {unknown}"


def _is(model: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model, glob) for glob in globs)


def _check_reasoning(body: Json) -> None:
    model, reasoning = body["model"], body.get("reasoning")
    efforts = next((each for glob, each in EFFORTS.items() if fnmatchcase(model, glob)), ())
    sealed = _SEALED in body.get("include", [])
    if not efforts:
        assert reasoning is None, f"{model} does not reason"
    elif not _is(model, NO_SEAL):  # open models are others' to serve
        assert not {"temperature", "top_p"} & body.keys(), f"{model} takes no sampling"
    assert not (sealed and (not efforts or _is(model, NO_SEAL))), f"{model} seals nothing"
    if reasoning is not None:
        assert reasoning, "an empty object"
        assert reasoning.get("effort", efforts[0]) in efforts
        assert not ("summary" in reasoning and _is(model, NO_SUMMARY))
    for item in body["input"]:
        if item["type"] == "reasoning":
            assert efforts, f"{model} takes no reasoning"
            assert bool(item.get("encrypted_content")) != _is(model, NO_SEAL), "reasoning that is not sealed"
            assert item.get("encrypted_content") or item["content"], "reasoning without any"


def _check_items(body: Json) -> None:
    items = body["input"]
    assert items, "no input"
    assert items[0]["type"] == "message", "the model begins"
    for item in items:
        assert "type" in item
        if item["type"] == "message" and item["role"] == "assistant":
            assert isinstance(item["content"], str), "what a model has said is text"
        for part in _parts(item):
            assert part["type"] != "input_text" or part["text"], "an empty text"
            assert part["type"] != "input_file" or ("filename" in part) != ("file_url" in part)
            assert part["type"] != "input_file" or ("file_data" in part) != ("file_url" in part)
            assert part["type"] != "input_image" or part["image_url"]
        assert item.get("content") != "", "an empty message"
        assert item.get("content") != [], "an empty message"
    ids = [item["id"] for item in items if "id" in item]
    assert len(ids) == len(set(ids)), "one item twice"
    for item, after in itertools.zip_longest(items, items[1:]):
        if item["type"] == "reasoning":
            followed = after is not None and after.get("role") != "user" and after["type"] != "function_call_output"
            assert followed, "reasoning without what follows it"


def _parts(item: Json) -> Iterator[Json]:
    for members in (item.get("content"), item.get("output")):
        if isinstance(members, list):
            yield from members


def _check_calls(items: list[Json]) -> None:
    """OpenAI refuses a call without its output, and the reverse."""
    waiting: list[str] = []
    for item in items:
        if item["type"] == "function_call":
            assert _NAME.fullmatch(item["name"]), item["name"]
            assert 0 < len(item["call_id"]) <= 64
            waiting.append(item["call_id"])
        elif item["type"] == "function_call_output":
            assert waiting, "an output without its call"
            assert item["call_id"] == waiting.pop(0), "outputs in another order"
        elif item["type"] == "message" and item["role"] == "user":
            assert not waiting, "a call without its output"


def _check_tools(body: Json) -> None:
    tools = body.get("tools", [])
    names = [tool["name"] for tool in tools if tool["type"] == "function"]
    assert len(names) == len(set(names)), "one name twice"
    assert "tools" not in body or tools, "no tools"
    for tool in tools:
        if tool["type"] == "function":
            assert _NAME.fullmatch(tool["name"]), tool["name"]
            assert tool["strict"] is False, "optional parameters become mandatory"
            assert tool["parameters"]["type"] == "object"
            assert not {"anyOf", "oneOf", "allOf", "enum", "not"} & tool["parameters"].keys()
            _check_schema(tool["parameters"])
        else:
            assert not _is(body["model"], NO_SEARCH), "it does not search"
            assert body.get("reasoning", {}).get("effort") != "minimal", "it does not search with that effort"
    choice = body.get("tool_choice")
    assert choice is None or tools, "a choice of nothing"
    if isinstance(choice, dict) and choice["type"] == "function":
        assert choice["name"] in names
    assert "parallel_tool_calls" not in body or tools


def _check_schema(schema: Any) -> None:
    """OpenAI refuses an object without properties and an array without items."""
    if isinstance(schema, list):
        for each in schema:
            _check_schema(each)
    if not isinstance(schema, dict):
        return
    assert schema.get("type") != "object" or {"properties", "$ref", "anyOf"} & schema.keys(), "without properties"
    assert schema.get("type") != "array" or {"items", "prefixItems", "$ref"} & schema.keys(), "without items"
    for word in ("properties", "$defs"):
        for each in (schema.get(word) or {}).values() if isinstance(schema.get(word), dict) else ():
            _check_schema(each)
    for word in ("items", "anyOf", "oneOf", "allOf", "additionalProperties"):
        _check_schema(schema.get(word))
