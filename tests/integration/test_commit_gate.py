"""What a client sees of an upstream's failure: nothing before the message is committed, never silence after it.

Each behaviour is tried with a raw client, for the exact bytes, and where it can look different, with the real ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, claude_code, sdks, wire
from tests.integration.support.clients import CLAUDE_CODE, Client
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.every_client import each_client
from tests.integration.support.upstream import Answer, Exchange, Upstream

#: A head is committed after one second without a content event, and silence then lasts no longer than 0.3 s.
IMPATIENT = "[pool]\nmax_wait = 0.5\n[streaming]\nhead_commit = 1.0\nkeepalive = 0.3\n"
STREAMED = wire.Message(stream=True).encode()
WHOLE = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
]

NOT_YET = {
    "429": answers.error(429, "rate_limit_error", retry_after="30"),
    "401": answers.error(401, "authentication_error", "invalid x-api-key"),
    "402": answers.error(402, "billing_error", "no credit"),
    "403": answers.error(403, "permission_error", "not yours"),
    "404 model": answers.error(404, "not_found_error", "model: claude-opus-5-5"),
    "500": answers.error(500),
    "503 html": answers.whole(b"<html>", 503, {"content-type": "text/html"}),
    "529": answers.error(529, "overloaded_error", "Overloaded"),
    "302": answers.whole(b"", 302, {"location": "/elsewhere"}),
    "200 html": answers.whole(b"<html>hello</html>", 200, {"content-type": "text/html"}),
    "cut before a byte": answers.cut(b""),
    "reset before a byte": answers.cut(b"", reset=True),
    "cut in the head": answers.cut(b"HTTP/1.1 200 OK\r\ncontent-ty"),
    "no HTTP": answers.cut(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "cut before content": answers.cut_stream(answers.start_frames()),
    "reset before content": answers.cut_stream(answers.start_frames(), reset=True),
    "ended before content": answers.stream(answers.start_frames()),
    "empty stream": answers.stream([]),
    "error before content": answers.stream([*answers.start_frames(), answers.error_frame()]),
    "damaged frame": answers.stream([b"event: message_start\ndata: {oh no\n\n"]),
}
BROKEN_LATER = {
    "cut": answers.cut_stream([*answers.start_frames(), answers.text_frame("half")]),
    "reset": answers.cut_stream([*answers.start_frames(), answers.text_frame("half")], reset=True),
    "ended": answers.stream([*answers.start_frames(), answers.text_frame("half")]),
    "cut in a frame": answers.cut_stream([*answers.start_frames(), answers.text_frame("half"), b"event: content_bl"]),
    "damaged frame": answers.stream(
        [*answers.start_frames(), answers.text_frame("half"), b"event: content_block_delta\ndata: {oh no\n\n"],
        apart=True,  # in one read with the content it would be hidden still
    ),
    "without its stop": answers.stream(answers.frames("half")[:-1]),
}


def pings_then(*last: Answer) -> Answer:
    """A stream that shows life for longer than ``head_commit``, then goes on as told."""
    return answers.then(answers.pings(0.2, 8), *last)


async def said(client: Client, daemon: Daemon, folder: Path) -> str:
    """What a streamed prompt brings to this client's user."""
    if client is CLAUDE_CODE:
        result = await claude_code.prompt(daemon.url, "say hi", folder)
        return result.out.strip()
    (result,) = await sdks.use(client, daemon.url, [("stream", sdks.HELLO)])
    return result.get("text") or json.dumps(result)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("failure", NOT_YET.values(), ids=NOT_YET)
@ensureDeferred
async def test_failure_before_content_is_not_seen(
    start_daemon: StartDaemon, upstream: Upstream, failure: Answer, stream: bool
) -> None:
    """However the first upstream fails, another key answers, and the client cannot tell."""
    upstream.script_for("key-a", failure)
    upstream.script_for("key-b", answers.usual())
    daemon = await start_daemon(provider(upstream, "key-a", "key-b") + "[pool]\naffinity = false\n")
    for _ in range(2):  # in rotation one of the two begins with key-a
        answer = await wire.post(daemon.port, wire.Message(stream=stream).encode())
        assert (answer.status, answer.whole) == (200, True), answer.body
        assert not stream or wire.types(answer.events) == WHOLE
        assert stream or answer.json["content"][0]["text"] == "hello"
    assert {request.key for request in upstream.requests} == {"key-a", "key-b"}


@each_client
@ensureDeferred
async def test_failover_between_head_and_message(
    start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path, client: Client
) -> None:
    """An upstream that only pinged and then broke is replaced even after the client got its 200."""
    upstream.script(pings_then(answers.cut(b"")), answers.usual())
    daemon = await start_daemon(provider(upstream, "key-a", "key-b") + IMPATIENT)
    assert await said(client, daemon, tmp_path) == "hello"
    assert [request.key for request in upstream.requests][:2] in (["key-a", "key-b"], ["key-b", "key-a"])


