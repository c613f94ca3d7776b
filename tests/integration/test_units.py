"""The units in ``deploy/systemd``, as systemd's own programs judge them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.support.daemon import ROOT
from tests.integration.support.needs import lacking, needs
from tests.integration.support.process import run

UNITS = ROOT / "deploy/systemd"
SERVICES = ("claudeproxyd.service", "claudeproxyd@.service")
EXPOSED = 2.5
"""Of 10: what `systemd-analyze security` may find at most."""
PROGRAM = "/opt/claudeproxyd/bin/claudeproxyd"
OLDER = "Failed to parse service type, ignoring: notify-reload"
"""So systemd says before 253; the line before that one then holds."""


def systemd() -> None:
    """See :func:`~tests.integration.support.needs.needs`."""
    for program in ("systemd-analyze", "systemd-sysusers", "systemd-tmpfiles"):
        if shutil.which(program) is None:
            lacking(f"{program} is not installed")
    if os.geteuid() != 0:
        lacking("users and folders are made by root alone")


def settings(unit: str) -> list[str]:
    """The lines of a unit that are no comments."""
    return [line for line in (UNITS / unit).read_text().splitlines() if line and line[0] not in "#;"]


@needs(systemd)
@ensureDeferred
async def test_exposure() -> None:
    """Nothing is open to the daemon that it has no use for."""
    for unit in SERVICES:
        judged = await run(["systemd-analyze", "security", "--offline=true", "--no-pager", UNITS / unit])
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.out)
        assert found is not None, judged.out + judged.err
        assert float(found[1]) < EXPOSED, judged.out


@needs(systemd)
@ensureDeferred
async def test_units(tmp_path: Path) -> None:
    """systemd knows each setting, where the program is installed."""
    for unit in UNITS.glob("*.*"):
        if unit.is_file():
            (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, shutil.which("true") or ""))
    units = [tmp_path / name for name in ("claudeproxyd.service", "claudeproxyd@blue.service", "claudeproxyd.socket")]
    verified = await run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units])
    assert [line for line in verified.err.splitlines() if OLDER not in line] == []


@needs(systemd)
@ensureDeferred
async def test_users_and_folders(tmp_path: Path) -> None:
    """The daemon has a user; it reads its configuration and does not write it, and the keys are root's alone."""
    etc = tmp_path / "etc"
    etc.mkdir()
    for program, conf in (("systemd-sysusers", "sysusers.d"), ("systemd-tmpfiles", "tmpfiles.d")):
        make = ["--create"] if conf == "tmpfiles.d" else []
        made = await run([program, f"--root={tmp_path}", *make, UNITS / conf / "claudeproxyd.conf"])
        assert made.code == 0, made.err
    (user,) = [
        line.split(":") for line in (etc / "passwd").read_text().splitlines() if line.startswith("claudeproxyd:")
    ]
    assert user[5:] == ["/var/lib/claudeproxyd", "/usr/sbin/nologin"]
    folders = [etc / "claudeproxyd", etc / "claudeproxyd/keys"]
    made_for = [(each.stat().st_mode & 0o777, each.stat().st_uid, each.stat().st_gid) for each in folders]
    assert made_for == [(0o750, 0, int(user[3])), (0o700, 0, 0)]


def test_taking_turns() -> None:
    """Of two that take turns each has all that the one has, and more: the socket, and a folder of its own."""
    one, two = (settings(unit) for unit in SERVICES)
    assert [line for line in one if line not in two] == [
        "Description=claudeproxyd, a Claude-compatible API in front of a pool of credentials",
        "RuntimeDirectory=claudeproxyd",
    ]
    assert [line for line in two if line not in one] == [
        "Description=claudeproxyd, a Claude-compatible API in front of a pool of credentials (%i)",
        "Sockets=claudeproxyd.socket",
        "RuntimeDirectory=claudeproxyd-%i",
        "BindPaths=/run/claudeproxyd-%i:/run/claudeproxyd",
    ]
