"""The Responses API as aimock has it, which others wrote too, behind the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartAimock, StartDaemon
from tests.integration.support import sdks, wire
from tests.integration.support.chat import as_model
from tests.integration.support.claude_code import AS_LINES, lines, prompt
from tests.integration.support.clients import PYTHON_SDK, TYPESCRIPT_SDK
from tests.integration.support.daemon import provider

SAYS = "Hello from a model that is not Claude."
HELLO = {"match": {"userMessage": "say hi"}, "response": {"content": SAYS, "reasoning": "They want a greeting."}}
CALL = {"name": sdks.FILE_TOOL["name"], "arguments": {"path": "a.txt", "lines": ["ö", '"', "\\"]}}
LOOP = (
    {
        "match": {"userMessage": "Write", "hasToolResult": False},
        "response": {"content": "So.", "toolCalls": [CALL], "reasoning": "A file."},
    },
    {"match": {"toolResultContains": "written"}, "response": {"content": "Done."}},
)
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 5000}


def behind(url: str, name: str = "up", more: str = "") -> str:
    """A provider section."""
    return provider(f"{url}/v1", kind="openai-responses", name=name, more=more)


async def journal(url: str) -> list[dict[str, Any]]:
    """What aimock was asked for, in its own words, and what it answered."""
    told = (await wire.get(int(url.rpartition(":")[2]), "/__aimock/journal")).json
    return [each for each in told if each["path"].endswith("/responses")]


@ensureDeferred
async def test_sdk(start_daemon: StartDaemon, start_aimock: StartAimock) -> None:
    """An SDK made for Claude gets a whole message and a stream, each with its end."""
    daemon = await start_daemon(as_model("gpt-5.4") + behind(await start_aimock(HELLO)))
    created, streamed, events = await sdks.use(
        PYTHON_SDK, daemon.url, [("create", sdks.HELLO), ("stream", sdks.HELLO), ("events", sdks.HELLO)]
    )
    assert created["text"] == streamed["text"] == SAYS
    assert created["stop_reason"] == streamed["stop_reason"] == "end_turn"
    assert sdks.kinds(events["types"]) == sdks.EVENTS


@ensureDeferred
async def test_tools(start_daemon: StartDaemon, start_aimock: StartAimock) -> None:
    """A tool's arguments arrive letter by letter as the model wrote them, and its result is seen by the model."""
    daemon = await start_daemon(as_model("gpt-5.4") + behind(await start_aimock(*LOOP)))
    first, last = await sdks.loop(TYPESCRIPT_SDK, daemon.url, "Write a file", {CALL["name"]: "written"}, **THINKING)
    thought, text, call = first["content"]
    assert (thought["type"], text["text"]) == ("thinking", "So.")
    assert (call["name"], call["input"]) == (CALL["name"], CALL["arguments"])
    assert (first["stop"], last["stop"]) == ("tool_use", "end_turn")
    assert [block["type"] for block in last["content"]] == [
        "thinking",
        "text",
    ]
    assert last["content"][-1]["text"] == "Done."


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@ensureDeferred
async def test_thoughts(start_daemon: StartDaemon, start_aimock: StartAimock, stream: bool) -> None:
    """What the model thinks comes in a block of its own, before what it says, and is sealed."""
    daemon = await start_daemon(as_model("gpt-5.4") + behind(await start_aimock(HELLO)))
    asked = {"thinking": THINKING["thinking"]}
    answer = await wire.post(daemon.port, wire.Message(stream=stream, max_tokens=5000, more=asked).encode())
    if stream:
        assert b"They want" in answer.body
        assert b'"signature":"cpxd1.responses.' in answer.body
        return
    thought, text = answer.json["content"]
    assert (thought["thinking"], text["text"]) == ("They want a greeting.", SAYS)
    assert thought["signature"].startswith("cpxd1.responses.")


@ensureDeferred
async def test_claude_code_uses_tools(start_daemon: StartDaemon, start_aimock: StartAimock, tmp_path: Path) -> None:
    """Claude Code writes, runs and reads what the model has it do, and ends with the model's last words."""
    path = tmp_path / "note.txt"
    wanted = [
        ("Write", {"file_path": str(path), "content": "one\n"}),
        ("Bash", {"command": f"echo two >> {path}", "description": "Append a line"}),
        ("Read", {"file_path": str(path)}),
    ]
    answers = [{"toolCalls": [{"name": name, "arguments": arguments}]} for name, arguments in wanted]
    answers.append({"content": "The note has two lines."})
    url = await start_aimock(*({"match": {"turnIndex": turn}, "response": each} for turn, each in enumerate(answers)))
    daemon = await start_daemon(as_model("gpt-5.4") + behind(url))
    allowed = ("--allowedTools", "Write", "Bash", "Read")
    result = await prompt(daemon.url, "write the note", tmp_path, *AS_LINES, *allowed)
    told = lines(result)
    assert (result.code, told[-1]["subtype"]) == (0, "success"), result
    assert told[-1]["result"] == "The note has two lines."
    assert path.read_text() == "one\ntwo\n"
    blocks = [block for line in told if line["type"] in ("assistant", "user") for block in line["message"]["content"]]
    assert [block["name"] for block in blocks if block["type"] == "tool_use"] == [name for name, _ in wanted]
    assert not any(block.get("is_error") for block in blocks)


# -- what aimock does wrong when it is asked to


@pytest.mark.parametrize("chaos", ["drop", "disconnect", "ratelimit", "malformed"])
@ensureDeferred
async def test_chaos(start_daemon: StartDaemon, start_aimock: StartAimock, chaos: str) -> None:
    """A provider that drops, refuses or garbles every request is stood in for by the next one, unseen by clients."""
    url = await start_aimock(HELLO)
    routes = ", ".join(f'{{ provider = "{name}", model = "gpt-5.4" }}' for name in ("bad", "up"))
    bad = behind(url, "bad", f'headers = {{ x-aimock-chaos-{chaos} = "1" }}')
    daemon = await start_daemon(f'[[models]]\nname = "*"\nroutes = [{routes}]\n' + bad + behind(url))
    for stream in (True, False):
        answer = await wire.post(daemon.port, wire.Message(stream=stream).encode())
        assert (answer.status, answer.whole) == (200, True), answer.body
        assert (answer.text if stream else answer.json["content"][0]["text"]) == SAYS


BROKEN = {"truncated": {"truncateAfterChunks": 6}, "cut": {"disconnectAfterMs": 1000}}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@ensureDeferred
async def test_broken_streams(start_daemon: StartDaemon, start_aimock: StartAimock, broken: dict[str, int]) -> None:
    """A stream that is cut in the middle of a sentence raises; half an answer never looks like a whole one."""
    url = await start_aimock({"match": {}, "response": {"content": SAYS * 20}, "latency": 100, **broken})
    daemon = await start_daemon(as_model("gpt-5.4") + behind(url))
    for result in await sdks.use(PYTHON_SDK, daemon.url, [("stream", sdks.HELLO), ("events", sdks.HELLO)]):
        assert result["type"] == "api_error", result
