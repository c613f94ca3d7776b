"""Keys that are minted while the daemon runs, and who may mint them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, sdks, wire
from tests.integration.support.clients import PYTHON_SDK
from tests.integration.support.daemon import ADMIN_KEY, SANDBOX, Daemon, provider
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Upstream

CLIENT = '[[clients]]\nname = "of-the-file"\nkey = "key-of-the-file-0123"\n'
DATABASE = Path(".local/state/claudeproxyd/accounts.db")
"""Where daemons of one home, as those of one test are, have their accounts."""


async def act(
    daemon: Daemon, method: str, path: str, body: object = None, key: str = ADMIN_KEY
) -> tuple[int, dict[str, Any]]:
    """As an operator does; the status and the answer."""
    headers = {"authorization": f"Bearer {key}"}
    if method == "POST":
        answer = await wire.post(daemon.admin, json.dumps(body or {}).encode(), path, headers)
    else:
        answer = await wire.get(daemon.admin, path, headers, method)
    return answer.status, answer.json


async def mint(daemon: Daemon, name: str, **more: Any) -> str:
    """A new key."""
    status, answer = await act(daemon, "POST", "/admin/v1/keys", {"name": name, **more})
    assert status == 200, answer
    return answer["key"]


async def listed(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """The keys by their names."""
    return {each["name"]: each for each in (await act(daemon, "GET", "/admin/v1/keys"))[1]["keys"]}


async def status(daemon: Daemon, key: str) -> int:
    """What that key is answered."""
    return (await wire.get(daemon.port, "/v1/models", {"x-api-key": key})).status


async def knows(daemon: Daemon, key: str) -> None:
    """Wait until the daemon lets that key in."""

    async def is_in() -> bool:
        return await status(daemon, key) == 200

    await eventually("the key is known", is_in)


async def seconds_until_refused(daemons: list[Daemon], key: str) -> float:
    """How long after now the last request began that one of them let in."""
    began = last = reactor.seconds()
    left = list(daemons)
    while left:
        for daemon in list(left):
            asked = reactor.seconds()
            if await status(daemon, key) == 401:
                left.remove(daemon)
            else:
                last = asked
    return last - began


@pytest.mark.alone
@ensureDeferred
async def test_life_of_a_key(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Minted, used by the SDK, rotated, found again after a SIGKILL, revoked: on all daemons that share the database.

    No file that is left has it in clear, captures and the audit included.
    """
    upstream.script(*[answers.usual() for _ in range(7)])
    config = CLIENT + provider(upstream, "key-a")
    config += f'[capture]\nwhen = "always"\ndirectory = "{tmp_path}/captures"\n'
    config += f'[log]\naccess = "{tmp_path}/access.log"\naudit = "{tmp_path}/audit.log"\n'
    daemons = [await start_daemon(config) for _ in range(3)]
    here, there, third = daemons

    async def used(daemon: Daemon, key: str) -> dict[str, Any]:
        (result,) = await sdks.use(PYTHON_SDK, daemon.url, [("create", sdks.HELLO)], key=key)
        return result

    first = await mint(here, "ann", labels={"team": "ads"}, models=["claude-*"])
    assert (await used(here, first))["text"] == "hello"
    await knows(there, first)
    assert (await used(there, first))["text"] == "hello"

    code, answer = await act(there, "POST", "/admin/v1/keys/ann/rotate", {"overlap": 600})
    second = answer["key"]
    assert (code, second == first) == (200, False)
    await knows(here, second)
    for key in (first, second):
        assert (await used(here, key))["text"] == "hello"

    third_key = (await act(here, "POST", "/admin/v1/keys/ann/rotate", {"overlap": 0}))[1]["key"]
    assert (await status(here, first), await status(here, second), await status(here, third_key)) == (401, 401, 200)
    audit = tmp_path / "audit.log"
    await eventually("the audit has it all", lambda: audit.read_text().count("key.rotate") == 2)
    await here.kill()
    again = await start_daemon(config)
    assert (await used(again, third_key))["text"] == "hello"
    assert (await listed(again))["ann"]["last_used"] is not None

    daemons = [again, there, third]
    for daemon in daemons:
        await knows(daemon, third_key)
    assert (await act(again, "DELETE", "/admin/v1/keys/ann"))[0] == 200
    assert await status(again, third_key) == 401
    took = await seconds_until_refused(daemons, third_key)
    assert took < 1.0, took
    refused = await used(there, third_key)
    assert (refused["error"], refused["status"]) == ("AuthenticationError", 401)
    assert "ask whoever runs the gateway" in refused["message"]
    assert await status(there, "key-of-the-file-0123") == 200

    for daemon in daemons:
        await daemon.stop()
    actions = [json.loads(line) for line in audit.read_text().splitlines()]
    assert sorted(each["action"] for each in actions) == ["key.mint", "key.revoke", "key.rotate", "key.rotate"]
    assert {(each["operator"], each["address"], each["target"]) for each in actions} == {
        ("operator", "127.0.0.1", "ann")
    }
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"accounts.db", "audit.log", "access.log"} <= {path.name for path in files}
    assert any(path.parent.name == "captures" for path in files)
    written = {str(path): path.read_bytes() for path in files} | {each.url: each.log.encode() for each in daemons}
    keys = [key.encode() for key in (first, second, third_key)]
    assert [where for where, what in written.items() for key in keys if key in what] == []


