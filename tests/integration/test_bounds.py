"""What a client, an upstream or the machine does to one daemon must not harm its other clients."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as start
from twisted.internet.defer import gatherResults

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import ROOT, SANDBOX, provider
from tests.integration.support.process import eventually, sleep
from tests.integration.support.upstream import Upstream

#: Read by Python at its start; the clock then goes as the file beside it says.
WALL_CLOCK = """
import pathlib, time
_true, _ahead = time.time, pathlib.Path(__file__).with_name("ahead")
time.time = lambda: _true() + float(_ahead.read_text())
"""


def set_clock(folder: Path, ahead: int) -> None:
    """Set the daemon's wall clock *ahead* seconds, in one step: the daemon may read the file at any time."""
    written = folder / "ahead.new"
    written.write_text(str(ahead))
    written.replace(folder / "ahead")


@ensureDeferred
async def test_refused_bodies_are_not_kept(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Prompts that are too long, an everyday mistake, leave no body behind."""
    upstream.script(answers.error(400, "invalid_request_error", "prompt is too long: 300000 tokens > 200000 maximum"))
    daemon = await start_daemon(provider(upstream, "key-a", "key-b"))
    body = wire.Message(prompt="x" * 8_000_000).encode()
    assert (await wire.post(daemon.port, body)).status == 400
    before = daemon.rss
    for _ in range(20):
        assert (await wire.post(daemon.port, body)).status == 400
        upstream.requests.clear()
        upstream.exchanges.clear()
    assert daemon.rss - before < 40_000_000


@ensureDeferred
async def test_memory_is_given_back(start_daemon: StartDaemon) -> None:
    """What many large bodies took is the machine's again a little later."""
    daemon = await start_daemon(SANDBOX)
    before = daemon.rss
    body = wire.Message(model="sandbox", prompt="x" * 24_000_000).encode()
    await gatherResults([start(wire.post(daemon.port, body, within=300)) for _ in range(16)])
    await eventually("memory is given back", lambda: daemon.rss - before < 60_000_000)


@ensureDeferred
async def test_answers_that_nobody_takes_are_counted(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A large answer whose client reads nothing is held, and the gauge says so; not any more when the client goes."""
    upstream.script(answers.whole(json.dumps(answers.message("x" * 20_000_000)).encode()))
    daemon = await start_daemon(provider(upstream, "key-a"))
    client = await wire.Wire.connect(daemon.port)
    client.stop_reading()
    client.request("POST", "/v1/messages", wire.Message().encode(), wire.VERSION)

    async def held() -> float:
        return (await daemon.metrics())["claudeproxyd_buffered_bytes{}"]

    async def much() -> bool:
        return await held() > 10_000_000

    async def nothing() -> bool:
        return await held() == 0

    await eventually("it is held", much)
    client.reset()
    await eventually("nothing is held", nothing)


@ensureDeferred
async def test_wall_clock_jumps(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """A clock that is set, or a machine that slept, ends no wait and prolongs none."""
    set_clock(tmp_path, 0)
    (tmp_path / "sitecustomize.py").write_text(WALL_CLOCK)
    daemon = await start_daemon(provider(upstream, "key-a"), env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    upstream.script(answers.error(429, "rate_limit_error", "slow down", **{"retry-after": "200"}), answers.silent())
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 429
    waiting = await wire.stream(daemon.port, wire.Message(stream=True, model="another"))
    half_a_head = await wire.Wire.connect(daemon.port)
    half_a_head.send(b"GET / HTTP/1.1\r\n")
    for ahead in (0, 3600, -7200):
        set_clock(tmp_path, ahead)
        await sleep(1.2)
        (credential,) = (await daemon.pool())["credentials"]
        (cooldown,) = [each for each in credential["cooldowns"] if each["model"] == wire.Message().model]
        assert 100 < cooldown["remaining"] <= 250, ahead
        date = parsedate_to_datetime((await wire.get(daemon.port, "/healthz")).headers["date"]).timestamp()
        assert abs(time.time() + ahead - date) < 5
    assert not waiting.received
    assert waiting.closed is half_a_head.closed is None
    waiting.reset()
    half_a_head.reset()


@ensureDeferred
async def test_nobody_reads_the_log(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A log that nobody reads loses lines; it stops nobody."""
    daemon = await start_daemon(provider(upstream))
    daemon.stop_reading()
    try:
        for number in range(600):
            answer = await wire.get(daemon.port, f"/nowhere/{number}{'x' * 3000}")
            assert answer.status == 404
        assert (await daemon.metrics())["claudeproxyd_output_waiting_bytes{}"] > 0
    finally:
        daemon.read_on()
