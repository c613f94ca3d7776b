"""botocore's own model of the API, as a judge that refuses whatever it does not know; and what models refuse beyond it.

botocore checks members, types and least lengths; patterns, enums and greatest lengths stand in its model all the same
and are checked here. What families of models refuse is from AWS's user guide and from what was seen to be refused.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator

from tests.golden.families.family import Json

#: Models by a pattern of their ids, and what of a request they refuse: the name of a check below.
REFUSALS: Mapping[str, tuple[str, ...]] = {
    r"amazon\.nova-": (
        "reasoning",
        "tool_cache",
        "tool_message_cache",
        "documents_in_results",
        "schemas",
        "top_k_beyond",
    ),
    r"amazon\.nova-micro": ("images", "documents"),
    r"amazon\.(?!nova-)|ai21|cohere|deepseek|google|meta|minimax|mistral|moonshot|nvidia|openai|qwen|writer|xai|zai": (
        "cache",
    ),
    r"meta\.": ("forced", "tools_beside", "reasoning"),
    r"mistral\.": ("named", "tools_beside", "images_in_results", "reasoning"),
    r"mistral\.(?!mistral-large)": ("forced",),
    r"writer\.": ("status", "forced", "tools_beside"),
    r"qwen\.": ("images_in_results", "documents", "forced"),
    r"moonshot": ("images_in_results", "documents_in_results", "named"),
    r"deepseek\.r1|amazon\.titan|mistral\.mistral-7b|mistral\.mixtral|meta\.llama[23]-\d+b|meta\.llama3-2-[13]b": (
        "tools",
    ),
    r"deepseek\.": ("reasoning",),
    r"amazon\.titan|mistral\.mistral-7b|mistral\.mixtral": ("system",),
    r"openai\.gpt-oss": ("signatures", "images", "forced"),
    r"openai\.gpt-\d|xai\.": ("sampling", "few_tokens"),
}
#: What ``additionalModelRequestFields`` may hold, by model; in all others nothing.
FIELDS: Mapping[str, Mapping[str, Any]] = {
    r"amazon\.nova-2": {"inferenceConfig": {"topK": int}, "reasoningConfig": {"type": str, "maxReasoningEffort": str}},
    r"amazon\.nova-(?!2)": {"inferenceConfig": {"topK": int}},
    r"openai\.gpt-oss|deepseek\.v3\.2|zai\.": {"reasoning_effort": str},
    r"openai\.gpt-\d|xai\.": {"reasoning": {"effort": str}},
    r"qwen\.qwen3-(?!coder)": {"reasoning_config": str},
}

_NAME = re.compile(r"[A-Za-z0-9()\[\]-]+( [A-Za-z0-9()\[\]-]+)*", re.ASCII)


@cache
def _service() -> ServiceModel:
    return botocore.session.get_session().get_service_model("bedrock-runtime")


def check_request(body: Json, model: str) -> None:
    """Raise unless it is a request that *model* takes, as far as that is known."""
    shape = _service().operation_model("Converse").input_shape
    _check_shape({"modelId": model, **body}, shape)
    messages = body["messages"]
    assert messages, "no messages"
    assert messages[0]["role"] == "user", "the model begins"
    assert messages[-1]["role"] == "user", "the model is to go on"
    for before, after in itertools.pairwise(messages):
        assert before["role"] != after["role"], "two turns of one role"
    for message in messages:
        _check_message(message)
    for block in [*body.get("system", []), *(block for _, block in _blocks(body))]:
        assert block.get("text", "x").strip(), "a blank text"
    names = [block["document"]["name"] for _, block in _blocks(body, within=True) if "document" in block]
    assert all(_NAME.fullmatch(name) for name in names), f"characters of {names}"
    assert len(names) == len(set(names)), "one name twice"
    _check_calls(body)
    points = [block for block in [*body.get("system", []), *_all(body)] if "cachePoint" in block]
    assert len(points) <= 4, "more than four cache points"
    assert "stopSequences" not in body.get("inferenceConfig", {}), "which one was met the API does not say"
    text_format = body.get("outputConfig", {}).get("textFormat")
    assert text_format is None or isinstance(json.loads(text_format["structure"]["jsonSchema"]["schema"]), dict)
    _check_fields(body.get("additionalModelRequestFields", {}), model)
    for pattern, refusals in REFUSALS.items():
        if re.search(pattern, model):
            for refusal in refusals:
                assert not _REFUSED[refusal](body), f"{model} refuses {refusal}"


def check_event(chunk: Json) -> None:
    """Raise unless it is one event of ConverseStream, of known members."""
    output = _service().operation_model("ConverseStream").output_shape
    ((name, members),) = chunk.items()
    _check_shape(members, output.members["stream"].members[name])


def check_whole(answer: Json) -> None:
    """Raise unless it is a ConverseResponse, of known members."""
    _check_shape(answer, _service().operation_model("Converse").output_shape)


def _check_shape(value: Any, shape: Shape) -> None:
    report = ParamValidator().validate(value, shape)
    assert not report.has_errors(), report.generate_report()
    problems = [*_beyond(value, shape, "")]
    assert not problems, problems


def _beyond(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """What the model says of strings and numbers, and botocore does not look at."""
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        for name, member in value.items():
            yield from _beyond(member, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for at, member in enumerate(value):
            yield from _beyond(member, shape.member, f"{path}[{at}]")
    elif shape.type_name == "string":
        metadata = shape.metadata
        if len(value) > metadata.get("max", len(value)):
            yield f"{path}: {len(value)} characters"
        if "enum" in metadata and value not in metadata["enum"]:
            yield f"{path}: {value}"
        if shape.name in ("ToolName", "ToolUseId") and not re.fullmatch(metadata["pattern"], value, re.ASCII):
            yield f"{path}: characters of {value!r}"
    elif shape.type_name in ("integer", "float") and value > shape.metadata.get("max", value):
        yield f"{path}: {value}"


def _blocks(body: Json, *, within: bool = False) -> Iterator[tuple[str, Json]]:
    for message in body["messages"]:
        for block in message["content"]:
            yield message["role"], block
            if within:
                yield from ((message["role"], each) for each in block.get("toolResult", {}).get("content", []))


def _all(body: Json) -> list[Json]:
    return [block for _, block in _blocks(body)]


def _check_message(message: Json) -> None:
    content = message["content"]
    assert content, "a message without content"
    kinds = {kind for block in content for kind in block}
    if message["role"] == "user":
        assert not kinds & {"toolUse", "reasoningContent"}, "said by a user"
    else:
        assert not kinds & {"toolResult", "image", "document"}, "said by an assistant"
        assert kinds - {"reasoningContent", "cachePoint"}, "nothing but reasoning, which counts as a prefill"
    held = [content, *(block["toolResult"]["content"] for block in content if "toolResult" in block)]
    for blocks in held:
        assert blocks, "a result without content"
        texts = [block["text"] for block in blocks if "text" in block]
        assert texts or not any("document" in block for block in blocks), "a document without text beside it"
        assert all(text.strip() for text in texts), "a blank text"


def _check_calls(body: Json) -> None:
    """Each turn's calls are answered by the next one, and what may be called is always told."""
    calls: list[str] = []
    for message in body["messages"]:
        results = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
        if message["role"] == "user":
            assert results == calls, "calls and results differ"
        calls = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
        assert len(calls) == len(set(calls)), "one id twice"
    assert not calls, "a call without its result"
    if any("toolUse" in block or "toolResult" in block for block in _all(body)):
        assert "toolConfig" in body, "calls without toolConfig"
    names = [tool["toolSpec"]["name"] for tool in body.get("toolConfig", {}).get("tools", []) if "toolSpec" in tool]
    assert len(names) == len(set(names)), "one tool twice"
    named = body.get("toolConfig", {}).get("toolChoice", {}).get("tool", {}).get("name")
    assert named is None or named in names, "a choice that is not offered"


