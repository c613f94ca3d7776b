"""What Claude on Amazon Bedrock takes of the Messages API, as data; as of 29 November 2026.

InvokeModel refuses a whole request for one beta that it does not know ("invalid beta flag") and for one member ("Extra
inputs are not permitted"), and clients send the names of all that they could make use of. What is not listed here was
refused there, or is not known to be taken. Sources: AWS's page on Claude's Messages API, what Claude Code itself sends
to Bedrock, LiteLLM's table of beta headers, refusals that users have reported. An operator's ``betas.add`` goes past
the list of betas, for what came later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

VERSIONS: Mapping[bytes, str] = {b"2023-06-01": "bedrock-2023-05-31"}
"""``anthropic-version`` to ``anthropic_version`` in the body; others are called the same in both places."""

MAX_BODY_BYTES = 25_000_000
"""Of a request to any model."""


@dataclass(frozen=True, slots=True)
class Beta:
    """What a client's beta is on Bedrock."""

    name: str
    uses: tuple[tuple[str, bytes], ...] = ()
    """It goes up where one of these members of the body is there and holds these bytes, or whatever the body is:
    models refuse even known betas that they have no use for."""
    models: tuple[str, ...] = ("*",)
    """Globs of models that take it, by the API's names for them."""


#: Models of the fifth generation and later.
_FIVE = ("claude-opus-[5-9]*", "claude-sonnet-[5-9]*", "claude-haiku-[5-9]*", "claude-fable-*", "claude-mythos-*")
#: Models that search for tools by themselves, and know tools whose loading is deferred.
_SEARCHING = ("claude-opus-4-[5-9]*", "claude-sonnet-4-[5-9]*", *_FIVE)
_LARGE = ("claude-sonnet-4-*", "claude-opus-4-[6-9]*", *_FIVE)

TOOL_SEARCH = Beta(
    "tool-search-tool-2025-10-19",
    (("tools", b'"defer_loading"'), ("tools", b'"tool_search_tool_'), ("messages", b'"tool_reference"')),
    _SEARCHING,
)
TOOL_EXAMPLES = Beta("tool-examples-2025-10-29", (("tools", b'"input_examples"'),), _SEARCHING)
CONTEXT_MANAGEMENT = Beta("context-management-2025-06-27", (("context_management", b""),))
SAFEGUARDS = Beta("dangerous-tool-use-2026-09-03", (("safeguards", b""),), _FIVE)
COMPACTION = Beta("compact-2026-01-12", (("context_management", b'"compact_'), ("messages", b'"compaction"')))

BETAS: Mapping[str, Sequence[Beta]] = {
    "interleaved-thinking-2025-05-14": (Beta("interleaved-thinking-2025-05-14", (("thinking", b""),)),),
    "context-1m-2025-08-07": (Beta("context-1m-2025-08-07", (), _LARGE),),
    "context-management-2025-06-27": (CONTEXT_MANAGEMENT,),
    "compact-2026-01-12": (COMPACTION,),
    # Models after Opus 4.5 have efforts without it.
    "effort-2025-11-24": (Beta("effort-2025-11-24", (("output_config", b'"effort"'),), ("claude-opus-4-5*",)),),
    # What that stands for is there under two older names.
    "advanced-tool-use-2025-11-20": (TOOL_SEARCH, TOOL_EXAMPLES),
    "tool-search-tool-2025-10-19": (TOOL_SEARCH,),
    "tool-examples-2025-10-29": (TOOL_EXAMPLES,),
    "computer-use-2025-01-24": (Beta("computer-use-2025-01-24", (("tools", b'"computer_'),)),),
    "computer-use-2025-11-24": (Beta("computer-use-2025-11-24", (("tools", b'"computer_'),)),),
    "fine-grained-tool-streaming-2025-05-14": (Beta("fine-grained-tool-streaming-2025-05-14", (("tools", b""),)),),
    "dangerous-tool-use-2026-09-03": (SAFEGUARDS,),
    "mid-conversation-tool-changes-2026-07-01": (
        Beta(
            "mid-conversation-tool-changes-2026-07-01",
            (("messages", b'"tool_addition"'), ("messages", b'"tool_removal"')),
        ),
    ),
    "thinking-binding-controls-2026-08-01": (
        Beta("thinking-binding-controls-2026-08-01", (("thinking", b""),), _FIVE),
    ),
    "thinking-display-updates-2026-08-18": (
        Beta("thinking-display-updates-2026-08-18", (("thinking", b'"updates"'),)),
    ),
    "token-efficient-tools-2025-02-19": (Beta("token-efficient-tools-2025-02-19", (), ("claude-3-7-*",)),),
    "output-128k-2025-02-19": (Beta("output-128k-2025-02-19", (), ("claude-3-7-*",)),),
}
"""What a client calls a beta to what it is on Bedrock."""

IDLE_BETAS = frozenset(
    {
        "claude-code-20250219",
        "extended-cache-ttl-2025-04-11",  # the longer time is there without it
        "fast-mode-2026-02-01",
        "per-turn-control-2026-07-01",  # the last effort of a conversation is sent as the request's
        "prompt-caching-scope-2026-01-05",
        "thinking-token-count-2026-05-13",
    }
)
"""Betas that Bedrock refuses, and without which no answer is the poorer."""

FIELDS: Mapping[str, Sequence[Beta]] = {
    "max_tokens": (),
    "messages": (),
    "metadata": (),
    "output_config": (),
    "stop_sequences": (),
    "system": (),
    "temperature": (),
    "thinking": (),
    "tool_choice": (),
    "tools": (),
    "top_k": (),
    "top_p": (),
    "context_management": (CONTEXT_MANAGEMENT, COMPACTION),
    "safeguards": (SAFEGUARDS,),
}
"""Top-level members that go up, and the betas of which each needs one."""

IDLE_FIELDS = frozenset(
    {
        "model",  # in the URL
        "stream",  # the URL says it too
        "anthropic_version",
        "anthropic_beta",
        "cache_control",
        "context_management",  # without its beta
        "diagnostics",
        "inference_geo",
        "service_tier",
        "speed",
        "thread",
    }
)
"""Members that say how the API itself should serve a request: left out without a word."""

CARRIED_ELSEWHERE = frozenset({"compaction", "container", "mcp_servers", "output_format", "safeguards"})
"""Members without which the answer would be another: the request is not for Bedrock. All others are warned about."""

TOOLS = frozenset(
    {"bash", "computer", "custom", "memory", "text_editor", "tool_search_tool_bm25", "tool_search_tool_regex"}
)
"""Types of tools, without their dates."""

TOOL_FIELDS: Mapping[str, Sequence[Beta]] = {
    "type": (),
    "name": (),
    "description": (),
    "input_schema": (),
    "cache_control": (),
    "strict": (),
    "max_characters": (),
    "display_width_px": (),
    "display_height_px": (),
    "display_number": (),
    "enable_zoom": (),
    "defer_loading": (TOOL_SEARCH,),
    "input_examples": (TOOL_EXAMPLES,),
}
"""Members of tools, and the beta that each needs; without it the member stays behind, as do those not listed."""

MESSAGE_FIELDS = frozenset({"role", "content"})
"""Members of messages. Of the others ``output_config`` becomes the request's."""

CACHE_FIELDS = frozenset({"type", "ttl"})
"""Members of ``cache_control``."""
