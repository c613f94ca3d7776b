"""A server of chat completions as the daemon's upstream, by a script that OpenAI's own SDK takes for OpenAI's API."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, sdks, wire
from tests.integration.support import chat as openai
from tests.integration.support.chat import ChatServer, as_model, delta
from tests.integration.support.clients import PYTHON_SDK, TYPESCRIPT_SDK, Client
from tests.integration.support.daemon import provider
from tests.integration.support.process import eventually, run
from tests.integration.support.upstream import Answer

each_sdk = pytest.mark.parametrize("sdk", [PYTHON_SDK, TYPESCRIPT_SDK], ids=lambda sdk: sdk.name)
STREAMED = wire.Message(stream=True).encode()
WHOLE = wire.Message().encode()
ARGS = {"path": "a.txt", "lines": ["ö", '"', "\\"]}


def behind(upstream: ChatServer, *keys: str, model: str = "gpt-4.1", more: str = "") -> str:
    """A configuration with *upstream* as its only provider."""
    section = provider(f"{upstream.url}/v1", *(keys or ("key-a", "key-b")), kind="openai-chat", more=more)
    return (as_model(model) if model else "") + section


# -- the script is OpenAI's API, as far as OpenAI's SDK can tell


@ensureDeferred
async def test_the_script_is_taken_for_openai(chat: ChatServer) -> None:
    """OpenAI's own SDK reads the script's answers: whole, streamed, calls, refusals, and lists."""
    calling = openai.saying("So.", calls=[openai.call("look", {"for": "ö"})])
    refused = openai.whole(openai.failure("No more", "insufficient_quota"), 429)
    broken = openai.stream(openai.failure("Slow down", "slow_down"))
    chat.script(openai.usual(), openai.usual(), calling, calling, refused, broken)
    ask = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "say hi"}]}
    calls = [("create", ask), ("stream", ask), ("create", ask), ("stream", ask), ("create", ask), ("stream", ask)]
    program = Path(__file__).parent / "programs/openai_sdk.py"
    ended = await run([sys.executable, program, f"{chat.url}/v1", "o-key", json.dumps([*calls, ("models", {})])])
    assert ended.code == 0, ended.err
    whole, streamed, *called, no_money, too_fast, listed = json.loads(ended.out)
    assert whole == streamed == {"text": "hello", "calls": [], "finish": "stop", "tokens": 12}
    looked = {"text": "So.", "calls": [["call_1", "look", {"for": "ö"}]], "finish": "tool_calls", "tokens": 12}
    assert called == [looked, looked]
    assert (no_money["error"], no_money["code"]) == (429, "insufficient_quota")
    assert too_fast["code"] == "slow_down"
    assert listed["names"] == list(openai.MODELS)
    assert {request.key for request in chat.requests} == {"o-key"}


# -- what is asked


@each_sdk
@ensureDeferred
async def test_messages(start_daemon: StartDaemon, chat: ChatServer, sdk: Client) -> None:
    """An SDK made for Claude gets a whole message, a stream and an estimate of tokens, which nobody else is asked."""
    chat.script(openai.usual())
    daemon = await start_daemon(behind(chat))
    counted = {name: value for name, value in sdks.HELLO.items() if name != "max_tokens"}
    created, streamed, events, count = await sdks.use(
        sdk,
        daemon.url,
        [("create", sdks.HELLO), ("stream", sdks.HELLO), ("events", sdks.HELLO), ("count_tokens", counted)],
    )
    assert created["text"] == streamed["text"] == "hello"
    assert sdks.kinds(events["types"]) == sdks.EVENTS
    assert 0 < count["input_tokens"] < 50
    assert [request.path for request in chat.requests] == ["/v1/chat/completions"] * 3
    assert {request.key for request in chat.requests} <= {"key-a", "key-b"}


@ensureDeferred
async def test_count_tokens(start_daemon: StartDaemon, chat: ChatServer) -> None:
    """The estimate is marked as one."""
    daemon = await start_daemon(behind(chat))
    answer = await wire.post(daemon.port, WHOLE, "/v1/messages/count_tokens")
    assert (answer.status, answer.headers["x-claudeproxyd-estimate"]) == (200, "true")
    assert chat.requests == []


@ensureDeferred
async def test_models(start_daemon: StartDaemon, chat: ChatServer) -> None:
    """Without any configuration of models the server's are listed, and each answers."""
    chat.script(openai.usual())
    daemon = await start_daemon(behind(chat, model=""))

    async def listed() -> Any:
        return [each["id"] for each in (await wire.get(daemon.port, "/v1/models", wire.VERSION)).json["data"]]

    await eventually("models are found", listed)
    assert await listed() == list(openai.MODELS)
    answer = await wire.post(daemon.port, wire.Message(model="gpt-5.2").encode())
    assert answer.json["content"] == [{"type": "text", "text": "hello"}]
    assert chat.requests[-1].json["model"] == "gpt-5.2"


