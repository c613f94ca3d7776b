"""After thousands of streams, many of them given up midway, nothing is left over."""

from __future__ import annotations

import random

from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as start
from twisted.internet.defer import gatherResults

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.process import eventually, sleep
from tests.integration.support.upstream import Upstream

STREAMS = 5_000
AT_ONCE = 50
FRAMES = answers.frames(*("word " * 8).split())


async def one(daemon: Daemon, dice: random.Random) -> None:
    """One stream: read whole by two of three clients, given up somewhere by the third."""
    client = await wire.stream(daemon.port)
    try:
        if dice.random() < 2 / 3:
            answer = await client.body(await client.head())
            assert answer.whole
        elif (place := dice.randrange(3)) == 1:
            await client.head()
        elif place == 2:
            await client.until(b"word")
        else:
            await sleep(dice.random() / 100)
    finally:
        client.reset()


async def in_flight(daemon: Daemon) -> float:
    """Leases that are out, by the daemon's own count."""
    return sum(credential["in_flight"] for credential in (await daemon.pool())["credentials"])


@ensureDeferred
async def test_nothing_is_left_over(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Descriptors, leases and upstream connections are back where they were, and so is memory, more or less."""
    upstream.script(answers.stream(FRAMES, pace=0.002))
    daemon = await start_daemon(provider(upstream, "key-a", "key-b"))
    dice = random.Random(1)

    async def one_after_another(count: int) -> None:
        for _ in range(count):
            await one(daemon, dice)

    async def many(count: int) -> None:
        await gatherResults([start(one_after_another(count // AT_ONCE)) for _ in range(AT_ONCE)], consumeErrors=True)
        await eventually("requests are over", lambda: all(each.finished for each in upstream.exchanges), 20)

    await many(AT_ONCE * 4)
    await sleep(0.5)
    descriptors, memory = daemon.descriptors - len(upstream.connections), daemon.rss
    await many(STREAMS)
    await sleep(0.5)
    assert len(upstream.requests) > STREAMS * 0.6
    assert daemon.descriptors - len(upstream.connections) <= descriptors
    assert await in_flight(daemon) == 0
    assert daemon.rss - memory < 16_000_000
    assert (await wire.post(daemon.port, wire.Message(stream=True).encode())).whole
