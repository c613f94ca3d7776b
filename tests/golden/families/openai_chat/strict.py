"""The types of openai's SDK, as judges that refuse whatever they do not know, and a table of what servers refuse.

The SDK's types are of OpenAI alone: what another server takes beside them is in :data:`BESIDE`, and what it does not
take of them in :data:`RULES`, each with who says so.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from tests.golden.families.family import Json
from tests.golden.families.sdk_types import strict_adapter

_REQUEST = strict_adapter(CompletionCreateParamsNonStreaming)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
_IDS = {
    "mistral": re.compile(r"[A-Za-z0-9]{9}", re.ASCII),  # "must be a-z, A-Z, 0-9, with a length of 9"
    "kimi": re.compile(r"functions\.[A-Za-z0-9_-]{1,64}:\d+", re.ASCII),
}

#: Members of the body that servers have beside OpenAI's, from their references.
BESIDE = {
    "deepseek": {"thinking"},
    "glm": {"thinking"},
    "kimi": {"thinking"},
    "minimax": {"thinking", "reasoning_split"},
    "openrouter": {"reasoning", "top_k"},
    "qwen": {"enable_thinking", "top_k"},
    "groq": {"reasoning_format", "reasoning_effort"},  # of Qwen's models the word is "default"
    "vllm": {"top_k", "chat_template_kwargs"},
    "llamacpp": {"top_k", "chat_template_kwargs"},
}
#: The same of an assistant's message.
BACK = {
    "deepseek": {"reasoning_content"},
    "glm": {"reasoning_content"},
    "kimi": {"reasoning_content"},
    "minimax": {"reasoning_details"},
    "openrouter": {"reasoning", "reasoning_details"},
    "vllm": {"reasoning", "reasoning_content"},
    "": {"reasoning", "reasoning_content", "reasoning_details"},
}
#: What every server takes: all that one gets of which nothing is known.
LEAST = {
    "model",
    "messages",
    "tools",
    "tool_choice",
    "max_tokens",
    "temperature",
    "top_p",
    "response_format",
    "stream",
    "stream_options",
}
#: Servers that refuse members which they do not know, and those that they know.
ONLY = {
    "mistral": (LEAST - {"stream_options"}) | {"parallel_tool_calls", "stop"},
}


def check_request(body: Json, kind: str) -> None:
    """Raise unless the server called *kind* takes the request, as far as types and reports can tell."""
    mine = {name: value for name, value in body.items() if name not in BESIDE.get(kind, ())}
    messages = [_without_back(message, kind) for message in body["messages"]]
    _REQUEST.validate_python([{**mine, "messages": messages}])
    allowed = ONLY.get(kind, LEAST if not kind and not _is_openais(body["model"]) else set(body))
    assert body.keys() <= allowed, f"unknown there: {body.keys() - allowed}"
    _check_order(body["messages"], kind)
    _check_calls(body["messages"], kind)
    _check_content(body["messages"])
    _check_tools(body)
    assert len(body.get("safety_identifier", "")) <= 64, "more than 64 characters"
    for servers, models, rule, why in RULES:
        if kind in servers and any(fnmatchcase(_bare(body["model"]), glob) for glob in models):
            assert rule(body), why


def _is_openais(model: str) -> bool:
    return re.match(r"gpt-|o\d", _bare(model)) is not None


def _bare(model: str) -> str:
    return model.rpartition("/")[2].lower()


def _without_back(message: Json, kind: str) -> Json:
    """A message as OpenAI would have it: without reasoning, where the server takes that back."""
    made = {name: value for name, value in message.items() if name not in BACK.get(kind, ())}
    if kind == "mistral" and isinstance(made.get("content"), list):
        made["content"] = [part for part in made["content"] if part["type"] != "thinking"]
    return made


# What all servers want.


def _check_order(messages: list[Json], kind: str) -> None:
    roles = [message["role"] for message in messages]
    assert not {"system", "developer"} & set(roles[1:]), "a system prompt that is not the first"
    spoken = [role for role in roles if role not in ("system", "developer")]
    assert spoken[0] == "user", "the assistant begins"
    for before, after in itertools.pairwise(spoken):
        assert before != after or before == "tool", "two turns of one role"
        assert after != "tool" or before in ("assistant", "tool"), "a result of no call"
        assert (before, after) != ("tool", "user") or kind != "mistral", "Unexpected role 'user' after role 'tool'"


def _check_calls(messages: list[Json], kind: str) -> None:
    waiting: list[str] = []
    seen: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            assert waiting, "a result of no call"
            assert message["tool_call_id"] == waiting.pop(0), "results in another order than the calls"
            continue
        assert not waiting, "a call without its result"
        for call in message.get("tool_calls", []):
            pattern = _IDS.get(kind, _ID)
            assert pattern.fullmatch(call["id"]), f"an id that is refused: {call['id']}"
            assert call["id"] not in seen, "an id twice"
            assert _NAME.fullmatch(call["function"]["name"]), "a name that is refused"
            assert isinstance(json.loads(call["function"]["arguments"]), dict), "arguments that are no object"
            seen.add(call["id"])
            waiting.append(call["id"])
        assert "tool_calls" not in message or message["tool_calls"], "an empty list of calls"
    assert not waiting, "a call without its result"


def _check_content(messages: list[Json]) -> None:
    for message in messages:
        content = message.get("content")
        if content is None:
            assert message.get("tool_calls"), "a message of nothing"
            continue
        assert content, "an empty message"
        for part in content if isinstance(content, list) else ():
            assert part.get("text", "x"), "an empty text"
            assert part["type"] in ("text", "thinking") or message["role"] == "user", "an image that no user sends"
            if part["type"] == "image_url":
                url = part["image_url"]["url"]
                assert re.match(r"https://|data:image/(png|jpeg|gif|webp);base64,", url), "no image"
            if part["type"] == "file":
                assert re.match(r"https://|data:application/pdf;base64,", part["file"]["file_data"]), "no PDF"


def _check_tools(body: Json) -> None:
    names = [tool["function"]["name"] for tool in body.get("tools", [])]
    assert len(names) == len(set(names)), "one name twice"
    assert all(map(_NAME.fullmatch, names)), "a name that is refused"
    choice = body.get("tool_choice")
    assert choice is None or names, "a choice of no tool"
    assert not isinstance(choice, dict) or choice["function"]["name"] in names, "a choice of a tool that is not there"
    assert "tools" not in body or names, "an empty list of tools"
    for tool in body.get("tools", []):
        assert tool.keys() == {"type", "function"}, "members of another protocol"
        assert not tool["function"].get("strict"), "a client's strict with a schema that may be unfit"
        schema = tool["function"]["parameters"]
        assert schema.get("type") == "object", "parameters that are no object"
        assert not {"anyOf", "oneOf", "allOf", "enum", "not"} & schema.keys(), "a choice at the top"
        for each in _schemas(schema):
            if each.get("type") == "object" and not {"$ref", "anyOf", "oneOf", "allOf", "enum"} & each.keys():
                assert "properties" in each, "object schema missing properties"
            if each.get("type") == "array" and not {"prefixItems", "anyOf", "oneOf", "allOf", "enum"} & each.keys():
                assert "items" in each, "array schema missing items"


def _schemas(schema: Any) -> Iterator[Json]:
    if not isinstance(schema, dict):
        return
    yield schema
    for name in ("properties", "$defs", "definitions", "patternProperties"):
        for each in (schema.get(name) or {}).values():
            yield from _schemas(each)
    for name in ("items", "additionalProperties", "not"):
        yield from _schemas(schema.get(name))
    for name in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(name) or []:
            yield from _schemas(each)


# What some servers and models refuse.


def _lacks(*names: str) -> Callable[[Json], bool]:
    return lambda body: not set(names) & body.keys()


def _parts(body: Json, *kinds: str) -> bool:
    """Whether no message has a part of these types."""
    contents = [message["content"] for message in body["messages"] if isinstance(message.get("content"), list)]
    return not any(part["type"] in kinds for content in contents for part in content)


def _efforts(*efforts: str) -> Callable[[Json], bool]:
    return lambda body: body.get("reasoning_effort", efforts[0]) in efforts


def _thinks(body: Json) -> bool:
    return body.get("thinking", {}).get("type", "enabled") == "enabled"


def _has_its_reasoning(body: Json) -> bool:
    return not _thinks(body) or all(
        message.get("reasoning_content") for message in body["messages"] if message.get("tool_calls")
    )


def _choice(*choices: str) -> Callable[[Json], bool]:
    return lambda body: body.get("tool_choice", "auto") in choices


_OPENAI = ("openai", "azure", "")
_REASONING = ("o1*", "o3*", "o4*", "gpt-5", "gpt-5-*", "gpt-5.*", "gpt-6*")
RULES: tuple[tuple[tuple[str, ...], tuple[str, ...], Callable[[Json], bool], str], ...] = (
    # OpenAI's reference; "Unsupported parameter"
    (_OPENAI, _REASONING, _lacks("max_tokens"), "use 'max_completion_tokens' instead"),
    (_OPENAI, _REASONING, _lacks("stop", "presence_penalty", "frequency_penalty"), "not with this model"),
    (
        _OPENAI,
        _REASONING,
        lambda body: "chat" in body["model"] or _lacks("temperature", "top_p")(body),
        "only the default (1) value is supported",
    ),
    (_OPENAI, ("gpt-4*", "gpt-3.5*", "gpt-5-chat*"), _lacks("reasoning_effort"), "Unrecognized argument supplied"),
    (("openai", "azure"), ("*",), lambda body: len(body.get("stop", [])) <= 4, "more than 4 stop sequences"),
    (
        ("openai", "azure"),
        ("gpt-4o*",),
        lambda b: b.get("max_completion_tokens", 0) <= 16_384,
        "max_tokens is too large",
    ),
    (("openai", "azure"), ("o1*", "o3*", "o4*"), _efforts("low", "medium", "high"), "no such effort"),
    (("openai", "azure"), ("o1*", "o3*", "o4*"), _lacks("parallel_tool_calls"), "not with this model"),
    (("openai", "azure"), ("gpt-5", "gpt-5-mini*"), _efforts("minimal", "low", "medium", "high"), "no such effort"),
    (("openai", "azure"), ("gpt-5.1",), _efforts("none", "low", "medium", "high"), "no such effort"),
    (
        ("openai", "azure"),
        ("gpt-5.[4-9]*",),
        lambda body: "tools" not in body or body.get("reasoning_effort") == "none",
        "Function tools with reasoning_effort are not supported in /v1/chat/completions",
    ),
    (("openai",), ("o1-mini*",), lambda body: body["messages"][0]["role"] == "user", "no system role"),
    (("azure",), ("*",), lambda body: _parts(body, "file"), "no files"),
    # gpt-oss, wherever it is served
    (("groq", "vllm", "ollama", ""), ("gpt-oss*",), _efforts("low", "medium", "high"), "no such effort"),
    # DeepSeek's guide to thinking, and its errors
    (("deepseek",), ("*",), _has_its_reasoning, "Missing `reasoning_content` field in the assistant message"),
    (("deepseek",), ("*",), lambda body: _parts(body, "image_url", "file"), "unknown variant `image_url`"),
    (
        ("deepseek", "glm"),
        ("*",),
        lambda body: body.get("response_format", {}).get("type", "json_object") == "json_object",
        "This response_format type is unavailable now",
    ),
    (("deepseek",), ("deepseek-reasoner*",), _choice("auto", "none"), "does not support this tool_choice"),
    (("deepseek",), ("deepseek-chat",), lambda body: body.get("max_tokens", 0) <= 8_192, "Invalid max_tokens value"),
    (
        ("deepseek",),
        ("deepseek-v*",),
        lambda body: not _thinks(body) or _choice("auto", "none")(body),
        "Thinking mode does not support this tool_choice",
    ),
    # z.ai: "currently only auto is supported"
    (("glm",), ("*",), _choice("auto"), "only auto"),
    (("glm",), ("glm-4.6", "glm-5"), lambda body: _parts(body, "image_url"), "no images"),
    # Moonshot
    (("kimi",), ("kimi-k2.[5-9]*",), _lacks("temperature", "top_p", "reasoning_effort"), "invalid temperature"),
    (("kimi",), ("kimi-k2.[5-9]*",), _has_its_reasoning, "thinking is enabled but reasoning_content is missing"),
    (
        ("kimi",),
        ("kimi-k2.[5-9]*",),
        lambda body: not _thinks(body) or _choice("auto", "none")(body),
        "tool_choice is incompatible with thinking enabled",
    ),
    # MiniMax's reference has neither
    (("minimax",), ("*",), _lacks("tool_choice", "response_format", "parallel_tool_calls"), "not in the reference"),
    (("minimax",), ("*",), lambda body: body.get("reasoning_split") is True, "thoughts in the text"),
    # Alibaba: "must be auto or none in thinking mode"
    (("qwen",), ("*",), lambda body: not body.get("enable_thinking") or _choice("auto", "none")(body), "forced"),
    # Groq
    (("groq",), ("qwen*",), _efforts("none", "default"), "no such effort"),
    (("groq",), ("qwen*",), lambda body: body.get("reasoning_format") == "parsed", "raw reasoning beside tools"),
    (("groq",), ("gpt-oss*",), _lacks("reasoning_format"), "not with this model"),
    # xAI
    (("xai",), ("grok-4*",), _lacks("reasoning_effort", "stop"), "Model does not support parameter reasoningEffort"),
)


# Answers.

_CHUNK = {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier", "provider"}
_CHUNK |= {"prompt_filter_results", "obfuscation", "x_groq", "nvext"}
_CHOICE = {"index", "delta", "message", "finish_reason", "native_finish_reason", "logprobs", "stop_reason", "usage"}
_CHOICE |= {"content_filter_results", "content_filter_offsets", "token_ids"}
_DELTA = {"role", "content", "refusal", "tool_calls", "reasoning_content", "reasoning", "reasoning_details", "images"}
_DELTA |= {"annotations", "audio", "function_call"}


def check_chunk(chunk: Json) -> None:
    """Raise for a member that nobody was seen to send."""
    assert chunk.keys() <= _CHUNK, chunk.keys() - _CHUNK
    for choice in chunk.get("choices") or []:
        assert choice.keys() <= _CHOICE, choice.keys() - _CHOICE
        for said in (choice.get("delta"), choice.get("message")):
            assert (said or {}).keys() <= _DELTA, (said or {}).keys() - _DELTA
