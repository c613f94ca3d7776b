"""A judge of bodies that InvokeModel is sent for Claude: it refuses what Bedrock was seen to refuse.

Written from AWS's page on Claude's Messages API and from reports of refusals; it shares nothing with the daemon.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_MEMBERS = {
    "anthropic_version",
    "anthropic_beta",
    "context_management",
    "max_tokens",
    "messages",
    "metadata",
    "output_config",
    "safeguards",
    "stop_sequences",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
}
_TOOL_MEMBERS = {"cache_control", "description", "input_schema", "name", "strict", "type"}
_NEEDS = {
    "context_management": {"context-management-2025-06-27", "compact-2026-01-12"},
    "safeguards": {"dangerous-tool-use-2026-09-03"},
    "defer_loading": {"tool-search-tool-2025-10-19"},
    "input_examples": {"tool-examples-2025-10-29"},
}
_BETAS = {
    "compact-2026-01-12",
    "computer-use-2025-01-24",
    "computer-use-2025-11-24",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "dangerous-tool-use-2026-09-03",
    "fine-grained-tool-streaming-2025-05-14",
    "interleaved-thinking-2025-05-14",
    "mid-conversation-tool-changes-2026-07-01",
    "thinking-binding-controls-2026-08-01",
    "thinking-display-updates-2026-08-18",
    "tool-examples-2025-10-29",
    "tool-search-tool-2025-10-19",
}


def fault(body: Json) -> str:
    """Why InvokeModel of a Claude model refuses a body; '' if it does not."""
    return next(_faults(body), "")


def _faults(body: Json) -> Iterator[str]:
    betas = {*body.get("anthropic_beta", ())}
    if betas - _BETAS:
        yield "invalid beta flag"
    yield from (f"{name}: Extra inputs are not permitted" for name in body.keys() - _MEMBERS)
    yield from (f"{name}: Field required" for name in {"anthropic_version", "max_tokens", "messages"} - body.keys())
    if body.get("tools") == []:
        yield "tools: empty"
    for name in _NEEDS.keys() & body.keys():
        if not _NEEDS[name] & betas:
            yield f"{name}: Extra inputs are not permitted"
    for number, tool in enumerate(body.get("tools") or ()):
        for name in tool.keys() - _TOOL_MEMBERS:
            if not _NEEDS.get(name, set()) & betas:
                yield f"tools.{number}.custom.{name}: Extra inputs are not permitted"
    for place, block in _blocks(body):
        if (block.get("cache_control") or {}).keys() - {"type", "ttl"}:
            yield f"{place}.cache_control.ephemeral: Extra inputs are not permitted"
    for number, message in enumerate(body.get("messages", ())):
        if message.keys() - {"role", "content"}:
            yield f"messages.{number}: Extra inputs are not permitted"


def _blocks(body: Json) -> Iterator[tuple[str, Json]]:
    for number, tool in enumerate(body.get("tools", ())):
        yield f"tools.{number}", tool
    contents = [body.get("system"), *(message["content"] for message in body.get("messages", ()))]
    for number, content in enumerate(contents):
        for block in content if isinstance(content, list) else ():
            yield f"messages.{number}", block
            inner = block.get("content") if block["type"] == "tool_result" else None
            for each in inner if isinstance(inner, list) else ():
                yield f"messages.{number}.content", each
