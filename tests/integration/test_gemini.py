"""Google's API as the daemon's upstream, by a script that Google's own SDK takes for Google's API."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, sdks, wire
from tests.integration.support import gemini as google
from tests.integration.support.claude_code import prompt
from tests.integration.support.clients import CLAUDE_CODE, Client
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.every_client import each_client
from tests.integration.support.gemini import AS_GEMINI, AS_THREE, MODELS, SIGNATURE, Gemini, frame, said
from tests.integration.support.process import eventually, run
from tests.integration.support.upstream import Answer, Exchange

each_sdk = pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
STREAMED = wire.Message(stream=True).encode()
WHOLE = wire.Message().encode()
OVERLOADED = google.failure(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
IN_CLAUDES_WORDS = "prompt is too long: 1048999 tokens > 1048576 maximum"


def behind(upstream: Gemini, *keys: str, models: str = AS_GEMINI) -> str:
    """A configuration with *upstream* as its only provider."""
    return models + provider(upstream, *(keys or ("key-a", "key-b")), kind="gemini")


def in_array(*responses: Any, apart: bool = False) -> Answer:
    """A stream in the other framing: one JSON array, as it grows."""
    first, *rest = (json.dumps(response, indent=2).encode() for response in responses)
    parts = [b"[" + first, *(b"\n,\r\n" + each for each in rest), b"\n]"]
    return answers.stream(parts, apart=apart, headers={"content-type": "application/json; charset=UTF-8"})


# -- the script is Google's API, as far as Google's SDK can tell


@ensureDeferred
async def test_the_script_is_taken_for_google(gemini: Gemini) -> None:
    """Google's own SDK reads the script's answers: whole, streamed, calls, refusals, counts and lists."""
    quota = google.error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", _retry_in("7s"))
    calling = google.saying(google.call("look", {"for": "ö"}, SIGNATURE))
    gemini.script(google.usual(), google.usual(), calling, quota, google.usual())
    ask = {"model": "gemini-3-pro-preview", "contents": "say hi"}
    calls = [("generate", ask), ("stream", ask), ("generate", ask), ("generate", ask), ("count", ask), ("models", {})]
    program = Path(__file__).parent / "programs/genai.py"
    ended = await run([sys.executable, program, gemini.url, "g-key", json.dumps(calls)])
    assert ended.code == 0, ended.err
    whole, streamed, called, refused, counted, listed = json.loads(ended.out)
    assert whole == {"parts": [{"text": "hel"}, {"text": "lo"}], "finish": "STOP", "tokens": 12}
    assert [chunk["parts"][0]["text"] for chunk in streamed["chunks"]] == ["hel", "lo"]
    assert [chunk["finish"] for chunk in streamed["chunks"]] == [None, "STOP"]
    (part,) = called["parts"]
    assert part["function_call"] == {"name": "look", "args": {"for": "ö"}}
    assert part["thought_signature"].rstrip("=") == SIGNATURE.rstrip("=").replace("/", "_").replace("+", "-")
    assert (refused["error"], refused["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert counted["total_tokens"] == 31
    assert listed["names"][:2] == [f"models/{name}" for name in MODELS]
    assert {request.key for request in gemini.requests} == {"g-key"}


def _retry_in(delay: str) -> dict[str, str]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


# -- what is asked


@each_sdk
@ensureDeferred
async def test_count_tokens(start_daemon: StartDaemon, gemini: Gemini, sdk: Client) -> None:
    """A count comprises the system prompt and the tools: Google is asked about all that a message would send."""
    gemini.script(google.usual())
    daemon = await start_daemon(behind(gemini))
    counted = {**sdks.HELLO, "system": "Be brief.", "tools": [sdks.FILE_TOOL]}
    del counted["max_tokens"]
    (result,) = await sdks.use(sdk, daemon.url, [("count_tokens", counted)])
    assert result == {"input_tokens": 31}
    (request,) = gemini.requests
    assert request.path == "/v1beta/models/gemini-2.5-pro:countTokens"
    asked = request.json["generateContentRequest"]
    assert asked["model"] == "models/gemini-2.5-pro"
    assert asked["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [each["name"] for tool in asked["tools"] for each in tool["functionDeclarations"]] == ["write_file"]
    assert asked["contents"] == [{"role": "user", "parts": [{"text": "say hi"}]}]


@each_sdk
@ensureDeferred
async def test_models(start_daemon: StartDaemon, gemini: Gemini, sdk: Client) -> None:
    """Without any configuration of models an SDK lists those of Google's that answer, and can ask for one by name."""
    gemini.script(google.usual())
    daemon = await start_daemon(behind(gemini, models=""))
    assert {entry["max_input_tokens"] for entry in await _listed(daemon)} == {1_048_576}
    named = {**sdks.HELLO, "model": MODELS[1]}
    listed, created = await sdks.use(sdk, daemon.url, [("models", {}), ("create", named)])
    assert listed["ids"] == list(MODELS)
    assert created["text"] == "hello"
    assert gemini.requests[-1].path == f"/v1beta/models/{MODELS[1]}:generateContent"


