"""Fixtures of the whole-daemon tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_twisted

from tests.integration.support.clients import LLMOCK, need
from tests.integration.support.daemon import Daemon, free_port
from tests.integration.support.process import Child
from tests.integration.support.ready import until_ready
from tests.integration.support.upstream import Upstream

StartDaemon = Callable[..., Awaitable[Daemon]]
StartLlmock = Callable[..., Awaitable[str]]


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


@pytest_twisted.async_yield_fixture
async def start_llmock() -> AsyncIterator[StartLlmock]:
    """``await start_llmock("--rpm", "2")``: an upstream that others wrote; gives its URL."""
    started: list[Child] = []

    async def start(*options: str) -> str:
        port = free_port()
        child = Child([need(LLMOCK), "serve", "--host", "127.0.0.1", "--port", str(port), *options])
        started.append(child)
        await until_ready(child, port, "/anthropic/v1/models")
        return f"http://127.0.0.1:{port}"

    yield start
    for child in started:
        child.signal("TERM")
        await child.ended(10)
