"""Claude Code on Gemini: what a developer sees of a session in which another model answers."""

from __future__ import annotations

import base64
from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import gemini as google
from tests.integration.support.claude_code import AS_LINES, lines, prompt
from tests.integration.support.daemon import provider
from tests.integration.support.gemini import AS_THREE, SIGNATURE, Gemini

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@ensureDeferred
async def test_signatures(start_daemon: StartDaemon, gemini: Gemini, tmp_path: Path) -> None:
    """Claude Code runs what Gemini calls, two at once, and Google gets its signatures back, turn after turn."""
    args = [{"command": f"echo {word}", "description": f"Say {word}"} for word in ("one", "two")]
    gemini.script(google.two_calls("Bash", *args), google.two_calls("Bash", *args), google.usual())
    daemon = await start_daemon(AS_THREE + provider(gemini, kind="gemini"))
    result = await prompt(daemon.url, "count to two, twice", tmp_path, *AS_LINES, "--allowedTools", "Bash")
    told = lines(result)
    assert (result.code, told[-1]["subtype"], told[-1]["result"]) == (0, "success", "hello"), result
    sent = google.calls(gemini.requests[2])
    assert [part["functionCall"]["args"] for part in sent] == args * 2
    assert [part.get("thoughtSignature") for part in sent] == [SIGNATURE, None] * 2
    results = [part["functionResponse"] for part in gemini.requests[2].json["contents"][-1]["parts"][:2]]
    assert [each["response"] for each in results] == [{"output": "one"}, {"output": "two"}]
    assert [each["id"] for each in results] == [part["functionCall"]["id"] for part in sent[2:]]


@ensureDeferred
async def test_compaction(start_daemon: StartDaemon, gemini: Gemini, tmp_path: Path) -> None:
    """A history that is too long for Gemini is told to be so in Claude's words: it is summed up, and work goes on."""
    more = {"command": "seq 1 2000", "description": "Count"}
    call = google.saying(google.call("Bash", more, SIGNATURE))
    summary = google.saying("<analysis>short</analysis><summary>It counted a lot.</summary>")
    gemini.script(call, call, call, google.too_long(), summary, google.saying("Counted."))
    daemon = await start_daemon(AS_THREE + provider(gemini, kind="gemini"))
    result = await prompt(daemon.url, "count", tmp_path, *AS_LINES, "--allowedTools", "Bash")
    told = lines(result)
    assert (result.code, told[-1]["subtype"], told[-1]["result"]) == (0, "success", "Counted."), result
    assert [line["compact_result"] for line in told if "compact_result" in line] == ["success"]
    assert len(gemini.requests) == 6
    assert b"It counted a lot." in gemini.requests[-1].body
    assert len(gemini.requests[-1].body) < len(gemini.requests[3].body)
    kept = google.calls(gemini.requests[-1])  # what it keeps of its history is as signed as before
    assert kept
    assert all(part["thoughtSignature"] == SIGNATURE for part in kept)


@ensureDeferred
async def test_web_search(start_daemon: StartDaemon, gemini: Gemini, tmp_path: Path) -> None:
    """Its web search is Google's: it finds pages, counts the search, and hands what was found to the model."""
    source = {"web": {"uri": "https://twisted.org/", "title": "twisted.org"}}
    support = {"segment": {"startIndex": 0, "endIndex": 10, "text": "An engine."}, "groundingChunkIndices": [0]}
    grounding = {"webSearchQueries": ["twisted"], "groundingChunks": [source], "groundingSupports": [support]}
    found = google.said("An engine.", finish="STOP")
    found["candidates"][0]["groundingMetadata"] = grounding
    searching = google.saying(google.call("WebSearch", {"query": "what is twisted"}, SIGNATURE))
    gemini.script(searching, google.stream(found), google.usual())
    daemon = await start_daemon(AS_THREE + provider(gemini, kind="gemini"))
    result = await prompt(daemon.url, "what is twisted?", tmp_path, *AS_LINES, "--allowedTools", "WebSearch")
    told = lines(result)
    assert (result.code, told[-1]["subtype"]) == (0, "success"), result
    assert [request.json["tools"][0].keys() for request in gemini.requests[1:2]] == [{"googleSearch"}]
    assert sum(usage["webSearchRequests"] for usage in told[-1]["modelUsage"].values()) == 1
    output = gemini.requests[2].json["contents"][-1]["parts"][0]["functionResponse"]["response"]["output"]
    assert "An engine." in output
    assert '{"title":"twisted.org","url":"https://twisted.org/"}' in output


@ensureDeferred
async def test_image(start_daemon: StartDaemon, gemini: Gemini, tmp_path: Path) -> None:
    """A picture that Claude Code reads from disk is seen by the model, within the tool's result."""
    (tmp_path / "pixel.png").write_bytes(base64.b64decode(PIXEL))
    reading = google.saying(google.call("Read", {"file_path": str(tmp_path / "pixel.png")}, SIGNATURE))
    gemini.script(reading, google.usual())
    daemon = await start_daemon(AS_THREE + provider(gemini, kind="gemini"))
    result = await prompt(daemon.url, "look at it", tmp_path, *AS_LINES, "--allowedTools", "Read")
    assert (result.code, lines(result)[-1]["subtype"]) == (0, "success"), result
    (seen,) = gemini.requests[1].json["contents"][-1]["parts"][0]["functionResponse"]["parts"]
    assert seen["inlineData"]["mimeType"] == "image/png"
    assert seen["inlineData"]["data"] == PIXEL
