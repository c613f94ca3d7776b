"""A real, small model behind the daemon: ``make test-model``. The words are its own; the shapes have to hold."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted
import treq
from pytest_twisted import ensureDeferred

from tests.estimates.conversations import conversations
from tests.estimates.recount import COUNTS, TEMPLATE
from tests.integration.conftest import StartDaemon
from tests.integration.support import sdks, wire
from tests.integration.support.clients import LLAMA_CPP, SMOLLM2, Client, need
from tests.integration.support.daemon import free_port, provider
from tests.integration.support.needs import needs
from tests.integration.support.process import Child
from tests.integration.support.ready import until_ready

JSON = {"content-type": "application/json"}
#: One of them is in whatever a model says that is asked to count.
STOPS = ["a", "e", "o", "2"]

pytestmark = [pytest.mark.model, needs(partial(need, SMOLLM2), partial(need, LLAMA_CPP))]


@pytest_twisted.async_yield_fixture
async def model() -> AsyncIterator[str]:
    """llama.cpp's own server with SmolLM2, and a template that knows tools, which its own does not; its URL."""
    (file,) = need(SMOLLM2).rglob("*.gguf")
    port = free_port()
    child = Child([need(LLAMA_CPP), sdks.PROGRAMS / "model.py", file, str(port), TEMPLATE])
    await until_ready(child, port, "/health", within=60)
    yield f"http://127.0.0.1:{port}"
    child.signal("KILL")
    await child.ended(10)


async def talk(sdk: Client, url: str) -> dict[str, Any]:
    """Have the daemon at *url* say something, say it streamed, and count; return what it said."""
    short = {**sdks.HELLO, "max_tokens": 12}
    count = {name: value for name, value in short.items() if name != "max_tokens"}
    calls = [("create", short), ("stream", short), ("count_tokens", count)]
    created, streamed, counted = await sdks.use(sdk, url, calls)
    assert created.get("text"), created
    assert streamed.get("text"), streamed
    assert counted.get("input_tokens"), counted
    return created


@pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
@ensureDeferred
async def test_each_sdk_talks_to_a_model(start_daemon: StartDaemon, model: str, sdk: Client) -> None:
    """Messages, streams and token counts of a real model arrive through the daemon."""
    daemon = await start_daemon(provider(model))
    await talk(sdk, daemon.url)


@pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
@ensureDeferred
async def test_each_sdk_talks_to_its_chat_completions(start_daemon: StartDaemon, model: str, sdk: Client) -> None:
    """The same by the server's chat completions: what it says is translated, and tokens are estimated."""
    section = provider(f"{model}/v1", kind="openai-chat", more='dialect = "llamacpp"')
    daemon = await start_daemon(section)
    created = await talk(sdk, daemon.url)
    assert created["stop_reason"] == "max_tokens", created


@ensureDeferred
async def test_too_long_for_its_chat_completions(start_daemon: StartDaemon, model: str) -> None:
    """A prompt beyond its window is told to be so in the words on which clients compact."""
    daemon = await start_daemon(provider(f"{model}/v1", kind="openai-chat", more='dialect = "llamacpp"'))
    answer = await wire.post(daemon.port, wire.Message(prompt="word " * 5000, max_tokens=12).encode())
    assert answer.status == 400, answer.body
    assert answer.json["error"]["message"].startswith("prompt is too long: "), answer.body


@ensureDeferred
async def test_stops_its_chat_completions(start_daemon: StartDaemon, model: str) -> None:
    """A stop sequence ends an answer of its own accord."""
    daemon = await start_daemon(provider(f"{model}/v1", kind="openai-chat", more='dialect = "llamacpp"'))
    asked = wire.Message(prompt="Count from one to five.", max_tokens=60, more={"stop_sequences": STOPS})
    answer = await wire.post(daemon.port, asked.encode())
    assert answer.json["stop_reason"] == "stop_sequence", answer.body


def by_responses(model: str) -> str:
    """The same server by its Responses API."""
    return provider(f"{model}/v1", kind="openai-responses")


@pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
@ensureDeferred
async def test_each_sdk_talks_to_its_responses(start_daemon: StartDaemon, model: str, sdk: Client) -> None:
    """The same by the server's Responses API, which counts tokens itself."""
    daemon = await start_daemon(by_responses(model))
    await talk(sdk, daemon.url)


@ensureDeferred
async def test_stops_its_responses(start_daemon: StartDaemon, model: str) -> None:
    """A stop sequence ends an answer of its own accord."""
    daemon = await start_daemon(by_responses(model))
    asked = wire.Message(prompt="Count from one to five.", max_tokens=60, more={"stop_sequences": STOPS})
    answer = await wire.post(daemon.port, asked.encode())
    assert answer.json.get("stop_reason") == "stop_sequence", answer.body


@ensureDeferred
async def test_it_counts_what_the_estimate_is_measured_by(start_daemon: StartDaemon, model: str) -> None:
    """The fifty conversations, asked through the daemon, still come to the tokens that are written down."""
    daemon = await start_daemon(provider(model))
    counted = {}
    for each in conversations():
        response = await treq.post(f"{daemon.url}/v1/messages/count_tokens", each.body, headers=JSON, persistent=False)
        assert response.headers.getRawHeaders("x-claudeproxyd-estimate") is None
        counted[each.name] = (await response.json())["input_tokens"]
    assert counted == {name: entry["smollm2"] for name, entry in json.loads(COUNTS.read_text()).items()}
