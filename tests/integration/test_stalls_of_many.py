"""Nothing holds the reactor for long that there may be many of: connections, waiting requests, credentials, models."""

from __future__ import annotations

import json
import resource
from collections import Counter
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as start
from twisted.internet.defer import gatherResults

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import provider
from tests.integration.support.process import eventually
from tests.integration.support.stalls import LONGEST, LONGEST_OF_LARGE, Meter, told
from tests.integration.support.upstream import Answer, Exchange, Upstream

pytestmark = pytest.mark.alone

CONNECTIONS = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
"""As many as ``server.max_connections`` lets in, where this process may have so many too."""
STREAMS = min(1_000, CONNECTIONS // 2)
"""Each of which this process has at both ends."""
CREDENTIALS = 1_000
BUFFERED = 420_000_000
"""Bytes: what one client may have of the default of ``server.max_buffered_bytes``, nearly."""
KEPT = 10_000
PATIENT = "[timeouts]\nrequest_head = 300\n"
"""So many connections may take a while to be made."""
HEAD = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def request(body: bytes) -> bytes:
    """All of it."""
    return f"{HEAD}content-length: {len(body)}\r\n\r\n".encode() + body


class Listing(Upstream):
    """An upstream that lists 5,000 models, on pages of less than 1 MiB."""

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        if not exchange.request.path.startswith("/v1/models"):
            return super().answer_for(exchange)
        listed = [{"id": f"model-{number}", "type": "model", "display_name": "x" * 100} for number in range(5_000)]
        return answers.whole(json.dumps({"data": listed, "has_more": False}).encode())


@ensureDeferred
async def test_connections(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """As many connections as may be, whose requests all come at once: they are let in in slices."""
    meter = Meter(tmp_path)
    upstream.script(answers.whole())
    daemon = await start_daemon(provider(upstream) + PATIENT, env=meter.env)
    asked = request(wire.Message().encode())
    meter.begin()
    clients = [await wire.Wire.connect(daemon.port) for _ in range(CONNECTIONS)]
    told(f"{CONNECTIONS:,} connections begin", meter.longest, LONGEST)
    for client in clients:
        client.send(asked[:-1])
    meter.begin()
    for client in clients:
        client.send(asked[-1:])
    got = await gatherResults([start(client.head(60)) for client in clients])
    # Some are more than the daemon has descriptors for.
    assert {answer.status for answer in got} <= {200, 503, 529}
    told(f"{CONNECTIONS:,} requests at once", meter.longest, LONGEST)
    for client in clients:
        client.reset()


@ensureDeferred
async def test_silent_connections(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """As many connections as may be that send no more, and are to be ended at one moment: in slices, too."""
    meter = Meter(tmp_path)
    daemon = await start_daemon(provider(upstream) + PATIENT + "request_body = 1\n", env=meter.env)
    clients = [await wire.Wire.connect(daemon.port) for _ in range(CONNECTIONS)]
    stopping, idle = clients[::2], clients[1::2]
    meter.begin()
    for client in stopping:
        client.send(request(wire.Message().encode())[:-1])
    got = await gatherResults([start(client.head(60)) for client in stopping])
    assert {answer.status for answer in got} <= {408, 503}
    told(f"{len(stopping):,} bodies that stop", meter.longest, LONGEST)
    for client in stopping:
        client.reset()
    meter.begin()
    daemon.signal("TERM")
    await gatherResults([start(client.rest(60)) for client in idle])
    await daemon.ended()
    told(f"{len(idle):,} idle connections at the end", meter.longest, LONGEST)


@ensureDeferred
async def test_silent_upstream(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Streams that an upstream leaves alone are kept alive, and given up, each in its own time."""
    meter = Meter(tmp_path)
    upstream.script(answers.silent())
    times = "[timeouts]\nfirst_byte = 3\n[streaming]\nhead_commit = 1\nkeepalive = 0.5\n[pool]\nmax_wait = 0.5\n"
    daemon = await start_daemon(provider(upstream) + times, env=meter.env)
    asked = request(wire.Message(stream=True).encode())
    clients = [await wire.Wire.connect(daemon.port) for _ in range(STREAMS)]

    async def given_up(client: wire.Wire) -> bytes:
        """What came before the error; nothing where the upstream had cooled before it was asked."""
        client.send(asked)
        answer = await client.head(120)
        return await client.until(b"event: error", 120) if answer.status == 200 else b""

    meter.begin()
    got = await gatherResults([start(given_up(client)) for client in clients])
    assert any(b"event: ping" in before for before in got)
    told(f"{STREAMS:,} streams of an upstream that says nothing", meter.longest, LONGEST)
    for client in clients:
        client.reset()


@ensureDeferred
async def test_buffered_bodies(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Bodies that fill ``max_buffered_bytes``, and are whole at one moment: they are read in slices."""
    meter = Meter(tmp_path)
    upstream.script(answers.whole())
    daemon = await start_daemon(provider(upstream), env=meter.env)
    message = wire.Message(more={"messages": [{"role": "user", "content": "word " * 400_000}]})
    asked = request(message.encode())
    clients = [await wire.Wire.connect(daemon.port) for _ in range(250)]
    meter.begin()
    for client in clients:
        client.send(asked[:-1])
    while (await daemon.metrics())["claudeproxyd_buffered_bytes{}"] < BUFFERED:
        pass
    told("500 MB of bodies come", meter.longest, LONGEST)
    meter.begin()
    for client in clients:
        client.send(asked[-1:])
    got = await gatherResults([start(client.head(60)) for client in clients])
    statuses = Counter(answer.status for answer in got)
    assert set(statuses) == {200, 529}, statuses
    told(f"{statuses[200]} bodies of 2 MB are whole", meter.longest, LONGEST)
    for client in clients:
        client.reset()


@ensureDeferred
async def test_waiting_requests(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """A full queue, all of which may go on at one moment: it goes on in slices."""
    meter = Meter(tmp_path)
    later = answers.error(429, "rate_limit_error", "later", **{"retry-after": "10"})
    upstream.script(later, answers.whole())
    daemon = await start_daemon(provider(upstream), env=meter.env)
    body = wire.Message().encode()
    asked = []
    for waiting in (1, 1_000):
        asked += [start(wire.post(daemon.port, body, within=60)) for _ in range(waiting - len(asked))]
        while b"pool_waiting_requests{} %d.0\n" % waiting not in (await daemon.admin_get("/metrics")).body:
            pass
    meter.begin()
    assert {answer.status for answer in await gatherResults(asked)} == {200}
    told("1,000 waiting requests", meter.longest, LONGEST)


@ensureDeferred
async def test_captures(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Captures of the largest bodies, up and down, as a whole."""
    meter = Meter(tmp_path)
    capture = f'[capture]\nwhen = "always"\nmax_bytes = 33_554_432\ndirectory = "{tmp_path / "captures"}"\n'
    upstream.script(answers.whole(json.dumps(answers.message("sk-a " * 6_000_000)).encode()))
    daemon = await start_daemon(provider(upstream) + capture, env=meter.env)
    body = wire.Message(more={"messages": [{"role": "user", "content": "token " * 5_000_000}]}).encode()
    longest = 1e9
    for _ in range(3):
        meter.begin()
        assert (await wire.post(daemon.port, body, within=60)).status == 200
        await wire.get(daemon.port, "/healthz")
        longest = min(longest, meter.longest)
    told("captures of 30 MB", longest, LONGEST_OF_LARGE)


@ensureDeferred
async def test_kept_captures(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """As many captures as are kept, of which one more goes with each request, and then all but a few."""
    meter = Meter(tmp_path)
    folder = tmp_path / "captures"
    folder.mkdir()
    for number in range(KEPT):
        (folder / f"20260101T000000.000Z-request-{number}.json").touch()
    capture = f'[capture]\nwhen = "always"\ndirectory = "{folder}"\nkeep = '
    upstream.script(answers.whole())
    daemon = await start_daemon(provider(upstream) + capture + f"{KEPT}\n", env=meter.env)

    async def captured(times: int, left: int) -> None:
        meter.begin()
        for _ in range(times):
            assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
        await eventually(f"{left} captures are left", lambda: len(list(folder.iterdir())) == left)
        told(f"{times} captures, of which {left:,} are kept", meter.longest, LONGEST)

    await captured(50, KEPT)
    daemon.rewrite(provider(upstream) + capture + "10\n")
    daemon.signal("HUP")
    await eventually("the log tells of the reload", lambda: "reloaded: " in daemon.log)
    await captured(1, 10)


@ensureDeferred
async def test_pages(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """The admin's pages and the list of models, with as many of each as there may be."""
    listing = Listing()
    await listing.start()
    meter = Meter(tmp_path)
    upstream.script(answers.whole())
    keys = [f"key-{number}" for number in range(CREDENTIALS)]
    daemon = await start_daemon(provider(upstream, *keys) + provider(listing, name="listing"), env=meter.env)
    for number in range(300):
        await wire.post(daemon.port, wire.Message(model=f"model-{number}").encode())
    for path in ("/admin/v1/pool", "/admin/", "/metrics"):
        longest = 1e9
        for _ in range(3):
            meter.begin()
            answer = await daemon.admin_get(path)
            await wire.get(daemon.port, "/healthz")
            longest = min(longest, meter.longest)
        assert answer.status == 200, path
        told(f"{path}: {len(answer.body):,} bytes", longest, LONGEST)
    for path in ("/v1/models", "/v1/models?limit=1000", "/v1/models?limit=1000&after_id=model-3000"):
        meter.begin()
        answer = await wire.get(daemon.port, path, wire.VERSION)
        await wire.get(daemon.port, "/healthz")
        assert answer.json["data"], path
        told(f"{path}: {len(answer.body):,} bytes", meter.longest, LONGEST)
    await listing.stop()
