"""The facts of both sides, read straight from the JSON of either protocol; shares no code with the daemon.

Those of Claude's side are read here, those of the upstream's by its :class:`~tests.golden.families.family.Family`. What
a Claude body says has to be in the upstream's body, and nothing else; the same for answers. Facts are plain tuples, so
that a difference reads as one. What the rules let go is not a fact: cache marks, the billing header, redacted or
foreign thoughts, empty texts. Texts are compared apart from the rest, as translators wrap and join them.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from tests.golden.digests import digest
from tests.golden.families.family import Fact, Family, Id, Json, Name, ordered

#: What the daemon may put around a client's words without the case saying so.
OWN_WORDS = ("<system-reminder>", "</system-reminder>", "Title:", "Source:", "Context:")
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
#: Changed too, lest it meets a name that was shortened.
_LOOKS_SHORTENED = re.compile(r".*_[0-9a-f]{12}", re.ASCII)


class Names:
    """Whether tools' names are mapped one to one, and left alone where they fit."""

    def __init__(self, family: Family) -> None:
        self._fits = family.tool_name
        self._there: dict[str, str] = {}
        self._back: dict[str, str] = {}

    def same(self, claude: str, upstream: str) -> bool:
        """Note and judge one pair."""
        plain = self._fits.fullmatch(claude) and not _LOOKS_SHORTENED.fullmatch(claude)
        if not self._fits.fullmatch(upstream) or (plain and claude != upstream):
            return False
        return (
            self._there.setdefault(claude, upstream) == upstream and self._back.setdefault(upstream, claude) == claude
        )


# Requests.


def compare_requests(
    family: Family,
    claude: Json,
    upstream: Json,
    *,
    own_words: Iterable[str] = (),
    signatures: Iterable[str] = (),
    lost: Iterable[str] = (),
) -> None:
    """Raise AssertionError for what one says and the other does not.

    :param signatures: those that the client does not bring: remembered ones.
    :param lost: kinds of facts that this model cannot be told.
    """
    mark = family.mark
    if family.takes_records(upstream):
        claude = _with_records(claude, mark)
    if "text" not in lost:
        said = [(by, text) for by, text in claude_texts(claude) if "blank" not in lost or text.strip()]
        if not family.has_system(upstream):  # a model that has none is told it by the user
            said = [("user" if speaker == "system" else speaker, text) for speaker, text in said]
        _compare_texts(said, list(family.texts(upstream)), [*own_words, *OWN_WORDS])
    names = Names(family)
    for read_claude, read_upstream in (
        (partial(claude_calls, mark=mark), family.calls),
        (claude_media, family.media),
        (claude_tools, family.tools),
        (claude_wishes, family.wishes),
    ):
        told = [
            [fact for fact in read if fact[0] not in lost] for read in (read_claude(claude), read_upstream(upstream))
        ]
        if read_claude is claude_tools:  # deferred ones come last
            told = [sorted(facts, key=lambda fact: fact[2]) for facts in told]
        _compare(*told, names)
    if not family.signs:
        return
    brought = {digest(own) for signature in claude_signatures(claude, mark) if (own := _own(family, signature))}
    sent = {digest(signature) for signature in family.signatures(upstream)}
    known = {digest(signature) for signature in signatures}
    assert sent <= brought | known, "a signature that nobody gave"
    assert "thought" in lost or brought <= sent | known, "a signature that is not sent back"


def _own(family: Family, signature: str) -> str:
    """The upstream's own signature in what a minted one bears; '' if there is none in it."""
    unsealed = getattr(family, "unsealed", None)
    return unsealed(signature) if unsealed else signature


def _with_records(body: Json, mark: str) -> Json:
    """The upstream's own record of a search in the place of what Claude's protocol says of it, where there is one."""
    recorded = set()
    messages = []
    for message in body["messages"]:
        blocks: list[Json] = []
        for block in _blocks(message["content"]):
            if (record := _record(block, mark)) is not None:
                recorded.add(block["id"])
                blocks.append({"type": "record", "parts": record})
            elif block.get("tool_use_id") not in recorded:
                blocks.append(block)
        messages.append({**message, "content": blocks})
    return {**body, "messages": messages}


