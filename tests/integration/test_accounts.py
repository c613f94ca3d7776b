"""The ledger of a whole daemon beside what the upstream itself has counted."""

from __future__ import annotations

import csv
import io
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import time
from typing import Any

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from tests.integration.conftest import StartDaemon
from tests.integration.support import bookkeeping, counting, wire
from tests.integration.support.bookkeeping import Bookkeeper, Crowd, Entry
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.needs import needs
from tests.integration.support.postgresql import Postgres, postgres_server
from tests.integration.support.process import eventually, sleep
from tests.integration.support.upstream import Upstream

REQUESTS = int(os.environ.get("ACCOUNTS_REQUESTS", "500"))
AWAY = float(os.environ.get("ACCOUNTS_AWAY", "6"))
"""Seconds that the database is away for under the last of the daemons."""
PATIENCE = max(300.0, REQUESTS)
"""Seconds that a third of the requests may take."""
CLIENTS = 20
WORKERS = 24
SEED = 13
KEYS = ("key-a", "key-b", "key-c")
SUMS = ("input_tokens", "output_tokens", "cache_read_tokens")


def config(upstream: Upstream) -> str:
    """Many clients of two teams, a provider of each family with three keys, and a price."""
    clients = "".join(
        f'[[clients]]\nname = "client-{number}"\nkey = "key-of-client-{number}"\n'
        f'labels = {{ team = "team-{number % 2}" }}\n'
        for number in range(CLIENTS)
    )
    price = (
        f'[[prices]]\nmodel = "*"\ninput = {bookkeeping.INPUT_USD}\noutput = {bookkeeping.OUTPUT_USD}\n'
        f"cache_read = {bookkeeping.READ_USD}\n"
    )
    providers = "".join(
        provider(upstream, *KEYS, name=api.kind, kind=api.kind).replace("api_key", f"{api.settings}api_key")
        + f'[[models]]\nname = "{api.kind}"\nroutes = [{{ provider = "{api.kind}", model = "{api.model}" }}]\n'
        for api in counting.ALL
    )
    return clients + price + providers


class SQLiteFile:
    """The usual database."""

    config = ""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".local/state/claudeproxyd/accounts.db"
        self._blocker: sqlite3.Connection | None = None

    async def away(self) -> None:
        """Let nobody write to it."""
        self._blocker = sqlite3.connect(self._path, isolation_level=None)
        self._blocker.execute("BEGIN IMMEDIATE")

    async def back(self) -> None:
        """Let go of it."""
        assert self._blocker is not None
        self._blocker.execute("ROLLBACK")
        self._blocker.close()


class Daemons:
    """One daemon after another on one ledger."""

    def __init__(self, start: StartDaemon, upstream: Upstream, database: SQLiteFile | Postgres) -> None:
        self._start, self._config = start, config(upstream) + database.config
        self.now: Daemon | None = None
        self.all: list[Daemon] = []
        self._waiting: list[Deferred[None]] = []

    async def start(self) -> None:
        """The next one."""
        self.now = await self._start(self._config)
        self.all.append(self.now)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def kill(self) -> None:
        """Without a word."""
        assert self.now is not None
        killed, self.now = self.now, None
        await killed.kill()

    async def port(self) -> int:
        """Where clients find it, as soon as there is one."""
        while self.now is None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        return self.now.port


async def attempts_of(daemon: Daemon) -> list[dict[str, Any]]:
    """Every attempt in the ledger, in order, each with what it has of its request."""
    found = []
    for number in range(CLIENTS):
        answer = await daemon.admin_get(f"/admin/v1/requests?client=client-{number}&limit=1000")
        assert answer.status == 200, daemon.log
        for request in reversed(answer.json):
            common = {name: request[name] for name in ("request_id", "client", "session", "operation")}
            common["label.team"] = request["labels"]["team"]
            found += [{**common, **attempt} for attempt in request["attempts"]]
    return found


