"""Requests that real clients were seen to send, replayed: what reaches an Anthropic upstream of each."""

from __future__ import annotations

import json

from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.captures import Captured, captured
from tests.integration.support.daemon import provider
from tests.integration.support.upstream import Recorded, Upstream

CLIENT = '[[clients]]\nname = "tests"\nkey = "client-key"\n'
KEPT_PREFIXES = ("anthropic-", "x-claude-", "x-stainless-")
KEPT = {"x-app", "x-client-request-id", "user-agent", "accept", "idempotency-key", "content-type"}
OWN_TO_A_CONNECTION = {"host", "content-length", "connection"}
UNWANTED = {
    "cookie": "session=1",
    "forwarded": "for=192.0.2.1",
    "x-forwarded-for": "192.0.2.1",
    "x-forwarded-host": "example.org",
    "x-real-ip": "192.0.2.1",
    "via": "1.1 proxy",
    "proxy-authorization": "Basic eA==",
    "te": "trailers",
    "keep-alive": "timeout=5",
    "connection": "keep-alive, x-claude-hop",
    "x-claude-hop": "1",
}


def as_sent(request: Captured) -> dict[str, str]:
    """The request's headers, with a key that the daemon knows in the place of the masked one."""
    sent = {name.lower(): value for name, value in request.headers if name.lower() not in OWN_TO_A_CONNECTION}
    if "x-api-key" in sent:
        sent["x-api-key"] = "client-key"
    if "authorization" in sent:
        sent["authorization"] = "Bearer client-key"
    return sent


def check(request: Captured, sent: dict[str, str], arrived: Recorded) -> None:
    """What goes up to an Anthropic upstream."""
    kept = {name: value for name, value in sent.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    kept.pop("x-claude-hop", None)
    received = dict(arrived.headers)
    assert {name: received.get(name) for name in kept} == kept, request.name
    encoding = "identity" if request.body.get("stream") else "gzip"
    ours = {"host", "content-length", "connection", "accept-encoding", "x-api-key", "anthropic-version"}
    ours.add("x-claudeproxyd-hop")
    assert set(received) <= set(kept) | ours, request.name
    assert received["accept-encoding"] == encoding, request.name
    assert received["x-api-key"] == "key-a", request.name
    assert b"client-key" not in arrived.head, request.name


@ensureDeferred
async def test_every_captured_request_passes_unchanged(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """What Claude Code and the SDKs send reaches the upstream byte for byte, with the headers that are its affair."""
    upstream.script(answers.usual())
    daemon = await start_daemon(CLIENT + provider(upstream, "key-a"))
    requests = captured()
    assert len(requests) > 80
    for request in requests:
        body = json.dumps(request.body, ensure_ascii=False, separators=(",", ":")).encode()
        sent = as_sent(request)
        upstream.requests.clear()
        answer = await wire.post(daemon.port, body, request.path, sent)
        assert (answer.status, answer.whole) == (200, True), (request.name, answer.body)
        (arrived,) = upstream.requests
        assert arrived.line == f"POST {request.path} HTTP/1.1", request.name
        assert arrived.body == body, request.name
        check(request, sent, arrived)


@ensureDeferred
async def test_what_is_not_the_upstreams_affair_stays_here(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Cookies, forwarding and hop-by-hop headers, and those that Connection names, do not travel on."""
    upstream.script(answers.usual())
    daemon = await start_daemon(CLIENT + provider(upstream, "key-a"))
    request = captured()[0]
    sent = {**as_sent(request), **UNWANTED}
    answer = await wire.post(daemon.port, json.dumps(request.body).encode(), request.path, sent)
    assert answer.status == 200
    check(request, sent, upstream.requests[0])


@ensureDeferred
async def test_version_is_never_raised(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Both live API versions pass as they are, and a request without one is of the older."""
    upstream.script(answers.usual())
    daemon = await start_daemon(provider(upstream, "key-a"))
    for version in ("2023-06-01", "2026-10-21"):
        await wire.post(daemon.port, wire.Message().encode(), headers={"anthropic-version": version})
    bare = await wire.Wire.connect(daemon.port)
    bare.request("POST", "/v1/messages", wire.Message().encode())
    assert (await bare.body(await bare.head())).status == 200
    bare.reset()
    versions = [request.header("anthropic-version") for request in upstream.requests]
    assert versions == ["2023-06-01", "2026-10-21", "2023-06-01"]