async def _listed(daemon: Daemon) -> list[dict[str, Any]]:
    """The models, once they are found: they are looked for beside the requests."""

    async def found() -> list[dict[str, Any]]:
        return (await wire.get(daemon.port, "/v1/models", wire.VERSION)).json["data"]

    await eventually("models are found", found)
    return await found()


@ensureDeferred
async def test_vertex(start_daemon: StartDaemon, gemini: Gemini) -> None:
    """The same on Vertex AI: messages, counts and the list, under a project's paths and with a bearer token."""
    gemini.script(google.usual())
    section = provider(gemini, "token-a", kind="vertex").replace("api_key =", "bearer_token =")
    daemon = await start_daemon(section + 'project = "some-project"\nlocation = "us-east5"\n')
    assert [entry["id"] for entry in await _listed(daemon)] == list(MODELS)
    asked = wire.Message(model=MODELS[0], stream=True).encode()
    answer = await wire.post(daemon.port, asked)
    assert (answer.text, sdks.kinds(wire.types(answer.events))) == ("hello", sdks.EVENTS)
    counted = await wire.post(daemon.port, asked, "/v1/messages/count_tokens")
    assert counted.json == {"input_tokens": 31}
    place = "/v1beta1/projects/some-project/locations/us-east5/publishers/google/models/gemini-2.5-pro"
    methods = [":streamGenerateContent?alt=sse", ":countTokens"]
    assert [request.path for request in gemini.requests] == [place + method for method in methods]
    assert "contents" in gemini.requests[1].json
    assert {request.header("authorization") for request in gemini.requests} == {"Bearer token-a"}


# -- what it signs


@pytest.mark.parametrize("thinking", ["adaptive", "disabled"])
@each_sdk
@ensureDeferred
async def test_signatures(start_daemon: StartDaemon, gemini: Gemini, sdk: Client, thinking: str) -> None:
    """Google gets its signature back on the call that bore it, to the letter, in clients that know of none."""
    args = [{"path": path, "lines": []} for path in ("a", "b")]
    gemini.script(google.two_calls("write_file", *args), google.usual())
    daemon = await start_daemon(behind(gemini, models=AS_THREE))
    more: dict[str, Any] = {"thinking": {"type": thinking}, "max_tokens": 2000}
    first, last = await sdks.loop(sdk, daemon.url, "Write two files", {"write_file": "written"}, **more)
    assert [block["input"] for block in first["content"] if block["type"] == "tool_use"] == args
    assert (first["stop"], last["stop"]) == ("tool_use", "end_turn")
    sent = google.calls(gemini.requests[1])
    assert [part["functionCall"]["args"] for part in sent] == args
    assert [part.get("thoughtSignature") for part in sent] == [SIGNATURE, None]


@pytest.mark.parametrize("event", ["restart", "reload"])
@ensureDeferred
async def test_signatures_outlive(start_daemon: StartDaemon, gemini: Gemini, tmp_path: Path, event: str) -> None:
    """A conversation that goes on after a restart or a new configuration still has what Google signed in it."""
    calling = google.saying(google.call("write_file", {"path": "a", "lines": []}, SIGNATURE))
    gemini.script(calling, google.usual())
    state = f"sqlite:{tmp_path / 'state.db'}" if event == "restart" else "memory:"
    asked: dict[str, Any] = {"tools": [sdks.FILE_TOOL], "thinking": {"type": "disabled"}}
    daemon = await start_daemon(behind(gemini, models=AS_THREE), state=state)
    content = (await wire.post(daemon.port, wire.Message(more=asked).encode())).json["content"]
    if event == "restart":
        await daemon.stop()
        daemon = await start_daemon(behind(gemini, models=AS_THREE), state=state)
    else:
        daemon.rewrite(behind(gemini, "key-c", models=AS_THREE))
        daemon.signal("HUP")
        await eventually("the new configuration is there", lambda: "reloaded: " in daemon.log)
    result = {"type": "tool_result", "tool_use_id": content[0]["id"], "content": "written"}
    turns = [("user", "say hi"), ("assistant", content), ("user", [result])]
    messages = [{"role": role, "content": each} for role, each in turns]
    answer = await wire.post(daemon.port, wire.Message(more={**asked, "messages": messages}).encode())
    assert answer.status == 200, answer.body
    (call,) = google.calls(gemini.requests[-1])
    assert call["thoughtSignature"] == SIGNATURE
    assert event == "restart" or gemini.requests[-1].key == "key-c"


