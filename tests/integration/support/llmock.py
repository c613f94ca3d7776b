"""What llmock was asked, and what any model that it plays does as clients ask."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.support import sdks, wire


async def journal(url: str, path: str) -> list[dict[str, Any]]:
    """The requests that it had at paths with *path* in them, and what became of them."""
    told = (await wire.get(int(url.rpartition(":")[2]), "/_llmock/requests")).json["requests"]
    return [each for each in told if path in each["path"]]


async def choose_tool(port: int, choice: str) -> None:
    """Have a tool called, or none: the daemon's answer does so, with arguments that fit the schema."""
    name = {"name": sdks.FILE_TOOL["name"]} if choice == "tool" else {}
    more = {"tools": [sdks.FILE_TOOL], "tool_choice": {"type": choice, **name}}
    (block,) = (await wire.post(port, wire.Message(more=more).encode())).json["content"]
    assert block["type"] == ("text" if choice == "none" else "tool_use")
    if choice != "none":
        assert isinstance(block["input"]["path"], str)
        assert all(isinstance(line, str) for line in block["input"]["lines"])


async def structure(port: int) -> None:
    """Ask for JSON of a schema: the daemon's answer is such JSON."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "inhabitants": {"type": "integer"}},
        "required": ["city", "inhabitants"],
        "additionalProperties": False,
    }
    more = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    answer = await wire.post(port, wire.Message(more=more).encode())
    said = json.loads(answer.json["content"][0]["text"])
    assert {name: type(value) for name, value in said.items()} == {"city": str, "inhabitants": int}
