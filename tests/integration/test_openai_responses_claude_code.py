"""Claude Code on the Responses API: what a developer sees of a session in which another model answers."""

from __future__ import annotations

import base64
from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import responses as openai
from tests.integration.support.chat import as_model
from tests.integration.support.claude_code import AS_LINES, lines, prompt
from tests.integration.support.daemon import provider
from tests.integration.support.responses import Responses

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def behind(upstream: Responses) -> str:
    """A configuration with *upstream* as its only provider."""
    return as_model("gpt-5.4") + provider(f"{upstream.url}/v1", kind="openai-responses")


@ensureDeferred
async def test_tools_thinking_and_an_image(start_daemon: StartDaemon, responses: Responses, tmp_path: Path) -> None:
    """Claude Code runs what the model calls, two at once, shows it a picture, and brings back all that was sealed."""
    (tmp_path / "pixel.png").write_bytes(base64.b64decode(PIXEL))
    one, two = ({"command": f"echo {word}", "description": f"Say {word}"} for word in ("one", "two"))
    responses.script(
        openai.saying(
            openai.thought("First one.", "gAAA1"),
            openai.call("Bash", one, "call_1"),
            openai.thought("Then two.", "gAAA2"),
            openai.call("Bash", two, "call_2"),
        ),
        openai.saying("Now look.", openai.call("Read", {"file_path": str(tmp_path / "pixel.png")}, "call_3")),
        openai.usual(),
    )
    daemon = await start_daemon(behind(responses))
    result = await prompt(daemon.url, "count and look", tmp_path, *AS_LINES, "--allowedTools", "Bash", "Read")
    told = lines(result)
    assert (result.code, told[-1]["subtype"], told[-1]["result"]) == (0, "success", "hello"), result
    last = responses.requests[-1]
    said = [item for item in last.json["input"] if item.get("role") != "user"]
    assert [(item["type"], item.get("call_id") or item.get("encrypted_content") or "") for item in said] == [
        ("reasoning", "gAAA1"),
        ("function_call", "call_1"),
        ("reasoning", "gAAA2"),
        ("function_call", "call_2"),
        ("function_call_output", "call_1"),
        ("function_call_output", "call_2"),
        ("message", ""),
        ("function_call", "call_3"),
        ("function_call_output", "call_3"),
    ]
    assert [item["output"] for item in openai.items(last, "function_call_output")[:2]] == ["one", "two"]
    assert [part["image_url"] for part in said[-1]["output"]] == [f"data:image/png;base64,{PIXEL}"]
    assert said[-3]["phase"] == "commentary"
    assert last.json["include"] == ["reasoning.encrypted_content"]


@ensureDeferred
async def test_compaction(start_daemon: StartDaemon, responses: Responses, tmp_path: Path) -> None:
    """A history that is too long for the model is told so in Claude's words: it is summed up, and work goes on."""
    more = {"command": "seq 1 2000", "description": "Count"}
    summary = openai.saying("<analysis>short</analysis><summary>It counted a lot.</summary>")
    calling = [openai.saying(openai.thought("", "gAAA"), openai.call("Bash", more, f"call_{at}")) for at in range(3)]
    responses.script(*calling, openai.too_long(), summary, openai.saying("Counted."))
    daemon = await start_daemon(behind(responses))
    result = await prompt(daemon.url, "count", tmp_path, *AS_LINES, "--allowedTools", "Bash")
    told = lines(result)
    assert (result.code, told[-1]["subtype"], told[-1]["result"]) == (0, "success", "Counted."), result
    assert [line["compact_result"] for line in told if "compact_result" in line] == ["success"]
    assert b"It counted a lot." in responses.requests[-1].body


@ensureDeferred
async def test_web_search(start_daemon: StartDaemon, responses: Responses, tmp_path: Path) -> None:
    """Its web search is OpenAI's: it counts the search, and hands what was found to the model."""
    url = "https://twisted.org/"
    cited = {"type": "url_citation", "start_index": 0, "end_index": 10, "url": url, "title": "Twisted"}
    found = openai.saying(openai.search("twisted", url), openai.text("An engine.", cited))
    searching = openai.saying(openai.call("WebSearch", {"query": "what is twisted"}))
    responses.script(searching, found, openai.usual())
    daemon = await start_daemon(behind(responses))
    result = await prompt(daemon.url, "what is twisted?", tmp_path, *AS_LINES, "--allowedTools", "WebSearch")
    told = lines(result)
    assert (result.code, told[-1]["subtype"]) == (0, "success"), result
    assert [tool["type"] for tool in responses.requests[1].json["tools"]] == ["web_search"]
    assert sum(usage["webSearchRequests"] for usage in told[-1]["modelUsage"].values()) == 1
    (output,) = openai.items(responses.requests[2], "function_call_output")
    assert "An engine." in output["output"]
    assert url in output["output"]