# -- too long


@each_sdk
@ensureDeferred
async def test_overflow(start_daemon: StartDaemon, gemini: Gemini, sdk: Client) -> None:
    """A prompt beyond the model's window is refused in the words of the Claude API, and no second key is asked."""
    gemini.script(google.too_long())
    daemon = await start_daemon(behind(gemini))
    results = await sdks.use(sdk, daemon.url, [("create", sdks.HELLO), ("stream", sdks.HELLO)])
    assert [(each["status"], each["type"]) for each in results] == [(400, "invalid_request_error")] * 2
    assert all(IN_CLAUDES_WORDS in each["message"] for each in results)
    assert len(gemini.requests) == 2


# -- how it may be answered

FRAMED: dict[str, Answer] = {
    "array": in_array(said("hel"), said("lo", finish="STOP")),
    "array, slowly": in_array(said("hel"), said("lo", finish="STOP"), apart=True),
    "array of one": in_array(said("hello", finish="STOP")),
    "counts later": google.stream(
        said("hello"), {"candidates": [{"finishReason": "STOP"}]}, {"usageMetadata": google.COUNTS}
    ),
    "byte by byte": answers.stream([b"%c" % byte for byte in frame(said("hello", finish="STOP"))], pace=0.001),
    "gzip": answers.stream(
        [gzip.compress(frame(said("hel")) + frame(said("lo", finish="STOP")))], headers={"content-encoding": "gzip"}
    ),
    "gzip, undeclared": answers.stream([gzip.compress(frame(said("hello", finish="STOP")))]),
}


@pytest.mark.parametrize("framed", FRAMED.values(), ids=FRAMED)
@ensureDeferred
async def test_streams(start_daemon: StartDaemon, gemini: Gemini, framed: Answer) -> None:
    """However a proxy on Google's way frames, splits or packs a stream, it is the same to the client."""
    gemini.script(framed)
    daemon = await start_daemon(behind(gemini))
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, answer.whole, answer.text) == (200, True, "hello")
    assert sdks.kinds(wire.types(answer.events)) == sdks.EVENTS
    assert answer.headers["content-type"].startswith("text/event-stream")
    (delta,) = [event for event in answer.events if event["type"] == "message_delta"]
    assert (delta["delta"]["stop_reason"], delta["usage"]["output_tokens"]) == ("end_turn", 7)


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
@ensureDeferred
async def test_packed(start_daemon: StartDaemon, gemini: Gemini, declared: bool) -> None:
    """A whole answer that comes as gzip is read, and given to the client as it can read it."""
    gemini.script(answers.packed(json.dumps(said("hello", finish="STOP")).encode(), declared))
    daemon = await start_daemon(behind(gemini))
    answer = await wire.post(daemon.port, WHOLE)
    assert answer.json["content"] == [{"type": "text", "text": "hello"}]
    assert "content-encoding" not in answer.headers
    assert "gzip" in (gemini.requests[0].header("accept-encoding") or "")


# -- what goes wrong

