"""Gemini as llmock has it, which others wrote, behind the daemon: its quotas and its faults are not the clients'."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import treq
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as start
from twisted.internet.defer import gatherResults

from tests.integration.conftest import StartDaemon, StartLlmock
from tests.integration.support import sdks, wire
from tests.integration.support.claude_code import AS_LINES, lines, prompt
from tests.integration.support.clients import Client
from tests.integration.support.daemon import provider
from tests.integration.support.forwarding import listen_before
from tests.integration.support.gemini import AS_GEMINI
from tests.integration.support.llmock import choose_tool, journal, structure

each_sdk = pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
PATH = "enerateContent"
"""In the paths of requests for messages."""
STREAMED = wire.Message(stream=True).encode()


def behind(url: str, *keys: str, more: str = "") -> str:
    """A configuration with llmock's Gemini as its upstream. Each key has its own turn: no affinity."""
    of_pool = "[pool]\naffinity = false\nmax_wait = 0.0\n"
    return of_pool + more + AS_GEMINI + provider(f"{url}/gemini", *(keys or ("key-a", "key-b")), kind="gemini")


async def script(url: str, *behaviors: dict[str, Any]) -> None:
    """Have llmock do these with the next requests."""
    answer = await treq.post(f"{url}/_llmock/scenario", json={"behaviors": behaviors}, persistent=False)
    assert answer.code == 201, await answer.text()


@each_sdk
@ensureDeferred
async def test_sdks(start_daemon: StartDaemon, start_llmock: StartLlmock, sdk: Client) -> None:
    """An SDK made for Claude gets a whole message and a stream, each with its end."""
    daemon = await start_daemon(behind(await start_llmock("--response-style", "echo")))
    created, streamed, events = await sdks.use(
        sdk, daemon.url, [("create", sdks.HELLO), ("stream", sdks.HELLO), ("events", sdks.HELLO)]
    )
    assert "say hi" in created["text"]
    assert (streamed["text"], streamed["stop_reason"]) == (created["text"], "end_turn")
    assert created["request_id"].startswith("req_")
    assert sdks.kinds(events["types"]) == sdks.kinds(streamed["types"]) == sdks.EVENTS


@each_sdk
@ensureDeferred
async def test_tools(start_daemon: StartDaemon, start_llmock: StartLlmock, sdk: Client) -> None:
    """A tool is called with what its schema asks for; its result ends the loop with an answer in text."""
    daemon = await start_daemon(behind(await start_llmock()))
    first, last = await sdks.loop(sdk, daemon.url, "Write a file", {sdks.FILE_TOOL["name"]: "written"})
    (call,) = [block for block in first["content"] if block["type"] == "tool_use"]
    assert (first["stop"], call["name"]) == ("tool_use", sdks.FILE_TOOL["name"])
    assert call["input"].keys() == {"path", "lines"}
    assert last["stop"] == "end_turn"
    assert last["content"][0]["text"]


#: A model that takes JSON Schema as it is, and one that wants Google's own.
MODELS = ("gemini-2.5-pro", "gemini-2.0-flash")


@pytest.mark.parametrize("choice", ["any", "tool", "none"])
@pytest.mark.parametrize("model", MODELS)
@ensureDeferred
async def test_tool_choice(start_daemon: StartDaemon, start_llmock: StartLlmock, model: str, choice: str) -> None:
    """A client that has a tool called, or none, has its way with every model; the arguments fit the schema."""
    daemon = await start_daemon(behind(await start_llmock()).replace("gemini-2.5-pro", model))
    await choose_tool(daemon.port, choice)


@pytest.mark.parametrize("model", MODELS)
@ensureDeferred
async def test_structured_output(start_daemon: StartDaemon, start_llmock: StartLlmock, model: str) -> None:
    """An answer that is asked for as JSON of a schema is such JSON."""
    daemon = await start_daemon(behind(await start_llmock()).replace("gemini-2.5-pro", model))
    await structure(daemon.port)


@ensureDeferred
async def test_count_tokens(start_daemon: StartDaemon, start_llmock: StartLlmock) -> None:
    """llmock cannot count tokens: the client gets an estimate, and no key is thought the worse of."""
    daemon = await start_daemon(behind(await start_llmock()))
    answer = await wire.post(daemon.port, wire.Message(prompt="word " * 100).encode(), "/v1/messages/count_tokens")
    assert answer.status == 200
    assert 100 <= answer.json["input_tokens"] < 300
    entries = (await daemon.pool())["credentials"]
    assert [entry["count_tokens"]["cooldowns"] + entry["cooldowns"] for entry in entries] == [[], []]
    assert (await wire.post(daemon.port, STREAMED)).status == 200


