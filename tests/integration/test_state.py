"""State that outlives the daemon, and that daemons share."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, DeferredList

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import ADMIN_KEY, Daemon, provider
from tests.integration.support.needs import needs
from tests.integration.support.process import eventually, sleep
from tests.integration.support.redis import Redis, redis_server
from tests.integration.support.upstream import Upstream

MODEL = wire.Message().model
MODELS = f'[[models]]\nname = "{MODEL}"\nroutes = [{{ provider = "up" }}]\n'
QUOTA = answers.error(429, "rate_limit_error", "slow down", retry_after="600")
ONE = wire.Message().encode()


def config(upstream: Upstream) -> str:
    """Two credentials, and a model whose name is known."""
    return provider(upstream, "key-a", "key-b") + MODELS


async def cooling(daemon: Daemon) -> set[str]:
    """The credentials that rest for more than a minute, by that daemon's account."""
    return {
        entry["credential"]
        for entry in (await daemon.pool())["credentials"]
        if any(cooldown["remaining"] > 60 for cooldown in entry["cooldowns"])
    }


async def disable(daemon: Daemon, credential: str, what: str = "disable") -> None:
    """As an operator does."""
    answer = await wire.post(
        daemon.admin,
        f'{{"provider":"up","credential":"{credential}"}}'.encode(),
        f"/admin/v1/pool/{what}",
        {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"},
    )
    assert answer.status == 200, answer.body


async def disabled(daemon: Daemon) -> set[str]:
    """The credentials that are out of service, by that daemon's account."""
    return {entry["credential"] for entry in (await daemon.pool())["credentials"] if entry["state"] == "disabled"}


def kept(path: Path) -> list[str]:
    """What a state file holds: the first words of its keys."""
    with closing(sqlite3.connect(path)) as connection:
        return [json.loads(key)[0] for (key,) in connection.execute("SELECT key FROM state")]


def whole(path: Path) -> bool:
    """Whether a state file is sound."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@ensureDeferred
async def test_cooldown_outlives_a_crash(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """A daemon that is killed a second after a 429 knows of it when it is started again, and spares the client one."""
    path = tmp_path / "deep" / "state.db"
    upstream.script_for("key-a", QUOTA)
    upstream.script_for("key-b", answers.usual())
    daemon = await start_daemon(config(upstream), state=f"sqlite:{path}")
    await disable(daemon, "key-b")
    assert (await wire.post(daemon.port, ONE)).status == 429
    await disable(daemon, "key-b", "enable")
    await eventually("all of it is in the file", lambda: kept(path) == ["cooldown"])
    await daemon.kill()
    again = await start_daemon(config(upstream), state=f"sqlite:{path}")
    assert await cooling(again) == {"key-a"}
    assert await disabled(again) == set()
    asked = len(upstream.requests)
    assert (await wire.post(again.port, ONE)).status == 200
    assert [request.key for request in upstream.requests[asked:]] == ["key-b"]


@ensureDeferred
async def test_stop_loses_nothing(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """What changes in the very moment before an orderly stop is there after the next start."""
    path = tmp_path / "state.db"
    daemon = await start_daemon(config(upstream), state=f"sqlite:{path}")
    await disable(daemon, "key-b")
    await daemon.stop()
    again = await start_daemon(config(upstream), state=f"sqlite:{path}")
    assert await disabled(again) == {"key-b"}


@ensureDeferred
async def test_damaged_file(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """A state file that is damaged is set aside with a warning; the daemon starts, serves, and keeps state again."""
    path = tmp_path / "state.db"
    path.write_bytes(b"SQLite format 3\0" + b"damage" * 2000)
    upstream.script(answers.usual())
    daemon = await start_daemon(config(upstream), state=f"sqlite:{path}")
    assert (await wire.post(daemon.port, ONE)).status == 200
    assert "set aside" in daemon.log
    assert [file.read_bytes()[16:22] for file in tmp_path.glob("state.db.*")] == [b"damage"]
    await daemon.stop()
    assert whole(path)


@needs(redis_server)
@ensureDeferred
async def test_two_daemons_one_redis(start_daemon: StartDaemon, upstream: Upstream, redis: Redis) -> None:
    """A 429 that one daemon was given is known to the other soon, without a question; so is what an operator does."""
    upstream.script_for("key-a", QUOTA)
    upstream.script_for("key-b", QUOTA)
    one, other = [await start_daemon(config(upstream), state=redis.url) for _ in range(2)]
    await disable(one, "key-b")

    async def is_known() -> bool:
        return await disabled(other) == {"key-b"}

    await eventually("the other knows it", is_known, 5.0)
    assert (await wire.post(one.port, ONE)).status == 429

    async def cools() -> bool:
        return await cooling(other) == {"key-a"}

    await eventually("the other spares it", cools, 5.0)
    asked = len(upstream.requests)
    answer = await wire.post(other.port, ONE)
    assert (answer.status, answer.headers["x-should-retry"]) == (429, "false")
    assert len(upstream.requests) == asked
    third = await start_daemon(config(upstream), state=redis.url)
    assert (await cooling(third), await disabled(third)) == ({"key-a"}, {"key-b"})


@needs(redis_server)
@ensureDeferred
async def test_redis_killed_and_restarted(start_daemon: StartDaemon, upstream: Upstream, redis: Redis) -> None:
    """Without Redis each daemon goes on by itself; when one is back, empty, both come to the same."""
    upstream.script_for("key-a", QUOTA)
    upstream.script_for("key-b", answers.usual())
    one, other = [await start_daemon(config(upstream), state=redis.url) for _ in range(2)]
    await redis.kill()
    for daemon in (one, other):
        assert [(await wire.post(daemon.port, ONE)).status for _ in range(2)] == [200, 200]
    await disable(one, "key-b")
    await redis.start()

    async def agree() -> bool:
        return [await disabled(each) for each in (one, other)] == [{"key-b"}] * 2

    await eventually("both have come to the same", agree)
    assert [await cooling(each) for each in (one, other)] == [{"key-a"}] * 2
    third = await start_daemon(config(upstream), state=redis.url)
    assert (await cooling(third), await disabled(third)) == ({"key-a"}, {"key-b"})
    for daemon in (one, other):
        assert "goes on by itself" in daemon.log


@needs(redis_server)
@ensureDeferred
async def test_starts_without_redis(start_daemon: StartDaemon, upstream: Upstream, redis: Redis) -> None:
    """A Redis that is not there keeps nobody from starting, and is found when it comes."""
    upstream.script(answers.usual())
    await redis.kill()
    daemon = await start_daemon(config(upstream), state=redis.url)
    assert (await wire.post(daemon.port, ONE)).status == 200
    await redis.start()

    async def connected() -> bool:
        return (await daemon.metrics())["claudeproxyd_state_connected{}"] == 1.0

    await eventually("it is found", connected)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=needs(redis_server))])
@ensureDeferred
async def test_killed_under_load(
    start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """However often a daemon is killed in the midst of its work, its state is sound and the old cooldown stands."""
    path = tmp_path / "state.db"
    redis = Redis() if kind == "redis" else None
    if redis is not None:
        await redis.start()
    state = redis.url if redis is not None else f"sqlite:{path}"
    upstream.script_for("key-a", QUOTA)
    upstream.script_for("key-b", answers.usual())
    dice = random.Random(7)
    try:
        for round_ in range(4):
            daemon = await start_daemon(config(upstream), state=state)
            if round_:
                assert await cooling(daemon) == {"key-a"}
            else:
                await _learn_cooldown(daemon, path)
            load = DeferredList([Deferred.fromCoroutine(_use(daemon, number)) for number in range(8)])
            await sleep(dice.random())
            await daemon.kill()
            await load
            assert "set aside" not in daemon.log
            if redis is None:
                assert whole(path)
    finally:
        if redis is not None:
            await redis.stop()


async def _learn_cooldown(daemon: Daemon, path: Path) -> None:
    """Have it meet the 429, and wait until what follows is written down: in the file of that path, if there is one."""
    for session in ("one", "another"):
        answer = await wire.post(daemon.port, ONE, headers={"x-claude-code-session-id": session})
        assert answer.status == 200

    async def is_written() -> bool:
        nothing_waits = (await daemon.metrics())["claudeproxyd_state_waiting{}"] == 0
        return nothing_waits and (not path.exists() or "cooldown" in kept(path))

    assert await cooling(daemon) == {"key-a"}
    await eventually("the cooldown is written down", is_written)


async def _use(daemon: Daemon, number: int) -> None:
    """Ask, in sessions of its own, until nobody answers any more."""
    session = 0
    while daemon.running:
        session += 1
        headers = {"x-claude-code-session-id": f"{number}-{session}"}
        try:
            await wire.post(daemon.port, ONE, headers=headers)
        except Exception:  # however a kill shows
            await sleep(0.02)
