"""The Responses API as the daemon's upstream, by a script that OpenAI's own SDK takes for OpenAI's API."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import responses as openai
from tests.integration.support import sdks, wire
from tests.integration.support.chat import as_model, failure
from tests.integration.support.clients import PYTHON_SDK, TYPESCRIPT_SDK, Client
from tests.integration.support.daemon import provider
from tests.integration.support.process import run
from tests.integration.support.responses import Responses

each_sdk = pytest.mark.parametrize("sdk", [PYTHON_SDK, TYPESCRIPT_SDK], ids=lambda sdk: sdk.name)
STREAMED = wire.Message(stream=True).encode()
ARGS = {"path": "a.txt", "lines": ["ö", '"', "\\"]}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 5000}


def behind(upstream: Responses, *keys: str, model: str = "gpt-5.4", more: str = "") -> str:
    """A configuration with *upstream* as its only provider."""
    section = provider(f"{upstream.url}/v1", *(keys or ("key-a", "key-b")), kind="openai-responses", more=more)
    return (as_model(model) if model else "") + section


# -- the script is OpenAI's API, as far as OpenAI's SDK can tell


@ensureDeferred
async def test_the_script_is_taken_for_openai(responses: Responses) -> None:
    """OpenAI's own SDK reads the script's answers: whole, streamed, calls, refusals, counts and lists."""
    calling = openai.saying(openai.thought("Hm.", "gAAA"), openai.call("look", {"for": "ö"}), "So.")
    refused = openai.whole(failure("No more", "insufficient_quota"), 429)
    responses.script(openai.usual(), openai.usual(), calling, calling, refused)
    ask = {"model": "gpt-5.4", "input": "say hi"}
    calls = [("create", ask), ("stream", ask), ("create", ask), ("stream", ask), ("create", ask), ("count", ask)]
    program = Path(__file__).parent / "programs/openai_responses.py"
    ended = await run([sys.executable, program, f"{responses.url}/v1", "o-key", json.dumps([*calls, ("models", {})])])
    assert ended.code == 0, ended.err
    whole, streamed, called, called_in_pieces, no_money, counted, listed = json.loads(ended.out)
    types = streamed.pop("types")
    assert whole == streamed == {"text": "hello", "calls": [], "sealed": [], "status": "completed", "tokens": 12}
    assert (types[0], types[-1]) == ("response.created", "response.completed")
    called_in_pieces.pop("types")
    assert called == called_in_pieces
    assert (called["calls"], called["sealed"]) == ([["call_1", "look", {"for": "ö"}]], ["gAAA"])
    assert (no_money["error"], no_money["code"]) == (429, "insufficient_quota")
    assert counted["input_tokens"] == 31
    assert listed["names"] == list(openai.MODELS)
    assert {request.key for request in responses.requests} == {"o-key"}


# -- what is asked


@each_sdk
@ensureDeferred
async def test_messages(start_daemon: StartDaemon, responses: Responses, sdk: Client) -> None:
    """An SDK made for Claude gets a whole message, a stream and a count of tokens."""
    responses.script(openai.usual())
    daemon = await start_daemon(behind(responses))
    counted = {name: value for name, value in sdks.HELLO.items() if name != "max_tokens"}
    calls = [("create", sdks.HELLO), ("stream", sdks.HELLO), ("events", sdks.HELLO), ("count_tokens", counted)]
    created, streamed, events, count = await sdks.use(sdk, daemon.url, calls)
    assert created["text"] == streamed["text"] == "hello"
    assert created["stop_reason"] == streamed["stop_reason"] == "end_turn"
    assert sdks.kinds(events["types"]) == sdks.EVENTS
    assert count["input_tokens"] == 31
    assert [request.path for request in responses.requests] == ["/v1/responses"] * 3
    assert [request.json.get("stream") for request in responses.requests] == [None, True, True]


@each_sdk
@ensureDeferred
async def test_tools(start_daemon: StartDaemon, responses: Responses, sdk: Client) -> None:
    """Two calls with reasoning ahead of each: all of it goes back, in its order, and OpenAI takes it."""
    name = sdks.FILE_TOOL["name"]
    first = openai.saying(
        openai.thought("One.", "gAAA1"),
        openai.call(name, ARGS, "call_1"),
        openai.thought("Two.", "gAAA2"),
        openai.call(name, ARGS, "call_2"),
    )
    responses.script(first, openai.saying("Done."))
    daemon = await start_daemon(behind(responses))
    turn, last = await sdks.loop(sdk, daemon.url, "Write files", {name: "written"}, **THINKING)
    assert [block["type"] for block in turn["content"]] == ["thinking", "tool_use"] * 2
    assert [block["input"] for block in turn["content"] if block["type"] == "tool_use"] == [ARGS] * 2
    assert (turn["stop"], last["stop"]) == ("tool_use", "end_turn")
    sent = responses.requests[-1]
    kinds = [item["type"] for item in sent.json["input"]]
    assert kinds == ["message", *["reasoning", "function_call"] * 2, *["function_call_output"] * 2]
    sealed = [(item["summary"][0]["text"], item["encrypted_content"]) for item in openai.items(sent, "reasoning")]
    assert sealed == [("One.", "gAAA1"), ("Two.", "gAAA2")]
    assert [json.loads(item["arguments"]) for item in openai.items(sent, "function_call")] == [ARGS] * 2
    assert sent.json["store"] is False


# -- what is not as it should be


@ensureDeferred
async def test_unopened_reasoning(start_daemon: StartDaemon, responses: Responses) -> None:
    """Reasoning that OpenAI cannot open is left out, once, and the same key serves."""
    responses.script(openai.saying(openai.thought("Hm.", "gAAA"), "So."), openai.unopened(), openai.saying("On."))
    daemon = await start_daemon(behind(responses))
    asked = {"thinking": {"type": "adaptive"}}
    first = await wire.post(daemon.port, wire.Message(max_tokens=5000, more=asked).encode())
    history = [
        {"role": "user", "content": "say hi"},
        {"role": "assistant", "content": first.json["content"]},
        {"role": "user", "content": "Go on."},
    ]
    second = await wire.post(daemon.port, wire.Message(max_tokens=5000, more={**asked, "messages": history}).encode())
    assert second.json["content"][-1]["text"] == "On.", second.body
    kinds = [[item["type"] for item in request.json["input"]] for request in responses.requests]
    assert kinds == [["message"], ["message", "reasoning", "message", "message"], ["message"] * 3]
    assert len({request.key for request in responses.requests[1:]}) == 1


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@ensureDeferred
async def test_failed(start_daemon: StartDaemon, responses: Responses, stream: bool) -> None:
    """An answer that failed, with a 200, is given by another key."""
    error = {"code": "rate_limit_exceeded", "message": "Rate limit reached. Please try again in 20s."}
    bad = openai.response("failed", error=error)
    event = {"type": "response.failed", "response": bad}
    begun = {"type": "response.created", "response": openai.response("in_progress")}
    responses.script(openai.stream(begun, event) if stream else openai.whole(bad), openai.usual())
    daemon = await start_daemon(behind(responses))
    answer = await wire.post(daemon.port, wire.Message(stream=stream).encode())
    assert (answer.status, answer.whole) == (200, True), answer.body
    assert (answer.text if stream else answer.json["content"][0]["text"]) == "hello"
    assert len({request.key for request in responses.requests}) == 2


@ensureDeferred
async def test_cut(start_daemon: StartDaemon, responses: Responses) -> None:
    """A stream that ends without its last event ends with an error, never as if it were whole."""
    responses.script(openai.stream(*openai.events(openai.numbered(["hello"]))))
    daemon = await start_daemon(behind(responses))
    answer = await wire.post(daemon.port, STREAMED)
    assert answer.body.rstrip().split(b"\n\n")[-1].startswith(b"event: error"), answer.body
    assert b"event: message_stop" not in answer.body


@ensureDeferred
async def test_too_long(start_daemon: StartDaemon, responses: Responses) -> None:
    """A prompt that is too long is refused in Claude's words."""
    responses.script(openai.too_long())
    daemon = await start_daemon(behind(responses))
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, answer.json["error"]["message"]) == (400, "prompt is too long")


@ensureDeferred
async def test_models(start_daemon: StartDaemon, responses: Responses) -> None:
    """Without models of its own the daemon lists OpenAI's."""
    daemon = await start_daemon(behind(responses, model=""))
    listed = (await wire.get(daemon.port, "/v1/models")).json["data"]
    assert [model["id"] for model in listed] == list(openai.MODELS)
