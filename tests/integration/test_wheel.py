"""The package as operators install it: a wheel, in an environment that has never seen this checkout."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.support import wire
from tests.integration.support.daemon import ROOT, SANDBOX, free_port
from tests.integration.support.process import Child, run
from tests.integration.support.ready import until_ready


async def succeed(*command: str | Path, **options: object) -> str:
    """Run a program that has to end well; what it printed."""
    result = await run(command, within=300, **options)
    assert result.code == 0, result.out + result.err
    return result.out + result.err


@ensureDeferred
async def test_wheel_in_a_fresh_environment(tmp_path: Path) -> None:
    """A wheel, built from a clean copy and installed alone, brings a working `twistd claudeproxyd` to any folder."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("claudeproxyd", "twisted"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    index = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    await succeed(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, source, env=index)
    (wheel,) = tmp_path.glob("claudeproxyd-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith("twisted/")] == ["twisted/plugins/claudeproxyd_plugin.py"]
    assert not [name for name in names if name.startswith("tests/")]
    pages = [
        path.name for path in (ROOT / "claudeproxyd/web/pages").iterdir() if path.suffix in (".html", ".css", ".js")
    ]
    assert {f"claudeproxyd/web/pages/{page}" for page in pages} <= set(names)

    environment = tmp_path / "environment"
    await succeed(sys.executable, "-m", "venv", environment)
    await succeed(environment / "bin/pip", "install", "-q", wheel, env=index)
    twistd = environment / "bin/twistd"
    assert "claudeproxyd" in await succeed(twistd, "--help", cwd="/")
    # So the documentation has it: who starts the daemon later may not write there, and would be told at each start.
    (cache,) = environment.glob("lib/*/site-packages/twisted/plugins/dropin.cache")
    written = cache.stat().st_mtime_ns
    assert "--config" in await succeed(twistd, "claudeproxyd", "--help", cwd="/")

    assert "claudeproxyd 0." in await succeed(environment / "bin/claudeproxyd", "version", cwd="/")

    port = free_port()
    config = tmp_path / "claudeproxyd.toml"
    listen = f'[server]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\nadmin = ""\nstate = "memory:"\n'
    config.write_text(listen + SANDBOX)
    child = Child([twistd, "-n", "--pidfile=", "claudeproxyd", "--config", config], {"HOME": str(tmp_path)}, cwd="/")
    await until_ready(child, port, "/readyz")
    answer = await wire.post(port, wire.Message().encode())
    assert answer.status == 200
    assert answer.json["type"] == "message"
    child.signal("TERM")
    result = await child.ended(60)
    assert cache.stat().st_mtime_ns == written
    assert (result.code, result.signal) in ((0, None), (143, None), (None, 15))
