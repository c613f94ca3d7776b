"""Chat completions as llmock has them, which others wrote, behind the daemon: its quotas and faults are not the
clients'."""

from __future__ import annotations

from collections import Counter

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as start
from twisted.internet.defer import gatherResults

from tests.integration.conftest import StartDaemon, StartLlmock
from tests.integration.support import sdks, wire
from tests.integration.support.chat import as_model
from tests.integration.support.clients import PYTHON_SDK
from tests.integration.support.daemon import provider
from tests.integration.support.llmock import choose_tool, journal, structure

PATH = "/chat/completions"
"""In the paths of requests for messages."""


def behind(url: str, *keys: str) -> str:
    """A configuration with llmock's chat completions as its upstream. Each key has its own turn: no affinity."""
    of_pool = "[pool]\naffinity = false\nmax_wait = 0.0\n"
    section = provider(f"{url}/v1", *(keys or ("key-a", "key-b")), kind="openai-chat", more='dialect = "openai"')
    return of_pool + as_model("gpt-4.1") + section


@ensureDeferred
async def test_messages(start_daemon: StartDaemon, start_llmock: StartLlmock) -> None:
    """A whole message and a stream, each with its end."""
    daemon = await start_daemon(behind(await start_llmock("--response-style", "echo")))
    created, streamed, events = await sdks.use(
        PYTHON_SDK, daemon.url, [("create", sdks.HELLO), ("stream", sdks.HELLO), ("events", sdks.HELLO)]
    )
    assert "say hi" in created["text"]
    assert (streamed["text"], streamed["stop_reason"]) == (created["text"], "end_turn")
    assert sdks.kinds(events["types"]) == sdks.kinds(streamed["types"]) == sdks.EVENTS


@ensureDeferred
async def test_tools(start_daemon: StartDaemon, start_llmock: StartLlmock) -> None:
    """A tool is called with what its schema asks for; its result ends the loop with an answer in text."""
    daemon = await start_daemon(behind(await start_llmock()))
    first, last = await sdks.loop(PYTHON_SDK, daemon.url, "Write a file", {sdks.FILE_TOOL["name"]: "written"})
    (call,) = [block for block in first["content"] if block["type"] == "tool_use"]
    assert (first["stop"], call["name"]) == ("tool_use", sdks.FILE_TOOL["name"])
    assert call["input"].keys() == {"path", "lines"}
    assert last["stop"] == "end_turn"


@pytest.mark.parametrize("choice", ["any", "tool", "none"])
@ensureDeferred
async def test_tool_choice(start_daemon: StartDaemon, start_llmock: StartLlmock, choice: str) -> None:
    """A client that has a tool called, or none, has its way; the arguments fit the schema."""
    daemon = await start_daemon(behind(await start_llmock()))
    await choose_tool(daemon.port, choice)


@ensureDeferred
async def test_structured_output(start_daemon: StartDaemon, start_llmock: StartLlmock) -> None:
    """An answer that is asked for as JSON of a schema is such JSON."""
    daemon = await start_daemon(behind(await start_llmock()))
    await structure(daemon.port)


@ensureDeferred
async def test_quotas(start_daemon: StartDaemon, start_llmock: StartLlmock) -> None:
    """Keys of a few requests a minute, the list of models among them: when all are used up the client gets a 429."""
    url = await start_llmock("--rpm", "3")
    daemon = await start_daemon(behind(url))
    calls = [("create", sdks.HELLO), ("stream", sdks.HELLO)] * 3
    *good, refused = await sdks.use(PYTHON_SDK, daemon.url, [*calls, ("create", sdks.HELLO)])
    assert all(result.get("text") for result in good[:4]), good
    assert (refused["status"], refused["type"]) == (429, "rate_limit_error")
    statuses = [each["status"] for each in await journal(url, PATH)]
    assert statuses.count(429) == 2  # each key once, and no more


@ensureDeferred
async def test_faults(start_daemon: StartDaemon, start_llmock: StartLlmock) -> None:
    """Streams that break, stop in mid-word or go mad, and errors: each of fifty answers is whole or says that it is
    not, and most are whole."""
    faults = [f"--stream-fault={kind}=0.1" for kind in ("disconnect", "truncate", "malformed")]
    errors = [f"--error-rate={status}=0.05" for status in (401, 429, 500, 503)]
    url = await start_llmock("--response-style", "echo", "--stream-chunk-delay-ms", "5", *faults, *errors)
    daemon = await start_daemon(behind(url, *(f"key-{number}" for number in range(20))))
    asked = wire.Message(prompt="one two three four five", stream=True).encode()
    came = await gatherResults([start(wire.post(daemon.port, asked, within=60)) for _ in range(50)])
    whole = [answer for answer in came if answer.status == 200 and answer.events[-1]["type"] == "message_stop"]
    assert {answer.text for answer in whole} == {whole[0].text}
    assert whole[0].text.endswith("five")
    for answer in came:
        assert answer.whole
        if answer not in whole:
            told = answer.json if answer.status != 200 else answer.events[-1]
            assert told["type"] == "error", answer
    told = Counter(answer.status for answer in came if answer not in whole)
    print(f"{len(whole)} whole, others by status {dict(told)}")
    assert len(whole) > 20
