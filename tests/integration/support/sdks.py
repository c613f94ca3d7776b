"""The official SDKs, each in an environment of its own, driven by the programs beside this folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.integration.support.clients import PYTHON_SDK, PYTHON_SDK_0, TYPESCRIPT_SDK, Client, need
from tests.integration.support.forkserver import fork_server
from tests.integration.support.process import Result, run

PROGRAMS = Path(__file__).parents[1] / "programs"
PYTHON = (PYTHON_SDK, PYTHON_SDK_0)
ALL = (*PYTHON, TYPESCRIPT_SDK)
HELLO = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "say hi"}]}
Call = tuple[str, dict[str, Any]]
#: Of a whole stream with one block, pings left out.
EVENTS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
]
FILE_TOOL = {
    "name": "write_file",
    "description": "Write a file",
    "input_schema": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "lines": {"type": "array", "items": {"type": "string"}}},
        "required": ["path", "lines"],
        "additionalProperties": False,
    },
}


def kinds(types: list[str]) -> list[str]:
    """Event types without pings, repeats and the events that a helper adds."""
    return [kind for kind in dict.fromkeys(types) if kind in EVENTS]


async def use(
    sdk: Client, url: str, calls: Sequence[Call], key: str = "client-key", foundry: str = "", retries: int = 0
) -> list[dict[str, Any]]:
    """Make these calls, one after another, each with so many *retries*; what each brought, see ``programs/sdk.py``.

    *foundry*: with Python's client of Microsoft Foundry, whose secret is a ``key`` or a ``token``.
    """
    result = await program(sdk, "sdk", url, key, json.dumps(calls), str(retries), *filter(None, [foundry]))
    assert result.code == 0, result.err
    return json.loads(result.out)


async def program(sdk: Client, name: str, *arguments: str) -> Result:
    """Run the program of that name in the SDK's language, to its end."""
    entry = need(sdk)
    if sdk is TYPESCRIPT_SDK:
        return await run([shutil.which("node") or "node", PROGRAMS / f"{name}.mjs", entry, *arguments], within=120)
    return await run([PROGRAMS / f"{name}.py", *arguments], within=120, spawn=fork_server(entry, "anthropic").spawn)


async def loop(
    sdk: Client, url: str, asked: str, results: Mapping[str, str], **parameters: Any
) -> list[dict[str, Any]]:
    """The assistant's turns of a conversation that offers :data:`FILE_TOOL`, and where calls get *results* by name."""
    said = {**HELLO, "messages": [{"role": "user", "content": asked}], "tools": [FILE_TOOL], **parameters}
    (result,) = await use(sdk, url, [("loop", {**said, "results": results})])
    assert "turns" in result, result
    return result["turns"]
