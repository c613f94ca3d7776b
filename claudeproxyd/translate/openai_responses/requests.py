"""A conversation as the body of ``/responses``, or of ``/responses/input_tokens``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.errors import Unsupported
from claudeproxyd.steps import at_once
from claudeproxyd.translate.field_policy import dropped, not_carried
from claudeproxyd.translate.names import ToolNames
from claudeproxyd.translate.openai.schemas import parameters
from claudeproxyd.translate.openai.words import safety_identifier
from claudeproxyd.translate.openai_responses.items import ItemWriter
from claudeproxyd.translate.openai_responses.models import capabilities_of
from claudeproxyd.translate.openai_responses.reasoning import effort_for
from claudeproxyd.translate.prepared import TranslatedRequest, expected
from claudeproxyd.translate.thinking import effective_thinking, with_room

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Conversation, Tool, WebSearch
    from claudeproxyd.translate.openai_responses.models import ResponsesCapabilities

#: OpenAI refuses a smaller ``max_output_tokens``; clients probe with 1.
LEAST_OUTPUT_TOKENS = 16
_SEALED = "reasoning.encrypted_content"
_SOURCES = "web_search_call.action.sources"
_COUNTED = ("model", "instructions", "input", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text")

_encode = msgspec.json.Encoder().encode
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class ResponsesTerms:
    """The options of a translation: the model, its limit, and what the operator has set."""

    model: str
    """The upstream's name of it."""
    max_output_tokens: int | None = None
    """The route's limit; None: the model's own, where it is known."""
    own_thinking: bool = False
    """Of a client that does not speak of thinking the model does as it likes; else it thinks as little as it can."""
    summary: str = "auto"
    """``reasoning.summary``; '': none is asked for."""
    like: str = ""
    """The model that it is, where its name does not say so."""
    url_sources: Sequence[str] = ()
    """Hosts that clients may name, beside public ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesRequest(TranslatedRequest):
    """A request to ``/responses``. Made by :func:`translate`."""

    call_ids: Set[str]
    """Of all calls so far, as the client knows them."""
    searches: bool
    """The model may search the web."""
    open_reasoning: bool
    """The model takes back reasoning that was not sealed."""

    @property
    def streamed_body(self) -> bytes:
        """The body that asks for a stream."""
        return self.body[:-1] + b',"stream":true}'

    @property
    def count_body(self) -> bytes:
        """For ``/responses/input_tokens``; made when asked for."""
        members = _split(self.body)
        return _encode({name: members[name] for name in _COUNTED if name in members})


def translate(conversation: Conversation, terms: ResponsesTerms) -> ResponsesRequest:
    """Return the request that says *conversation* to OpenAI. Raises :class:`Unsupported` for what it cannot be told.

    A conversation without ``max_tokens``, which is to be counted only, may end in a prefill.
    """
    return at_once(translation(conversation, terms))


def translation(conversation: Conversation, terms: ResponsesTerms) -> Steps[ResponsesRequest]:
    """:func:`translate` in steps; the longest is the encoding."""
    if conversation.is_prefilled and conversation.max_tokens is not None:
        raise Unsupported("This model does not support assistant message prefill")
    capabilities = capabilities_of(terms.like or terms.model)
    warnings = list(conversation.warnings)
    names = ToolNames(64)
    searches = conversation.web_search is not None
    writer = ItemWriter(capabilities, names, searches=searches, places=terms.url_sources)
    body: dict[str, object] = {"model": terms.model}
    if conversation.system:
        body["instructions"] = "\n\n".join(conversation.system)
    body["input"] = yield from writer.write(conversation.turns)
    yield from _add_tools(body, conversation, capabilities, names, warnings)
    _add_wishes(body, conversation, capabilities, terms, warnings)
    body["store"] = False
    yield
    return ResponsesRequest(
        body=_encode(body),
        names=names,
        warnings=warnings,
        call_ids=writer.call_ids,
        searches=searches,
        open_reasoning=capabilities.open_reasoning,
        **expected(conversation),
    )


# Tools.


def _add_tools(
    body: dict[str, object],
    conversation: Conversation,
    capabilities: ResponsesCapabilities,
    names: ToolNames,
    warnings: list[str],
) -> Steps[None]:
    """``tools``, ``tool_choice``, and how many calls there may be."""
    tools: list[dict[str, object]] = []
    for tool in conversation.tools:
        tools.append(_function(tool, names))
        yield
    search = conversation.web_search
    if search is not None:
        if not capabilities.web_search:
            raise Unsupported(not_carried("tools", "web_search"))
        tools.append(_web_search(search, warnings))
        if search.max_uses is not None:
            body["max_tool_calls"] = search.max_uses
    if not tools:
        return
    body["tools"] = tools
    choice = conversation.tool_choice
    if choice.kind == "tool":
        if search is not None and choice.name == search.name:
            body["tool_choice"] = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}
        else:
            body["tool_choice"] = {"type": "function", "name": names.upstream(choice.name)}
    elif choice.kind != "auto":
        body["tool_choice"] = {"any": "required", "none": "none"}[choice.kind]
    if not choice.parallel:
        body["parallel_tool_calls"] = False


def _function(tool: Tool, names: ToolNames) -> dict[str, object]:
    function: dict[str, object] = {"type": "function", "name": names.upstream(tool.name)}
    if tool.description:
        function["description"] = tool.description
    # Left unsaid, strict is taken for true, and every optional parameter for a mandatory one.
    return {**function, "parameters": parameters(tool.schema), "strict": False}


def _web_search(search: WebSearch, warnings: list[str]) -> dict[str, object]:
    tool: dict[str, object] = {"type": "web_search"}
    if search.allowed_domains:
        tool["filters"] = {"allowed_domains": search.allowed_domains}
    if search.blocked_domains:
        warnings.append("web_search.blocked_domains: this model searches the whole web")
    if search.user_location:
        tool["user_location"] = search.user_location
    return tool


# How the answer is to be made.


def _add_wishes(
    body: dict[str, object],
    conversation: Conversation,
    capabilities: ResponsesCapabilities,
    terms: ResponsesTerms,
    warnings: list[str],
) -> None:
    """The reasoning, the limits, the sampling, the schema, and who asks."""
    said = conversation.thinking
    thinking = said if terms.own_thinking else effective_thinking(said, warnings)
    searches = conversation.web_search is not None
    effort = effort_for(thinking, capabilities, searches=searches, warnings=warnings)
    thinks = said.kind in ("budget", "adaptive")
    include = [_SOURCES] if searches else []
    reasoning = {"effort": effort} if effort else {}
    if thinks and capabilities.sealed:
        include.append(_SEALED)
        if said.shown and capabilities.summarized and terms.summary:
            reasoning["summary"] = terms.summary
    if include:
        body["include"] = include
    if reasoning:
        body["reasoning"] = reasoning
    if (max_tokens := conversation.max_tokens) is not None:
        limit = capabilities.max_output_tokens if terms.max_output_tokens is None else terms.max_output_tokens
        unasked = thinking.kind == "disabled" and effort not in (None, "none")
        wanted = max(with_room(max_tokens, unasked=unasked), LEAST_OUTPUT_TOKENS)
        body["max_output_tokens"] = wanted if limit is None else min(wanted, limit)
    for name, value in (("temperature", conversation.temperature), ("top_p", conversation.top_p)):
        if value is None:
            continue
        if capabilities.sampling:
            body[name] = value
        elif value != 1:  # that is what it does anyway
            warnings.append(dropped(name))
    if conversation.top_k is not None:
        warnings.append(dropped("top_k"))
    if conversation.output_schema is not None:
        schema = parameters(conversation.output_schema)
        body["text"] = {"format": {"type": "json_schema", "name": "output", "schema": schema, "strict": False}}
    if conversation.user_id:
        body["safety_identifier"] = safety_identifier(conversation.user_id)
