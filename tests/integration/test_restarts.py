"""Restarts that nobody notices."""

from __future__ import annotations

from collections.abc import Set
from functools import partial
from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from tests.integration.support import answers, wire
from tests.integration.support.daemon import provider
from tests.integration.support.needs import needs
from tests.integration.support.postgresql import Postgres, postgres_server
from tests.integration.support.process import eventually
from tests.integration.support.redis import Redis, redis_server
from tests.integration.support.rolling import (
    CLIENTS,
    KEY,
    BehindHAProxy,
    BehindNginx,
    Farm,
    Load,
    OnOneSocket,
    haproxy,
    nginx,
    rolling,
)
from tests.integration.support.upstream import Upstream


async def nothing_is_lost(farm: Farm, restarts: int) -> None:
    tally = await rolling(farm, restarts)
    assert tally.lost == []
    assert set(tally.answers) == {"streamed", "whole", "alone"}


@needs(nginx)
@ensureDeferred
async def test_behind_nginx(tmp_path: Path) -> None:
    """Two daemons behind nginx, as the page has it, are restarted in turn: each request and each stream ends well."""
    await nothing_is_lost(BehindNginx(tmp_path), 3)


@needs(haproxy)
@ensureDeferred
async def test_behind_haproxy(tmp_path: Path) -> None:
    """The same behind HAProxy, which asks whether they are ready."""
    await nothing_is_lost(BehindHAProxy(tmp_path), 3)


@ensureDeferred
async def test_on_one_socket(tmp_path: Path) -> None:
    """The same of two that share a socket, without a balancer: a new one is there before the old one leaves."""
    await nothing_is_lost(OnOneSocket(tmp_path), 4)


@ensureDeferred
async def test_nobody_waits_for_an_old_stream(tmp_path: Path, upstream: Upstream) -> None:
    """While the old one of two sees a long stream out the new one answers whoever comes; the stream ends well."""
    go_on = answers.long_stream(upstream)
    key = {"x-api-key": KEY}
    farm = OnOneSocket(tmp_path, provider(upstream))
    await farm.start()
    try:
        old = await wire.stream(farm.port, headers=key)
        answer = await old.head()
        await farm.restart()
        upstream.script(answers.usual())
        for _ in range(20):
            assert (await wire.post(farm.port, wire.Message().encode(), headers=key)).status == 200
        assert farm.is_draining
        go_on.callback(None)
        assert (await old.body(answer)).whole
        assert answer.text.split() == [str(number) for number in range(10)]
    finally:
        await farm.stop()


@needs(haproxy, redis_server, postgres_server)
@ensureDeferred
async def test_one_of_three_is_killed(tmp_path: Path) -> None:
    """Of three daemons that share a Redis and a PostgreSQL one is killed: what was on it is lost, and nothing else.

    What it had answered before is in its own folder, and in the ledger when it is back.
    """
    redis, postgres = Redis(), await Postgres.make()
    await redis.start()

    def accounts(port: int) -> str:
        return f'{postgres.config}waiting = "{tmp_path / str(port)}"\n'

    farm = BehindHAProxy(tmp_path, 3, redis.url, accounts)
    await farm.start()
    try:
        load = Load(farm.port)
        await load.until(300)
        await farm.kill()
        killed = reactor.seconds()

        async def noticed() -> bool:
            return (await farm.states())[0] == "DOWN"

        await eventually("HAProxy has noticed", noticed)
        await load.until(300)
        tally = await load.stop()

        async def entered(answered: Set[str]) -> bool:
            return answered <= await postgres.entered()

        assert len(set(tally.servers.values())) == 3
        others = {answered for answered, server in tally.servers.items() if server != "one"}
        await eventually("what the others have answered is in the ledger", partial(entered, others))
        await farm.start_again()
        await eventually("what any has answered is in the ledger", partial(entered, set(tally.servers)))
    finally:
        await farm.stop()
        await redis.stop()
        await postgres.stop()
    assert [each for each in tally.lost if each.begun > killed or each.server not in ("one", "")] == []
    assert len(tally.lost) <= len(CLIENTS)
