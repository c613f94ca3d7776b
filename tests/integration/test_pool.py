"""What clients feel of the pool: waits that are short, refusals that say when to come back, and turns."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList

from tests.integration.conftest import StartDaemon, StartLlmock
from tests.integration.support import answers, wire
from tests.integration.support.claude_code import prompt
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.forwarding import listen_by_key
from tests.integration.support.process import eventually, sleep
from tests.integration.support.upstream import Exchange, Upstream

FOUR_HOURS = "14400"
PATIENT = "[pool]\nmax_wait = 60.0\n[streaming]\nhead_commit = 90.0\n"


def quota(seconds: str) -> Any:
    return answers.error(429, "rate_limit_error", "This request would exceed your rate limit", retry_after=seconds)


def clients(*names: str) -> str:
    """``[[clients]]`` sections; each client's key is its name."""
    return "".join(f'[[clients]]\nname = "{name}"\nkey = "{name}"\n' for name in names)


async def ask(daemon: Daemon, text: str = "say hi", client: str = "", within: float = 60.0, **more: Any) -> wire.Answer:
    headers = {"x-api-key": client} if client else {}
    return await wire.post(daemon.port, wire.Message(prompt=text, **more).encode(), headers=headers, within=within)


async def together(*asked: Any) -> list[Any]:
    """The results of coroutines that run at the same time; raises what the first of them did that failed."""
    started = [Deferred.fromCoroutine(each) for each in asked]
    return [result for _, result in await DeferredList(started, fireOnOneErrback=True, consumeErrors=True)]


def said(exchange: Exchange) -> str:
    """The prompt that an upstream was sent."""
    return exchange.request.json["messages"][0]["content"]


# -- how Claude Code takes it


