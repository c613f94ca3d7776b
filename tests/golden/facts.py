"""The facts of both sides, read straight from the JSON of either protocol; shares no code with the daemon.

What a Claude body says has to be in the Gemini body, and nothing else; the same for answers. Facts are plain tuples,
so that a difference reads as one. What the rules let go is not a fact: cache marks, the billing header, redacted or
foreign thoughts, empty texts. Texts are compared apart from the rest, as translators wrap and join them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Json = dict[str, Any]
Fact = tuple[Any, ...]

#: What the daemon may put around a client's words without the case saying so.
OWN_WORDS = ("<system-reminder>", "</system-reminder>")
_MINTED = "cpxd1.google."
_FITS = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}", re.ASCII)


def digest(data: str) -> str:
    """Of base64, however it is padded or spelt."""
    plain = data.replace("-", "+").replace("_", "/").rstrip("=")
    return hashlib.sha256(base64.b64decode(plain + "=" * (-len(plain) % 4))).hexdigest()[:16]


def ordered(value: Any) -> str:
    """JSON of the client's own: its members' order is a fact too, for models write arguments in it."""
    return json.dumps(value, ensure_ascii=False)


class Names:
    """Whether tools' names are mapped one to one, and left alone where they fit."""

    def __init__(self) -> None:
        self._there: dict[str, str] = {}
        self._back: dict[str, str] = {}

    def same(self, claude: str, gemini: str) -> bool:
        """Note and judge one pair."""
        if not _FITS.fullmatch(gemini) or (_FITS.fullmatch(claude) and claude != gemini):
            return False
        return self._there.setdefault(claude, gemini) == gemini and self._back.setdefault(gemini, claude) == claude


# Requests.


def compare_requests(claude: Json, gemini: Json, own_words: Iterable[str] = ()) -> None:
    """Raise AssertionError for what one says and the other does not."""
    _compare_texts(list(claude_texts(claude)), list(gemini_texts(gemini)), [*own_words, *OWN_WORDS])
    names = Names()
    _compare(list(claude_facts(claude)), list(gemini_facts(gemini)), names)
    _compare(sorted(claude_tools(claude)), sorted(gemini_tools(gemini)), names)
    _compare(list(claude_wishes(claude)), list(gemini_wishes(gemini)), names)


