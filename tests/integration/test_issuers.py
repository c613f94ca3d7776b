"""Tokens that others issue, in the place of keys: the daemon as a whole, and an issuer that rotates and goes away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, sdks, wire
from tests.integration.support.claude_code import prompt
from tests.integration.support.clients import PYTHON_SDK
from tests.integration.support.daemon import ADMIN_KEY, SANDBOX, Daemon, provider
from tests.integration.support.issuer import Issuer
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Upstream


@pytest_twisted.async_yield_fixture
async def issuer() -> AsyncIterator[Issuer]:
    """An issuer with one key."""
    issuer = Issuer()
    issuer.start()
    yield issuer
    await issuer.stop()


async def ask(daemon: Daemon, token: str) -> wire.Answer:
    """A message, by a token."""
    return await wire.post(daemon.port, wire.Message().encode(), headers={"authorization": f"Bearer {token}"})


@ensureDeferred
async def test_life_of_a_token(start_daemon: StartDaemon, upstream: Upstream, issuer: Issuer, tmp_path: Path) -> None:
    """The SDK calls by one; its claims give name, label and models, which limits and the ledger go by.

    No file that is left has it in clear, captures included, and no upstream sees it.
    """
    upstream.script(*[answers.usual() for _ in range(3)])
    config = provider(upstream, "key-a")
    config += issuer.section('prefix = "staff:"\nlabels = { team = "groups.0" }\nmodels_claim = "models"\n')
    config += '[[limits]]\nname = "of ads"\nmatch = { label.team = "ads" }\nrequests = 3\nper = "day"\n'
    config += (
        f'[capture]\nwhen = "always"\ndirectory = "{tmp_path}/captures"\n[log]\naccess = "{tmp_path}/access.log"\n'
    )
    daemon = await start_daemon(config)
    token = issuer.token(groups=["ads"], models=["claude-opus-*"], email="ann@example.com")
    for _ in range(2):
        (result,) = await sdks.use(PYTHON_SDK, daemon.url, [("create", sdks.HELLO)], key=token)
        assert result["text"] == "hello", result
    assert (await ask(daemon, token)).status == 200
    assert (await ask(daemon, issuer.token("bob", groups=["ads"]))).status == 429
    refused = await wire.post(
        daemon.port, wire.Message("claude-haiku-5").encode(), headers={"authorization": f"Bearer {token}"}
    )
    assert (refused.status, "claude-haiku-5" in refused.json["error"]["message"]) == (400, True)
    assert (await wire.get(daemon.port, "/v1/models")).status == 401
    late = await ask(daemon, issuer.token(lifetime=-60))
    assert (late.status, "it has expired on" in late.json["error"]["message"]) == (401, True)
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]

    async def in_the_ledger() -> bool:
        rows = (await daemon.admin_get("/admin/v1/usage?by=client,label.team")).json
        return [(row["client"], row["label.team"], row["requests"]) for row in rows] == [("staff:ann", "ads", 3)]

    await eventually("the ledger has it", in_the_ledger)
    await daemon.stop()
    assert [token in str(each.headers) for each in upstream.requests] == [False] * 3
    written = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    signature = token.rpartition(".")[2].encode()
    assert [where for where, what in written.items() if signature in what] == []
    assert signature.decode() not in daemon.log


@ensureDeferred
async def test_expired_in_claude_code(
    start_daemon: StartDaemon, upstream: Upstream, issuer: Issuer, tmp_path: Path
) -> None:
    """Claude Code asks its helper for another token when one has expired, and its user sees nothing of it."""
    upstream.script(*[answers.usual() for _ in range(5)])
    daemon = await start_daemon(provider(upstream) + issuer.section())
    home = tmp_path / "home"
    (home / ".claude").mkdir(parents=True)
    (home / "first").write_text(issuer.token(lifetime=-60))
    (home / "second").write_text(issuer.token())
    helper = f"cd {home}; cat first || cat second; rm -f first"
    (home / ".claude/settings.json").write_text(json.dumps({"apiKeyHelper": helper}))
    result = await prompt(daemon.url, "hi", home, ANTHROPIC_API_KEY="")
    assert (result.code, result.out) == (0, "hello\n"), result
    assert "Your token is not accepted by this gateway: it has expired on" in daemon.log


@ensureDeferred
async def test_rotation_costs_no_request(start_daemon: StartDaemon, issuer: Issuer) -> None:
    """While many call, the issuer begins to sign with another key: all are served, and it is asked once for all.

    A key that it takes out lets in nobody soon after.
    """
    daemon = await start_daemon(SANDBOX + issuer.section("refresh = 10\n"))
    statuses: list[int] = []
    rotated: Deferred[None] = Deferred()

    async def call(number: int) -> None:
        for turn in range(12):
            statuses.append((await ask(daemon, issuer.token(f"person {number}"))).status)
            if turn == 5 and not rotated.called:
                issuer.rotate("2")
                asked.append(len(issuer.asked))
                rotated.callback(None)

    asked: list[int] = []
    first = issuer.token("early", kid="1")
    assert (await ask(daemon, first)).status == 200
    await gatherResults([Deferred.fromCoroutine(call(number)) for number in range(10)])
    assert statuses == [200] * 120
    assert len(issuer.asked) - asked[0] <= 4
    assert (await ask(daemon, first)).status == 200
    del issuer.keys["1"]

    async def is_out() -> bool:
        return (await ask(daemon, first)).status == 401

    await eventually("the old key is out", is_out)
    assert (await ask(daemon, issuer.token())).status == 200


@ensureDeferred
async def test_issuer_away(start_daemon: StartDaemon, issuer: Issuer) -> None:
    """Those whose key is known go on, across a reload too; of a new one the daemon cannot know, and says 503."""
    config = SANDBOX + issuer.section()
    daemon = await start_daemon(config)
    known = issuer.token()
    assert (await ask(daemon, known)).status == 200
    issuer.status = 500
    issuer.rotate("2")
    daemon.rewrite(config + "[pool]\nmax_wait = 20\n")
    operator = {"authorization": f"Bearer {ADMIN_KEY}"}
    assert (await wire.post(daemon.admin, b"{}", "/admin/v1/reload", operator)).status == 200
    answers = await gatherResults([Deferred.fromCoroutine(ask(daemon, issuer.token(f"p{n}"))) for n in range(5)])
    assert {(each.status, each.headers["retry-after"]) for each in answers} == {(503, "5")}
    assert [(await ask(daemon, each)).status for each in (known, issuer.token("new", kid="1"))] == [200, 200]
    assert "its keys cannot be had" in daemon.log
    issuer.status = 200
    assert (await ask(daemon, issuer.token())).status == 200