@ensureDeferred
async def test_query_that_got_lost(start_daemon: StartDaemon, start_llmock: StartLlmock) -> None:
    """Where a proxy on the way loses ``alt=sse``, and the stream comes as an array, the client sees no difference."""
    url = await start_llmock("--response-style", "echo")
    proxy = listen_before(lambda request: url + request.path.decode())
    daemon = await start_daemon(behind(f"http://127.0.0.1:{proxy.getHost().port}"))
    answer = await wire.post(daemon.port, STREAMED)
    await proxy.stopListening()
    assert "say hi" in answer.text
    assert sdks.kinds(wire.types(answer.events)) == sdks.EVENTS


@ensureDeferred
async def test_claude_code_uses_tools(start_daemon: StartDaemon, start_llmock: StartLlmock, tmp_path: Path) -> None:
    """Claude Code writes the file that the model has it write, tells it so, and ends with the model's last words."""
    url = await start_llmock()
    path = tmp_path / "note.txt"
    written = {"name": "Write", "arguments": {"file_path": str(path), "content": "from gemini\n"}}
    await script(url, {"type": "reply", "tool_calls": [written], "match": {"tools": True}})
    daemon = await start_daemon(behind(url))
    result = await prompt(daemon.url, "write it", tmp_path, *AS_LINES, "--allowedTools", "Write")
    told = lines(result)
    assert (result.code, told[-1]["subtype"]) == (0, "success"), result
    assert path.read_text() == "from gemini\n"
    assert told[-1]["num_turns"] == 2


@each_sdk
@ensureDeferred
async def test_quotas(start_daemon: StartDaemon, start_llmock: StartLlmock, sdk: Client) -> None:
    """Two keys of three requests a minute, one of them for the list of models, serve four; the fifth is a 429."""
    url = await start_llmock("--rpm", "3")
    daemon = await start_daemon(behind(url))
    calls = [("create", sdks.HELLO), ("stream", sdks.HELLO)] * 2
    *good, refused = await sdks.use(sdk, daemon.url, [*calls, ("create", sdks.HELLO)])
    assert all(result.get("text") for result in good), good
    assert (refused["status"], refused["type"]) == (429, "rate_limit_error")
    assert [each["status"] for each in await journal(url, PATH)] == [200] * 4 + [429] * 2  # each key once, and no more


FAULTS: dict[str, dict[str, Any]] = {
    "disconnect": {"kind": "disconnect"},
    "truncate": {"kind": "truncate"},
    "stall": {"kind": "stall", "stall_seconds": 60},
    "malformed": {"kind": "malformed"},
}
IMPATIENT = "[timeouts]\nidle = 1.0\n"
each_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


@each_fault
@ensureDeferred
async def test_fault_before_content(
    start_daemon: StartDaemon, start_llmock: StartLlmock, fault: dict[str, Any]
) -> None:
    """A stream that breaks before its first word is another key's affair; the client gets a whole one."""
    url = await start_llmock()
    await script(url, {"type": "stream_fault", "after_chunks": 0, **fault})
    daemon = await start_daemon(behind(url, more=IMPATIENT))
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, answer.whole) == (200, True)
    assert sdks.kinds(wire.types(answer.events)) == sdks.EVENTS
    assert [bool(each["fault"]) for each in await journal(url, PATH)] == [True, False]


@each_fault
@ensureDeferred
async def test_fault_after_content(start_daemon: StartDaemon, start_llmock: StartLlmock, fault: dict[str, Any]) -> None:
    """A stream that breaks later ends with an error event: what was said so far never passes for all of it."""
    url = await start_llmock("--response-style", "echo", "--stream-chunk-delay-ms", "100")
    await script(url, {"type": "stream_fault", "after_chunks": 2, **fault})
    daemon = await start_daemon(behind(url, more=IMPATIENT))
    answer = await wire.post(daemon.port, wire.Message(prompt="one two three four five", stream=True).encode())
    assert (answer.status, answer.whole) == (200, True)
    assert answer.text
    assert "five" not in answer.text
    assert answer.events[-1]["type"] == "error"
    assert "message_stop" not in wire.types(answer.events)
    assert len(await journal(url, PATH)) == 1


@each_sdk
@ensureDeferred
async def test_sdks_raise(start_daemon: StartDaemon, start_llmock: StartLlmock, sdk: Client) -> None:
    """What a developer catches of such a stream is an error of the API."""
    url = await start_llmock("--response-style", "echo", "--stream-chunk-delay-ms", "50")
    await script(url, {"type": "stream_fault", "kind": "truncate", "after_chunks": 2, "times": 2})
    daemon = await start_daemon(behind(url))
    hello = {**sdks.HELLO, "messages": [{"role": "user", "content": "one two three four five"}]}
    for result in await sdks.use(sdk, daemon.url, [("stream", hello), ("events", hello)]):
        assert result["type"] == "api_error", result


