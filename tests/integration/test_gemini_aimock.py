"""Gemini and Vertex AI as aimock has them, which others wrote too, behind the daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartAimock, StartDaemon
from tests.integration.support import sdks, wire
from tests.integration.support.aimock import CALL, HELLO, LOOP, SAYS, journal, note_taking, take_note, tool_results
from tests.integration.support.clients import PYTHON_SDK, TYPESCRIPT_SDK, Client
from tests.integration.support.daemon import provider
from tests.integration.support.forwarding import listen_before
from tests.integration.support.gemini import AS_GEMINI

each_sdk = pytest.mark.parametrize("sdk", [PYTHON_SDK, TYPESCRIPT_SDK], ids=lambda sdk: sdk.name)
PATH = "enerateContent"
"""In the paths of requests for messages."""


@contextmanager
def as_v1(url: str) -> Iterator[str]:
    """aimock has Vertex AI's paths under ``/v1`` alone, where Google has the same ones under ``/v1beta1`` too."""
    port = listen_before(lambda request: url + request.uri.decode().replace("/v1beta1/", "/v1/", 1))
    yield f"http://127.0.0.1:{port.getHost().port}"
    port.stopListening()


@contextmanager
def developer_api(url: str) -> Iterator[str]:
    """aimock as the Gemini API."""
    yield provider(url, kind="gemini")


@contextmanager
def vertex(url: str) -> Iterator[str]:
    """aimock as Vertex AI."""
    with as_v1(url) as there:
        section = provider(there, kind="vertex").replace("api_key =", "bearer_token =")
        yield section + 'project = "some-project"\nlocation = "us-east5"\n'


Way = Callable[[str], Any]
each_way = pytest.mark.parametrize("way", [developer_api, vertex])


@each_way
@each_sdk
@ensureDeferred
async def test_sdks(start_daemon: StartDaemon, start_aimock: StartAimock, sdk: Client, way: Way) -> None:
    """An SDK made for Claude gets a whole message and a stream, each with its end."""
    with way(await start_aimock(HELLO)) as section:
        daemon = await start_daemon(AS_GEMINI + section)
        created, streamed, events = await sdks.use(
            sdk, daemon.url, [("create", sdks.HELLO), ("stream", sdks.HELLO), ("events", sdks.HELLO)]
        )
    assert created["text"] == streamed["text"] == SAYS
    assert created["stop_reason"] == streamed["stop_reason"] == "end_turn"
    assert sdks.kinds(events["types"]) == sdks.EVENTS


@each_way
@each_sdk
@ensureDeferred
async def test_tools(start_daemon: StartDaemon, start_aimock: StartAimock, sdk: Client, way: Way) -> None:
    """A tool's arguments arrive letter by letter as the model wrote them, and its result is seen by the model."""
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
    with way(await start_aimock(*LOOP)) as section:
        daemon = await start_daemon(AS_GEMINI + section)
        first, last = await sdks.loop(sdk, daemon.url, "Write a file", {CALL["name"]: "written"}, **thinking)
    text, call = first["content"]
    assert (text["text"], call["name"], call["input"]) == ("So.", CALL["name"], CALL["arguments"])
    assert (first["stop"], last["stop"]) == ("tool_use", "end_turn")
    assert [block["text"] for block in last["content"]] == ["Done."]


@each_way
@ensureDeferred
async def test_thoughts(start_daemon: StartDaemon, start_aimock: StartAimock, way: Way) -> None:
    """What the model thinks comes in a block of its own, before what it says."""
    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    with way(await start_aimock(HELLO)) as section:
        daemon = await start_daemon(AS_GEMINI + section)
        answer = await wire.post(daemon.port, wire.Message(max_tokens=2000, more=more).encode())
    assert [block["type"] for block in answer.json["content"]] == ["thinking", "text"]
    assert answer.json["content"][0]["thinking"] == "They want a greeting."


@each_way
@ensureDeferred
async def test_claude_code_uses_tools(
    start_daemon: StartDaemon, start_aimock: StartAimock, tmp_path: Path, way: Way
) -> None:
    """Claude Code writes, runs and reads what the model has it do, and ends with the model's last words."""
    url = await start_aimock(*note_taking(tmp_path))
    with way(url) as section:
        daemon = await start_daemon(AS_GEMINI + section)
        await take_note(daemon.url, tmp_path)
    seen = await tool_results(url, PATH)
    assert len(seen) == 3
    assert "two" in seen[-1]


# -- what aimock does wrong when it is asked to


@pytest.mark.parametrize("chaos", ["drop", "disconnect", "ratelimit", "malformed"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@ensureDeferred
async def test_chaos(start_daemon: StartDaemon, start_aimock: StartAimock, chaos: str, stream: bool) -> None:
    """A provider that drops, refuses or garbles every request is stood in for by the next one, unseen by clients."""
    url = await start_aimock(HELLO)
    routes = ", ".join(f'{{ provider = "{name}", model = "gemini-2.5-pro" }}' for name in ("bad", "up"))
    bad = provider(url, kind="gemini", name="bad", more=f'headers = {{ x-aimock-chaos-{chaos} = "1" }}')
    models = f'[[models]]\nname = "*"\nroutes = [{routes}]\n'
    daemon = await start_daemon(models + bad + provider(url, kind="gemini"))
    answer = await wire.post(daemon.port, wire.Message(stream=stream).encode())
    assert (answer.status, answer.whole) == (200, True), answer.body
    assert (answer.text if stream else answer.json["content"][0]["text"]) == SAYS
    # A connection that was kept, and is closed without a byte, may not have been about this request: it is repeated.
    assert len(await journal(url, PATH)) in ((2, 3) if chaos == "disconnect" else (2,))


BROKEN = {"truncated": {"truncateAfterChunks": 3}, "cut": {"disconnectAfterMs": 150}}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@each_sdk
@ensureDeferred
async def test_broken_streams(
    start_daemon: StartDaemon, start_aimock: StartAimock, sdk: Client, broken: dict[str, int]
) -> None:
    """A stream that is cut in the middle of a sentence raises; half an answer never looks like a whole one."""
    url = await start_aimock({"match": {}, "response": {"content": SAYS * 20}, "latency": 100, **broken})
    daemon = await start_daemon(AS_GEMINI + provider(url, kind="gemini"))
    for result in await sdks.use(sdk, daemon.url, [("stream", sdks.HELLO), ("events", sdks.HELLO)]):
        assert result["type"] == "api_error", result
