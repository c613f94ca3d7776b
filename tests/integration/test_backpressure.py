"""A peer that is slow costs time, never memory: slow readers hold their upstream back, slow upstreams their client."""

from __future__ import annotations

import hashlib
import json

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import ensureDeferred as start

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support import gemini as google
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.gemini import AS_GEMINI, Gemini
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Exchange, Upstream

CLIENTS = 100
FLOOD = 50_000_000
MB = 1_000_000


async def stop_reading(
    daemon: Daemon, upstream: Upstream, count: int, most: int
) -> list[tuple[wire.Wire, wire.Answer]]:
    """Have *count* clients read no more than a head, until their upstreams are blocked with *most* bytes each."""
    upstream.exchanges.clear()
    clients = []
    for _ in range(count):
        client = await wire.stream(daemon.port)
        answer = await client.head()
        client.stop_reading()
        clients.append((client, answer))
    await eventually("every upstream is blocked", lambda: all(each.blocked for each in upstream.exchanges), 30)
    assert len(upstream.exchanges) == count
    assert max(each.written for each in upstream.exchanges) < most
    return clients


@ensureDeferred
async def test_clients_that_stop_reading(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A hundred clients that read nothing stop a hundred upstreams; who reads on gets all, who never does is cut."""
    upstream.script(answers.stream(), answers.flood(FLOOD))
    daemon = await start_daemon(provider(upstream) + "[streaming]\nstall = 20.0\n")
    await wire.post(daemon.port, wire.Message(stream=True).encode())
    before = daemon.rss
    clients = await stop_reading(daemon, upstream, CLIENTS, 16 * MB)
    assert daemon.rss - before < 64 * MB

    for client, answer in clients[:2]:
        client.read_on()
        assert (await client.body(answer)).whole
        assert answer.body.endswith(answers.end_frames()[-1])
        assert answer.body.count(b"content_block_delta") == 2 * (FLOOD // 65_536)
    await eventually("stalled clients are cut", lambda: all(each.gone for each in upstream.exchanges[2:]), 40)
    assert daemon.rss - before < 64 * MB
    for client, _ in clients:
        client.reset()


@ensureDeferred
async def test_clients_that_stop_reading_gemini(start_daemon: StartDaemon, gemini: Gemini) -> None:
    """So it is where answers are translated: of what is on its way, Google's or Claude's by then, little is held."""
    gemini.script(google.usual(), google.flood(FLOOD))
    daemon = await start_daemon(AS_GEMINI + provider(gemini, kind="gemini") + "[streaming]\nstall = 5.0\n")
    await wire.post(daemon.port, wire.Message(stream=True).encode())
    before = daemon.rss
    clients = await stop_reading(daemon, gemini, 20, 16 * MB)
    assert daemon.rss - before < 32 * MB

    client, answer = clients[0]
    client.read_on()
    assert len((await client.body(answer)).text) == FLOOD // 65_536 * 65_536 + 1
    assert answer.events[-1]["type"] == "message_stop"
    await eventually("stalled clients are cut", lambda: all(each.gone for each in gemini.exchanges[1:]), 20)
    assert daemon.rss - before < 32 * MB
    figures = await daemon.metrics()
    assert (figures["claudeproxyd_open_streams{}"], figures["claudeproxyd_buffered_bytes{}"]) == (0, 0)
    for client, _ in clients:
        client.reset()


@ensureDeferred
async def test_large_body_to_a_slow_upstream(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Thirty megabytes to an upstream that takes its time arrive whole, and other clients do not wait for it."""
    upstream.script(answers.usual())
    daemon = await start_daemon(provider(upstream))
    body = wire.Message(prompt="x" * 30_000_000).encode()
    await wire.post(daemon.port, wire.Message().encode())
    before = daemon.rss
    upstream.read_delay = 0.005
    large = start(wire.post(daemon.port, body))
    await eventually("the upstream reads", lambda: any(each.unread for each in upstream.connections))
    assert (await wire.get(daemon.port, "/healthz")).status == 200
    assert not large.called
    assert (await large).status == 200
    assert upstream.requests[-1].sha256 == hashlib.sha256(body).hexdigest()
    assert daemon.rss - before < 96 * MB


@ensureDeferred
async def test_bodies_together_are_bounded(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Above ``max_buffered_bytes`` a new body is refused with a delay, and accepted once there is room again."""
    upstream.script(answers.then(answers.pause(1.5), answers.usual()))
    limits = "max_request_bytes = 8_000_000\nmax_buffered_bytes = 10_000_000"
    daemon = await start_daemon(provider(upstream), server=limits)
    body = wire.Message(prompt="x" * 6_000_000).encode()
    results = await gatherResults([start(wire.post(daemon.port, body)) for _ in range(2)])
    assert sorted(answer.status for answer in results) == [200, 529]
    (refused,) = [answer for answer in results if answer.status == 529]
    assert int(refused.headers["retry-after"]) > 0
    assert (await wire.post(daemon.port, body)).status == 200


@ensureDeferred
async def test_answers_count_with_bodies(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A large answer that is on its way leaves no room for a new body, and comes to its end itself."""
    told = json.dumps(answers.message("x" * 3_000_000)).encode()
    go_on: Deferred[None] = Deferred()

    async def in_two(exchange: Exchange) -> None:
        length = {**answers.JSON, "content-length": str(len(told))}
        await exchange.write(answers.head(200, length) + told[:2_500_000])
        await exchange.until(go_on)
        await exchange.write(told[2_500_000:])

    upstream.script(in_two)
    limits = "max_request_bytes = 1_000_000\nmax_buffered_bytes = 2_000_000"
    daemon = await start_daemon(provider(upstream), server=limits)
    large = start(wire.post(daemon.port, wire.Message().encode()))

    async def is_held() -> bool:
        return (await daemon.metrics())["claudeproxyd_buffered_bytes{}"] > 2_000_000

    await eventually("the most of it is held", is_held)
    refused = await wire.post(daemon.port, wire.Message().encode())
    assert (refused.status, int(refused.headers["retry-after"])) == (529, 1)
    go_on.callback(None)
    assert (await large).body == told
    upstream.script(answers.usual())
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