@ensureDeferred
async def test_expiry(start_daemon: StartDaemon) -> None:
    """A key ends when it was said to, and its holder reads why."""
    daemon = await start_daemon(CLIENT + SANDBOX)
    key = await mint(daemon, "guest", expires_in=1.5)
    assert await status(daemon, key) == 200

    async def is_over() -> bool:
        return await status(daemon, key) == 401

    await eventually("the key expires", is_over)
    (result,) = await sdks.use(PYTHON_SDK, daemon.url, [("create", sdks.HELLO)], key=key)
    assert (result["status"], "This key expired on" in result["message"]) == (401, True)


@ensureDeferred
async def test_first_key_closes(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A daemon that served this machine without a key asks for one once one was minted, for good.

    After a restart whose database cannot be read it lets in nobody at all, and says so.
    """
    daemon = await start_daemon(SANDBOX)
    assert await status(daemon, "whatever") == 200
    key = await mint(daemon, "ann")
    assert [await status(daemon, each) for each in ("whatever", key)] == [401, 200]
    await act(daemon, "DELETE", "/admin/v1/keys/ann")
    assert [await status(daemon, each) for each in ("whatever", key)] == [401, 401]
    await daemon.stop()
    daemon = await start_daemon(SANDBOX)
    assert await status(daemon, "whatever") == 401
    await daemon.stop()
    for path in (tmp_path / DATABASE).parent.glob("accounts.db*"):
        if path.is_file():
            path.write_bytes(b"damaged" * 1000)
    daemon = await start_daemon(SANDBOX)
    assert [await status(daemon, each) for each in ("whatever", key)] == [503, 503]
    assert "keys cannot be read" in daemon.log


@ensureDeferred
async def test_only_minted_keys(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """By ``require_keys`` a database that is lost opens nothing, and no Host is asked for."""
    config = SANDBOX + "[accounts]\nrequire_keys = true\n"
    daemon = await start_daemon(config)
    assert await status(daemon, "whatever") == 401
    key = await mint(daemon, "ann")
    headers = {"x-api-key": key, "host": "gateway.example"}
    assert (await wire.get(daemon.port, "/v1/models", headers)).status == 200
    await daemon.stop()
    for path in (tmp_path / DATABASE).parent.glob("accounts.db*"):
        if path.is_file():
            os.unlink(path)
    daemon = await start_daemon(config)
    assert [await status(daemon, each) for each in ("whatever", key)] == [401, 401]


@ensureDeferred
async def test_files_win(start_daemon: StartDaemon) -> None:
    """A client that a reload brings takes the name over from a key, and leaves it when it goes."""
    daemon = await start_daemon(CLIENT + SANDBOX)
    key = await mint(daemon, "ann")
    daemon.rewrite(CLIENT + '[[clients]]\nname = "ann"\nkey = "another-key-of-the-file"\n' + SANDBOX)
    assert (await act(daemon, "POST", "/admin/v1/reload"))[0] == 200
    assert [await status(daemon, each) for each in (key, "another-key-of-the-file")] == [401, 200]
    daemon.rewrite(CLIENT + SANDBOX)
    assert (await act(daemon, "POST", "/admin/v1/reload"))[0] == 200
    assert [await status(daemon, each) for each in (key, "another-key-of-the-file")] == [200, 401]


@ensureDeferred
async def test_operators(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Each may what its role says, and what they did and tried is in the audit, which SIGHUP opens anew."""
    keys = {role: f"key-of-{role}-0123456789" for role in ("metrics", "read", "operate")}
    audit = tmp_path / "audit.log"
    config = CLIENT + SANDBOX + f'[log]\naudit = "{audit}"\n'
    for role, key in keys.items():
        config += f'[[operators]]\nname = "{role}er"\nrole = "{role}"\nkey = "{key}"\n'
    daemon = await start_daemon(config)

    async def codes(path: str, method: str = "GET", body: object = None) -> list[int]:
        answers = []
        for key in ("nobodys-key", *keys.values(), ADMIN_KEY):
            headers = {"authorization": f"Bearer {key}"}
            if method == "POST":
                answer = await wire.post(daemon.admin, json.dumps(body).encode(), path, headers)
            else:
                answer = await wire.get(daemon.admin, path, headers, method)
            answers.append(answer.status)
        return answers

    assert await codes("/metrics") == [401, 200, 200, 200, 200]
    assert await codes("/admin/v1/pool") == [401, 403, 200, 200, 200]
    assert await codes("/admin/v1/keys") == [401, 403, 200, 200, 200]
    assert await codes("/admin/v1/pool/clear", "POST", {}) == [401, 403, 403, 200, 200]
    assert (await act(daemon, "POST", "/admin/v1/keys", {"name": "ann"}, keys["read"]))[1]["error"]["message"] == (
        'This needs an operator with the role "operate"'
    )

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in audit.read_text().splitlines()] if audit.exists() else []

    await eventually("the audit is written", lambda: len(lines()) == 11)
    assert [(each["operator"], each["action"], bool(each["error"])) for each in lines()][-6:] == [
        ("", "POST /admin/v1/pool/clear", True),
        ("metricser", "POST /admin/v1/pool/clear", True),
        ("reader", "POST /admin/v1/pool/clear", True),
        ("operateer", "pool.clear", False),
        ("operator", "pool.clear", False),
        ("reader", "POST /admin/v1/keys", True),
    ]
    assert set(lines()[0]) == {
        *("time", "operator", "address", "action", "target", "before", "after", "error", "request_id")
    }
    audit.rename(tmp_path / "audit.log.1")
    daemon.signal("HUP")
    await eventually("it is opened anew", audit.exists)
    await mint(daemon, "ann")
    await eventually("it is written to", lambda: len(lines()) == 2)
    assert {(each["operator"], each["action"], each["target"]) for each in lines()} == {
        ("", "reload", "SIGHUP"),
        ("operator", "key.mint", "ann"),
    }
    assert audit.stat().st_mode & 0o777 == 0o640
    told = audit.read_text() + (tmp_path / "audit.log.1").read_text() + daemon.log
    assert [key for key in (*keys.values(), "nobodys-key", ADMIN_KEY) if key in told] == []


@ensureDeferred
async def test_no_operator_left(start_daemon: StartDaemon) -> None:
    """A reload takes the last operator away no more than it does the last client."""
    operator = '[[operators]]\nname = "a"\nrole = "operate"\nkey = "key-of-operator-a-0123"\n'
    daemon = await start_daemon(CLIENT + SANDBOX + operator)
    daemon.config.write_text(daemon.config.read_text().replace(f'admin_key = "{ADMIN_KEY}"\n', ""))
    key = "key-of-operator-a-0123"
    assert (await act(daemon, "POST", "/admin/v1/reload", key=key))[0] == 200
    assert (await act(daemon, "GET", "/admin/v1/pool"))[0] == 401
    daemon.config.write_text(daemon.config.read_text().replace(operator, ""))
    code, answer = await act(daemon, "POST", "/admin/v1/reload", key=key)
    assert (code, "are all gone, and a reload opens nothing" in answer["error"]["message"]) == (400, True)
    assert (await act(daemon, "GET", "/admin/v1/pool", key=key))[0] == 200