@each_sdk
@ensureDeferred
async def test_tools(start_daemon: StartDaemon, chat: ChatServer, sdk: Client) -> None:
    """Calls arrive letter by letter, results are seen by the model, and reasoning goes back to who wants it."""
    calls = [openai.call("write_file", ARGS), openai.call("write_file", {"path": "b", "lines": []}, "call_2", 1)]
    chat.script(openai.saying("So.", reasoning="Two files.", calls=calls), openai.usual())
    daemon = await start_daemon(behind(chat, model="deepseek-v4", more='dialect = "deepseek"'))
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
    first, last = await sdks.loop(sdk, daemon.url, "Write two files", {"write_file": "written"}, **thinking)
    assert ARGS in [block.get("input") for block in first["content"]]
    assert (first["stop"], last["stop"]) == ("tool_use", "end_turn")
    asked = chat.requests[1]
    assert openai.results_of(asked) == ["written", "written"]
    assert [each["id"] for each in openai.calls_of(asked)] == ["call_1", "call_2"]
    assert asked.json["messages"][1]["reasoning_content"] == "Two files."
    assert asked.json["thinking"] == {"type": "enabled"}


# -- what goes wrong


@each_sdk
@ensureDeferred
async def test_overflow(start_daemon: StartDaemon, chat: ChatServer, sdk: Client) -> None:
    """A prompt beyond the model's window is refused in the words of the Claude API, and no second key is asked."""
    chat.script(openai.too_long())
    daemon = await start_daemon(behind(chat))
    results = await sdks.use(sdk, daemon.url, [("create", sdks.HELLO), ("stream", sdks.HELLO)])
    assert [(each["status"], each["type"]) for each in results] == [(400, "invalid_request_error")] * 2
    assert all("prompt is too long: 130000 tokens > 128000 maximum" in each["message"] for each in results)
    assert len(chat.requests) == 2


SLOW = openai.failure("Slow down", "slow_down")
BEFORE: dict[str, Answer] = {
    "error": openai.stream(SLOW),
    "error with a reason": openai.stream({**delta("error", content=""), **SLOW}, "[DONE]"),
    "flat error": openai.stream({"object": "error", "message": "no", "type": "InternalServerError", "code": 500}),
    "no reason": openai.stream(delta(content="")),
    "done alone": openai.stream("[DONE]"),
    "nothing": answers.stream([]),
    "page": answers.whole(b"<html>Sign in</html>", headers={"content-type": "text/html"}),
    "damage": openai.stream('{"choices": [}'),
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@ensureDeferred
async def test_before_content(start_daemon: StartDaemon, chat: ChatServer, before: Answer) -> None:
    """What fails before the first word is another's to answer; the client sees nothing of it."""
    chat.script(before, openai.usual())
    daemon = await start_daemon(behind(chat))
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, answer.whole, answer.text) == (200, True, "hello")
    assert len(chat.requests) == 2


@ensureDeferred
async def test_after_content(start_daemon: StartDaemon, chat: ChatServer) -> None:
    """What fails in mid-stream is an error there, and never half an answer that looks whole."""
    for after in (openai.stream(delta(content="hel"), pace=0.05), openai.stream(delta(content="hel"), SLOW, pace=0.05)):
        chat.script(after)
        daemon = await start_daemon(behind(chat))
        answer = await wire.post(daemon.port, STREAMED)
        assert (answer.text, answer.events[-1]["type"]) == ("hel", "error")


@ensureDeferred
async def test_open_end(start_daemon: StartDaemon, chat: ChatServer) -> None:
    """A connection that stays open after [DONE] keeps no client waiting."""
    chat.script(openai.stream(delta(content="hello"), delta("stop"), "[DONE]", end=False))
    daemon = await start_daemon(behind(chat))
    answer = await wire.post(daemon.port, STREAMED, within=10)
    assert (answer.text, answer.events[-1]["type"]) == ("hello", "message_stop")