def pairs(rows: list[dict[str, Any]], entries: dict[str, list[Entry]]) -> Iterator[tuple[dict[str, Any], Entry | None]]:
    """Yield each row with what the upstream has of the same attempt; None: the upstream never saw it."""
    by_call: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_call.setdefault(row["session"], []).append(row)
    assert set(entries) <= set(by_call)
    for name, of_call in by_call.items():
        seen = list(entries.get(name, ()))
        for row in of_call:
            if row["outcome"] == "lost" and len(seen) > 1:
                assert not seen.pop(0).status  # it met a closed connection, and had gone out once more
            yield row, seen.pop(0) if seen else None
        assert not seen, (name, of_call, seen)


def all_of(row: dict[str, Any]) -> int:
    """Its tokens."""
    return sum(row[name] or 0 for name in SUMS)


@ensureDeferred
async def test_right_to_the_token(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Whatever becomes of requests, of the daemon and of its database: the ledger has what the upstream has counted,
    attempt by attempt; what it had to guess says so, and is near it."""
    await is_right(start_daemon, upstream, SQLiteFile(tmp_path), tmp_path)


@needs(postgres_server)
@ensureDeferred
async def test_right_to_the_token_in_postgresql(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """So it is when PostgreSQL is killed in the middle, and away for a while."""
    postgres = await Postgres.make()
    try:
        await is_right(start_daemon, upstream, postgres, tmp_path)
    finally:
        await postgres.stop()


async def is_right(
    start_daemon: StartDaemon, upstream: Upstream, database: SQLiteFile | Postgres, folder: Path
) -> None:
    """Hold the ledger in *database* to the upstream's books; *folder* has all that daemons write."""
    random = Random(SEED)
    books = Bookkeeper(random)
    calls = bookkeeping.plan(REQUESTS, CLIENTS, random)
    books.calls = {call.name: call for call in calls}
    upstream.script(books)
    daemons = Daemons(start_daemon, upstream, database)
    await daemons.start()
    crowd = Crowd(calls, daemons.port)
    working = gatherResults([Deferred.fromCoroutine(crowd.work()) for _ in range(WORKERS)])
    # killed in the middle of it
    await eventually("a third is made", lambda: crowd.made >= REQUESTS // 3, PATIENCE)
    await daemons.kill()
    await daemons.start()
    # the database is away, and the daemon is killed once more while it is
    await eventually("a half is made", lambda: crowd.made >= REQUESTS // 2, PATIENCE)
    await database.away()
    await eventually("two thirds are made", lambda: crowd.made >= 2 * REQUESTS // 3, PATIENCE)
    await daemons.kill()
    killed_at = time()
    await daemons.start()
    await sleep(AWAY)
    await database.back()
    await working
    daemon = daemons.now
    assert daemon is not None
    for _ in range(3):
        body = b'{"model":"anthropic","messages":[{"role":"user","content":"count"}]}'
        counted = await wire.post(daemon.port, body, "/v1/messages/count_tokens", {"x-api-key": "key-of-client-1"})
        assert counted.status == 200

    async def is_entered() -> bool:
        return (await daemon.metrics())["claudeproxyd_ledger_waiting_bytes{}"] == 0

    await eventually("all is over", lambda: all(entry.over for each in books.entries.values() for entry in each))
    await sleep(0.2)  # the last of the cancelled are recorded
    await eventually("all is entered", is_entered)

    rows = await attempts_of(daemon)
    assert sum(row["operation"] == "count_tokens" for row in rows) == 3
    rows = [row for row in rows if row["operation"] == "messages"]
    exact = told = true = 0
    outcomes: Counter[str] = Counter()
    for row, entry in pairs(rows, books.entries):
        outcomes[row["outcome"]] += 1
        figures = tuple(row[name] for name in SUMS)
        if entry is None:
            assert (row["status"], row["outcome"]) in ((0, "lost"), (0, "cancelled")), row
        elif row["estimated"]:
            assert row["outcome"] != "ok", (row, entry)
            told += all_of(row)
            true += entry.input + entry.read + entry.output
        elif figures == (None, None, None):
            assert entry.input + entry.read + entry.output == 0, (row, entry)
        else:
            exact += 1
            assert entry.whole, (row, entry)
            assert figures == (entry.input, entry.output, entry.read), (row, entry)
            assert round(row["usd"] * 1e9) == entry.nano_usd
            assert (row["credential"], row["status"]) == (entry.key, 200)
    assert exact > REQUESTS // 2
    assert abs(told - true) <= 0.1 * true, (told, true)
    assert {"ok", "lost", "cancelled", "overloaded", "transient", "broken_stream"} <= set(outcomes), outcomes
    await agree(daemon, rows, killed_at)
    await keep_still(daemons.all, folder)


async def keep_still(daemons: list[Daemon], folder: Path) -> None:
    """Find no word of prompts and answers, and no key, in all that the daemons have written, and in what they tell."""
    last = daemons[-1]
    told = {each.url: each.log.encode() for each in daemons}
    for page in ("usage?by=client,model", "requests?limit=1000", "limits", "keys", "clients", "pool", "status"):
        told[page] = (await last.admin_get(f"/admin/v1/{page}")).body
    told["metrics"] = (await last.admin_get("/metrics")).body
    await last.stop()
    configurations = {each.config for each in daemons}
    files = [path for path in folder.rglob("*") if path.is_file() and path not in configurations]
    told |= {str(path): path.read_bytes() for path in files}
    assert any(b"call-" in what for what in told.values())  # sessions are there
    for secret in (bookkeeping.PROSE.encode(), b"wordword", b"key-of-client-"):
        assert [where for where, what in told.items() if secret in what] == [], secret


async def agree(daemon: Daemon, rows: list[dict[str, Any]], since: float) -> None:
    """Hold every way of asking *daemon*, which runs since then, to what the attempts have."""
    for by in ("client", "credential", "label.team"):
        answer = await daemon.admin_get(f"/admin/v1/usage?by={by}")
        told = {group[by]: group for group in answer.json}
        assert set(told) == {row[by] for row in rows}
        for value, group in told.items():
            of_group = [row for row in rows if row[by] == value]
            assert {name: group[name] for name in SUMS} == sums(of_group)
            assert (group["attempts"], group["requests"]) == (
                len(of_group),
                sum(row["attempt"] == 1 for row in of_group),
            )
            assert group["estimated_tokens"] == sum(map(all_of, (row for row in of_group if row["estimated"])))
            assert round(group["usd"] * 1e9) == nano_usd(of_group)
        table = await daemon.admin_get(f"/admin/v1/usage?by={by}&format=csv")
        lines = csv.DictReader(io.StringIO(table.body.decode()))
        assert list(lines) == [{name: str(value) for name, value in group.items()} for group in answer.json]
    (everything,) = (await daemon.admin_get("/admin/v1/usage")).json
    assert round(everything["usd"] * 1e9) == nano_usd(rows)

    metrics = await daemon.metrics()
    of_process = [row for row in rows if row["request_id"] >= f"req_{int(since * 1000):012x}"]
    assert of_process
    for by, label, cost, tokens in (
        ("client", 'client="{}"', "claudeproxyd_cost_usd_total", "claudeproxyd_client_tokens_total"),
        ("label.team", 'value="{}"', "claudeproxyd_label_cost_usd_total", "claudeproxyd_label_tokens_total"),
    ):
        for who in {row[by] for row in of_process}:
            of_one = [row for row in of_process if row[by] == who]
            counted = dict.fromkeys(SUMS, 0.0)
            usd = 0.0
            for sample, value in metrics.items():  # a model is named there once it has answered
                if label.format(who) not in sample:
                    continue
                if sample.startswith(cost):
                    usd += value
                elif sample.startswith(tokens):
                    kind = sample.rpartition('kind="')[2].removesuffix('"}') + "_tokens"
                    if kind in counted:
                        counted[kind] += value
            assert counted == sums(of_one)
            assert round(usd * 1e9) == nano_usd(of_one)


def sums(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Their tokens, by kind."""
    return {name: sum(row[name] or 0 for row in rows) for name in SUMS}


def nano_usd(rows: list[dict[str, Any]]) -> int:
    """Their cost."""
    return sum(round((row["usd"] or 0) * 1e9) for row in rows)