@ensureDeferred
async def test_bytes_of_a_failover_after_the_head(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Between head and message only pings are seen; then one whole message, of the upstream that lived."""
    upstream.script(pings_then(answers.cut(b"")), answers.stream())
    daemon = await start_daemon(provider(upstream, "key-a", "key-b") + IMPATIENT)
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, answer.whole) == (200, True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    kinds = [event["type"] for event in answer.events]
    assert "ping" in kinds
    assert kinds[kinds.index("message_start") :] == WHOLE
    assert set(kinds[: kinds.index("message_start")]) == {"ping"}


@ensureDeferred
async def test_error_after_the_head(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """When nobody is left after the 200 went out, the stream ends with an error event in the API's own shape."""
    upstream.script(pings_then(answers.cut(b"")))
    limits = IMPATIENT.replace("[pool]\n", "[pool]\nmax_attempts = 1\n")
    daemon = await start_daemon(provider(upstream) + limits)
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, answer.whole) == (200, True)
    *before, last = answer.events
    assert {event["type"] for event in before} == {"ping"}
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")
    assert last["request_id"].startswith("req_")


@pytest.mark.parametrize("failure", BROKEN_LATER.values(), ids=BROKEN_LATER)
@ensureDeferred
async def test_break_after_content_is_told(start_daemon: StartDaemon, upstream: Upstream, failure: Answer) -> None:
    """After content went out no other upstream can take over: what came stands, and an error event ends it."""
    upstream.script(failure)
    daemon = await start_daemon(provider(upstream, "key-a", "key-b"))
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, answer.whole, answer.text) == (200, True, "half")
    kinds = wire.types(answer.events)
    assert (kinds[-1], kinds.count("error")) == ("error", 1)
    assert "message_stop" not in kinds
    assert len(upstream.requests) == 1


