"""The Responses API as aimock has it, which others wrote too, behind the daemon."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartAimock, StartDaemon
from tests.integration.support import sdks, wire
from tests.integration.support.aimock import CALL, HELLO, LOOP, SAYS, note_taking, take_note
from tests.integration.support.chat import as_model
from tests.integration.support.clients import PYTHON_SDK, TYPESCRIPT_SDK
from tests.integration.support.daemon import provider

CALLED, DONE = LOOP
THINKING_LOOP = ({**CALLED, "response": {**CALLED["response"], "reasoning": "A file."}}, DONE)
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 5000}


def behind(url: str, name: str = "up", more: str = "") -> str:
    """A provider section."""
    return provider(f"{url}/v1", kind="openai-responses", name=name, more=more)


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
    daemon = await start_daemon(as_model("gpt-5.4") + behind(await start_aimock(*THINKING_LOOP)))
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
    daemon = await start_daemon(as_model("gpt-5.4") + behind(await start_aimock(*note_taking(tmp_path))))
    await take_note(daemon.url, tmp_path)


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