def _check_fields(fields: Json, model: str) -> None:
    allowed = next((known for pattern, known in FIELDS.items() if re.search(pattern, model)), {})
    for name, value in fields.items():
        assert name in allowed, f"{model} does not know {name}"
        kinds = allowed[name]
        if isinstance(kinds, type):
            assert isinstance(value, kinds), f"{name}: {value}"
        else:
            assert value.keys() <= kinds.keys(), f"{name}: {value}"
            assert all(isinstance(each, kinds[member]) for member, each in value.items()), f"{name}: {value}"


def _reasoning(body: Json) -> list[Json]:
    return [block["reasoningContent"] for block in _all(body) if "reasoningContent" in block]


def _in_results(body: Json, kind: str) -> bool:
    held = (each for block in _all(body) for each in block.get("toolResult", {}).get("content", []))
    return any(kind in each for each in held)


def _choice(body: Json) -> Json:
    choice: Json = body.get("toolConfig", {}).get("toolChoice", {})
    return choice


def _beside_tools(body: Json) -> bool:
    """Whether a message holds calls or results, and anything else."""
    for message in body["messages"]:
        of_tools = ["toolUse" in block or "toolResult" in block for block in message["content"]]
        if any(of_tools) and not all(of_tools):
            return True
    return False


def _cached_tool_messages(body: Json) -> bool:
    return any(
        any("cachePoint" in block for block in message["content"])
        and any("toolUse" in block or "toolResult" in block for block in message["content"])
        for message in body["messages"]
    )


def _odd_schemas(body: Json) -> bool:
    schemas = [tool["toolSpec"]["inputSchema"]["json"] for tool in body.get("toolConfig", {}).get("tools", [])]
    return any(not schema.keys() <= {"type", "properties", "required"} for schema in schemas)


_REFUSED: Mapping[str, Callable[[Json], bool]] = {
    "reasoning": lambda body: bool(_reasoning(body)),
    "signatures": lambda body: any("signature" in each.get("reasoningText", {}) for each in _reasoning(body)),
    "cache": lambda body: any("cachePoint" in block for block in [*body.get("system", []), *_all(body)]),
    "tool_cache": lambda body: any("cachePoint" in tool for tool in body.get("toolConfig", {}).get("tools", [])),
    "tool_message_cache": _cached_tool_messages,
    "documents_in_results": lambda body: _in_results(body, "document"),
    "images_in_results": lambda body: _in_results(body, "image"),
    "documents": lambda body: any("document" in block for _, block in _blocks(body, within=True)),
    "images": lambda body: any("image" in block for _, block in _blocks(body, within=True)),
    "schemas": _odd_schemas,
    "top_k_beyond": lambda body: (
        body.get("additionalModelRequestFields", {}).get("inferenceConfig", {}).get("topK", 0) > 128
    ),
    "forced": lambda body: bool(_choice(body).keys() & {"any", "tool"}),
    "named": lambda body: "tool" in _choice(body),
    "tools_beside": _beside_tools,
    "status": lambda body: any("status" in block.get("toolResult", {}) for block in _all(body)),
    "tools": lambda body: "toolConfig" in body,
    "system": lambda body: "system" in body,
    "sampling": lambda body: bool(body.get("inferenceConfig", {}).keys() & {"temperature", "topP"}),
    "few_tokens": lambda body: body.get("inferenceConfig", {}).get("maxTokens", 16) < 16,
}
