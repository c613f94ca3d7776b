"""Fixtures of the whole-daemon tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.logger import LogEvent, globalLogPublisher

from tests.integration.support.browser import Browser
from tests.integration.support.chat import ChatServer
from tests.integration.support.clients import AIMOCK, LLMOCK, need
from tests.integration.support.collector import Collector
from tests.integration.support.daemon import Daemon, free_port
from tests.integration.support.forkserver import fork_server
from tests.integration.support.gemini import Gemini
from tests.integration.support.needs import require
from tests.integration.support.process import Child
from tests.integration.support.ready import until_ready
from tests.integration.support.redis import Redis
from tests.integration.support.responses import Responses
from tests.integration.support.upstream import Upstream

StartDaemon = Callable[..., Awaitable[Daemon]]
StartLlmock = Callable[..., Awaitable[str]]
StartAimock = Callable[..., Awaitable[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files that take long come first: at the end they would be waited for by processes without work."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test cannot do without is looked for before its fixtures are."""
    require(item)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Hold each test to what trial holds its own to: no failure that was only logged, no timer that still runs."""
    logged: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            logged.append(event)

    before = set(reactor.getDelayedCalls())
    globalLogPublisher.addObserver(observe)
    yield
    globalLogPublisher.removeObserver(observe)
    assert not logged, [event["log_failure"].getTraceback() for event in logged]
    now = reactor.seconds()  # what is due now is Twisted closing a socket
    assert not [call for call in reactor.getDelayedCalls() if call not in before and call.getTime() > now]


@pytest_twisted.async_yield_fixture
async def redis() -> AsyncIterator[Redis]:
    """A Redis that is gone after the test."""
    redis = Redis()
    await redis.start()
    yield redis
    await redis.stop()


@pytest_twisted.async_yield_fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A scripted upstream. What goes wrong inside an answer fails the test."""
    upstream = await Upstream().start()
    yield upstream
    await upstream.stop()


@pytest_twisted.async_yield_fixture
async def gemini() -> AsyncIterator[Gemini]:
    """The same for Google's API."""
    gemini = Gemini()
    await gemini.start()
    yield gemini
    await gemini.stop()


@pytest_twisted.async_yield_fixture
async def chat() -> AsyncIterator[ChatServer]:
    """And for a server of chat completions."""
    chat = ChatServer()
    await chat.start()
    yield chat
    await chat.stop()


@pytest_twisted.async_yield_fixture
async def responses() -> AsyncIterator[Responses]:
    """And for OpenAI's Responses API."""
    responses = Responses()
    await responses.start()
    yield responses
    await responses.stop()


@pytest_twisted.async_yield_fixture
async def collector() -> AsyncIterator[Collector]:
    """What the daemon sends spans and events to."""
    collector = Collector()
    collector.start()
    yield collector
    await collector.stop()


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
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """A browser that must have nothing to complain of after the test."""
    browser = Browser(tmp_path / "chromium")
    yield browser
    await browser.close()
    assert [each for each in browser.complaints if "401" not in each] == []


@pytest_twisted.async_yield_fixture
async def start_llmock() -> AsyncIterator[StartLlmock]:
    """``await start_llmock("--rpm", "2")``: an upstream that others wrote; gives its URL."""
    started: list[Child] = []

    async def start(*options: str) -> str:
        port, program = free_port(), need(LLMOCK)
        spawn = fork_server(program.with_name("python"), "llmock.cli", "llmock.main").spawn
        child = Child([program, "serve", "--host", "127.0.0.1", "--port", str(port), *options], spawn=spawn)
        started.append(child)
        await until_ready(child, port, "/anthropic/v1/models")
        return f"http://127.0.0.1:{port}"

    yield start
    for child in started:
        child.signal("TERM")
        await child.ended(60)


@pytest_twisted.async_yield_fixture
async def start_aimock(tmp_path: Path) -> AsyncIterator[StartAimock]:
    """``await start_aimock({"match": …, "response": …}, …)``: another such upstream, with what it is to answer."""
    started: list[Child] = []

    async def start(*fixtures: Mapping[str, Any]) -> str:
        port = free_port()
        script = tmp_path / f"aimock-{port}.json"
        script.write_text(json.dumps({"fixtures": fixtures}))
        child = Child([need(AIMOCK), "--port", str(port), "--fixtures", script, "--log-level", "warn"])
        started.append(child)
        await until_ready(child, port, "/health")
        return f"http://127.0.0.1:{port}"

    yield start
    for child in started:
        child.signal("TERM")
        await child.ended(60)
