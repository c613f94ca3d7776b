"""What clients make of a conversation before they send it again: each of these has been seen, and is legal.

Each takes the conversation as it was said and returns it as it is sent; what it was given stays as it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.golden.every.answers import Json

Client = Callable[[random.Random, list[Json]], list[Json]]


def as_it_was(chance: random.Random, messages: list[Json]) -> list[Json]:
    """All of it."""
    return messages


def without_thoughts(chance: random.Random, messages: list[Json]) -> list[Json]:
    """Of every other answer the thinking is gone, though the calls that it led to are there."""
    return [_of(message, _spoken(message)) if chance.random() < 0.5 else message for message in messages]


def unsigned(chance: random.Random, messages: list[Json]) -> list[Json]:
    """Thinking has no signature, or an empty one."""

    def bare(block: Json) -> Json:
        if block["type"] != "thinking":
            return block
        signature = {"signature": ""} if chance.random() < 0.5 else {}
        return {"type": "thinking", "thinking": block["thinking"], **signature}

    return [_of(message, map(bare, _blocks(message))) for message in messages]


def in_pieces(chance: random.Random, messages: list[Json]) -> list[Json]:
    """Each block is a message of its own."""
    return [_of(message, [block]) for message in messages for block in _blocks(message) or [None]]


def one_by_one(chance: random.Random, messages: list[Json]) -> list[Json]:
    """Calls that were made at once stand one after another, each followed by its result."""
    sent: list[Json] = []
    calls: list[Json] = []
    for message in messages:
        blocks = _blocks(message)
        if message["role"] == "assistant":
            calls = [block for block in blocks if block["type"] == "tool_use"]
            if said := [block for block in blocks if block["type"] != "tool_use"]:
                sent.append(_of(message, said))
        elif calls:
            results = {block["tool_use_id"]: block for block in blocks if block["type"] == "tool_result"}
            for call in calls:
                sent += [{"role": "assistant", "content": [call]}, _of(message, [results[call["id"]]])]
            if rest := [block for block in blocks if block["type"] != "tool_result"]:
                sent.append(_of(message, rest))
            calls = []
        else:
            sent.append(message)
    return sent


#: By the name of what they do.
CLIENTS: Mapping[str, Client] = {
    "without thoughts": without_thoughts,
    "unsigned": unsigned,
    "in pieces": in_pieces,
    "one by one": one_by_one,
}


def _blocks(message: Json) -> list[Json]:
    content: Any = message["content"]
    return content if isinstance(content, list) else []


def _spoken(message: Json) -> list[Json]:
    return [block for block in _blocks(message) if block["type"] != "thinking"]


def _of(message: Json, blocks: Iterable[Json | None]) -> Json:
    """The message with these blocks in the place of its own; as it is where it is a plain text."""
    return {**message, "content": list(blocks)} if _blocks(message) else message
