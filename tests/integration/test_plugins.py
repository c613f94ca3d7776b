"""What other packages bring: the provider kind and the plugins on the pages for developers, word for word."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import wire
from tests.integration.support.daemon import ROOT, SANDBOX, TWISTD, environment
from tests.integration.support.process import eventually, run

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
(CONFIG,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
STEPS_PAGE = (ROOT / "docs" / "plugins.md").read_text("utf-8")
(AUDIT,) = re.findall(r"```toml\n(.*?)```", STEPS_PAGE, re.DOTALL)
LIMIT = '[[plugins]]\nkind = "limit"\na_minute = 2\n'


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """Both files of the page in a folder of their own; the environment that has it on its path."""
    return written(PAGE, tmp_path / "plugin")


@pytest.fixture
def steps(tmp_path: Path) -> dict[str, str]:
    """The same of the page about steps in a request's way."""
    return written(STEPS_PAGE, tmp_path / "plugin")


def written(page: str, folder: Path) -> dict[str, str]:
    """Write the files of a page; the environment that has their folder on its path."""
    for name, code in re.findall(r"^`(\S+\.py)`[^\n]*:\n\n```python\n(.*?)```", page, re.DOTALL | re.MULTILINE):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}


@ensureDeferred
async def test_echo(start_daemon: StartDaemon, plugin: dict[str, str]) -> None:
    """It serves whole answers, streams and counts."""
    daemon = await start_daemon(CONFIG, env=plugin)
    body = wire.Message().encode()
    answer = await wire.post(daemon.port, body)
    assert [block["text"] for block in answer.json["content"]] == [f"{len(body)} bytes for {wire.Message().model}"]
    streamed = await wire.post(daemon.port, wire.Message(stream=True).encode())
    assert b"event: message_stop" in streamed.body
    assert (await wire.post(daemon.port, body, "/v1/messages/count_tokens")).json["input_tokens"]


@ensureDeferred
async def test_time_out_of_its_own(start_daemon: StartDaemon, plugin: dict[str, str], tmp_path: Path) -> None:
    """Its own default ends an attempt, and what the operator says goes before it."""
    path = tmp_path / "plugin" / "echo_executor.py"
    code = path.read_text()
    assert "5.0" in code
    path.write_text(code.replace("5.0", "0.05"))
    daemon = await start_daemon("[pool]\nmax_attempts = 1\nmax_wait = 0\n" + CONFIG, env=plugin)
    answer = await wire.post(daemon.port, wire.Message().encode())
    assert answer.status == 504, answer.body
    daemon.rewrite(CONFIG + "timeouts = { first_byte = 9 }\n")
    daemon.signal("HUP")
    await eventually("the new configuration is there", lambda: "reloaded: " in daemon.log)
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200


@ensureDeferred
async def test_check(tmp_path: Path, plugin: dict[str, str]) -> None:
    """`--check` shows its setting, and what is wrong with it has its place and its fix."""
    path = tmp_path / "echo.toml"
    for text, code, words in (
        (CONFIG, 0, "delay 0.1"),
        (CONFIG.replace("delay", "dealy"), 1, '4: providers[0].dealy is no setting here (did you mean "delay"?)'),
        (CONFIG.replace("0.1", '"x"'), 1, "4: providers[0].delay must be a number, and is a string"),
    ):
        path.write_text(text)
        result = await run(
            [TWISTD, "claudeproxyd", "--config", path, "--check"], environment(path, plugin), cwd=tmp_path
        )
        assert (result.code, words in result.out + result.err) == (code, True), result.out + result.err


@ensureDeferred
async def test_audit(start_daemon: StartDaemon, steps: dict[str, str], tmp_path: Path) -> None:
    """It adds a line for each request: whole, streamed, counted, refused by the other plugin's limit or not."""
    assert AUDIT.count("/var/log/claudeproxyd") == 1
    audit = AUDIT.replace("/var/log/claudeproxyd", str(tmp_path))
    daemon = await start_daemon(SANDBOX + audit + LIMIT, env=steps)
    for stream in (False, True):
        answer = await wire.post(daemon.port, wire.Message(stream=stream).encode())
        assert answer.status == 200, answer.body
    counted = await wire.post(daemon.port, wire.Message().encode(), "/v1/messages/count_tokens")
    assert counted.status == 200
    refused = await wire.post(daemon.port, wire.Message().encode())
    assert (refused.status, refused.json["error"]["type"]) == (429, "rate_limit_error"), refused.body
    assert 0 < int(refused.headers["retry-after"]) <= 61
    assert "POST /v1/messages 429 refused " in daemon.log
    file = tmp_path / "audit.jsonl"
    daemon.rewrite(SANDBOX + audit + LIMIT.replace("2", "9"))
    daemon.signal("HUP")
    await eventually("the new limit is there", lambda: "settings changed: plugins" in daemon.log)
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    await daemon.stop()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["count_tokens"], line["outcome"]) for line in lines] == [
        (False, "ok"),
        (False, "ok"),
        (True, "ok"),
        (False, "ok"),
    ]
    assert {(line["client"], line["model"], line["provider"]) for line in lines} == {
        ("anonymous", wire.Message().model, "sandbox")
    }
    assert min(lines[0]["input_tokens"], lines[0]["output_tokens"]) > 0
    assert lines[0]["input_tokens"] == lines[1]["input_tokens"]


@ensureDeferred
async def test_plugins_that_are_wrong(tmp_path: Path, steps: dict[str, str]) -> None:
    """`--check` checks their settings and makes nothing; a start makes them, and fails with the place of one."""
    path = tmp_path / "steps.toml"
    config = '[server]\nstate = "memory:"\nlisten = ["unix:here"]\nadmin = ""\n' + SANDBOX
    nowhere = AUDIT.replace("/var/log/claudeproxyd", str(tmp_path / "nowhere"))
    place = "steps.toml:8: plugins[0]"
    for text, more, code, words in (
        (nowhere, ["--check"], 0, f"audit, path {tmp_path}/nowhere/audit.jsonl"),
        (nowhere, [], 1, f"{place} cannot be made: FileNotFoundError: "),
        (AUDIT.replace("/var", "var"), ["--check"], 1, "plugins[0].path must begin with /"),
        (AUDIT.replace("audit", "audti", 1), ["--check"], 1, 'there is no plugin "audti" (there are audit, limit; '),
    ):
        path.write_text(config + text)
        command = [TWISTD, "-n", "--pidfile=", "claudeproxyd", "--config", path, *more]
        result = await run(command, environment(path, steps), cwd=tmp_path)
        told = result.out + result.err
        assert (result.code, words in told, "Traceback" in told) == (code, True, False), told


@ensureDeferred
async def test_its_own_tests(tmp_path: Path, plugin: dict[str, str]) -> None:
    """They pass, all of them."""
    result = await run([sys.executable, "-m", "twisted.trial", "test_echo"], {**os.environ, **plugin}, cwd=tmp_path)
    assert (result.code, "PASSED (successes=4)" in result.out) == (0, True), result.out + result.err
