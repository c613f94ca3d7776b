"""The types of google-genai, as judges that refuse whatever they do not know."""

from __future__ import annotations

import base64
import itertools
from typing import Any

from google.genai import models, types
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class _Envelope(BaseModel):
    """The top level of generateContent; the SDK has no type of its own for it."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    contents: list[types.Content]
    system_instruction: types.Content | None = None
    tools: list[types.Tool] | None = None
    tool_config: types.ToolConfig | None = None
    generation_config: types.GenerationConfig | None = None
    safety_settings: list[types.SafetySetting] | None = None


#: The SDK's own converters of each member: they refuse what the one API has and the other has not.
_CONVERTERS = {
    False: {
        "contents": models._Content_to_mldev,
        "tools": models._Tool_to_mldev,
        "tool_config": models._ToolConfig_to_mldev,
        "safety_settings": models._SafetySetting_to_mldev,
    },
    True: {
        "contents": models._Content_to_vertex,
        "tools": models._Tool_to_vertex,
        "tool_config": models._ToolConfig_to_vertex,
    },
}
_ONE_OF = ("text", "inlineData", "fileData", "functionCall", "functionResponse", "toolCall", "toolResponse")
_OF_THE_MODEL = {"functionCall", "toolCall", "toolResponse", "thought", "thoughtSignature"}
#: Members whose inside is the client's own JSON.
_FREE = {"args", "response", "parametersJsonSchema", "responseJsonSchema", "properties"}


def check_request(body: dict[str, Any], on_vertex: bool) -> None:
    """Raise unless it is a request that Google's API takes as far as types can tell, and said in camelCase."""
    parsed = _Envelope.model_validate(body)
    _check_enums(parsed)
    _check_names(body)
    for name, convert in _CONVERTERS[on_vertex].items():
        value = getattr(parsed, name)
        for each in value if isinstance(value, list) else filter(None, [value]):
            convert(each)
    contents = body["contents"]
    assert contents, "no contents"
    assert contents[0]["role"] == "user", "the model begins"
    for before, after in itertools.pairwise(contents):
        assert before["role"] != after["role"] or _has_results(before), "two turns of one role"
    for content in contents:
        assert content["parts"], "a turn without parts"
        alone = all("functionResponse" in part for part in content["parts"])
        assert alone or not _has_results(content), "results are not alone"  # Gemini 3.6 Flash refuses it on Vertex
        for part in content["parts"]:
            _check_part(part, content["role"])
    for part in body.get("systemInstruction", {}).get("parts", []):
        assert part.keys() == {"text"}, "the system prompt is text"
        assert part["text"], "an empty text"
    _check_calls(contents)
    _check_tools(body)
    thinking = body.get("generationConfig", {}).get("thinkingConfig", {})
    assert not {"thinkingBudget", "thinkingLevel"} <= thinking.keys(), "both a budget and a level"
    config = body.get("generationConfig", {})
    assert len(config.get("stopSequences", [])) <= 5, "more than 5 stop sequences"
    assert isinstance(config.get("topK", 0), int), "topK is a whole number on the wire"


def check_answer_chunk(chunk: dict[str, Any]) -> None:
    """Raise unless it is a GenerateContentResponse of known members."""
    types.GenerateContentResponse.model_validate(chunk)
    _check_names(chunk)


def _check_enums(value: Any) -> None:
    """The SDK's enums take in any word; only those it knows are members that have a documented meaning."""
    if isinstance(value, BaseModel):
        for name in value.model_fields_set:
            member = getattr(value, name)
            if isinstance(member, types._common.CaseInSensitiveEnum):
                assert member in list(type(member)), f"{name}: {member}"
            _check_enums(member)
    elif isinstance(value, list):
        for member in value:
            _check_enums(member)


def _check_names(value: Any) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            assert "_" not in name, f"{name} is not camelCase"
            if name not in _FREE:
                _check_names(member)
    elif isinstance(value, list):
        for member in value:
            _check_names(member)


def _check_part(part: dict[str, Any], role: str) -> None:
    kinds = [name for name in _ONE_OF if name in part]
    assert len(kinds) == 1, f"a part with {kinds or 'nothing'}"
    if kinds == ["text"]:
        assert part["text"] or "thoughtSignature" in part, "an empty text"
    assert role == "model" or not part.keys() & _OF_THE_MODEL, "said by a user"
    assert "toolCall" not in part or "thoughtSignature" in part, "Google's own call without its signature"
    assert role == "user" or "functionResponse" not in part, "a result that the model gives"
    for each in (part, *part.get("functionResponse", {}).get("parts", [])):
        if "fileData" in each:
            assert each["fileData"].keys() == {"mimeType", "fileUri"}, "Vertex wants the type of what it fetches"
    if "thoughtSignature" in part:
        base64.b64decode(part["thoughtSignature"].replace("-", "+").replace("_", "/"), validate=True)


def _has_results(content: dict[str, Any]) -> bool:
    return any("functionResponse" in part for part in content["parts"])


def _check_calls(contents: list[dict[str, Any]]) -> None:
    """Google refuses a turn of results that does not answer, one for one and in order, the calls before it."""
    for at, content in enumerate(contents):
        calls = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
        after = contents[at + 1]["parts"] if at + 1 < len(contents) else []
        results = [part["functionResponse"] for part in after if "functionResponse" in part]
        if calls:
            told = [(each["name"], each.get("id")) for each in results]
            assert [(each["name"], each.get("id")) for each in calls] == told, "calls and results differ"
        elif content["role"] == "model":
            assert not results, "results of no call"


def _check_tools(body: dict[str, Any]) -> None:
    declared = [each for tool in body.get("tools", []) for each in tool.get("functionDeclarations", [])]
    names = [each["name"] for each in declared]
    assert len(names) == len(set(names)), "one name twice"
    for each in declared:
        assert not {"parameters", "parametersJsonSchema"} <= each.keys(), "two forms of one schema"
    parts = [part for content in body["contents"] for part in content["parts"]]
    circulates = body.get("toolConfig", {}).get("includeServerSideToolInvocations")
    calls, responses = ([part[name]["id"] for part in parts if name in part] for name in ("toolCall", "toolResponse"))
    assert circulates or not calls, "Google's own calls where it does not take them"
    assert calls == responses, "a search without its response"
    allowed = body.get("toolConfig", {}).get("functionCallingConfig", {}).get("allowedFunctionNames", [])
    assert set(allowed) <= set(names), "an allowed function that is not declared"
    assert all(tool for tool in body.get("tools", [])), "an empty tool"
