"""A conversation as the body of ``Converse`` or ``ConverseStream``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.errors import Unsupported
from claudeproxyd.steps import at_once
from claudeproxyd.translate.conversation import ToolUse
from claudeproxyd.translate.converse.contents import CACHE_POINT, Block, ConverseWriter
from claudeproxyd.translate.converse.models import ConverseCapabilities, capabilities_of, nested
from claudeproxyd.translate.converse.thinking import reasoning_fields, reasons_unasked
from claudeproxyd.translate.converse.tools import tool_config
from claudeproxyd.translate.field_policy import dropped, not_carried
from claudeproxyd.translate.names import ToolNames
from claudeproxyd.translate.prepared import TranslatedRequest, expected
from claudeproxyd.translate.thinking import effective_thinking, with_room

if TYPE_CHECKING:
    from collections.abc import Set

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Conversation, Thinking

#: ``cachePoint`` of one request: the last ones, which stand for all before them.
_MAX_CACHE_POINTS = 4

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ConverseTerms:
    """The options of a translation: the model, and what the route says."""

    model: str
    """The upstream's id of it, a profile's, or an ARN."""
    max_output_tokens: int | None = None
    """The route's limit; None: the model's own, where it is known."""
    own_thinking: bool = False
    """Of a client that does not speak of thinking the model does as it likes; else it reasons as little as it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConverseRequest(TranslatedRequest):
    """A request to ``Converse`` and ``ConverseStream``. Made by :func:`translate`."""

    streams: bool
    """False: with its tools this model refuses to stream. Its answer is to be asked for whole, whatever the client
    wants; the reader of streams takes it."""
    capabilities: ConverseCapabilities
    calls: Set[str]
    """The ids of all calls so far, as clients have them."""


def translate(conversation: Conversation, terms: ConverseTerms) -> ConverseRequest:
    """Return the request that says *conversation* to a model. Raises :class:`Unsupported` for what it cannot be
    told.

    A conversation without ``max_tokens``, which is to be counted only, may end in a prefill.
    """
    return at_once(translation(conversation, terms))


def translation(conversation: Conversation, terms: ConverseTerms) -> Steps[ConverseRequest]:
    """:func:`translate` in steps; the longest is the encoding."""
    if conversation.is_prefilled and conversation.max_tokens is not None:
        raise Unsupported("This model does not support assistant message prefill")
    capabilities = capabilities_of(terms.model)
    warnings = list(conversation.warnings)
    names = ToolNames(64, "A-Za-z0-9_-")
    config, words = yield from tool_config(conversation, capabilities, names, warnings)
    writer = ConverseWriter(capabilities, names, ToolNames(64, "A-Za-z0-9_.:-"))
    system = _system(conversation, capabilities)
    said_by_user = () if capabilities.system else conversation.system
    messages = yield from writer.write(conversation.turns, said_by_user, words)
    _limit_cache_points([system, *(message["content"] for message in messages)])
    body: dict[str, object] = {"messages": messages}
    if system:
        body["system"] = system
    if config is not None:
        body["toolConfig"] = config
    thinking = conversation.thinking if terms.own_thinking else effective_thinking(conversation.thinking, warnings)
    if inference := _inference_config(conversation, thinking, capabilities, terms, warnings):
        body["inferenceConfig"] = inference
    fields = reasoning_fields(thinking, capabilities, warnings) | _top_k(conversation.top_k, capabilities, warnings)
    if fields:
        body["additionalModelRequestFields"] = fields
    if conversation.output_schema is not None:
        body["outputConfig"] = _output_config(conversation.output_schema, capabilities)
    yield
    return ConverseRequest(
        body=_encode(body),
        names=names,
        warnings=warnings,
        streams=config is None or capabilities.streams_tools,
        capabilities=capabilities,
        calls={part.id for turn in conversation.turns for part in turn.parts if isinstance(part, ToolUse)},
        **expected(conversation),
    )


def _system(conversation: Conversation, capabilities: ConverseCapabilities) -> list[Block]:
    system: list[Block] = []
    if not capabilities.system:
        return system
    for place, text in enumerate(conversation.system):
        if text.strip():
            system.append({"text": text})
            if capabilities.cache and place in conversation.cached_system:
                system.append(CACHE_POINT)
    return system


def _limit_cache_points(places: list[list[Block]]) -> None:
    """Take away all cache points but the last ones."""
    left = _MAX_CACHE_POINTS
    for content in reversed(places):
        for at in range(len(content) - 1, -1, -1):
            if content[at] is CACHE_POINT:
                left -= 1
                if left < 0:
                    del content[at]


# How the answer is to be made.


def _inference_config(
    conversation: Conversation,
    thinking: Thinking,
    capabilities: ConverseCapabilities,
    terms: ConverseTerms,
    warnings: list[str],
) -> dict[str, object]:
    config: dict[str, object] = {}
    limit = capabilities.max_output_tokens if terms.max_output_tokens is None else terms.max_output_tokens
    if conversation.max_tokens is not None:
        most = with_room(conversation.max_tokens, unasked=reasons_unasked(thinking, capabilities))
        most = max(most, capabilities.least_output_tokens)
        config["maxTokens"] = most if limit is None else min(most, limit)
    for name, member, value in (
        ("temperature", "temperature", conversation.temperature),
        ("top_p", "topP", conversation.top_p),
    ):
        if value is None:
            continue
        if capabilities.sampling:
            config[member] = value
        else:
            warnings.append(dropped(name))
    return config


def _top_k(wanted: int | None, capabilities: ConverseCapabilities, warnings: list[str]) -> dict[str, object]:
    if wanted is None:
        return {}
    if not capabilities.top_k:
        warnings.append(dropped("top_k"))
        return {}
    return nested(capabilities.top_k, min(wanted, capabilities.most_top_k))


def _output_config(schema: msgspec.Raw, capabilities: ConverseCapabilities) -> dict[str, object]:
    if not capabilities.json_schema:
        raise Unsupported(not_carried("output_config.format", "a JSON schema"))
    definition = {"schema": bytes(schema).decode()}
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": definition}}}
