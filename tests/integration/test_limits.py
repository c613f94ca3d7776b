"""Limits as clients meet them: the daemon as a whole, real clients, and many requests at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, sdks, wire
from tests.integration.support.claude_code import prompt
from tests.integration.support.clients import Client
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.needs import needs
from tests.integration.support.process import eventually
from tests.integration.support.redis import Redis, redis_server
from tests.integration.support.upstream import Exchange, Upstream

each_sdk = pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
CLIENT = '[[clients]]\nname = "tests"\nkey = "client-key"\n'
KEY = {"x-api-key": "client-key"}


def limit(name: str, **fields: Any) -> str:
    """A ``[[limits]]`` section."""
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
    return f'[[limits]]\nname = "{name}"\neach = "client"\n{lines}'


@ensureDeferred
async def test_many_at_once(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Of 200 requests at once on a budget for 10, ten are served, and nobody else reaches an upstream."""
    upstream.script(answers.then(answers.pause(0.5), answers.usual()))
    daemon = await start_daemon(CLIENT + provider(upstream) + limit("ten a day", requests=10, per="day"))
    body = wire.Message().encode()
    calls = [Deferred.fromCoroutine(wire.post(daemon.port, body, headers=KEY)) for _ in range(200)]
    statuses = [answer.status for answer in await gatherResults(calls)]
    assert (statuses.count(200), statuses.count(429)) == (10, 190)
    assert len(upstream.requests) == 10
    (counter,) = (await daemon.admin_get("/admin/v1/limits")).json
    assert (counter["used"], counter["reserved"], counter["value"]) == (10, 0, "tests")


@ensureDeferred
async def test_many_at_once_by_tokens(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """What is let in is what fits by estimate, and one more; when it is settled as less, the next ones find room."""
    daemon = await start_daemon(CLIENT + provider(upstream) + limit("a day", output_tokens=1000, per="day"))
    body = wire.Message(max_tokens=100).encode()

    async def at_once() -> int:
        refused: Deferred[None] = Deferred()
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await wire.post(daemon.port, body, headers=KEY)).status)
            if len(statuses) == 190:
                refused.callback(None)

        async def held(exchange: Exchange) -> None:
            await exchange.until(refused)

        upstream.script(answers.then(held, answers.usual()))
        await gatherResults([Deferred.fromCoroutine(ask()) for _ in range(200)])
        return statuses.count(200)

    assert await at_once() == 10
    assert await at_once() == 10  # two tokens each were used of the hundred
    (counter,) = (await daemon.admin_get("/admin/v1/limits")).json
    assert (counter["used"], counter["reserved"]) == (40, 0)


@ensureDeferred
async def test_headers(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A client sees what is left of its own limits, and nothing of the upstream's, streamed or not, or refused."""
    theirs = {"anthropic-ratelimit-tokens-remaining": "1", "anthropic-ratelimit-unified-status": "allowed"}
    upstream.script(answers.either(answers.whole(headers=theirs), answers.stream(headers=theirs)))
    daemon = await start_daemon(CLIENT + provider(upstream) + limit("two", requests=2, per="day"))
    tomorrow = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() + 86_400))
    for streamed, status, left in ((False, 200, "1"), (True, 200, "0"), (False, 429, "0")):
        answer = await wire.post(daemon.port, wire.Message(stream=streamed).encode(), headers=KEY)
        told = {name: value for name, value in answer.headers.items() if name.startswith("anthropic-ratelimit-")}
        assert (answer.status, told) == (
            status,
            {
                "anthropic-ratelimit-requests-limit": "2",
                "anthropic-ratelimit-requests-remaining": left,
                "anthropic-ratelimit-requests-reset": tomorrow,
            },
        )


@each_sdk
@ensureDeferred
async def test_sdks(start_daemon: StartDaemon, upstream: Upstream, sdk: Client) -> None:
    """A used up budget is a RateLimitError in the limit's words, and no SDK asks again, however often it may."""
    upstream.script(answers.usual())
    daemon = await start_daemon(CLIENT + provider(upstream) + limit("one a day", requests=1, per="day"))
    started = time.monotonic()
    calls = [("create", sdks.HELLO), ("create", sdks.HELLO), ("stream", sdks.HELLO)]
    first, *refused = await sdks.use(sdk, daemon.url, calls, retries=5)
    assert first["text"] == "hello"
    for each in refused:
        assert (each["error"], each["status"], each["type"]) == ("RateLimitError", 429, "rate_limit_error")
        assert "for tests is used up: 1 of 1 requests. It begins anew on " in each["message"]
    metrics = await daemon.metrics()
    asked = [value for name, value in metrics.items() if name.startswith('claudeproxyd_requests_total{client="tests"')]
    assert sum(asked) == 3
    assert time.monotonic() - started < 60


