"""A provider kind that another package brings: the one on the page for developers, word for word."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import wire
from tests.integration.support.daemon import ROOT, TWISTD, environment
from tests.integration.support.process import eventually, run

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
(CONFIG,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """The files of the page in a folder of their own; the environment that has it on its path."""
    folder = tmp_path / "plugin"
    for name, code in re.findall(r"^`(\S+\.py)`[^\n]*:\n\n```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE):
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
async def test_its_own_tests(tmp_path: Path, plugin: dict[str, str]) -> None:
    """They pass, all of them."""
    result = await run([sys.executable, "-m", "twisted.trial", "test_echo"], {**os.environ, **plugin}, cwd=tmp_path)
    assert (result.code, "PASSED (successes=4)" in result.out) == (0, True), result.out + result.err
