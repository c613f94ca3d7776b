"""What a model says that aimock plays, and what aimock was asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.integration.support import sdks, wire
from tests.integration.support.claude_code import AS_LINES, lines, prompt

SAYS = "Hello from a model that is not Claude."
HELLO = {"match": {"userMessage": "say hi"}, "response": {"content": SAYS, "reasoning": "They want a greeting."}}
CALL = {"name": sdks.FILE_TOOL["name"], "arguments": {"path": "a.txt", "lines": ["ö", '"', "\\"]}}
LOOP = (
    {"match": {"userMessage": "Write", "hasToolResult": False}, "response": {"content": "So.", "toolCalls": [CALL]}},
    {"match": {"toolResultContains": "written"}, "response": {"content": "Done."}},
)


async def journal(url: str, path: str) -> list[dict[str, Any]]:
    """What it was asked at paths with *path* in them, and what it answered."""
    told = (await wire.get(int(url.rpartition(":")[2]), "/__aimock/journal")).json
    return [each for each in told if path in each["path"]]


async def tool_results(url: str, path: str) -> list[Any]:
    """What it was told last of the calls in the conversation."""
    messages = (await journal(url, path))[-1]["body"]["messages"]
    return [message["content"] for message in messages if message["role"] == "tool"]


def _note_calls(folder: Path) -> list[tuple[str, dict[str, str]]]:
    path = str(folder / "note.txt")
    return [
        ("Write", {"file_path": path, "content": "one\n"}),
        ("Bash", {"command": f"echo two >> {path}", "description": "Append a line"}),
        ("Read", {"file_path": path}),
    ]


def note_taking(folder: Path) -> Iterator[dict[str, Any]]:
    """A model that has Claude Code write a note in *folder*, add to it, and read it."""
    answers: list[dict[str, Any]] = [
        {"toolCalls": [{"name": name, "arguments": arguments}]} for name, arguments in _note_calls(folder)
    ]
    answers.append({"content": "The note has two lines."})
    return ({"match": {"turnIndex": turn}, "response": each} for turn, each in enumerate(answers))


async def take_note(url: str, folder: Path) -> None:
    """Have Claude Code do so with the daemon at *url*: it does all three, and ends with the model's last words."""
    allowed = ("--allowedTools", "Write", "Bash", "Read")
    result = await prompt(url, "write the note", folder, *AS_LINES, *allowed)
    told = lines(result)
    assert (result.code, told[-1]["subtype"]) == (0, "success"), result
    assert told[-1]["result"] == "The note has two lines."
    assert (folder / "note.txt").read_text() == "one\ntwo\n"
    blocks = [block for line in told if line["type"] in ("assistant", "user") for block in line["message"]["content"]]
    called = [block["name"] for block in blocks if block["type"] == "tool_use"]
    assert called == [name for name, _ in _note_calls(folder)]
    assert not any(block.get("is_error") for block in blocks)
