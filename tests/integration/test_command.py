"""The command ``claudeproxyd``, as operators run it: a process beside a running daemon."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import ADMIN_KEY, SANDBOX, Daemon, environment, free_port, provider
from tests.integration.support.issuer import Issuer
from tests.integration.support.process import Child, Result, eventually, run
from tests.integration.support.ready import until_ready
from tests.integration.support.upstream import Upstream

CLIENT = '[[clients]]\nname = "laptop"\nkey = "key-of-the-laptop"\nlabels = { team = "ads" }\n'
LIMIT = '[[limits]]\nname = "ads, a day"\neach = "client"\ntokens = 1000\nper = "day"\n'
COMMAND = [sys.executable, "-m", "claudeproxyd"]


async def command(daemon: Daemon, *argv: str, env: Mapping[str, str] | None = None) -> Result:
    """Run it with the daemon's own configuration."""
    line = [*COMMAND, *argv, "--config", daemon.config]
    result = await run(line, environment(daemon.config, env), cwd=daemon.config.parent)
    assert "Traceback" not in result.out + result.err, result.err
    assert ADMIN_KEY not in result.out + result.err
    return result


async def done(daemon: Daemon, *argv: str) -> str:
    """What it printed, having exited with 0."""
    result = await command(daemon, *argv)
    assert result.code == 0, result.out + result.err
    return result.out


