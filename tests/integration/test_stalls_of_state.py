"""As much state as a daemon keeps holds no reactor: where it starts, is told anew, and comes to others."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from claudeproxyd.pool.service import MAX_AFFINITIES
from claudeproxyd.pool.state import affinity_key
from claudeproxyd.store.database import Database
from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.needs import needs
from tests.integration.support.process import eventually
from tests.integration.support.redis import Redis, redis_server
from tests.integration.support.stalls import LONGEST, Meter, told
from tests.integration.support.upstream import Upstream
from tests.integration.test_workers import workers

pytestmark = pytest.mark.alone

MODEL = wire.Message().model
MODELS = f'[[models]]\nname = "{MODEL}"\nroutes = [{{ provider = "up" }}]\n'


def session(number: int) -> str:
    """One of as many as a daemon remembers."""
    return f"session-{number:032}"


def affinities() -> Mapping[str, tuple[float, object]]:
    """As many as a daemon keeps, as stores have them."""
    now = time.time()
    key = {"provider": "up", "credential": "key-a"}
    return {
        affinity_key(session(number), MODEL): (now, {**key, "used": now - 60 + number / 1000})
        for number in range(MAX_AFFINITIES)
    }


def fill(redis: Redis) -> None:
    """Put them into Redis."""
    with socket.create_connection(("127.0.0.1", redis.port)) as connection:
        connection.sendall(b"CLIENT REPLY OFF\r\n")
        for key, value in affinities().items():
            words = b"SET", b"claudeproxyd:" + key.encode(), json.dumps(value).encode()
            connection.sendall(b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        connection.sendall(b"CLIENT REPLY ON\r\n")
        connection.recv(100)


def state_file(folder: Path) -> str:
    """Make one with them. Return its URL."""
    database = Database(str(folder / "state.db"))
    database.write(affinities())
    database.close()
    return f"sqlite:{database.path}"


async def remembered(daemon: Daemon) -> None:
    """Wait until it has all of them."""

    async def all_there() -> bool:
        return (await daemon.metrics())["claudeproxyd_pool_affinities{}"] == MAX_AFFINITIES

    await eventually("it has all affinities", all_there)


async def at_home(daemon: Daemon, upstream: Upstream) -> None:
    """Wait until every process of it knows them: whichever is asked, each session stays where it was."""
    numbers = iter(range(MAX_AFFINITIES))

    async def all_are() -> bool:
        upstream.requests.clear()
        for number in islice(numbers, 20):
            headers = {"x-claude-code-session-id": session(number)}
            assert (await wire.post(daemon.port, wire.Message().encode(), headers=headers)).status == 200
        return {each.key for each in upstream.requests} == {"key-a"}

    await eventually("sessions stay where they were", all_are)


@ensureDeferred
async def test_affinities(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """50,000 affinities are restored from a file, and then their credential goes."""
    meter = Meter(tmp_path)
    upstream.script(answers.whole())
    both = provider(upstream, "key-a", "key-b") + MODELS
    daemon = await start_daemon(both, state=state_file(tmp_path), env=meter.env)
    await remembered(daemon)
    await at_home(daemon, upstream)
    told(f"{MAX_AFFINITIES:,} affinities from a file", meter.longest, LONGEST)
    meter.begin()
    daemon.rewrite(provider(upstream, "key-b") + MODELS)
    daemon.signal("HUP")
    await eventually("the log tells of the reload", lambda: "reloaded: " in daemon.log)
    await wire.get(daemon.port, "/healthz")
    told(f"a reload with {MAX_AFFINITIES:,} affinities", meter.longest, LONGEST)


@ensureDeferred
async def test_affinities_for_workers(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """A worker that takes another's place is told them: neither the parent nor the other workers are held."""
    meter = Meter(tmp_path)
    upstream.script(answers.whole())
    both = provider(upstream, "key-a", "key-b") + MODELS
    daemon = await start_daemon(both, server="workers = 2", state=state_file(tmp_path), env=meter.env)
    await remembered(daemon)
    await at_home(daemon, upstream)
    before = workers(daemon)
    told(f"{MAX_AFFINITIES:,} affinities from a file, of a parent", meter.longest_of(daemon.pid), LONGEST)
    meter.begin()
    os.kill(before[0], signal.SIGKILL)

    async def replaced() -> bool:
        metrics = await daemon.metrics()
        return metrics["claudeproxyd_workers{}"] == 2 and metrics["claudeproxyd_worker_restarts_total{}"] == 1

    await eventually("another worker serves", replaced)
    await at_home(daemon, upstream)
    told(f"{MAX_AFFINITIES:,} affinities for a worker", meter.longest_of(daemon.pid, before[1]), LONGEST)


@needs(redis_server)
@ensureDeferred
async def test_affinities_in_redis(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """They come from Redis, and go there when it is back with nothing."""
    meter = Meter(tmp_path)
    redis = Redis()
    await redis.start()
    try:
        fill(redis)
        daemon = await start_daemon(provider(upstream) + MODELS, state=redis.url, env=meter.env)
        await remembered(daemon)
        told(f"{MAX_AFFINITIES:,} affinities from Redis", meter.longest, LONGEST)
        await redis.kill()
        meter.begin()
        await redis.start()

        async def going_there() -> bool:
            waiting = (await daemon.metrics())["claudeproxyd_state_waiting{}"]
            return 0 < waiting < MAX_AFFINITIES - 5_000

        await eventually("they go to Redis", going_there)
        told(f"{MAX_AFFINITIES:,} affinities to Redis", meter.longest, LONGEST)
    finally:
        await redis.stop()