def _record(block: Json, mark: str) -> list[Json] | None:
    """The parts that travel with a search; none with the second of several that ran at a time."""
    sealed = block["input"].get("encrypted_content", "") if block["type"] == "server_tool_use" else ""
    if not sealed.startswith(mark):
        return None
    payload = sealed.removeprefix(mark)
    try:
        parts: list[Json] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)) or "[]")
    except ValueError:
        return None
    return parts


def _compare(claude: Sequence[Fact], upstream: Sequence[Fact], names: Names) -> None:
    told = f"\nClaude: {claude}\nUpstream: {upstream}"
    assert [len(fact) for fact in claude] == [len(fact) for fact in upstream], told
    ids: dict[str, str] = {}
    for one, other in zip(claude, upstream, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            if isinstance(mine, Id) and isinstance(theirs, Id):
                assert ids.setdefault(mine, theirs) == theirs, told
                continue
            both_names = isinstance(mine, Name) and isinstance(theirs, Name)
            assert names.same(mine, theirs) if both_names else mine == theirs, told
    assert len(set(ids.values())) == len(ids), told


def _compare_texts(claude: Sequence[tuple[str, str]], upstream: Sequence[tuple[str, str]], own: Sequence[str]) -> None:
    """Every text is there, by the same speaker, in the same order; what else is there is the daemon's own."""
    for speaker in {speaker for speaker, _ in (*claude, *upstream)}:
        waiting = [text for by, text in claude if by == speaker]
        rest: list[str] = []
        for text in (text for by, text in upstream if by == speaker):
            left = text
            while waiting and (at := _find(waiting[0], left, own)) >= 0:
                rest.append(left[:at])
                left = left[at + len(waiting.pop(0)) :]
            rest.append(left)
        assert not waiting, f"{speaker}: missing or out of order: {waiting[0]!r} in {upstream}"
        over = "\n".join(rest)
        for words in own:
            over = over.replace(words, "")
        assert not over.strip(), f"{speaker}: said by nobody: {over.strip()!r}"


def _find(words: str, text: str, own: Sequence[str]) -> int:
    """Where *words* begin, not within the daemon's own."""
    for each in own:
        if each not in words:
            text = text.replace(each, "\uffff" * len(each))
    return text.find(words)


def claude_texts(body: Json) -> Iterator[tuple[str, str]]:
    """Who said what; each tool result is a speaker of its own, by the number of its call."""
    system = body.get("system", [])
    for block in [{"text": system}] if isinstance(system, str) else system:
        if block["text"] and not block["text"].startswith("x-anthropic-billing-header"):
            yield "system", block["text"]
    calls: list[str] = []
    for number, message in enumerate(body["messages"]):
        later = (after["role"] for after in body["messages"][number + 1 :])
        if message.get("clear_at") == "next_user_message" and "user" in later:
            continue
        speaker = "model" if message["role"] == "assistant" else "user"
        for block in _blocks(message["content"]):
            if block["type"] == "tool_use":
                calls.append(block["id"])
            by, held = speaker, [block]
            if block["type"] == "tool_result":
                by, held = f"result {calls.index(block['tool_use_id'])}", _blocks(block.get("content") or [])
            for text in (text for each in held for text in _texts_of(each)):
                if text:
                    yield by, text


def _texts_of(block: Json) -> Iterator[str]:
    """The words of a block that the model is to read as text."""
    match block["type"]:
        case "text":
            yield block["text"]
            for citation in block.get("citations") or []:
                yield from filter(None, (citation.get("title"), citation.get("url")))
        case "document" if block["source"]["type"] in ("text", "content"):
            source = block["source"]
            yield from filter(None, (block.get("title"), block.get("context"), source.get("data")))
            yield from (inner["text"] for inner in _blocks(source.get("content", [])) if inner["type"] == "text")
        case "document":
            yield from filter(None, (block.get("context"), block.get("title")))
        case "search_result":
            yield from (block["title"], block["source"])
            yield from (inner["text"] for inner in block["content"])
        case "server_tool_use":
            yield block["name"]
            yield from (
                value
                for name, value in block["input"].items()
                if isinstance(value, str) and name != "encrypted_content"
            )
        case "web_search_tool_result" if isinstance(block["content"], list):
            for found in block["content"]:
                yield from (value for name, value in found.items() if name in ("title", "url"))
        case "tool_reference":
            yield block["tool_name"]


def claude_calls(body: Json, mark: str) -> Iterator[Fact]:
    """Calls, results and thoughts, in order; results of one turn in the order of the calls."""
    calls: dict[str, tuple[int, str]] = {}
    results: list[tuple[int, Fact]] = []
    for message in body["messages"]:
        if message["role"] == "assistant":
            yield from (fact for _, fact in sorted(results))
            results.clear()
        for block in _blocks(message["content"]):
            match block["type"]:
                case "tool_use":
                    calls[block["id"]] = len(calls), block["name"]
                    yield "call", Name(block["name"]), ordered(block["input"])
                case "tool_result":
                    number, name = calls[block["tool_use_id"]]
                    kind = "error" if block.get("is_error") else "output"
                    results.append((number, (kind, Name(name), Id(block["tool_use_id"]))))
                case "thinking" if block.get("signature", "").startswith(mark) and block["thinking"]:
                    yield "thought", block["thinking"]
                case "record":
                    yield from (("search", part) for part in block["parts"])
    yield from (fact for _, fact in sorted(results))


def claude_media(body: Json) -> Iterator[Fact]:
    """Images and PDFs: those of results first, as results lead their turn."""
    for role, messages in itertools.groupby(body["messages"], lambda message: message["role"] == "assistant"):
        blocks = [block for message in messages for block in _blocks(message["content"])]
        results = [block for block in blocks if block["type"] == "tool_result"]
        if not role:
            yield from (fact for block in _in_order(body, results) for fact in _media_of(block))
        yield from (fact for block in blocks if block not in results for fact in _media_of(block))


def _in_order(body: Json, results: list[Json]) -> list[Json]:
    calls = [b["id"] for m in body["messages"] for b in _blocks(m["content"]) if b["type"] == "tool_use"]
    return sorted(results, key=lambda block: calls.index(block["tool_use_id"]))


def _media_of(block: Json) -> Iterator[Fact]:
    if block["type"] == "tool_result":
        for inner in _blocks(block.get("content") or []):
            yield from _media_of(inner)
    elif block["type"] in ("image", "document"):
        source = block["source"]
        match source["type"]:
            case "base64":
                yield "data", source["media_type"], digest(source["data"])
            case "url":
                yield "link", source["url"]
            case "content":
                for inner in _blocks(source["content"]):
                    yield from _media_of(inner)


def claude_signatures(body: Json, mark: str) -> Iterator[str]:
    """The upstream's own, that the client brings back."""
    for message in body["messages"]:
        for block in _blocks(message["content"]):
            signature = block.get("signature", "")
            if signature.startswith(mark) and signature != mark:
                yield signature.removeprefix(mark)
            for part in block.get("parts", ()):
                yield from filter(None, [part.get("thoughtSignature")])


def claude_tools(body: Json) -> Iterator[Fact]:
    """Tools with a schema of their own that are on offer by the end; those of the documentation have no facts here."""
    tools = {tool["name"]: tool for tool in body.get("tools", []) if "name" in tool}
    offered = {name: not tool.get("defer_loading") for name, tool in tools.items()}
    for block in (block for message in body["messages"] for block in _blocks(message["content"])):
        for inner in [block, *_blocks(block.get("content") or [])] if block["type"] == "tool_result" else [block]:
            match inner:
                case {"type": "tool_reference", "tool_name": name}:
                    offered[name] = True
                case {"type": "tool_addition", "tool": {"definition": tool}}:
                    tools[tool["name"]], offered[tool["name"]] = tool, True
                case {"type": "tool_addition" | "tool_removal" as change, "tool": {"name": name}}:
                    offered[name] = change == "tool_addition"
    for name, tool in tools.items():
        if "input_schema" in tool and offered[name]:
            yield "tool", Name(name), tool.get("description", ""), sorted(tool["input_schema"].get("properties", {}))


def claude_wishes(body: Json) -> Iterator[Fact]:
    """How the answer is to be made."""
    for name in ("temperature", "top_p", "top_k"):
        yield name, body.get(name)
    yield "stop", ()  # watched for by the daemon
    choice = body.get("tool_choice", {"type": "auto"})
    kind = {"auto": "auto", "any": "any", "tool": "any", "none": "none"}[choice["type"]]
    yield "choice", kind, Name(choice["name"]) if "name" in choice else ""
    searches = any(tool.get("type", "").startswith("web_search") for tool in body.get("tools", []))
    yield "search", searches and kind != "none"


def _blocks(content: str | list[Json]) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


# Answers.


def compare_answers(family: Family, chunks: Sequence[Json], message: Json, request: Json | None = None) -> None:
    """Raise AssertionError for what one says and the other does not.

    :param request: what the client had asked; without it nothing is known of whether thoughts are to be shown.
    """
    _compare_signatures(family, chunks, message, request)
    _compare_sources(set(family.answer_pages(chunks)), message)
    upstream, claude = dict(family.answer(chunks)), dict(_claude_answer(message, family.mark))
    stopped = message["stop_reason"] == "stop_sequence"
    if stopped:
        assert upstream["text"].startswith(claude["text"] + message["stop_sequence"]), (
            upstream["text"],
            claude["text"],
        )
    if stopped or message["stop_reason"] == "refusal":  # the rest is cut off, or stands in stop_details
        return
    if request is None:
        upstream.pop("thoughts")
    elif not _wants_thoughts(request):
        upstream["thoughts"] = ""
    told = {fact: value for fact, value in claude.items() if fact in upstream}  # the rest are estimates
    assert upstream == told, f"\nUpstream: {upstream}\nClaude: {claude}"
    calls = family.answer_calls(chunks)
    ids = [call.id for call in calls]
    taken = {each["id"] for message in (request or {}).get("messages", ()) for each in _calls_of(message["content"])}
    names = Names(family)
    for call, block in zip(calls, (block for block in message["content"] if block["type"] == "tool_use"), strict=True):
        # A client's name in other letters is what the model misspelt.
        assert names.same(block["name"], call.name) or block["name"].casefold() == call.name.casefold(), call
        if _ID.fullmatch(call.id) and ids.count(call.id) == 1 and call.id not in taken:
            assert block["id"] == call.id, "an id that fits is kept"


def _calls_of(content: str | list[Json]) -> list[Json]:
    return [block for block in _blocks(content) if block["type"] == "tool_use"]


def _wants_thoughts(request: Json) -> bool:
    thinking = request.get("thinking") or {"type": "disabled"}
    return thinking["type"] != "disabled" and thinking.get("display") != "omitted"


def _compare_signatures(family: Family, chunks: Sequence[Json], message: Json, request: Json | None) -> None:
    """Clients that take thinking blocks are given the signatures of thoughts and calls, and none that nobody gave."""
    if not family.signs:
        return
    signed = family.answer_signatures(chunks)
    shown = [
        block["signature"].removeprefix(family.mark) for block in message["content"] if block["type"] == "thinking"
    ]
    known = {digest(own) for signature in shown if signature and (own := _own(family, signature))}
    assert known <= {digest(each.signature) for each in signed}, "a signature that nobody gave"
    if request is not None and (request.get("thinking") or {"type": "disabled"})["type"] != "disabled":
        due = {digest(each.signature) for each in signed if each.due}
        assert due <= known or message["stop_reason"] in ("stop_sequence", "refusal"), "a signature is lost"


def _compare_sources(pages: set[str], message: Json) -> None:
    """The pages that the client is shown come from the upstream, and searches are counted."""
    content = message["content"]
    results = [block for block in content if block["type"] == "web_search_tool_result"]
    found = {page["url"] for block in results for page in block["content"]}
    cited = {
        cited["url"] for block in content for cited in block.get("citations") or [] if "web_search" in cited["type"]
    }
    assert cited <= pages, "a page that nobody found"
    assert found <= pages, "a page that nobody found"
    searches = message["usage"].get("server_tool_use", {}).get("web_search_requests", 0)
    assert searches == sum(block["type"] == "server_tool_use" for block in content), "searches are miscounted"


def _claude_answer(message: Json, mark: str) -> Iterator[tuple[str, Any]]:
    content = message["content"]
    yield "text", "".join(block["text"] for block in content if block["type"] == "text")
    yield "thoughts", "".join(block["thinking"] for block in content if block["type"] == "thinking")
    yield "calls", [ordered(block["input"]) for block in content if block["type"] == "tool_use"]
    yield "searches", [part for block in content for part in _record(block, mark) or []]
    usage = message["usage"]
    yield "input", usage["input_tokens"]
    yield "cached", usage["cache_read_input_tokens"]
    yield "output", usage["output_tokens"]
    yield "thinking", usage.get("output_tokens_details", {}).get("thinking_tokens", 0)
