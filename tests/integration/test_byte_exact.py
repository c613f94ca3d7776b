"""With an Anthropic upstream every byte passes as it is, both ways; a renamed model changes its own bytes only."""

from __future__ import annotations

import hashlib

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import provider
from tests.integration.support.upstream import Upstream

HI = b'"messages":[{"role":"user","content":"hi"}]'
#: What stands before and after the value of ``model``.
BODIES = {
    "escapes": (
        b'{"model":',
        rb',"max_tokens":9,"messages":[{"role":"user","content":"\u0041\ud83d\ude00\/\b"}]}',
    ),
    "numbers": (b'{"model":', b',"max_tokens":9,"temperature":1.0,"top_p":1E2,"n":12345678901234567890,' + HI + b"}"),
    "spacing": (b' {\r\n\t"model" :  ', b' ,\n "max_tokens":9 ,' + HI + b"\n}\n "),
    "twice": (b'{"model":', b',"max_tokens":9,"x":1,"x":2,"metadata":{"a":1,"a":2},' + HI + b"}"),
    "late": (b'{"max_tokens":9,' + HI + b',"model":', b"}"),
    "nested": (
        b'{"metadata":{"model":"alias"},"max_tokens":9,"tools":[{"name":"model","input_schema":{"model":"alias"}}],'
        rb'"messages":[{"role":"user","content":"\"model\":\"alias\""}],"model":',
        b',"more":{"model":"alias"}}',
    ),
    "escaped name": (rb'{"max_tokens":9,"m\u006fdel":', b"," + HI + b"}"),
    "deep": (b'{"model":', b',"max_tokens":9,"x":' + b"[" * 400 + b"]" * 400 + b"," + HI + b"}"),
    "unicode": (b'{"model":', ',"max_tokens":9,"messages":[{"role":"user","content":"né 😀 \u2028"}]}'.encode()),
}
each_body = pytest.mark.parametrize("parts", BODIES.values(), ids=BODIES)
each_way = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

ODD_MESSAGE = rb""" { "id" : "msg_1", "type":"message","role":"assistant","model":"m","content":[],"x":1.0,"y":1E2,
 "n":12345678901234567890,"s":"\/\u00e9", "a":1,"a":2,"usage":{"input_tokens":1,"output_tokens":1} } """
ODD_FRAMES = [
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":1}} }\n\n',
    b'event: content_block_start\ndata: {"index":0,"type":"content_block_start","content_block":{"type":"new"}}\n\n',
    b'event: content_block_delta\ndata: { "type" : "content_block_delta","index":0,"delta":{"type":"new","v":1.0}}\n\n',
    rb"event: surprise" + b"\n" + rb'data: {"type":"surprise","n":12345678901234567890,"s":"\/\u00e9"}' + b"\n\n",
    b'event: ping\ndata: {"type": "ping", "x":1}\n\n',
    *answers.end_frames(),
]


@each_way
@each_body
@ensureDeferred
async def test_request_body(start_daemon: StartDaemon, upstream: Upstream, parts: list[bytes], stream: bool) -> None:
    """The digest of what the client sent is the digest of what the upstream got."""
    upstream.script(answers.usual())
    daemon = await start_daemon(provider(upstream))
    body = b'"claude-opus-5-5"'.join(parts)
    if stream:
        body = body.replace(b'"max_tokens"', b'"stream" : true, "max_tokens"', 1)
    answer = await wire.post(daemon.port, body)
    assert answer.status == 200, answer.body
    assert upstream.requests[0].sha256 == hashlib.sha256(body).hexdigest()


@each_body
@ensureDeferred
async def test_renamed_model(start_daemon: StartDaemon, upstream: Upstream, parts: list[bytes]) -> None:
    """A route that renames the model replaces the bytes of its name, and no other."""
    upstream.script(answers.usual())
    route = '[[models]]\nname = "alias"\nroutes = [{ provider = "up", model = "claude-real-1" }]\n'
    daemon = await start_daemon(provider(upstream) + route)
    answer = await wire.post(daemon.port, b'"alias"'.join(parts))
    assert answer.status == 200, answer.body
    assert upstream.requests[0].body == b'"claude-real-1"'.join(parts)


@ensureDeferred
async def test_whole_answer(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A whole answer reaches the client as the upstream wrote it, packed on its way or not."""
    upstream.script(
        answers.whole(ODD_MESSAGE), answers.packed(ODD_MESSAGE), answers.packed(ODD_MESSAGE, declared=False)
    )
    daemon = await start_daemon(provider(upstream))
    for _ in range(3):
        answer = await wire.post(daemon.port, wire.Message().encode())
        assert (answer.status, answer.body) == (200, ODD_MESSAGE)


@pytest.mark.parametrize("step", [0, 1, 7, 4096])
@ensureDeferred
async def test_stream_frames(start_daemon: StartDaemon, upstream: Upstream, step: int) -> None:
    """A stream's frames reach the client as the upstream wrote them, however the network splits them."""
    data = b"".join(ODD_FRAMES)
    upstream.script(answers.stream([data[at : at + step] for at in range(0, len(data), step)] if step else ODD_FRAMES))
    daemon = await start_daemon(provider(upstream))
    answer = await wire.post(daemon.port, wire.Message(stream=True).encode())
    assert (answer.whole, answer.body) == (True, data)


@ensureDeferred
async def test_large_event(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """An event of many megabytes passes whole."""
    frames = answers.frames("x" * 8_000_000)
    upstream.script(answers.stream(frames))
    daemon = await start_daemon(provider(upstream))
    answer = await wire.post(daemon.port, wire.Message(stream=True).encode())
    assert answer.body == b"".join(frames)


@ensureDeferred
async def test_model_given_twice_is_refused(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Two models in one body could be read either way, so the client is told, and no upstream is asked."""
    daemon = await start_daemon(provider(upstream))
    answer = await wire.post(daemon.port, b'{"model":"a","max_tokens":9,' + HI + b',"model":"b"}')
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert "model" in answer.json["error"]["message"]
    assert upstream.requests == []
