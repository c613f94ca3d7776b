"""Taking out of a request what this daemon minted for upstreams of another family: no Anthropic upstream knows it.

A session that moves from one provider to another sends back what the first one said: thinking with a signature of
ours, calls of server tools with an id of ours, citations that point into their results.
"""

from __future__ import annotations

from typing import Any

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.ids import MARK, is_minted
from claudeproxyd.messages.members import spans
from claudeproxyd.messages.search import holds
from claudeproxyd.messages.splicing import THINKING, spliced, with_blocks, with_thinking_off, without_elements

_MARK = MARK.encode()
#: What thinking has that wants to be there when a tool's result comes.
_BUDGET = b'"budget_tokens"'
#: Minted things in one body; one with more is nobody's session, and goes up as it is, to be refused there.
MAX_MINTED = 5_000


class _Block(msgspec.Struct):
    """The members that can be minted, and what a text is made of."""

    type: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    tool_use_id: str = ""
    citations: list[msgspec.Raw] | None = None
    name: str = ""
    input: Any = None
    content: Any = None
    cache_control: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Citation(msgspec.Struct):
    encrypted_index: str = ""


class _Kind(msgspec.Struct):
    type: str = ""


class _Turn(msgspec.Struct):
    role: str
    content: str | list[_Kind]


class _Request(msgspec.Struct):
    messages: list[_Turn]
    thinking: _Kind | None = None


_decode_block = msgspec.json.Decoder(_Block).decode
_decode_citation = msgspec.json.Decoder(_Citation).decode
_decode_request = msgspec.json.Decoder(_Request).decode


def without_minted(body: bytes) -> bytes:
    """Return a Messages or count_tokens body as an Anthropic upstream takes it; nearly always the very same object.

    Minted thinking goes; calls of server tools and their results become text that says what was searched and found;
    citations of those results go. Where a tool loop lacks the thinking that the API wants at its start, thinking is off
    for this one request: what began it is gone, or came from a model that shows none. Called by executors for each
    attempt.
    """
    if holds(body, _MARK) and body.count(_MARK) <= MAX_MINTED:
        body = with_blocks(body, _instead, _MARK)
    return with_thinking_off(body) if holds(body, _BUDGET) and _lacks_thinking(body) else body


def _instead(block: bytes) -> bytes | None:
    """Return what takes a block's place: b'' for nothing, None for the block itself."""
    try:
        read = _decode_block(block)
        if is_minted(read.signature) or is_minted(read.data):
            return b"" if read.type in THINKING else None
        if read.type == "server_tool_use" and is_minted(read.id):
            return _text(_asked(read), read)
        if read.type.endswith("_tool_result") and is_minted(read.tool_use_id):
            return _text(_found(read.content), read)
        if read.citations:
            return _without_citations(block, read.citations)
    except UNREADABLE:
        pass
    return None


def _without_citations(block: bytes, citations: list[msgspec.Raw]) -> bytes:
    gone = {index for index, citation in enumerate(citations) if is_minted(_decode_citation(citation).encrypted_index)}
    return spliced(block, without_elements(spans(citations, block), gone))


def _text(text: str, block: _Block) -> bytes:
    """Return a text block, at which the prompt is cached if it was at *block*."""
    made: dict[str, object] = {"type": "text", "text": text}
    if block.cache_control is not msgspec.UNSET:
        made["cache_control"] = block.cache_control
    return msgspec.json.encode(made)


def _asked(block: _Block) -> str:
    query = block.input.get("query") if isinstance(block.input, dict) else None
    if isinstance(query, str):
        return f"[Searched the web for: {query}]" if query else "[Searched the web]"
    return f"[Called {block.name or 'a tool'}: {msgspec.json.encode(block.input).decode()}]"


def _found(content: object) -> str:
    """Return the titles and URLs that a search has found; of several searches one has them all."""
    if isinstance(content, dict):
        return f"[The search failed: {content.get('error_code', 'unknown error')}]"
    found = [result for result in content if isinstance(result, dict)] if isinstance(content, list) else []
    if not found:
        return "[No results of its own]"
    lines = (
        " ".join(str(result[name]) for name in ("title", "url", "page_age") if result.get(name)) for result in found
    )
    return "[Found:\n" + "\n".join(f"- {line}" for line in lines) + "\n]"


def _lacks_thinking(body: bytes) -> bool:
    """Whether the API would refuse it with "Expected `thinking`": thinking has a budget, and what the assistant said
    last calls tools but does not begin with thinking. Adaptive thinking asks for nothing of the kind.
    """
    try:
        request = _decode_request(body)
    except UNREADABLE:
        return False
    if request.thinking is None or request.thinking.type != "enabled":
        return False
    kinds: list[str] = []
    for turn in reversed(request.messages):
        if turn.role == "assistant":
            said = [] if isinstance(turn.content, str) else [block.type for block in turn.content]
            kinds = said + kinds
        elif kinds:
            break
    return "tool_use" in kinds and kinds[0] not in THINKING
