"""The official SDKs (Python 0.x and 2.x, TypeScript) through the daemon: with the sandbox, our script, and llmock."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon, StartLlmock
from tests.integration.support import answers, sdks
from tests.integration.support.clients import Client
from tests.integration.support.daemon import SANDBOX, provider
from tests.integration.support.upstream import Upstream

each_sdk = pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
COUNT = {name: value for name, value in sdks.HELLO.items() if name != "max_tokens"}
CLIENT = '[[clients]]\nname = "tests"\nkey = "client-key"\n'


@each_sdk
@ensureDeferred
async def test_sandbox(start_daemon: StartDaemon, sdk: Client) -> None:
    """Every call of an SDK works against a daemon that has no key at all, only the sandbox."""
    daemon = await start_daemon(SANDBOX)
    calls = [("create", sdks.HELLO), ("stream", sdks.HELLO), ("events", sdks.HELLO), ("count_tokens", COUNT)]
    created, streamed, events, counted, _ = await sdks.use(sdk, daemon.url, [*calls, ("models", {})])
    assert created["text"]
    assert created["request_id"].startswith("req_")
    assert (streamed["text"], streamed["stop_reason"]) == (created["text"], "end_turn")
    assert sdks.kinds(events["types"]) == sdks.EVENTS
    assert counted["input_tokens"] > 0


@each_sdk
@ensureDeferred
async def test_key_as_each_sdk_sends_it(start_daemon: StartDaemon, upstream: Upstream, sdk: Client) -> None:
    """The client's key works in either header and never reaches the upstream; a wrong one is a 401."""
    upstream.script(answers.usual())
    daemon = await start_daemon(CLIENT + provider(upstream, "key-a"))
    (good,) = await sdks.use(sdk, daemon.url, [("create", sdks.HELLO)])
    assert good["text"] == "hello"
    (wrong,) = await sdks.use(sdk, daemon.url, [("create", sdks.HELLO)], key="another")
    assert (wrong["status"], wrong["type"]) == (401, "authentication_error")
    (request,) = upstream.requests
    assert request.header("x-api-key") == "key-a"
    assert b"client-key" not in request.head


@each_sdk
@ensureDeferred
async def test_faults_of_the_request_are_told_as_they_are(
    start_daemon: StartDaemon, upstream: Upstream, sdk: Client
) -> None:
    """What the upstream says of a bad request arrives with its status, type and words, and costs no second attempt."""
    faults = [(400, "invalid_request_error"), (413, "request_too_large"), (422, "invalid_request_error")]
    upstream.script(*(answers.error(status, kind, "no such luck") for status, kind in faults))
    daemon = await start_daemon(provider(upstream, "key-a", "key-b"))
    results = await sdks.use(sdk, daemon.url, [("create", sdks.HELLO), ("stream", sdks.HELLO), ("create", sdks.HELLO)])
    assert [(result["status"], result["type"]) for result in results] == faults
    assert all("no such luck" in result["message"] for result in results)
    assert len(upstream.requests) == len(faults)


@each_sdk
@ensureDeferred
async def test_broken_stream_is_an_error(start_daemon: StartDaemon, upstream: Upstream, sdk: Client) -> None:
    """A stream that is cut in the middle raises in the SDK; it never looks like a short but whole answer."""
    upstream.script(answers.cut_stream([*answers.start_frames(), answers.text_frame("half")]))
    daemon = await start_daemon(provider(upstream))
    for result in await sdks.use(sdk, daemon.url, [("stream", sdks.HELLO), ("events", sdks.HELLO)]):
        assert result["type"] == "api_error", result


@each_sdk
@ensureDeferred
async def test_quota_of_one_key_is_not_the_clients_affair(
    start_daemon: StartDaemon, start_llmock: StartLlmock, sdk: Client
) -> None:
    """llmock grants each key three requests a minute, one of them for the list of models: two keys make four."""
    url = await start_llmock("--rpm", "3")
    pool = "[pool]\nmax_wait = 0.0\naffinity = false\n"
    daemon = await start_daemon(provider(f"{url}/anthropic", "key-a", "key-b") + pool)
    calls = [("create", sdks.HELLO), ("stream", sdks.HELLO)] * 2
    *good, refused = await sdks.use(sdk, daemon.url, [*calls, ("create", sdks.HELLO)])
    assert all(result.get("text") for result in good), good
    assert (refused["status"], refused["type"]) == (429, "rate_limit_error")