@ensureDeferred
async def test_out_for_hours(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """With every key out for four hours Claude Code ends without trying again, and says when to come back."""
    asked: list[float] = []

    async def out(exchange: Exchange) -> None:
        asked.append(reactor.seconds())
        await quota(FOUR_HOURS)(exchange)

    upstream.script(out)
    daemon = await start_daemon("[pool]\nmax_cooldown = 20000.0\n" + provider(upstream, "key-a", "key-b"))
    result = await prompt(daemon.url, "say hi", tmp_path, within=60)
    took = reactor.seconds() - asked[0]
    assert result.code == 1
    assert re.search(r"ready again in 4 h \d+ min", result.out), result
    assert took < 15.0  # its own retries would take two minutes
    assert [request.key for request in upstream.requests] in (["key-a", "key-b"], ["key-b", "key-a"])


@ensureDeferred
async def test_out_for_seconds(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Told to come back within a minute, Claude Code does so by itself, and its user sees only the answer."""
    asked: list[float] = []

    async def back_soon(exchange: Exchange) -> None:
        asked.append(reactor.seconds())
        await (quota("5") if len(asked) == 1 else answers.usual())(exchange)

    upstream.script(back_soon)
    daemon = await start_daemon("[pool]\nmax_wait = 0.0\n" + provider(upstream))
    result = await prompt(daemon.url, "say hi", tmp_path, within=60)
    assert (result.code, result.out.strip()) == (0, "hello"), result
    assert asked[1] - asked[0] >= 5.0


@ensureDeferred
async def test_short_waits_are_not_seen(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A key that is out for two seconds is left alone for them, and who wants it waits and knows nothing of it."""
    upstream.script(quota("2"), answers.usual())
    daemon = await start_daemon(provider(upstream))
    began = reactor.seconds()
    assert (await ask(daemon)).status == 200
    assert 2.0 <= reactor.seconds() - began < 10.0
    assert len(upstream.requests) == 2


# -- what a failure costs, and what it does not


@ensureDeferred
async def test_permission_is_of_one_model(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A key that may not use one model serves its others, and is not asked for that one again once two have met it."""

    async def some(exchange: Exchange) -> None:
        denied = exchange.request.json["model"] == "claude-denied"
        await (answers.error(403, "permission_error", "no access") if denied else answers.usual())(exchange)

    upstream.script(some)
    daemon = await start_daemon(provider(upstream))
    for number in range(4):
        refused = await ask(daemon, f"request {number}", model="claude-denied")
        assert (refused.status, refused.headers["x-should-retry"]) == (503, "false")
        assert (await ask(daemon)).status == 200
    models = [request.json["model"] for request in upstream.requests]
    assert models.count("claude-denied") == 2
    (entry,) = (await daemon.pool())["credentials"]
    assert entry["state"] == "ready"


@ensureDeferred
async def test_made_up_models_leave_no_trace(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """A model that nobody has, asked for in a thousand spellings, neither fills the state nor keeps a key busy."""

    async def some(exchange: Exchange) -> None:
        model = exchange.request.json["model"]
        known = model == "claude-opus-5-5"
        await (answers.usual() if known else answers.error(404, "not_found_error", f"model: {model}"))(exchange)

    upstream.script(some)
    path = tmp_path / "state.db"
    listed = '[[models]]\nname = "claude-opus-5-5"\nroutes = [{ provider = "up" }]\n'
    listed += '[[models]]\nname = "*"\nroutes = [{ provider = "up" }]\n'
    daemon = await start_daemon(listed + provider(upstream, "key-a", "key-b"), state=f"sqlite:{path}")

    def stored() -> list[Any]:
        with closing(sqlite3.connect(path)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return [row for table in tables for row in database.execute(f"SELECT * FROM {table}")]

    assert (await ask(daemon)).status == 200
    await eventually("the session's home is stored", lambda: any("claude-opus-5-5" in str(row) for row in stored()))
    before = stored()
    for start in range(0, 1000, 50):
        spellings = [f"claude-{'oO'[number % 2]}pus{number}" for number in range(start, start + 50)]
        told = await together(*(ask(daemon, model=model) for model in spellings))
        assert {answer.status for answer in told} == {404}
    await sleep(1.0)  # longer than a change of state waits to be written
    assert stored() == before
    pool = await daemon.pool()
    assert [entry["state"] for entry in pool["credentials"]] == ["ready", "ready"]
    assert pool["gauges"]["unknown_models"] <= 256
    assert (await ask(daemon)).status == 200
    assert b"claude-opus7" not in (await daemon.admin_get("/metrics")).body


# -- crowds


@pytest.mark.alone
@ensureDeferred
async def test_herd(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """When the one key is back that five hundred requests wait for, it is tried by one, and within a second by all."""
    under_way = 0
    crowds: list[tuple[float, int]] = []

    async def slow(exchange: Exchange) -> None:
        nonlocal under_way
        under_way += 1
        crowds.append((reactor.seconds(), under_way))
        await exchange.sleep(0.2)
        await answers.usual()(exchange)
        under_way -= 1

    upstream.script(quota("3"), slow)
    daemon = await start_daemon(PATIENT + provider(upstream))
    first = Deferred.fromCoroutine(ask(daemon, "the first"))

    while (await daemon.pool())["gauges"]["waiting"] != 1:
        assert not first.called
    told = await together(*(ask(daemon, f"request {number}") for number in range(500)))
    assert {answer.status for answer in [*told, await first]} == {200}
    assert len(upstream.requests) == 502
    began = crowds[0][0]
    # What has not failed for a twentieth of a second lets four times as many in behind it.
    rounds = [(int((at - began) / 0.05), crowd) for at, crowd in crowds]
    assert [each for each in rounds if each[1] > 5 ** (1 + each[0])] == []
    most = {number: max(crowd for each, crowd in rounds if each == number) for number, _ in rounds}
    print("herd: the most at once in each twentieth of a second:", most)
    assert max(crowd for at, crowd in crowds if at - began < 1.0) > 100


@ensureDeferred
async def test_turns(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """One client with two hundred requests waiting does not keep ten others with one each from their turn."""
    release: Deferred[None] = Deferred()

    async def held(exchange: Exchange) -> None:
        await release
        await answers.usual()(exchange)

    upstream.script(held, answers.usual())
    others = [f"other-{number}" for number in range(10)]
    section = provider(upstream).replace('name = "key-a"\n', 'name = "key-a"\nmax_concurrency = 1\n')
    daemon = await start_daemon(clients("swarm", *others) + PATIENT + section)
    asked = [Deferred.fromCoroutine(ask(daemon, "first", "swarm"))]
    await eventually("the key is taken", lambda: len(upstream.requests) == 1)
    asked += [Deferred.fromCoroutine(ask(daemon, f"swarm {number}", "swarm")) for number in range(200)]
    await _until_waiting(daemon, 200)
    asked += [Deferred.fromCoroutine(ask(daemon, client, client)) for client in others]
    await _until_waiting(daemon, 210)
    queue = {entry["client"]: entry["requests"] for entry in (await daemon.pool())["queue"]}
    assert queue == {"swarm": 200, **dict.fromkeys(others, 1)}
    release.callback(None)
    for each in asked:
        assert (await each).status == 200
    order = [said(exchange) for exchange in upstream.exchanges[1:]]
    assert set(others) <= set(order[:20]), order[:30]
    mine = [each for each in order if each.startswith("swarm")]
    assert len(mine) == 200


async def _until_waiting(daemon: Daemon, number: int) -> None:
    async def they_wait() -> bool:
        return (await daemon.pool())["gauges"]["waiting"] == number

    await eventually(f"{number} wait", they_wait)


# -- an upstream that others wrote, with quotas as providers have them

MINUTE = 60.0
CLIENTS = 10
RPM = 60
#: Requests: the first key has nothing left but what each second brings after some 50 seconds, the last has never.
ALL = 306


@pytest.mark.long
@ensureDeferred
async def test_real_quotas(start_daemon: StartDaemon, start_llmock: StartLlmock, tmp_path: Path) -> None:
    """Ten clients for a minute on three keys with a quota each: while any key has some left, nobody is refused and
    nobody waits; and no key's own upstream finds fault with our retries."""
    # Its verdict is about all requests together, so each key has an upstream of its own.
    ports = {
        key: int((await start_llmock("--rpm", str(RPM), "--tpm", "20000", "--tool-mode", "off")).rpartition(":")[2])
        for key in ("key-a", "key-b", "key-c")
    }
    port = listen_by_key(ports)
    lines = tmp_path / "access.jsonl"
    log = f'[log]\nformat = "json"\naccess = "{lines}"\n'
    # One key after the other is used up, and from then on has what a second brings back.
    config = log + '[pool]\nstrategy = "fill-first"\naffinity = false\n'
    config += clients(*(f"client-{number}" for number in range(CLIENTS)))
    daemon = await start_daemon(config + provider(f"http://127.0.0.1:{port.getHost().port}/anthropic", *ports))
    spans: dict[str, float] = {}
    statuses: list[int] = []
    starts = reactor.seconds()

    async def client(number: int) -> None:
        for turn in range(number, ALL, CLIENTS):
            await sleep(max(0.0, starts + turn * MINUTE / ALL - reactor.seconds()))
            began = reactor.seconds()
            sent = await wire.stream(
                daemon.port, wire.Message(prompt=f"turn {turn}", stream=True), {"x-api-key": f"client-{number}"}
            )
            answer = await sent.head()
            span = reactor.seconds() - began
            await sent.body(answer)
            sent.reset()
            statuses.append(answer.status)
            spans[answer.headers["x-claudeproxyd-request-id"]] = span

    await together(*(client(number) for number in range(CLIENTS)))
    await port.stopListening()
    await sleep(0.5)  # the last lines are on their way into the file
    attempts: dict[str, list[Mapping[str, Any]]] = {}
    for record in map(json.loads, lines.read_text().splitlines()):
        if "attempt" in record:
            attempts.setdefault(record["request_id"], []).append(record)
    added = sorted(span - attempts[request][-1]["time_to_first_byte"] for request, span in spans.items())
    print(
        f"real quotas: {len(statuses)} requests, statuses {sorted(set(statuses))},",
        f"{sum(map(len, attempts.values()))} attempts,",
        f"added p50 {added[len(added) // 2] * 1e3:.1f} ms, p95 {added[len(added) * 95 // 100] * 1e3:.1f} ms,",
        f"worst {added[-1] * 1e3:.1f} ms",
    )
    assert set(statuses) == {200}
    assert added[len(added) * 95 // 100] < 0.5  # a wait would be for the second that brings a key's next request
    outcomes = Counter((record["credential"], record["outcome"]) for tried in attempts.values() for record in tried)
    print("attempts:", dict(outcomes))
    assert {key for key, outcome in outcomes if outcome == "ok"} == {"key-a", "key-b", "key-c"}
    assert sum(number for (_, outcome), number in outcomes.items() if outcome == "quota") > 0
    for key, its_port in ports.items():
        verdict = (await wire.get(its_port, "/_llmock/verdict")).json
        findings = Counter(finding["code"] for finding in verdict["findings"])
        print(f"llmock's verdict on {key}:", dict(findings))
        # That we go to another key, and do not come back, is all that this key's upstream may wonder about.
        assert set(findings) <= {"gave_up"}, verdict
