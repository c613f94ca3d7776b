"""Chat completions as aimock has them, OpenAI's and Azure's, which others wrote too, behind the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartAimock, StartDaemon
from tests.integration.support import sdks, wire
from tests.integration.support.aimock import CALL, HELLO, LOOP, SAYS, note_taking, take_note, tool_results
from tests.integration.support.chat import as_model
from tests.integration.support.clients import TYPESCRIPT_SDK
from tests.integration.support.daemon import provider

PATH = "/chat/completions"
"""In the paths of requests for messages."""


def openai(url: str, name: str = "up", more: str = 'dialect = "openai"') -> str:
    """aimock as OpenAI."""
    return provider(f"{url}/v1", kind="openai-chat", name=name, more=more)


def azure(url: str) -> str:
    """aimock as Azure, with a path for each deployment."""
    return provider(url, kind="openai-chat", more='dialect = "azure"\napi_version = "2024-10-21"')


each_way = pytest.mark.parametrize("way", [openai, azure])


@each_way
@ensureDeferred
async def test_messages(start_daemon: StartDaemon, start_aimock: StartAimock, way: Any) -> None:
    """A whole message and a stream, each with its end."""
    url = await start_aimock(HELLO)
    daemon = await start_daemon(as_model("gpt-4.1") + way(url))
    created, streamed, events = await sdks.use(
        TYPESCRIPT_SDK, daemon.url, [("create", sdks.HELLO), ("stream", sdks.HELLO), ("events", sdks.HELLO)]
    )
    assert created["text"] == streamed["text"] == SAYS
    assert created["stop_reason"] == streamed["stop_reason"] == "end_turn"
    assert sdks.kinds(events["types"]) == sdks.EVENTS


@each_way
@ensureDeferred
async def test_tools(start_daemon: StartDaemon, start_aimock: StartAimock, way: Any) -> None:
    """A tool's arguments arrive letter by letter as the model wrote them, and its result is seen by the model."""
    daemon = await start_daemon(as_model("gpt-4.1") + way(await start_aimock(*LOOP)))
    first, last = await sdks.loop(TYPESCRIPT_SDK, daemon.url, "Write a file", {CALL["name"]: "written"})
    text, call = first["content"]
    assert (text["text"], call["name"], call["input"]) == ("So.", CALL["name"], CALL["arguments"])
    assert (first["stop"], last["stop"]) == ("tool_use", "end_turn")
    assert [block["text"] for block in last["content"]] == ["Done."]


@ensureDeferred
async def test_thoughts(start_daemon: StartDaemon, start_aimock: StartAimock) -> None:
    """What the model thinks comes in a block of its own, before what it says."""
    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    daemon = await start_daemon(
        as_model("deepseek-v4") + openai(await start_aimock(HELLO), more='dialect = "deepseek"')
    )
    for stream in (False, True):
        asked = wire.Message(max_tokens=2000, more=more, stream=stream).encode()
        answer = await wire.post(daemon.port, asked)
        if stream:
            starts = [event for event in answer.events if event["type"] == "content_block_start"]
            assert [event["content_block"]["type"] for event in starts] == ["thinking", "text"]
        else:
            assert [block["type"] for block in answer.json["content"]] == ["thinking", "text"]
            assert answer.json["content"][0]["thinking"] == "They want a greeting."


@ensureDeferred
async def test_claude_code_uses_tools(start_daemon: StartDaemon, start_aimock: StartAimock, tmp_path: Path) -> None:
    """Claude Code writes, runs and reads what the model has it do, and ends with the model's last words."""
    url = await start_aimock(*note_taking(tmp_path))
    daemon = await start_daemon(as_model("gpt-4.1") + openai(url))
    await take_note(daemon.url, tmp_path)
    seen = await tool_results(url, PATH)
    assert len(seen) == 3
    assert "two" in seen[-1]


@pytest.mark.parametrize("chaos", ["drop", "disconnect", "ratelimit", "malformed"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@ensureDeferred
async def test_chaos(start_daemon: StartDaemon, start_aimock: StartAimock, chaos: str, stream: bool) -> None:
    """A provider that drops, refuses or garbles every request is stood in for by the next one, unseen by clients."""
    url = await start_aimock(HELLO)
    routes = ", ".join(f'{{ provider = "{name}", model = "gpt-4.1" }}' for name in ("bad", "up"))
    bad = openai(url, "bad", f'headers = {{ x-aimock-chaos-{chaos} = "1" }}')
    models = f'[[models]]\nname = "*"\nroutes = [{routes}]\n'
    daemon = await start_daemon(models + bad + openai(url))
    answer = await wire.post(daemon.port, wire.Message(stream=stream).encode())
    assert (answer.status, answer.whole) == (200, True), answer.body
    assert (answer.text if stream else answer.json["content"][0]["text"]) == SAYS
