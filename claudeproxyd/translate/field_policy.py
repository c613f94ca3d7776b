"""What becomes of each field, block, source and tool of a request: a table for each place, and overrides by family.

A test holds the tables against the types of Anthropic's own SDK, so that nothing new goes by unnoticed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Action(Enum):
    """The possible treatments of something that a client sends to a backend which is not Anthropic's."""

    TRANSLATE = "is said in the backend's own words"
    AS_TEXT = "becomes text for the model to read"
    DROP = "is dropped without a word: no answer is the poorer for it"
    WARN = "is dropped with a warning that names it"
    REJECT = "cannot be carried: the route is not asked"


@dataclass(frozen=True, slots=True)
class FieldPolicy:
    """A table for each place of a request: what one family of backends can be told.

    Made from :data:`BASE` by :meth:`with_overrides`.
    """

    fields: Mapping[str, Action]
    """Top-level members; ``null``, ``[]`` and ``{}`` count as absent. One that is not here is WARN."""
    blocks: Mapping[str, Action]
    """Blocks of user and assistant messages. One that is not here is AS_TEXT, with a warning."""
    result_blocks: Mapping[str, Action]
    """Blocks of a tool_result. One that is not here is AS_TEXT, with a warning."""
    sources: Mapping[str, Action]
    """Where the data of images and documents may be: ``image.url``, say. TRANSLATE or REJECT."""
    tools: Mapping[str, Action]
    """Types of ``tools``, without their dates. One that is not here is REJECT."""
    tool_fields: Mapping[str, Action]
    """What tools have beside what is read of them."""

    def with_overrides(self, **tables: Mapping[str, Action]) -> FieldPolicy:
        """Return the policy of a family that differs in these entries of the tables that are named.

        Raises TypeError for a table that there is not, KeyError for an entry that the table does not have.
        """
        for name, table in tables.items():
            if unknown := table.keys() - getattr(self, name, table).keys():
                raise KeyError(f"{name} has no {', '.join(sorted(unknown))}")
        merged = {name: {**getattr(self, name, {}), **table} for name, table in tables.items()}
        return replace(self, **merged)


#: What holds of a family that says nothing else: the least that a backend of any kind can be told.
BASE = FieldPolicy(
    fields={
        "messages": Action.TRANSLATE,
        "system": Action.TRANSLATE,
        "tools": Action.TRANSLATE,
        "tool_choice": Action.TRANSLATE,
        "thinking": Action.TRANSLATE,
        "output_config": Action.TRANSLATE,
        "output_format": Action.TRANSLATE,  # of the first beta of structured outputs
        "max_tokens": Action.TRANSLATE,
        "stop_sequences": Action.TRANSLATE,
        "temperature": Action.TRANSLATE,
        "top_p": Action.TRANSLATE,
        "top_k": Action.TRANSLATE,
        "metadata": Action.TRANSLATE,
        "thread": Action.TRANSLATE,  # to refuse one that goes on: that conversation lies on Anthropic's side
        "model": Action.DROP,  # the route knows it
        "stream": Action.DROP,  # and the envelope this
        "cache_control": Action.TRANSLATE,  # into nothing where a backend caches by itself, or not at all
        "context_management": Action.DROP,
        "diagnostics": Action.DROP,
        "service_tier": Action.DROP,
        "inference_geo": Action.DROP,
        "speed": Action.DROP,
        "billing_policy": Action.WARN,
        "fallback_credit_token": Action.WARN,
        "fallbacks": Action.WARN,
        "safeguards": Action.REJECT,  # dropping them would lower a guard
        "container": Action.REJECT,
        "mcp_servers": Action.REJECT,
        "compaction": Action.REJECT,  # asks for a compaction block and nothing else
    },
    blocks={
        "text": Action.TRANSLATE,
        "image": Action.TRANSLATE,
        "document": Action.TRANSLATE,
        "search_result": Action.TRANSLATE,
        "thinking": Action.TRANSLATE,
        "tool_use": Action.TRANSLATE,
        "tool_result": Action.TRANSLATE,
        "tool_addition": Action.TRANSLATE,
        "tool_removal": Action.TRANSLATE,
        "compaction": Action.TRANSLATE,
        "redacted_thinking": Action.DROP,
        "fallback": Action.DROP,  # the API does not show it to the model either
        "mcp_tool_listing": Action.DROP,  # nor this
        "server_tool_use": Action.AS_TEXT,
        "web_search_tool_result": Action.AS_TEXT,
        "web_fetch_tool_result": Action.AS_TEXT,
        "advisor_tool_result": Action.AS_TEXT,
        "code_execution_tool_result": Action.AS_TEXT,
        "bash_code_execution_tool_result": Action.AS_TEXT,
        "text_editor_code_execution_tool_result": Action.AS_TEXT,
        "tool_search_tool_result": Action.AS_TEXT,
        "mcp_tool_use": Action.AS_TEXT,
        "mcp_tool_result": Action.AS_TEXT,
        "container_upload": Action.AS_TEXT,
    },
    result_blocks={
        "text": Action.TRANSLATE,
        "image": Action.TRANSLATE,
        "document": Action.TRANSLATE,
        "search_result": Action.TRANSLATE,
        "tool_reference": Action.TRANSLATE,
        "browser_state": Action.AS_TEXT,
    },
    sources={
        "image.base64": Action.TRANSLATE,
        "image.url": Action.REJECT,  # unless the backend fetches it
        "image.file": Action.REJECT,  # a file of the Files API
        "document.base64": Action.TRANSLATE,
        "document.url": Action.REJECT,
        "document.file": Action.REJECT,
        "document.text": Action.TRANSLATE,
        "document.content": Action.TRANSLATE,
    },
    tools={
        "custom": Action.TRANSLATE,
        "bash": Action.TRANSLATE,
        "text_editor": Action.TRANSLATE,
        "memory": Action.TRANSLATE,
        "web_search": Action.REJECT,  # unless the backend has a search of its own
        "tool_search_tool_bm25": Action.WARN,  # all deferred tools are sent instead
        "tool_search_tool_regex": Action.WARN,
        "advisor": Action.REJECT,
        "browser_toolset": Action.REJECT,
        "code_execution": Action.REJECT,
        "computer": Action.REJECT,
        "computer_toolset": Action.REJECT,
        "mcp_toolset": Action.REJECT,
        "web_fetch": Action.REJECT,
    },
    tool_fields={
        "strict": Action.WARN,
        "input_examples": Action.WARN,
        "eager_input_streaming": Action.WARN,
        "max_characters": Action.WARN,
        "user_location": Action.WARN,
        "response_inclusion": Action.WARN,
    },
)


def tool_family(tool_type: str) -> str:
    """Return ``bash`` of ``bash_20250124``: the word that :attr:`FieldPolicy.tools` has."""
    return re.sub(r"_\d{8}$", "", tool_type)


def dropped(what: str) -> str:
    """Return a warning that *what* was dropped."""
    return f"{what}: dropped, for the model that serves this request cannot be told of it"


def not_carried(place: str, what: str) -> str:
    """Return the refusal of *what*, at *place*."""
    return f"{place}: {what} is not supported by the model that serves this request"
