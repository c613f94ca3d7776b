"""After thousands of answers, many of them given up midway, nothing is left over."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as start
from twisted.internet.defer import gatherResults

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support import gemini as google
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.gemini import AS_GEMINI, Gemini
from tests.integration.support.process import eventually, sleep
from tests.integration.support.upstream import Answer, Exchange, Upstream

STREAMS = 5_000
TRANSLATED = 2_000
AT_ONCE = 50
WORDS = ("word " * 8).split()
#: What must be none once nobody asks for anything.
NONE = ("pool_in_flight_attempts{}", "pool_waiting_requests{}", "open_streams{}", "buffered_bytes{}")


async def one(daemon: Daemon, dice: random.Random, message: wire.Message) -> None:
    """One answer: read whole by two of three clients, given up somewhere by the third."""
    client = await wire.stream(daemon.port, message)
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


async def nothing_is_left_over(
    daemon: Daemon, upstream: Upstream, count: int, message: Callable[[random.Random], wire.Message]
) -> dict[str, float]:
    """Descriptors, leases, held bytes and memory are after *count* messages what they were; the metrics then."""
    dice = random.Random(1)

    async def one_after_another(count: int) -> None:
        for _ in range(count):
            await one(daemon, dice, message(dice))

    async def many(count: int) -> None:
        await gatherResults([start(one_after_another(count // AT_ONCE)) for _ in range(AT_ONCE)], consumeErrors=True)
        await eventually("requests are over", lambda: all(each.finished for each in upstream.exchanges))

        async def nothing_is_held() -> bool:
            figures = await daemon.metrics()
            return not any(figures[f"claudeproxyd_{name}"] for name in NONE)

        await eventually("nothing is held", nothing_is_held)

    await many(AT_ONCE * 4)
    descriptors, memory = daemon.descriptors - len(upstream.connections), daemon.rss
    await many(count)
    assert len(upstream.requests) > count * 0.6
    await eventually(
        "no descriptors are left over", lambda: daemon.descriptors - len(upstream.connections) <= descriptors
    )
    figures = await daemon.metrics()
    assert [figures[f"claudeproxyd_{name}"] for name in NONE] == [0] * len(NONE)
    assert daemon.rss - memory < 16_000_000
    assert (await wire.post(daemon.port, wire.Message(stream=True).encode())).whole
    return figures


@ensureDeferred
async def test_nothing_is_left_over(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Descriptors, leases and upstream connections are back where they were, and so is memory, more or less."""
    upstream.script(answers.stream(answers.frames(*WORDS), pace=0.002))
    daemon = await start_daemon(provider(upstream, "key-a", "key-b"))
    await nothing_is_left_over(daemon, upstream, STREAMS, lambda dice: wire.Message(stream=True))


def halves(data: bytes) -> tuple[bytes, bytes]:
    """*data* in two, so that something unfinished is held for a while."""
    middle = len(data) // 2
    return data[:middle], data[middle:]


def in_halves() -> Answer:
    """What Google signed, streamed or whole, in halves."""
    signed = {"text": WORDS[-1], "thoughtSignature": google.SIGNATURE}
    events = [google.said(*WORDS[:-1]), google.said(signed), google.said(finish="STOP")]
    stream = answers.stream([half for event in events for half in halves(google.frame(event))], pace=0.002)
    told = json.dumps(google.said(*WORDS[:-1], signed, finish="STOP")).encode()
    head = answers.head(200, {**answers.JSON, "content-length": str(len(told))})

    async def answer(exchange: Exchange) -> None:
        if ":stream" in exchange.request.path:
            await stream(exchange)
        else:
            for part in (head, *halves(told)):
                await exchange.write(part)
                await exchange.sleep(0.004)

    return answer


@ensureDeferred
async def test_nothing_is_left_over_of_gemini(start_daemon: StartDaemon, gemini: Gemini) -> None:
    """Nor is anything of what is translated, whole or streamed; what Google signs again and again is kept once."""
    gemini.script(in_halves())
    daemon = await start_daemon(AS_GEMINI + provider(gemini, "key-a", "key-b", kind="gemini"))
    figures = await nothing_is_left_over(
        daemon, gemini, TRANSLATED, lambda dice: wire.Message(stream=dice.random() < 2 / 3)
    )
    assert figures["claudeproxyd_signatures{}"] == 1
