"""Has the fifty conversations counted by real tokenizers, and writes ``counts.json``.

``python -m tests.estimates.recount URL``, with llama.cpp's server behind it, as ``test_local_model.py`` starts one:
SmolLM2 with ``template.jinja``, since its own template leaves tools out. Where ``gpt-tokenizer`` of npm is installed in
the folder that ``--npm`` names, it counts the same prompts with o200k_base.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from tests.estimates.conversations import Conversation, conversations

COUNTS = Path(__file__).with_name("counts.json")
TEMPLATE = Path(__file__).with_name("template.jinja")

_O200K = """
const {encode} = require("gpt-tokenizer/encoding/o200k_base");
const prompts = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(prompts.map((prompt) => encode(prompt, {allowedSpecial: "all"}).length)));
"""


def digest(conversation: Conversation) -> str:
    """Return what tells whether a conversation is the one that was counted."""
    return hashlib.sha256(conversation.body).hexdigest()[:16]


def ask(url: str, request: object) -> Any:
    """POST *request* and return the answer."""
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(request).encode())) as response:
        return json.load(response)


def in_openai_words(request: dict[str, Any]) -> dict[str, Any]:
    """Return the request as llama.cpp wants it to show its prompt."""
    messages = [{"role": "system", "content": request["system"]}] if "system" in request else []
    for message in request["messages"]:
        said: dict[str, Any] = {"role": message["role"]}
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if block["type"] == "text":
                said["content"] = said.get("content", "") + block["text"]
            elif block["type"] == "thinking":
                said["reasoning_content"] = block["thinking"]
            elif block["type"] == "tool_use":
                function = {"name": block["name"], "arguments": json.dumps(block["input"])}
                said.setdefault("tool_calls", []).append({"id": block["id"], "type": "function", "function": function})
            else:
                shown = block["content"]
                shown = shown if isinstance(shown, str) else "".join(part["text"] for part in shown)
                messages.append({"role": "tool", "tool_call_id": block["tool_use_id"], "content": shown})
        if len(said) > 1:
            messages.append(said)
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool["name"],
                "description": tool["description"],
                "parameters": tool["input_schema"],
            },
        }
        for tool in request.get("tools", ())
    ]
    return {"messages": messages, **({"tools": tools} if tools else {})}


def main() -> None:
    """Count, and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--npm", type=Path)
    options = parser.parse_args()
    kept = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    counts: dict[str, dict[str, object]] = {}
    prompts = []
    for each in conversations():
        counted = ask(f"{options.url}/v1/messages/count_tokens", each.request)["input_tokens"]
        prompts.append(ask(f"{options.url}/apply-template", in_openai_words(each.request))["prompt"])
        before = kept.get(each.name, {})
        o200k = before.get("o200k") if before.get("sha256") == digest(each) else None
        counts[each.name] = {"sha256": digest(each), "smollm2": counted, "o200k": o200k}
    if options.npm:
        ran = subprocess.run(
            ["node", "-e", _O200K],
            input=json.dumps(prompts),
            cwd=options.npm,
            capture_output=True,
            text=True,
            check=True,
        )
        for entry, number in zip(counts.values(), json.loads(ran.stdout), strict=True):
            entry["o200k"] = number
    lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in counts.items())
    COUNTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