BEFORE: dict[str, Answer] = {
    "error": google.stream(OVERLOADED),
    "error in an array": in_array(OVERLOADED),
    "error instead of the rest": google.stream(said(), OVERLOADED),
    "no finishReason": google.stream(said()),
    "nothing": answers.stream([]),
    "an empty array": answers.stream([b"[]"], headers={"content-type": "application/json"}),
    "no JSON": answers.stream([b"data: {oh no\r\n\r\n"]),
    "HTML": answers.whole(b"<html>", headers={"content-type": "text/html"}),
    "cut": answers.cut_stream([frame(said())]),
    "reset": answers.cut_stream([frame(said())], reset=True),
    "no more quota": google.error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", _retry_in("30s")),
    "no more quota, in an array": answers.whole(
        json.dumps([google.failure(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", _retry_in("30s"))]).encode(), 429
    ),
    "a wrong key": google.error(
        400,
        "INVALID_ARGUMENT",
        "API key not valid. Please pass a valid API key.",
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
    ),
    "a call that is none": google.stream(
        {"candidates": [{"content": {}, "finishReason": "MALFORMED_FUNCTION_CALL"}], "usageMetadata": google.COUNTS}
    ),
}


@pytest.mark.parametrize("failure", BEFORE.values(), ids=BEFORE)
@ensureDeferred
async def test_failure_before_content(start_daemon: StartDaemon, gemini: Gemini, failure: Answer) -> None:
    """However it fails before it has said anything, the client gets one whole answer and learns of nothing."""
    gemini.script(failure, google.usual())
    daemon = await start_daemon(behind(gemini))
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, answer.whole, answer.text) == (200, True, "hello"), answer.body
    assert wire.types(answer.events).count("message_start") == 1
    assert sdks.kinds(wire.types(answer.events)) == sdks.EVENTS
    assert len(gemini.requests) == 2


AFTER: dict[str, Answer] = {
    "error": google.stream(said("half"), OVERLOADED, apart=True),
    "error in an array": in_array(said("half"), OVERLOADED, apart=True),
    "no finishReason": google.stream(said("half"), apart=True),
    "an array without its end": answers.cut_stream([b"[" + json.dumps(said("half")).encode()]),
    "no JSON": answers.stream([frame(said("half")), b"data: {oh no\r\n\r\n"], apart=True),
    "cut": answers.cut_stream([frame(said("half"))]),
    "a thought and no answer": google.stream(said({"text": "half", "thought": True}), apart=True),
}


@pytest.mark.parametrize("failure", AFTER.values(), ids=AFTER)
@ensureDeferred
async def test_failure_after_content(start_daemon: StartDaemon, gemini: Gemini, failure: Answer) -> None:
    """Once something was said no other key can go on: an error ends the stream, and no end of a message comes."""
    gemini.script(failure)
    daemon = await start_daemon(behind(gemini))
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    answer = await wire.post(daemon.port, wire.Message(stream=True, max_tokens=2000, more=thinking).encode())
    assert (answer.status, answer.whole) == (200, True)
    assert b"half" in answer.body
    types = wire.types(answer.events)
    assert (types[-1], types.count("error")) == ("error", 1)
    assert not {"message_delta", "message_stop"} & set(types)
    assert len(gemini.requests) == 1


@each_client
@ensureDeferred
async def test_clients_and_a_stream_without_an_end(
    start_daemon: StartDaemon, gemini: Gemini, tmp_path: Path, client: Client
) -> None:
    """A stream that stops without a word raises in an SDK; Claude Code asks again, and shows the whole answer."""
    gemini.script(google.stream(said("half"), apart=True), google.usual())
    daemon = await start_daemon(behind(gemini, "key-a"))
    if client is CLAUDE_CODE:
        result = await prompt(daemon.url, "say hi", tmp_path)
        assert (result.code, result.out.strip()) == (0, "hello"), result
    else:
        (told,) = await sdks.use(client, daemon.url, [("stream", sdks.HELLO)])
        assert told["type"] == "api_error", told


@each_sdk
@ensureDeferred
async def test_refusal(start_daemon: StartDaemon, gemini: Gemini, sdk: Client) -> None:
    """A prompt that Google blocks is a refusal, as Claude's own are: no error, and nothing is tried twice."""
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 5}}
    gemini.script(google.whole(blocked), google.stream(blocked))
    daemon = await start_daemon(behind(gemini))
    results = await sdks.use(sdk, daemon.url, [("create", sdks.HELLO), ("stream", sdks.HELLO)])
    assert [result.get("stop_reason") for result in results] == ["refusal"] * 2, results
    assert len(gemini.requests) == 2


@ensureDeferred
async def test_short_quota_is_waited_for(start_daemon: StartDaemon, gemini: Gemini) -> None:
    """When its only key is to come back in two seconds, a request takes two seconds more, and is served."""
    gemini.script(google.error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", _retry_in("2s")), google.usual())
    daemon = await start_daemon(behind(gemini, "key-a"))
    began = reactor.seconds()
    answer = await wire.post(daemon.port, WHOLE)
    assert (answer.status, answer.json["content"][0]["text"]) == (200, "hello")
    assert 2.0 <= reactor.seconds() - began < 10.0


@ensureDeferred
async def test_client_leaves(start_daemon: StartDaemon, gemini: Gemini) -> None:
    """When a client leaves in the middle of an answer, Google is told at once: what nobody reads is not paid for."""

    async def endless(exchange: Exchange) -> None:
        await google.stream(said("half"), end=False)(exchange)
        await exchange.until_gone()

    gemini.script(endless)
    daemon = await start_daemon(behind(gemini))
    client = await wire.stream(daemon.port)
    await client.until(b"half")
    client.reset()
    await eventually("the upstream's connection is closed", lambda: gemini.exchanges[0].gone)
