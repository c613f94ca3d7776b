"""What becomes of each member and each block that a request may have: one table for each place.

A test holds them against the types of Anthropic's own SDK, so that nothing new goes by unnoticed.
"""

from __future__ import annotations

import re
from enum import Enum


class Fate(Enum):
    """What becomes of something that a client sends to a backend which is not Anthropic's."""

    READ = "is read, and said in the backend's own words"
    TOLD = "becomes text for the model to read"
    GONE = "is dropped without a word: no answer is the poorer for it"
    WARNED = "is dropped with a warning that names it"
    REFUSED = "cannot be carried: the route is not asked"


FIELDS = {
    "messages": Fate.READ,
    "system": Fate.READ,
    "tools": Fate.READ,
    "tool_choice": Fate.READ,
    "thinking": Fate.READ,
    "output_config": Fate.READ,
    "output_format": Fate.READ,  # of the first beta of structured outputs
    "max_tokens": Fate.READ,
    "stop_sequences": Fate.READ,
    "temperature": Fate.READ,
    "top_p": Fate.READ,
    "top_k": Fate.READ,
    "metadata": Fate.READ,
    "thread": Fate.READ,  # to refuse one that goes on: that conversation lies on Anthropic's side
    "model": Fate.GONE,  # the route knows it
    "stream": Fate.GONE,  # and the envelope this
    "cache_control": Fate.GONE,
    "context_management": Fate.GONE,
    "diagnostics": Fate.GONE,
    "service_tier": Fate.GONE,
    "inference_geo": Fate.GONE,
    "speed": Fate.GONE,
    "billing_policy": Fate.WARNED,
    "fallback_credit_token": Fate.WARNED,
    "fallbacks": Fate.WARNED,
    "safeguards": Fate.REFUSED,  # dropping them would lower a guard
    "container": Fate.REFUSED,
    "mcp_servers": Fate.REFUSED,
    "compaction": Fate.REFUSED,  # asks for a compaction block and nothing else
}
"""Top-level members; ``null``, ``[]`` and ``{}`` count as absent. One that is not here is WARNED."""

BLOCKS = {
    "text": Fate.READ,
    "image": Fate.READ,
    "document": Fate.READ,
    "search_result": Fate.READ,
    "thinking": Fate.READ,
    "tool_use": Fate.READ,
    "tool_result": Fate.READ,
    "tool_addition": Fate.READ,
    "tool_removal": Fate.READ,
    "compaction": Fate.READ,
    "redacted_thinking": Fate.GONE,
    "fallback": Fate.GONE,  # the API does not show it to the model either
    "mcp_tool_listing": Fate.GONE,  # nor this
    "server_tool_use": Fate.TOLD,
    "web_search_tool_result": Fate.TOLD,
    "web_fetch_tool_result": Fate.TOLD,
    "advisor_tool_result": Fate.TOLD,
    "code_execution_tool_result": Fate.TOLD,
    "bash_code_execution_tool_result": Fate.TOLD,
    "text_editor_code_execution_tool_result": Fate.TOLD,
    "tool_search_tool_result": Fate.TOLD,
    "mcp_tool_use": Fate.TOLD,
    "mcp_tool_result": Fate.TOLD,
    "container_upload": Fate.TOLD,
}
"""Blocks of user and assistant messages. One that is not here is TOLD, with a warning."""

BLOCK_FIELDS = {
    "cache_control": Fate.GONE,
    "caller": Fate.GONE,  # code execution's calls have become text
    "toolset_name": Fate.GONE,  # the name says as much
    "transformations": Fate.GONE,  # how Anthropic scales an image
    "encrypted_content": Fate.GONE,  # of a compaction; nobody else can read it
    "data": Fate.GONE,  # of redacted thinking
}
"""Members of the blocks that are read, beside what is read of them."""

RESULT_BLOCKS = {
    "text": Fate.READ,
    "image": Fate.READ,
    "document": Fate.READ,
    "search_result": Fate.READ,
    "tool_reference": Fate.READ,
    "browser_state": Fate.TOLD,
}
"""Blocks of a tool_result. One that is not here is TOLD, with a warning."""

TOOLS = {
    "custom": Fate.READ,
    "bash": Fate.READ,
    "text_editor": Fate.READ,
    "memory": Fate.READ,
    "web_search": Fate.READ,
    "tool_search_tool_bm25": Fate.WARNED,  # all deferred tools are sent instead
    "tool_search_tool_regex": Fate.WARNED,
    "advisor": Fate.REFUSED,
    "browser_toolset": Fate.REFUSED,
    "code_execution": Fate.REFUSED,
    "computer": Fate.REFUSED,
    "computer_toolset": Fate.REFUSED,
    "mcp_toolset": Fate.REFUSED,
    "web_fetch": Fate.REFUSED,
}
"""Types of ``tools``, without their dates. One that is not here is REFUSED."""

TOOL_FIELDS = {
    "strict": Fate.WARNED,
    "input_examples": Fate.WARNED,
    "eager_input_streaming": Fate.WARNED,
    "max_characters": Fate.WARNED,
    "user_location": Fate.WARNED,
    "response_inclusion": Fate.WARNED,
}
"""Wishes that tools bear beside what is read of them."""


def tool_family(tool_type: str) -> str:
    """``bash`` of ``bash_20250124``: the word that :data:`TOOLS` has."""
    return re.sub(r"_\d{8}$", "", tool_type)


def dropped(what: str) -> str:
    """The words of a warning."""
    return f"{what}: dropped, for the model that serves this request cannot be told of it"


def not_carried(place: str, what: str) -> str:
    """The words of a refusal."""
    return f"{place}: {what} is not supported by the model that serves this request"