@ensureDeferred
async def test_questions(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Each question is answered by the running daemon: pool, usage, limits, requests, the picture of all."""
    accounts = f'[accounts]\ndatabase = "sqlite:{tmp_path}/accounts.db"\n'
    daemon = await start_daemon(accounts + CLIENT + LIMIT + provider(upstream, "key-a"))
    upstream.script(answers.whole())
    answer = await wire.post(daemon.port, wire.Message().encode(), headers={"x-api-key": "key-of-the-laptop"})
    assert answer.status == 200
    assert "key-a" in await done(daemon, "pool")
    assert json.loads(await done(daemon, "pool", "--json"))["total"] == 1

    async def entered() -> bool:
        return "laptop" in await done(daemon, "usage", "--from", "yesterday")

    await eventually("the ledger has it", entered)
    used = await done(daemon, "usage", "--by", "client,label.team", "--from", "yesterday")
    assert "ads" in used
    assert "unpriced" in used
    assert (await done(daemon, "usage", "--csv", "--from", "yesterday")).startswith("client,")
    assert "ads, a day" in await done(daemon, "limits")
    assert "up/key-a" in await done(daemon, "requests", "--client", "laptop")
    picture = await done(daemon, "top", "--count", "1")
    assert "laptop" in picture
    assert "up/key-a" in picture
    settings = json.loads(await done(daemon, "settings", "--client", "laptop"))
    assert settings["env"]["ANTHROPIC_BASE_URL"] == daemon.url
    assert "claudeproxyd" in await done(daemon, "check")


@ensureDeferred
async def test_reload(start_daemon: StartDaemon) -> None:
    """A reload that cannot be used exits with 1 and names file and line; one that can says what changed."""
    daemon = await start_daemon(SANDBOX)
    assert await done(daemon, "reload") == "reloaded: nothing changed\n"
    daemon.rewrite(SANDBOX + "[pool]\nmax_wait = 3.0\n")
    assert await done(daemon, "reload") == "reloaded: settings changed: pool.max_wait\n"
    daemon.rewrite(SANDBOX + "[pool]\nmax_wait = 'long'\n")
    result = await command(daemon, "reload")
    line = daemon.config.read_text().splitlines().index("max_wait = 'long'") + 1
    assert (result.code, result.out) == (1, "")
    assert f"{daemon.config}:{line}: pool.max_wait" in result.err
    daemon.rewrite("[pool")
    result = await command(daemon, "reload")
    assert result.code == 1
    assert "is no TOML" in result.err


@ensureDeferred
async def test_exit_codes(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """The exit code tells who is to blame: 1 for a key that is refused, 2 for the command line, 3 for the way there."""
    daemon = await start_daemon(SANDBOX)
    result = await command(daemon, "pool", env={"CLAUDEPROXYD_ADMIN_KEY": "a-wrong-key-of-some-length"})
    assert result.code == 1
    assert "does not know the key" in result.err
    assert (await command(daemon, "usage", "--from", "someday")).code == 2
    assert (await command(daemon, "nonsense")).code == 2
    result = await command(daemon, "pool", "--admin", f"http://127.0.0.1:{free_port()}")
    assert result.code == 3
    assert "nobody listens" in result.err
    result = await command(daemon, "pool", "--admin", "unix:/nonexistent/admin.sock")
    assert result.code == 3
    upstream.script(answers.silent())
    waiting = Child([*COMMAND, "pool", "--admin", upstream.url], environment(daemon.config))
    await eventually("it waits", lambda: upstream.requests)
    waiting.signal("INT")
    assert (await waiting.ended(30)).code == 130


@ensureDeferred
async def test_doctor(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """What is wrong with each credential is said by the daemon, and without one by the configuration; never its key."""
    nowhere = provider(f"http://127.0.0.1:{free_port()}", "key-of-nowhere", name="nowhere").replace(
        'name = "key-of-nowhere"', 'name = "a"'
    )
    issuer = Issuer().start()
    text = (
        SANDBOX
        + issuer.section('prefix = "a:"\n')
        + issuer.section('prefix = "b:"\n').replace("http:", "https:")
        + f'[[issuers]]\nurl = "{upstream.url}"\naudience = "a"\nprefix = "c:"\n'
        + provider(upstream, "sk-ant-api03-refused-key-0123456789", more='models = ["claude-opus-5-5"]')
        + nowhere
    )
    daemon = await start_daemon(text.replace('name = "sk-ant-api03-refused-key-0123456789"', 'name = "refused"'))
    upstream.script(
        answers.error(401, "authentication_error", "invalid x-api-key: sk-ant-api03-refused-key-0123456789")
    )
    for argv in (["doctor"], ["doctor", "--alone"]):
        result = await command(daemon, *argv)
        assert result.code == 1
        assert "well   sandbox/default" in result.out
        assert "WRONG  up/refused: the key is refused" in result.out
        assert "WRONG  nowhere/a: no connection" in result.out
        assert "refused-key-0123456789" not in result.out + result.err
        assert f"well   issuer {issuer.url}: publishes 1 key, for ES256" in result.out
        assert f"WRONG  issuer {issuer.url.replace('http:', 'https:')}: " in result.out
        assert f"WRONG  issuer {upstream.url}: " in result.out
    assert (await command(daemon, "doctor", "--provider", "sandbox")).code == 0
    daemon.rewrite(SANDBOX)
    assert "well" in await done(daemon, "doctor", "--alone")
    await issuer.stop()


@ensureDeferred
async def test_unix_socket(tmp_path: Path) -> None:
    """`run` runs the daemon; its admin listener may be a unix socket, which the command finds in the configuration."""
    port = free_port()
    config = tmp_path / "claudeproxyd.toml"
    server = f'[server]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\nadmin = "unix:{tmp_path}/admin.sock"\n'
    config.write_text(f'{server}state = "memory:"\n[accounts]\ndatabase = ""\n{SANDBOX}')
    child = Child([*COMMAND, "run", "--config", config], environment(config), cwd=tmp_path)
    await until_ready(child, port, "/readyz")
    # It is the first of the usual files, here.
    result = await run([*COMMAND, "pool"], environment(config), cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    assert "sandbox" in result.out
    result = await run([*COMMAND, "usage", "--admin", f"unix:{tmp_path}/admin.sock"], environment(config), cwd=tmp_path)
    assert result.code == 1
    assert "accounts.database" in result.err
    top = Child([*COMMAND, "top"], environment(config), cwd=tmp_path)
    await eventually("a picture is drawn", lambda: "sandbox" in top.output)
    top.signal("INT")
    assert (await top.ended(30)).code == 0
    child.signal("TERM")
    ended = await child.ended(60)
    assert (ended.code, ended.signal) in ((0, None), (143, None), (None, 15)), child.output
    assert "Traceback" not in child.output
