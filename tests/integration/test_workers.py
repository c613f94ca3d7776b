"""Several processes as one daemon: real ones, and what of them the outside sees."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.error import ConnectError

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import ADMIN_KEY, Daemon, provider
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Exchange, Upstream

TWO = "workers = 2\n"
BODY = wire.Message().encode()
LEDGER = '[accounts]\ndatabase = "sqlite:{path}"\n'
QUOTA = answers.error(429, "rate_limit_error", **{"retry-after": "600"})
CLIENT = '[[clients]]\nname = "tests"\nkey = "client-key"\n'
KEY = {"x-api-key": "client-key"}


async def started(start_daemon: StartDaemon, config: str, server: str = "", **options: Any) -> Daemon:
    """A daemon of two workers that both serve."""
    daemon = await start_daemon(config, server=TWO + server, **options)
    await both_serve(daemon)
    return daemon


async def both_serve(daemon: Daemon) -> None:
    """Wait for it."""

    async def ready() -> bool:
        return (await daemon.metrics()).get("claudeproxyd_workers{}") == 2

    await eventually("both workers serve", ready)


def workers(daemon: Daemon) -> list[int]:
    """The process ids of those that are there."""
    return [int(pid) for pid in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that is over and not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def operate(daemon: Daemon, path: str, body: Mapping[str, object]) -> Any:
    headers = {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"}
    answer = await wire.post(daemon.admin, json.dumps(body).encode(), path, headers)
    assert answer.status == 200, answer.body
    return answer.json


async def ask(daemon: Daemon, times: int, headers: Mapping[str, str] | None = None) -> Counter[int]:
    """So many requests, each on a connection of its own, all at once; how often each status came, 0 for none."""
    calls = [Deferred.fromCoroutine(wire.post(daemon.port, BODY, headers=headers)) for _ in range(times)]
    found = await DeferredList(calls, consumeErrors=True)
    return Counter(answer.status if good else 0 for good, answer in found)


def total(metrics: Mapping[str, float], name: str, *having: str) -> float:
    """The sum of a metric's samples whose labels have all these texts."""
    return sum(
        value
        for sample, value in metrics.items()
        if sample.startswith(name + "{") and all(each in sample for each in having)
    )


class Gate:
    """Answers that wait until the test lets them go, and how many do."""

    def __init__(self) -> None:
        self.open: Deferred[None] = Deferred()
        self.at_once = self.most = 0

    async def answer(self, exchange: Exchange) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await exchange.until(self.open)
        finally:
            self.at_once -= 1
        await answers.usual()(exchange)


