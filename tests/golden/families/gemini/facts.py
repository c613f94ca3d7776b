"""The facts of Google's side, read straight from the JSON of generateContent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from tests.golden.digests import digest
from tests.golden.families.family import Fact, Json, Name, ordered


def texts(body: Json) -> Iterator[tuple[str, str]]:
    """See the protocol."""
    for part in body.get("systemInstruction", {}).get("parts", []):
        yield "system", part["text"]
    results = itertools.count()
    for content in body["contents"]:
        for part in content["parts"]:
            if part.get("text") and not part.get("thought"):
                yield content["role"], part["text"]
            if "functionResponse" in part:
                (said,) = part["functionResponse"]["response"].values()
                yield f"result {next(results)}", said


def calls(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for content in body["contents"]:
        for part in content["parts"]:
            if "functionCall" in part:
                yield "call", Name(part["functionCall"]["name"]), ordered(part["functionCall"].get("args", {}))
            elif "functionResponse" in part:
                response = part["functionResponse"]
                (kind,) = response["response"]
                yield kind, Name(response["name"]), response["id"]
            elif part.get("thought") and part["text"]:
                yield "thought", part["text"]
            elif "toolCall" in part or "toolResponse" in part:
                yield "search", part


def media(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for content in body["contents"]:
        for part in content["parts"]:
            for each in (part, *part.get("functionResponse", {}).get("parts", [])):
                if "inlineData" in each:
                    yield "data", each["inlineData"]["mimeType"], digest(each["inlineData"]["data"])
                elif "fileData" in each:
                    yield "link", each["fileData"]["fileUri"]


def signatures(body: Json) -> Iterator[str]:
    """See the protocol."""
    for content in body["contents"]:
        for part in content["parts"]:
            if "thoughtSignature" in part:
                yield part["thoughtSignature"]


def tools(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    for tool in body.get("tools", []):
        for each in tool.get("functionDeclarations", []):
            schema = each.get("parametersJsonSchema") or each.get("parameters") or {}
            yield "tool", Name(each["name"]), each.get("description", ""), sorted(schema.get("properties", {}))


def wishes(body: Json) -> Iterator[Fact]:
    """See the protocol."""
    config = body.get("generationConfig", {})
    for name in ("temperature", "topP", "topK"):
        yield {"topP": "top_p", "topK": "top_k"}.get(name, name), config.get(name)
    yield "stop", tuple(config.get("stopSequences", []))
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    allowed = calling.get("allowedFunctionNames", [])
    yield "choice", calling.get("mode", "AUTO").lower(), Name(allowed[0]) if allowed else ""
    yield "search", any("googleSearch" in tool for tool in body.get("tools", []))


def pages(chunks: Sequence[Json]) -> Iterator[str]:
    """See the protocol."""
    for candidate in (candidate for chunk in chunks for candidate in chunk.get("candidates", [])):
        for found in candidate.get("groundingMetadata", {}).get("groundingChunks", []):
            yield found.get("web", {}).get("uri", "")
        for members in candidate.get("citationMetadata", {}).values():
            yield from (cited.get("uri", "") for cited in members)


def parts_of(chunks: Sequence[Json]) -> Iterator[Json]:
    """The parts of the first candidate."""
    for chunk in chunks:
        for candidate in chunk.get("candidates", []):
            if candidate.get("index", 0) == 0:
                yield from candidate.get("content", {}).get("parts", [])


def answer(chunks: Sequence[Json]) -> Iterator[tuple[str, Any]]:
    """See the protocol."""
    parts = list(parts_of(chunks))
    yield "text", "".join(_readable(part) for part in parts if not part.get("thought"))
    yield "thoughts", "".join(part["text"] for part in parts if part.get("text") and part.get("thought"))
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    yield "calls", [ordered(call.get("args", {})) for call in calls]
    yield "searches", [part for part in parts if "toolCall" in part or "toolResponse" in part]
    usage: Json = {}
    for chunk in chunks:
        usage.update(chunk.get("usageMetadata", {}))
    if "promptTokenCount" in usage:
        cached = usage.get("cachedContentTokenCount", 0)
        yield "input", usage["promptTokenCount"] - cached + usage.get("toolUsePromptTokenCount", 0)
        yield "cached", cached
    if "candidatesTokenCount" in usage or "thoughtsTokenCount" in usage:
        candidates, thoughts = usage.get("candidatesTokenCount", 0), usage.get("thoughtsTokenCount", 0)
        rest = usage.get("totalTokenCount", 0) - usage.get("promptTokenCount", 0)
        within = rest - usage.get("toolUsePromptTokenCount", 0) == candidates
        yield "output", candidates if within else candidates + thoughts
    if "thoughtsTokenCount" in usage:
        yield "thinking", usage["thoughtsTokenCount"]


def _readable(part: Json) -> str:
    """Return what of a part that is no thought is to be read."""
    for file in (part[name] for name in ("inlineData", "fileData") if name in part):
        return f"[Here the model gave {file['mimeType']}, which an answer of this API cannot hold]"
    return part.get("text") or ""
