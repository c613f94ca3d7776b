"""A client that leaves takes its upstream request with it, at once, and no key is blamed for it."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import provider
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Answer, Upstream

WHILE = {
    "no answer yet": (answers.silent(), True),
    "no whole answer yet": (answers.silent(), False),
    "only pings": (answers.pings(0.1, 1000), True),
    "streaming": (answers.stream(answers.frames(*["word "] * 1000), pace=0.05), True),
    "a silent stream": (answers.then(answers.stream(answers.frames()[:3], end=False), answers.silent()), True),
}


@pytest.mark.parametrize(("answer", "stream"), WHILE.values(), ids=WHILE)
@ensureDeferred
async def test_client_leaves(start_daemon: StartDaemon, upstream: Upstream, answer: Answer, stream: bool) -> None:
    """The upstream's connection is closed ahead of any time-out: nobody pays for words that nobody reads."""
    upstream.script(answer)
    daemon = await start_daemon(provider(upstream))
    client = await wire.stream(daemon.port, wire.Message(stream=stream))
    await eventually("the upstream has the request", lambda: upstream.exchanges)
    client.reset()
    await eventually("the upstream's connection is closed", lambda: upstream.exchanges[0].gone, 5.0)
    (credential,) = (await daemon.pool())["credentials"]
    assert (credential["state"], credential["in_flight"], credential["cooldowns"]) == ("ready", 0, [])


@ensureDeferred
async def test_client_leaves_the_queue(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A client that leaves while it waits for a key has no request made for it later."""
    upstream.script(answers.error(429, "rate_limit_error", retry_after="2"), answers.usual())
    daemon = await start_daemon(provider(upstream))
    client = await wire.stream(daemon.port)

    async def waits() -> bool:
        return (await daemon.pool())["gauges"]["waiting"] == 1

    await eventually("it waits", waits)
    assert len(upstream.requests) == 1
    client.reset()
    answer = await wire.post(daemon.port, wire.Message().encode())
    assert answer.status == 200
    assert len(upstream.requests) == 2