@ensureDeferred
async def test_spread_and_totals(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Connections are spread evenly; metrics, pool, clients and ledger tell of all requests as of one daemon's."""
    upstream.script(answers.usual())
    ledger = LEDGER.format(path=tmp_path / "accounts.db")
    daemon = await started(start_daemon, CLIENT + provider(upstream) + ledger)
    connections = await gatherResults([Deferred.fromCoroutine(wire.Wire.connect(daemon.port)) for _ in range(200)])
    for each in connections:
        each.request("POST", "/v1/messages", BODY, {**wire.VERSION, **KEY})
    for each in connections:
        assert (await each.body(await each.head())).status == 200
    metrics = await daemon.metrics()
    spread = [metrics[f'claudeproxyd_worker_connections{{worker="{number}"}}'] for number in (1, 2)]
    assert sum(spread) == metrics["claudeproxyd_connections{}"] == 200
    assert max(spread) <= 130, spread
    assert total(metrics, "claudeproxyd_requests_total", 'client="tests"') == 200
    assert total(metrics, "claudeproxyd_attempts_total") == len(upstream.requests) == 200
    assert total(metrics, "gen_ai_server_request_duration_seconds_count") == 200
    assert total(metrics, "claudeproxyd_credential_state", 'credential="key-a"') == 1
    assert (metrics["claudeproxyd_workers{}"], metrics["claudeproxyd_worker_restarts_total{}"]) == (2, 0)
    (credential,) = (await daemon.pool())["credentials"]
    assert (credential["outcomes"], credential["state"]) == ({"ok": 200}, "ready")
    (client,) = (await daemon.admin_get("/admin/v1/clients")).json["clients"]
    assert client == {
        "client": "tests",
        "in_flight": 0,
        "answers": [{"status": 200, "outcome": "ok", "refusal": "", "requests": 200}],
    }

    async def entered() -> bool:
        rows = (await daemon.admin_get("/admin/v1/usage?by=client")).json
        return [(row["client"], row["requests"], row["output_tokens"]) for row in rows] == [("tests", 200, 400)]

    await eventually("the ledger has all", entered)
    for each in connections:
        each.reset()


@ensureDeferred
async def test_worker_is_killed(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """The death of a worker costs the requests on it and no other; what comes meanwhile is served; it is replaced."""
    gate = Gate()
    upstream.script(gate.answer)
    ledger = LEDGER.format(path=tmp_path / "accounts.db")
    daemon = await started(start_daemon, CLIENT + provider(upstream) + ledger)
    under_way = Deferred.fromCoroutine(ask(daemon, 40, KEY))
    await eventually("all are at the upstream", lambda: gate.at_once == 40)
    before = await daemon.metrics()
    killed, spared = workers(daemon)
    (lost,) = (before[f'claudeproxyd_worker_connections{{worker="{1}"}}'],)
    os.kill(killed, signal.SIGKILL)
    await eventually("its connections are gone", lambda: gate.at_once == 40 - lost)
    upstream.script(answers.usual())
    assert await ask(daemon, 40, KEY) == {200: 40}
    gate.open.callback(None)
    assert await under_way == {0: lost, 200: 40 - lost}
    await eventually("another one is there", lambda: len(workers(daemon)) == 2)
    await both_serve(daemon)
    assert spared in workers(daemon)
    assert killed not in workers(daemon)
    assert await ask(daemon, 40, KEY) == {200: 40}
    metrics = await daemon.metrics()
    assert total(metrics, "claudeproxyd_requests_total", 'client="tests"', 'status="200"') == 120 - lost
    assert metrics["claudeproxyd_worker_restarts_total{}"] == 1
    assert "worker 1, process " in daemon.log

    async def entered() -> bool:
        rows = (await daemon.admin_get("/admin/v1/usage?by=client")).json
        return [(row["requests"], row["attempts"]) for row in rows] == [(120, 120)] and len(upstream.requests) == 120

    await eventually("the ledger has all, those that were lost too", entered)


@ensureDeferred
async def test_parent_is_killed(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """The workers of a parent that is gone finish what they have, take nothing more, and end."""
    gate = Gate()
    upstream.script(gate.answer)
    daemon = await started(start_daemon, provider(upstream))
    under_way = Deferred.fromCoroutine(ask(daemon, 10))
    await eventually("all are at the upstream", lambda: gate.at_once == 10)
    pids = workers(daemon)
    killed = Deferred.fromCoroutine(daemon.kill())  # its output is the workers' too, so that ends with them

    async def refused() -> bool:
        try:
            await wire.get(daemon.port, "/healthz")
        except (ConnectError, EOFError):  # closed, or about to be on a machine that is busy
            return True
        return False

    await eventually("the port is closed", refused)
    assert all(alive(pid) for pid in pids)
    gate.open.callback(None)
    assert await under_way == {200: 10}
    await killed
    await eventually("they have ended", lambda: not any(alive(pid) for pid in pids))


@ensureDeferred
async def test_shared_state(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A cooldown that one worker meets with is honoured by the other; what an operator says reaches both."""
    upstream.script_for("key-a", QUOTA)
    upstream.script_for("key-b", answers.usual())
    models = '[[models]]\nname = "claude-opus-5-5"\nroutes = [{ provider = "up" }]\n'
    fill = '[pool]\nstrategy = "fill-first"\n'
    daemon = await started(start_daemon, provider(upstream, "key-a", "key-b") + models + fill)
    assert (await wire.post(daemon.port, BODY)).status == 200
    assert await ask(daemon, 40) == {200: 40}
    asked = Counter(request.key for request in upstream.requests)
    assert asked == {"key-a": 1, "key-b": 41}
    (first, _) = (await daemon.pool())["credentials"]
    assert (first["credential"], first["state"], first["outcomes"]) == ("key-a", "cooling", {"rate_limit": 1}) or first[
        "outcomes"
    ] == {"quota": 1}
    await operate(daemon, "/admin/v1/pool/disable", {"provider": "up", "credential": "key-b"})
    assert set(await ask(daemon, 20)) == {429}
    await operate(daemon, "/admin/v1/pool/enable", {"provider": "up", "credential": "key-b"})
    assert await ask(daemon, 20) == {200: 20}
    await operate(daemon, "/admin/v1/pool/disable", {"provider": "up", "credential": "key-b"})
    upstream.script_for("key-a", answers.usual())
    assert (await operate(daemon, "/admin/v1/pool/clear", {}))["cleared"] == 1
    assert await ask(daemon, 20) == {200: 20}


@ensureDeferred
async def test_max_concurrency(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Limits of credentials, below the number of workers too, and of clients hold in sum, and can be used up."""
    gate = Gate()
    upstream.script(gate.answer)
    one = provider(upstream).replace('api_key = "key-a"', 'api_key = "key-a"\nmax_concurrency = 1')
    daemon = await started(start_daemon, CLIENT + one)
    gate.open.callback(None)
    assert await ask(daemon, 40, KEY) == {200: 40}
    assert gate.most == 1
    daemon.rewrite(CLIENT + one.replace("max_concurrency = 1", "max_concurrency = 7"))
    await operate(daemon, "/admin/v1/reload", {})
    gate.open, gate.most = Deferred(), 0
    under_way = Deferred.fromCoroutine(ask(daemon, 40, KEY))
    await eventually("the limit is used up", lambda: gate.at_once == 7)
    assert (await daemon.pool())["gauges"]["in_flight"] == 7
    gate.open.callback(None)
    assert await under_way == {200: 40}
    assert gate.most == 7
    daemon.rewrite(CLIENT + "max_concurrency = 5\n" + provider(upstream))
    await operate(daemon, "/admin/v1/reload", {})
    gate.open, gate.most = Deferred(), 0
    calls = [Deferred.fromCoroutine(wire.post(daemon.port, BODY, headers=KEY)) for _ in range(40)]
    await eventually("the others are refused", lambda: sum(call.called for call in calls) == 35)
    gate.open.callback(None)
    assert Counter(answer.status for answer in await gatherResults(calls)) == {200: 5, 429: 35}
    assert gate.most == 5


@ensureDeferred
async def test_limits(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A budget is one over all workers, and the operator sees one counter."""
    upstream.script(answers.then(answers.pause(0.2), answers.usual()))
    limit = '[[limits]]\nname = "ten a day"\neach = "client"\nrequests = 10\nper = "day"\n'
    daemon = await started(start_daemon, CLIENT + provider(upstream) + limit)
    assert await ask(daemon, 60, KEY) == {200: 10, 429: 50}
    assert len(upstream.requests) == 10
    (counter,) = (await daemon.admin_get("/admin/v1/limits")).json
    assert (counter["used"], counter["reserved"], counter["value"]) == (10, 0, "tests")
    answer = await wire.post(daemon.port, BODY, headers=KEY)
    assert "ten a day" in answer.json["error"]["message"]
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"


@ensureDeferred
async def test_reload(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """A configuration reaches all workers before it is said to be in force, and one with a mistake none; so do keys."""
    upstream.script(answers.usual())
    ledger = LEDGER.format(path=tmp_path / "accounts.db")
    daemon = await started(start_daemon, CLIENT + provider(upstream, "key-a") + ledger)
    daemon.rewrite(CLIENT + provider(upstream, "key-b") + ledger)
    await operate(daemon, "/admin/v1/reload", {})
    assert await ask(daemon, 20, KEY) == {200: 20}
    assert {request.key for request in upstream.requests} == {"key-b"}
    daemon.rewrite(CLIENT + provider(upstream, "key-c") + ledger + "[pool]\nstrategy = 'best'\n")
    daemon.signal("HUP")
    await eventually("the log names the mistake", lambda: "strategy" in daemon.log)
    assert await ask(daemon, 20, KEY) == {200: 20}
    assert {request.key for request in upstream.requests} == {"key-b"}
    minted = await operate(daemon, "/admin/v1/keys", {"name": "somebody"})
    assert await ask(daemon, 20, {"x-api-key": minted["key"]}) == {200: 20}


@ensureDeferred
async def test_drain(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """SIGTERM to the parent, or to all as systemd has it, lets everything under way finish, and ends all."""
    gate = Gate()
    upstream.script(gate.answer)
    daemon = await started(start_daemon, provider(upstream))
    under_way = Deferred.fromCoroutine(ask(daemon, 40))
    await eventually("all are at the upstream", lambda: gate.at_once == 40)
    pids = workers(daemon)
    daemon.signal("TERM")
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    await eventually("they drain", lambda: daemon.log.count(" connections, for up to ") == 2)
    assert (await wire.get(daemon.admin, "/readyz")).status == 503
    gate.open.callback(None)
    assert await under_way == {200: 40}
    await daemon.ended()
    assert not any(alive(pid) for pid in pids)


@ensureDeferred
async def test_second_signal(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A second signal ends the wait for all."""
    upstream.script(answers.silent())
    daemon = await started(start_daemon, provider(upstream))
    under_way = Deferred.fromCoroutine(ask(daemon, 20))
    await eventually("all are at the upstream", lambda: len(upstream.requests) == 20)
    daemon.signal("TERM")
    await eventually("they drain", lambda: daemon.log.count(" connections, for up to ") == 2)
    daemon.signal("TERM")
    await daemon.ended()
    assert set(await under_way) == {529}