@ensureDeferred
async def test_slow_first_token(start_daemon: StartDaemon, start_llmock: StartLlmock) -> None:
    """While the model thinks the client is kept awake by pings, and then gets the same message."""
    url = await start_llmock()
    await script(url, {"type": "slow_first_token", "seconds": 2})
    more = "[streaming]\nhead_commit = 0.5\nkeepalive = 0.3\n"
    daemon = await start_daemon(behind(url, more=more))
    began = time.monotonic()
    answer = await wire.post(daemon.port, STREAMED)
    assert time.monotonic() - began > 2.0
    assert sdks.kinds(wire.types(answer.events)) == sdks.EVENTS
    assert answer.body.count(b"event: ping") >= 3


@each_sdk
@ensureDeferred
async def test_broken_tool_call(start_daemon: StartDaemon, start_llmock: StartLlmock, sdk: Client) -> None:
    """A tool that nobody offered is called under the name that the model gave it: the client's to refuse."""
    url = await start_llmock()
    await script(url, {"type": "tool_fault", "kind": "unknown_tool"})
    daemon = await start_daemon(behind(url))
    first, last = await sdks.loop(sdk, daemon.url, "Write a file", {"llmock_unknown_tool": "there is no such tool"})
    (call,) = [block for block in first["content"] if block["type"] == "tool_use"]
    assert (call["name"], first["stop"], last["stop"]) == ("llmock_unknown_tool", "tool_use", "end_turn")


OF_MESSAGES = {"path": "*:*enerateContent"}  # the daemon also asks for models
ERRORS = {400: "invalid_request_error", 413: "request_too_large"}


@pytest.mark.parametrize("status", ERRORS)
@ensureDeferred
async def test_faults_of_the_request(start_daemon: StartDaemon, start_llmock: StartLlmock, status: int) -> None:
    """What is wrong with the request is told in words of Google's and a type of Claude's; no second key is asked."""
    url = await start_llmock()
    await script(url, {"type": "fail", "status": status, "message": "no such luck", "match": OF_MESSAGES})
    daemon = await start_daemon(behind(url))
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, answer.json["error"]["type"]) == (status, ERRORS[status])
    assert "no such luck" in answer.json["error"]["message"]
    assert len(await journal(url, PATH)) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
@ensureDeferred
async def test_faults_of_a_key(start_daemon: StartDaemon, start_llmock: StartLlmock, status: int) -> None:
    """Whatever else the first key is answered, the second one serves."""
    url = await start_llmock()
    await script(url, {"type": "fail", "status": status, "match": OF_MESSAGES})
    daemon = await start_daemon(behind(url))
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, sdks.kinds(wire.types(answer.events))) == (200, sdks.EVENTS)
    assert [each["status"] for each in await journal(url, PATH)] == [status, 200]


@ensureDeferred
async def test_context_window(start_daemon: StartDaemon, start_llmock: StartLlmock) -> None:
    """A prompt that is too long is told so in the words that clients shorten their history on."""
    url = await start_llmock("--context-window", "100")
    daemon = await start_daemon(behind(url))
    answer = await wire.post(daemon.port, wire.Message(prompt="word " * 500).encode())
    assert answer.status == 400
    told = json.loads(answer.body)["error"]["message"]
    assert told.startswith("prompt is too long: "), told
    assert told.endswith(" tokens > 100 maximum")


@ensureDeferred
async def test_everything_at_random(start_daemon: StartDaemon, start_llmock: StartLlmock) -> None:
    """On an upstream that breaks half of all it does, each of a hundred answers is either whole or says that it is not,
    and most are whole."""
    faults = [f"--stream-fault={kind}=0.1" for kind in ("disconnect", "truncate", "malformed")]
    errors = [f"--error-rate={status}=0.05" for status in (401, 429, 500, 503)]
    url = await start_llmock("--response-style", "echo", "--stream-chunk-delay-ms", "5", *faults, *errors)
    keys = [f"key-{number}" for number in range(20)]
    daemon = await start_daemon(behind(url, *keys))
    asked = wire.Message(prompt="one two three four five", stream=True).encode()
    came = await gatherResults([start(wire.post(daemon.port, asked, within=60)) for _ in range(100)])
    whole = [answer for answer in came if answer.status == 200 and answer.events[-1]["type"] == "message_stop"]
    assert {answer.text for answer in whole} == {whole[0].text}
    assert whole[0].text.endswith("five")
    for answer in came:
        assert answer.whole
        if answer not in whole:
            told = answer.json if answer.status != 200 else answer.events[-1]
            assert told["type"] == "error", answer
    told = Counter(answer.status for answer in came if answer not in whole)
    print(f"{len(whole)} whole, others by status {dict(told)}; llmock had {len(await journal(url, PATH))} requests")
    assert len(whole) > 40
