"""Fixtures of the whole-daemon tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_twisted

from tests.integration.support.daemon import Daemon
from tests.integration.support.upstream import Upstream

StartDaemon = Callable[..., Awaitable[Daemon]]


@pytest_twisted.async_yield_fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A scripted upstream. What goes wrong inside an answer fails the test."""
    upstream = await Upstream().start()
    yield upstream
    await upstream.stop()


@pytest_twisted.async_yield_fixture
async def start_daemon(tmp_path: Path) -> AsyncIterator[StartDaemon]:
    """``await start_daemon(toml, server="…")``: a daemon that is stopped, and held to a clean log, after the test."""
    started: list[Daemon] = []

    async def start(config: str, **options: Any) -> Daemon:
        daemon = await Daemon.start(config, tmp_path, **options)
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        await daemon.stop()
