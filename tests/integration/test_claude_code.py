"""Claude Code through the daemon: what a developer sees in the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon, StartLlmock
from tests.integration.support import answers
from tests.integration.support.claude_code import AS_LINES, lines, prompt
from tests.integration.support.daemon import SANDBOX, provider
from tests.integration.support.upstream import Upstream


@ensureDeferred
async def test_plain_prompt(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """`claude -p` gets its answer from a daemon that was started without any configuration of models or keys."""
    daemon = await start_daemon(SANDBOX)
    result = await prompt(daemon.url, "say hi", tmp_path, "--output-format", "json")
    told = json.loads(result.out)
    assert (result.code, told["is_error"], told["stop_reason"]) == (0, False, "end_turn"), result
    assert told["result"]


@ensureDeferred
async def test_stream_json(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """With stream-json each step arrives as a line of its own, the last one a success."""
    daemon = await start_daemon(SANDBOX)
    result = await prompt(daemon.url, "say hi", tmp_path, *AS_LINES, "--include-partial-messages")
    told = lines(result)
    assert {"system", "stream_event", "assistant", "result"} <= {line["type"] for line in told}
    assert told[-1]["subtype"] == "success"


@ensureDeferred
async def test_tool_turn(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A tool call goes out to Claude Code, runs there, and its result comes back for the next turn."""
    daemon = await start_daemon(SANDBOX)
    asked = '[tool:Bash {"command":"echo hi"}]'
    result = await prompt(daemon.url, asked, tmp_path, *AS_LINES, "--allowedTools", "Bash(echo:*)")
    told = lines(result)
    blocks = [block for line in told if line["type"] in ("assistant", "user") for block in line["message"]["content"]]
    (used,) = [block for block in blocks if block["type"] == "tool_use"]
    (returned,) = [block for block in blocks if block["type"] == "tool_result"]
    assert (used["name"], used["input"]["command"]) == ("Bash", "echo hi")
    assert (returned["tool_use_id"], returned["content"]) == (used["id"], "hi")
    assert told[-1]["subtype"] == "success"


@ensureDeferred
async def test_keys_that_fail_are_not_seen(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """One key without quota and one that was revoked cost the developer nothing while a third works."""
    upstream.script_for("key-a", answers.error(429, "rate_limit_error", retry_after="30"))
    upstream.script_for("key-b", answers.error(401, "authentication_error", "invalid x-api-key"))
    upstream.script_for("key-c", answers.usual())
    daemon = await start_daemon(provider(upstream, "key-a", "key-b", "key-c"))
    result = await prompt(daemon.url, "say hi", tmp_path, within=60)
    assert (result.code, result.out.strip()) == (0, "hello")
    assert {request.key for request in upstream.requests} == {"key-a", "key-b", "key-c"}


@ensureDeferred
async def test_wrong_client_key_is_told_at_once(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """A wrong key ends in seconds, in the gateway's words: by the API's, one would be told to log in at Anthropic."""
    upstream.script(answers.usual())
    daemon = await start_daemon('[[clients]]\nname = "tests"\nkey = "client-key"\n' + provider(upstream))
    for token in ({}, {"ANTHROPIC_AUTH_TOKEN": "another-too"}):
        result = await prompt(daemon.url, "say hi", tmp_path, key="another", within=60, **token)
        assert result.code == 1
        assert "This gateway does not know your API key" in result.out
        assert "/login" not in result.out
    assert upstream.requests == []


@ensureDeferred
async def test_our_own_dead_key_is_told_at_once(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """When every upstream key is revoked the developer is told so, at once, and not that his own key is bad."""
    upstream.script(answers.error(401, "authentication_error", "invalid x-api-key"))
    daemon = await start_daemon(provider(upstream))
    result = await prompt(daemon.url, "say hi", tmp_path, within=60)
    assert result.code == 1
    assert "503" in result.out
    assert "invalid x-api-key" not in result.out


@ensureDeferred
async def test_llmock(start_daemon: StartDaemon, start_llmock: StartLlmock, tmp_path: Path) -> None:
    """An upstream that others wrote serves Claude Code through the daemon too."""
    url = await start_llmock("--tool-mode", "off")
    daemon = await start_daemon(provider(f"{url}/anthropic"))
    result = await prompt(daemon.url, "say hi", tmp_path, "--output-format", "json")
    assert json.loads(result.out)["subtype"] == "success", result