def _compare(claude: Sequence[Fact], gemini: Sequence[Fact], names: Names) -> None:
    told = f"\nClaude: {claude}\nGemini: {gemini}"
    assert [len(fact) for fact in claude] == [len(fact) for fact in gemini], told
    for one, other in zip(claude, gemini, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            both_names = isinstance(mine, _Name) and isinstance(theirs, _Name)
            assert names.same(mine, theirs) if both_names else mine == theirs, told


class _Name(str):
    """A tool's name, compared by :class:`Names`."""


def _compare_texts(claude: Sequence[tuple[str, str]], gemini: Sequence[tuple[str, str]], own: Sequence[str]) -> None:
    """Every text of the client's is there, by the same speaker, in the same order; what is left is the daemon's own."""
    rest: list[str] = []
    waiting = list(claude)
    for speaker, text in gemini:
        while waiting and waiting[0][0] == speaker and waiting[0][1] in text:
            before, _, text = text.partition(waiting.pop(0)[1])
            rest.append(before)
        rest.append(text)
    assert not waiting, f"missing or out of order: {waiting[0]}\nin {gemini}"
    left = "\n".join(rest)
    for words in own:
        left = left.replace(words, "")
    assert not left.strip(), f"said by nobody: {left.strip()!r}"


def claude_texts(body: Json) -> Iterator[tuple[str, str]]:
    """Who said what, outside of tool results."""
    system = body.get("system", [])
    for block in [{"text": system}] if isinstance(system, str) else system:
        if block["text"].strip() and not block["text"].startswith("x-anthropic-billing-header"):
            yield "system", block["text"]
    for message in body["messages"]:
        speaker = "model" if message["role"] == "assistant" else "user"
        for block in _blocks(message["content"]):
            for text in _texts_of(block):
                if text.strip():
                    yield speaker, text


def _texts_of(block: Json) -> Iterator[str]:
    """The words of a block that the model is to read as text."""
    match block["type"]:
        case "text":
            yield block["text"]
        case "document" if block["source"]["type"] == "text":
            yield from filter(None, (block.get("title"), block.get("context"), block["source"]["data"]))
        case "document" if block["source"]["type"] == "content":
            yield from filter(None, (block.get("title"), block.get("context")))
            yield from (inner["text"] for inner in _blocks(block["source"]["content"]) if inner["type"] == "text")
        case "search_result":
            yield from (block["title"], block["source"])
            yield from (inner["text"] for inner in block["content"])


def gemini_texts(body: Json) -> Iterator[tuple[str, str]]:
    """Who said what, outside of function responses and thoughts."""
    for part in body.get("systemInstruction", {}).get("parts", []):
        yield "system", part["text"]
    for content in body["contents"]:
        for part in content["parts"]:
            if part.get("text") and not part.get("thought"):
                yield content["role"], part["text"]


def claude_facts(body: Json) -> Iterator[Fact]:
    """Calls, results, media and thoughts, in order; results of one turn in the order of the calls."""
    calls: dict[str, tuple[int, str]] = {}
    for message in body["messages"]:
        results: list[tuple[int, list[Fact]]] = []
        others: list[Fact] = []
        for block in _blocks(message["content"]):
            match block["type"]:
                case "tool_use":
                    calls[block["id"]] = len(calls), block["name"]
                    others.append(("call", _Name(block["name"]), ordered(block["input"])))
                case "tool_result" if block["tool_use_id"] in calls:
                    number, name = calls[block["tool_use_id"]]
                    results.append((number, list(_claude_result(block, name))))
                case "image" | "document":
                    others.extend(_claude_media(block))
                case "thinking" if block["signature"].startswith(_MINTED):
                    signature = block["signature"].removeprefix(_MINTED)
                    others.append(("thought", block["thinking"], digest(signature)))
        for _, facts in sorted(results, key=lambda result: result[0]):
            yield from facts
        yield from others


def _claude_result(block: Json, name: str) -> Iterator[Fact]:
    content = block.get("content") or []
    texts = [text for inner in _blocks(content) for text in _texts_of(inner) if text]
    yield "error" if block.get("is_error") else "output", _Name(name), " ".join("\n".join(texts).split())
    for inner in _blocks(content):
        if inner["type"] in ("image", "document"):
            yield from _claude_media(inner)


def _claude_media(block: Json) -> Iterator[Fact]:
    source = block["source"]
    if source["type"] == "base64":
        yield "data", source["media_type"], digest(source["data"])
    elif source["type"] == "url":
        yield "link", source["url"]
    elif source["type"] == "content":
        for inner in _blocks(source["content"]):
            if inner["type"] == "image":
                yield from _claude_media(inner)


def gemini_facts(body: Json) -> Iterator[Fact]:
    """The same of a Gemini body."""
    for content in body["contents"]:
        for part in content["parts"]:
            if "functionCall" in part:
                yield "call", _Name(part["functionCall"]["name"]), ordered(part["functionCall"].get("args", {}))
            elif "functionResponse" in part:
                response = part["functionResponse"]
                assert len(response["response"]) == 1, "one of output and error"
                ((kind, said),) = response["response"].items()
                yield kind, _Name(response["name"]), " ".join(said.split())
                for inner in response.get("parts", []):
                    yield from _gemini_media(inner)
            elif part.get("thought"):
                yield "thought", part["text"], digest(part.get("thoughtSignature", ""))
            else:
                yield from _gemini_media(part)


def _gemini_media(part: Json) -> Iterator[Fact]:
    if "inlineData" in part:
        yield "data", part["inlineData"]["mimeType"], digest(part["inlineData"]["data"])
    elif "fileData" in part:
        yield "link", part["fileData"]["fileUri"]


def claude_tools(body: Json) -> Iterator[Fact]:
    """Client tools with a schema of their own that the model may call from the start."""
    for tool in body.get("tools", []):
        if "input_schema" in tool and not tool.get("defer_loading"):
            yield "tool", _Name(tool["name"]), tool.get("description", "")


def gemini_tools(body: Json) -> Iterator[Fact]:
    """Declared functions."""
    for tool in body.get("tools", []):
        for each in tool.get("functionDeclarations", []):
            yield "tool", _Name(each["name"]), each.get("description", "")


def claude_wishes(body: Json) -> Iterator[Fact]:
    """How the answer is to be made."""
    for name in ("temperature", "top_p", "top_k"):
        yield name, body.get(name)
    yield "stop", tuple(sequence for sequence in body.get("stop_sequences", []) if sequence)[:5]
    choice = body.get("tool_choice", {"type": "auto"})
    kind = {"auto": "AUTO", "any": "ANY", "tool": "ANY", "none": "NONE"}[choice["type"]]
    yield "choice", kind, _Name(choice["name"]) if "name" in choice else ""


def gemini_wishes(body: Json) -> Iterator[Fact]:
    """The same of a Gemini body."""
    config = body.get("generationConfig", {})
    for name in ("temperature", "topP", "topK"):
        yield {"topP": "top_p", "topK": "top_k"}.get(name, name), config.get(name)
    yield "stop", tuple(config.get("stopSequences", []))
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    allowed = calling.get("allowedFunctionNames", [])
    yield "choice", calling.get("mode", "AUTO"), _Name(allowed[0]) if allowed else ""


def _blocks(content: str | list[Json]) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


# Answers.


def compare_answers(chunks: Sequence[Json], message: Json) -> None:
    """Raise AssertionError for what one says and the other does not."""
    gemini, claude = dict(_gemini_answer(chunks)), dict(_claude_answer(message))
    stopped = message["stop_reason"] == "stop_sequence"
    if stopped:
        assert gemini["text"].startswith(claude["text"] + message["stop_sequence"]), (gemini["text"], claude["text"])
    if stopped or message["stop_reason"] == "refusal":  # the rest is cut off, or stands in stop_details
        return
    told = {fact: value for fact, value in claude.items() if fact in gemini}  # the rest are estimates
    assert gemini == told, f"\nGemini: {gemini}\nClaude: {claude}"


def _gemini_answer(chunks: Sequence[Json]) -> Iterator[tuple[str, Any]]:
    parts = [
        part
        for chunk in chunks
        for candidate in chunk.get("candidates", [])
        if candidate.get("index", 0) == 0
        for part in candidate.get("content", {}).get("parts", [])
    ]
    yield "text", "".join(part["text"] for part in parts if part.get("text") and not part.get("thought"))
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    yield "calls", [ordered(call.get("args", {})) for call in calls]
    usage: Json = {}
    for chunk in chunks:
        usage.update(chunk.get("usageMetadata", {}))
    if "promptTokenCount" in usage:
        cached = usage.get("cachedContentTokenCount", 0)
        yield "input", usage["promptTokenCount"] - cached + usage.get("toolUsePromptTokenCount", 0)
        yield "cached", cached
    if "candidatesTokenCount" in usage or "thoughtsTokenCount" in usage:
        yield "output", usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)


def _claude_answer(message: Json) -> Iterator[tuple[str, Any]]:
    content = message["content"]
    yield "text", "".join(block["text"] for block in content if block["type"] == "text")
    yield "calls", [ordered(block["input"]) for block in content if block["type"] == "tool_use"]
    usage = message["usage"]
    yield "input", usage["input_tokens"]
    yield "cached", usage.get("cache_read_input_tokens", 0)
    yield "output", usage["output_tokens"]
