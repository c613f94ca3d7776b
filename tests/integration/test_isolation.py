"""What one upstream does, or what the daemon lacks, costs the other upstreams and clients nothing."""

from __future__ import annotations

import resource

from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Exchange, Upstream

DESCRIPTORS = 64


@ensureDeferred
async def test_error_that_drips(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """An error whose body drips is given up after five seconds, and the other credential answers."""

    async def drip(exchange: Exchange) -> None:
        await exchange.write(answers.head(500, {"content-length": "100000"}))
        while True:
            await exchange.write(b" ")
            await exchange.sleep(0.5)

    upstream.script_for("key-a", drip)
    upstream.script_for("key-b", answers.whole())
    daemon = await start_daemon('[pool]\nstrategy = "fill-first"\n' + provider(upstream, "key-a", "key-b"))
    began = reactor.seconds()
    answer = await wire.post(daemon.port, wire.Message().encode())
    assert answer.status == 200, answer
    assert 4.5 < reactor.seconds() - began < 12.0


@ensureDeferred
async def test_out_of_descriptors(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Who finds no descriptor left gets a 503 of the gateway's own; no credential is blamed, and all is well after."""
    waiting: list[Deferred[None]] = []

    async def wait(exchange: Exchange) -> None:
        held: Deferred[None] = Deferred()
        waiting.append(held)
        await held
        await answers.whole()(exchange)

    upstream.script(wait)
    daemon = await start_daemon(provider(upstream))
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    answered: list[wire.Answer] = []
    asked = [Deferred.fromCoroutine(_ask(daemon, answered)) for _ in range(40)]
    await eventually("all are served or refused", lambda: len(answered) + len(waiting) == 40)
    assert {answer.status for answer in answered} == {503}, answered
    assert any("no descriptor" in answer.body.decode() for answer in answered), answered
    for held in waiting:
        held.callback(None)
    await DeferredList(asked, fireOnOneErrback=True)
    assert {answer.status for answer in answered} == {200, 503}
    (entry,) = (await daemon.pool())["credentials"]
    assert (entry["state"], entry["cooldowns"]) == ("ready", []), entry


async def _ask(daemon: Daemon, answered: list[wire.Answer]) -> None:
    answered.append(await wire.post(daemon.port, wire.Message().encode()))
