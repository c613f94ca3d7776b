"""Requests for the tests of reading, as short as can be."""

from __future__ import annotations

import json
from typing import Any

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.conversation import Conversation
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.reading import read_conversation


def body(*messages: Any, **members: Any) -> bytes:
    """A request's bytes; without messages it says hello."""
    said = list(messages) or [user("hello")]
    return json.dumps({"model": "m", "max_tokens": 4096, "messages": said, **members}).encode()


def read(*messages: Any, family: str = "google", version: str = "2023-06-01", **members: Any) -> Conversation:
    """What a request amounts to."""
    return read_conversation(body(*messages, **members), family=family, policy=POLICY, version=version)


def refusal(*messages: Any, version: str = "2023-06-01", **members: Any) -> str:
    """Why a request is refused; fails if it is not."""
    try:
        read(*messages, version=version, **members)
    except Unsupported as e:
        return str(e)
    raise AssertionError("the request was taken")


def user(*content: Any) -> dict[str, Any]:
    """A message; a text alone stands for itself."""
    return _message("user", content)


def assistant(*content: Any) -> dict[str, Any]:
    return _message("assistant", content)


def system(*content: Any, **members: Any) -> dict[str, Any]:
    return {**_message("system", content), **members}


def _message(role: str, content: tuple[Any, ...]) -> dict[str, Any]:
    if len(content) == 1 and isinstance(content[0], str):
        return {"role": role, "content": content[0]}
    return {"role": role, "content": [text(held) if isinstance(held, str) else held for held in content]}


def text(said: str, **members: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **members}


def call(tool_use_id: str, name: str = "look", **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": tool_use_id, "name": name, "input": given}


def result(tool_use_id: str, content: Any = "seen", **members: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": tool_use_id, "content": content, **members}


def tool(name: str, **members: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object"}, **members}
