"""Claude Code on chat completions: what a developer sees of a session in which another model answers."""

from __future__ import annotations

import base64
from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import chat as openai
from tests.integration.support.chat import ChatServer, as_model
from tests.integration.support.claude_code import AS_LINES, lines, prompt
from tests.integration.support.daemon import provider

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@ensureDeferred
async def test_tools_thinking_and_an_image(start_daemon: StartDaemon, chat: ChatServer, tmp_path: Path) -> None:
    """Claude Code runs what the model calls, two at once, shows it a picture, and gives its reasoning back."""
    (tmp_path / "pixel.png").write_bytes(base64.b64decode(PIXEL))
    args = [{"command": f"echo {word}", "description": f"Say {word}"} for word in ("one", "two")]
    two = [openai.call("Bash", each, f"functions.Bash:{number}", number) for number, each in enumerate(args)]
    look = [openai.call("Read", {"file_path": str(tmp_path / "pixel.png")}, "functions.Read:2")]
    chat.script(
        openai.saying(reasoning="Two at once.", calls=two), openai.saying("Now look.", calls=look), openai.usual()
    )
    section = provider(f"{chat.url}/v1", kind="openai-chat", more='dialect = "kimi"')
    daemon = await start_daemon(as_model("kimi-k2.6") + section)
    result = await prompt(daemon.url, "count and look", tmp_path, *AS_LINES, "--allowedTools", "Bash", "Read")
    told = lines(result)
    assert (result.code, told[-1]["subtype"], told[-1]["result"]) == (0, "success", "hello"), result
    last = chat.requests[2]
    assert [each["id"] for each in openai.calls_of(last)] == [
        "functions.Bash:0",
        "functions.Bash:1",
        "functions.Read:2",
    ]
    assert openai.results_of(last)[:2] == ["one", "two"]
    spoken = [message for message in last.json["messages"] if message["role"] == "assistant"]
    assert [message.get("reasoning_content") for message in spoken] == ["Two at once.", "(not kept)"]
    (seen,) = [part for part in last.json["messages"][-1]["content"] if part["type"] == "image_url"]
    assert seen["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    assert last.json["thinking"] == {"type": "enabled"}


@ensureDeferred
async def test_compaction(start_daemon: StartDaemon, chat: ChatServer, tmp_path: Path) -> None:
    """A history that is too long for the model is told so in Claude's words: it is summed up, and work goes on."""
    more = [openai.call("Bash", {"command": "seq 1 2000", "description": "Count"})]
    summary = openai.saying("<analysis>short</analysis><summary>It counted a lot.</summary>")
    calling = openai.saying(calls=more)
    chat.script(calling, calling, calling, openai.too_long(), summary, openai.saying("Counted."))
    daemon = await start_daemon(as_model("gpt-4.1") + provider(f"{chat.url}/v1", kind="openai-chat"))
    result = await prompt(daemon.url, "count", tmp_path, *AS_LINES, "--allowedTools", "Bash")
    told = lines(result)
    assert (result.code, told[-1]["subtype"], told[-1]["result"]) == (0, "success", "Counted."), result
    assert [line["compact_result"] for line in told if "compact_result" in line] == ["success"]
    assert b"It counted a lot." in chat.requests[-1].body