@ensureDeferred
async def test_claude_code(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Claude Code shows the person which limit it is, how much, and until when; at once."""
    upstream.script(answers.usual())
    price = '[[prices]]\nmodel = "*"\ninput = 1000000\noutput = 1000000\n'
    daemon = await start_daemon(CLIENT + price + provider(upstream) + limit("ads, a month", usd=20.0, per="month"))
    for _ in range(2):
        assert (await wire.post(daemon.port, wire.Message().encode(), headers=KEY)).status == 200
    result = await prompt(daemon.url, "say hi", tmp_path, within=60)
    assert result.code == 1
    assert 'The limit "ads, a month" for tests is used up: $26.00 of $20.00. It begins anew on 20' in result.out


@ensureDeferred
async def test_ledger_away_at_the_start(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Restarts are no way to a new budget, though the ledger is away: what was used meanwhile counts at once, and what
    was used before as soon as it is back. That something is missing is told."""
    upstream.script(answers.usual())
    accounts = tmp_path / "accounts"
    database = f'[accounts]\ndatabase = "sqlite:{accounts}/accounts.db"\n'
    config = CLIENT + database + provider(upstream) + limit("five a day", requests=5, per="day")

    async def use(daemon: Daemon) -> int:
        return (await wire.post(daemon.port, wire.Message().encode(), headers=KEY)).status

    async def used(daemon: Daemon) -> list[int]:
        return [counter["used"] for counter in (await daemon.admin_get("/admin/v1/limits")).json]

    async def told(daemon: Daemon) -> tuple[bool, float]:
        complete = (await daemon.admin_get("/admin/v1/status")).json["limits"]["complete"]
        return complete, (await daemon.metrics())["claudeproxyd_limits_incomplete{}"]

    daemon = await start_daemon(config)
    assert [await use(daemon) for _ in range(2)] == [200, 200]
    assert await told(daemon) == (True, 0)
    await daemon.stop()
    accounts.rename(tmp_path / "elsewhere")
    (accounts / "accounts.db").mkdir(parents=True)  # no file can be there
    for before in (0, 1):
        daemon = await start_daemon(config)
        assert await use(daemon) == 200
        assert (await used(daemon), await told(daemon)) == ([before + 1], (False, 1))
        await daemon.kill()
    daemon = await start_daemon(config)
    (accounts / "accounts.db").rmdir()
    for path in (tmp_path / "elsewhere").glob("accounts.db*"):
        if path.is_file():
            path.rename(accounts / path.name)

    async def is_known() -> bool:
        return await used(daemon) == [4]

    await eventually("the ledger is asked again", is_known)
    assert await told(daemon) == (True, 0)
    assert [await use(daemon) for _ in range(2)] == [200, 429]


@needs(redis_server)
@ensureDeferred
async def test_many_at_once_on_two_daemons(start_daemon: StartDaemon, upstream: Upstream, redis: Redis) -> None:
    """Of 200 requests at once on a budget for 10, over two daemons, ten are served; both tell the same of it."""
    upstream.script(answers.then(answers.pause(0.5), answers.usual()))
    config = CLIENT + provider(upstream) + limit("ten a day", requests=10, per="day")
    daemons = [await start_daemon(config, state=redis.url) for _ in range(2)]
    body = wire.Message().encode()
    ports = [daemon.port for daemon in daemons] * 100
    calls = [Deferred.fromCoroutine(wire.post(port, body, headers=KEY)) for port in ports]
    served = [answer for answer in await gatherResults(calls) if answer.status == 200]
    assert (len(served), len(upstream.requests)) == (10, 10)
    for daemon in daemons:
        (counter,) = (await daemon.admin_get("/admin/v1/limits")).json
        assert (counter["used"], counter["reserved"], counter["value"]) == (10, 0, "tests")
        refused = await wire.post(daemon.port, body, headers=KEY)
        assert (refused.status, refused.headers["x-should-retry"]) == (429, "false")


@needs(redis_server)
@ensureDeferred
async def test_redis_away(start_daemon: StartDaemon, upstream: Upstream, redis: Redis) -> None:
    """Without Redis each of two daemons has half of what is left; what a Redis has forgotten it hears again."""
    upstream.script(answers.usual())
    config = CLIENT + provider(upstream) + limit("a day", requests=22, per="day")
    daemons = [await start_daemon(config, state=redis.url) for _ in range(2)]
    body = wire.Message().encode()

    async def use(daemon: Daemon) -> int:
        """Until it is used up."""
        served = 0
        while (await wire.post(daemon.port, body, headers=KEY)).status == 200:
            served += 1
        return served

    for daemon in daemons:
        assert (await wire.post(daemon.port, body, headers=KEY)).status == 200

    async def know_all() -> bool:
        """Each knows of the other's."""
        told = [(await daemon.admin_get("/admin/v1/limits")).json for daemon in daemons]
        return all(counter["used"] == 2 for (counter,) in told)

    await eventually("all is known", know_all)
    await redis.kill()
    assert [await use(daemon) for daemon in daemons] == [10, 10]
    await redis.start()

    async def is_told() -> bool:
        told = [(await daemon.admin_get("/admin/v1/limits")).json for daemon in daemons]
        return all((counter["used"], counter["reserved"]) == (22, 0) for (counter,) in told)

    await eventually("Redis is told of all", is_told)
    assert [await use(daemon) for daemon in daemons] == [0, 0]