@ensureDeferred
async def test_error_of_the_upstream_in_a_stream_passes(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """An error event that the upstream itself sends after content reaches the client once, and nothing follows."""
    frames = [*answers.start_frames(), answers.text_frame("half"), answers.error_frame()]
    upstream.script(answers.stream(frames, apart=True))
    daemon = await start_daemon(provider(upstream))
    answer = await wire.post(daemon.port, STREAMED)
    kinds = wire.types(answer.events)
    assert (kinds[-1], kinds.count("error")) == ("error", 1)
    assert answer.events[-1]["error"]["type"] == "overloaded_error"


@ensureDeferred
async def test_message_without_content(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A message without any block, as an instant refusal is, arrives whole."""
    start = answers.start_frames()[0]
    upstream.script(answers.stream([start, *answers.end_frames("refusal")[1:]]))
    daemon = await start_daemon(provider(upstream))
    answer = await wire.post(daemon.port, STREAMED)
    assert wire.types(answer.events) == ["message_start", "message_delta", "message_stop"]


@each_client
@ensureDeferred
async def test_empty_message_with_each_client(
    start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path, client: Client
) -> None:
    """No client is left hanging or told of a fault of ours by a message without content."""
    upstream.script(answers.stream([answers.start_frames()[0], *answers.end_frames()[1:]]))
    daemon = await start_daemon(provider(upstream))
    told = await said(client, daemon, tmp_path)
    if client is not CLAUDE_CODE:
        assert json.loads(told)["stop_reason"] == "end_turn"
    assert len(upstream.requests) >= 1


@ensureDeferred
async def test_max_tokens_zero(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """``max_tokens: 0`` only warms the cache; it passes, and its empty answer comes back."""
    empty = json.dumps(answers.message(content=[], stop_reason="max_tokens")).encode()
    upstream.script(answers.whole(empty))
    daemon = await start_daemon(provider(upstream))
    answer = await wire.post(daemon.port, wire.Message(max_tokens=0).encode())
    assert (answer.status, answer.body) == (200, empty)
    assert upstream.requests[0].json["max_tokens"] == 0


@ensureDeferred
async def test_upstream_that_only_pings(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Pings without content do not hold a client for ever: after ``content`` seconds it is told."""
    upstream.script(answers.pings(0.2, 1000))
    limits = IMPATIENT.replace("[pool]\n", "[pool]\nmax_attempts = 1\n") + "[timeouts]\ncontent = 2.0\n"
    daemon = await start_daemon(provider(upstream) + limits)
    answer = await wire.post(daemon.port, STREAMED)
    assert wire.types(answer.events) == ["error"]
    assert answer.events[-1]["error"]["type"] == "timeout_error"


@ensureDeferred
async def test_pings_of_ours_while_the_upstream_is_silent(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """After the head the client never waits in silence, though the upstream says nothing at all."""
    enough: Deferred[None] = Deferred()

    async def silence(exchange: Exchange) -> None:
        await answers.stream(answers.start_frames(), end=False)(exchange)
        await exchange.until(enough)
        await answers.rest([answers.text_frame("hello"), *answers.end_frames()])(exchange)

    upstream.script(silence)
    daemon = await start_daemon(provider(upstream) + IMPATIENT)
    client = await wire.stream(daemon.port)
    head = await client.head()
    for _ in range(3):
        assert b"event: ping" in await client.chunk()
    enough.callback(None)
    answer = await client.body(head)
    assert (answer.whole, answer.text) == (True, "hello")
    client.reset()


@each_client
@ensureDeferred
async def test_wait_in_the_queue(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path, client: Client) -> None:
    """A wait for the only key, which another client used up, ends in an answer and not in an error."""
    upstream.script(answers.error(429, "rate_limit_error", retry_after="2"), answers.usual())
    waits = "[pool]\nmax_attempts = 1\nmax_wait = 5.0\n[streaming]\nhead_commit = 6.0\nkeepalive = 0.3\n"
    daemon = await start_daemon(provider(upstream) + waits)
    assert (await wire.post(daemon.port, STREAMED)).status == 429
    assert await said(client, daemon, tmp_path) == "hello"


@ensureDeferred
async def test_unknown_model_twice(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A model that no route knows is a 404, the first time and the second; no upstream is asked."""
    model = '[[models]]\nname = "known"\nroutes = [{ provider = "up" }]\n'
    daemon = await start_daemon(provider(upstream) + model)
    for _ in range(2):
        answer = await wire.post(daemon.port, wire.Message(model="unknown").encode())
        assert (answer.status, answer.json["error"]["type"]) == (404, "not_found_error")
        assert "unknown" in answer.json["error"]["message"]
    assert upstream.requests == []


@pytest.mark.parametrize("client", sdks.ALL, ids=lambda client: client.name)
@ensureDeferred
async def test_model_that_the_upstream_does_not_know_twice(
    start_daemon: StartDaemon, upstream: Upstream, client: Client
) -> None:
    """A model unknown upstream stays a 404 in the upstream's words, also while it is not asked again."""
    upstream.script(answers.error(404, "not_found_error", "model: claude-opus-5-5"))
    daemon = await start_daemon(provider(upstream))
    results = await sdks.use(client, daemon.url, [("create", sdks.HELLO), ("stream", sdks.HELLO)])
    for result in results:
        assert (result["status"], result["type"]) == (404, "not_found_error"), result
        assert "model: claude-opus-5-5" in result["message"]


@ensureDeferred
async def test_kept_connection_that_died(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A kept connection that the upstream has given up costs no client anything and no key its place."""
    upstream.script(answers.closing_kept_alive(answers.usual()))
    daemon = await start_daemon(provider(upstream))
    for _ in range(4):
        assert (await wire.post(daemon.port, wire.Message().encode())).status == 200


@ensureDeferred
async def test_early_heads_are_skipped(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A 103 before the answer is not the answer."""
    upstream.script(answers.informed(answers.stream()))
    daemon = await start_daemon(provider(upstream))
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.status, answer.text) == (200, "hello")
    assert "x-early" not in answer.headers


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@ensureDeferred
async def test_upstream_that_says_nothing(start_daemon: StartDaemon, upstream: Upstream, stream: bool) -> None:
    """An upstream that takes a request and never answers is left for another key when its time is up."""
    upstream.script_for("key-a", answers.silent())
    upstream.script_for("key-b", answers.usual())
    limits = "[pool]\nstrategy = 'fill-first'\n[timeouts]\nfirst_byte = 1.0\nfirst_byte_whole = 1.0\n"
    daemon = await start_daemon(provider(upstream, "key-a", "key-b") + limits)
    answer = await wire.post(daemon.port, wire.Message(stream=stream).encode())
    assert answer.status == 200
    assert [request.key for request in upstream.requests] == ["key-a", "key-b"]


@ensureDeferred
async def test_stream_that_falls_silent(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A stream that stops in its middle ends with an error event after ``idle`` seconds; no client is left to hang."""
    upstream.script(answers.then(answers.stream(answers.frames("half")[:3], end=False), answers.silent()))
    daemon = await start_daemon(provider(upstream) + "[timeouts]\nidle = 1.0\n")
    answer = await wire.post(daemon.port, STREAMED)
    assert (answer.whole, answer.text) == (True, "half")
    assert answer.events[-1]["error"]["type"] == "timeout_error"
