"""Claude's own API, as a judge of what it is sent, and its facts on the upstream's side."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from anthropic.types.beta.message_create_params import MessageCreateParamsNonStreaming

from tests.golden import facts
from tests.golden.families.family import Fact, Json
from tests.golden.families.sdk_types import strict_adapter

_REQUEST = strict_adapter(MessageCreateParamsNonStreaming)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_THINKING = ("thinking", "redacted_thinking")
_MARK = "none of Claude's is minted"


def check_request(body: Json) -> None:
    """Raise unless it is a request that the Messages API takes, as far as types and its documentation can tell."""
    _REQUEST.validate_python([body])
    turns = _turns(body)
    assert turns, "no messages"
    assert turns[0][0] == "user", "the assistant begins"
    assert turns[-1][0] == "user", "a prefill"
    seen: set[str] = set()
    calls: list[str] = []
    for role, blocks in turns:
        assert blocks, "a turn of nothing"
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if role == "user":
            assert sorted(results) == sorted(calls), "calls and results differ"
            first = [block["type"] == "tool_result" for block in blocks]
            assert first == sorted(first, reverse=True), "results that do not lead their turn"
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        assert not seen.intersection(calls), "an id twice"
        assert all(map(_ID.fullmatch, calls)), "characters of an id"
        seen.update(calls)
        assert all(block["text"].strip() for block in blocks if block["type"] == "text"), "a blank text"
    assert not calls, "a call without its result"
    _check_thinking(body, turns)
    _check_tools(body)


def is_unsigned(body: Json) -> bool:
    """Whether the API refuses it for thinking that nobody signed."""
    blocks = (block for _, blocks in _turns(body) for block in blocks)
    return any(block["type"] == "thinking" and not block.get("signature") for block in blocks)


def _turns(body: Json) -> list[tuple[str, list[Json]]]:
    """What one side said until the other spoke; a system message belongs to neither."""
    turns: list[tuple[str, list[Json]]] = []
    for message in body["messages"]:
        content = message["content"]
        assert content, "an empty message"
        if message["role"] == "system":
            continue
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not turns or turns[-1][0] != message["role"]:
            turns.append((message["role"], []))
        turns[-1][1].extend(blocks)
    return turns


def _check_thinking(body: Json, turns: list[tuple[str, list[Json]]]) -> None:
    thinking = body.get("thinking", {"type": "disabled"})
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    assert thinking["type"] == "disabled" or not forced, "Thinking may not be enabled when tool_choice forces tool use."
    if thinking["type"] == "enabled":
        assert 1024 <= thinking["budget_tokens"] < body["max_tokens"]
        said = next(
            ([block["type"] for block in blocks] for role, blocks in reversed(turns) if role == "assistant"), []
        )
        assert "tool_use" not in said or said[0] in _THINKING, "Expected `thinking` or `redacted_thinking`"
    for _, blocks in turns:
        assert not blocks or blocks[-1]["type"] not in _THINKING, "the final block cannot be `thinking`"


def _check_tools(body: Json) -> None:
    names = [tool["name"] for tool in body.get("tools", [])]
    assert len(names) == len(set(names)), "one name twice"
    assert all(map(_NAME.fullmatch, names)), "characters of a name"
    assert "tool_choice" not in body or names, "a choice of no tool"


class Claude:
    """What :func:`~tests.golden.facts.compare_requests` asks of a family, of one that has the client's own words."""

    mark = _MARK
    tool_name = _NAME
    signs = False

    def has_system(self, body: Json) -> bool:
        return True

    def takes_records(self, body: Json) -> bool:
        return False

    def texts(self, body: Json) -> Iterator[tuple[str, str]]:
        return facts.claude_texts(body)

    def calls(self, body: Json) -> Iterator[Fact]:
        return facts.claude_calls(body, _MARK)

    def media(self, body: Json) -> Iterator[Fact]:
        return facts.claude_media(body)

    def tools(self, body: Json) -> Iterator[Fact]:
        return facts.claude_tools(body)

    def wishes(self, body: Json) -> Iterator[Fact]:
        return facts.claude_wishes(body)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name}: nobody asks it of Claude")
