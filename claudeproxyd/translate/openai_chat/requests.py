"""A conversation as the body of ``/chat/completions``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.errors import Unsupported
from claudeproxyd.steps import at_once
from claudeproxyd.translate.field_policy import dropped
from claudeproxyd.translate.names import ToolNames
from claudeproxyd.translate.openai.schemas import parameters
from claudeproxyd.translate.openai.words import safety_identifier
from claudeproxyd.translate.openai_chat.dialects import Overrides, dialect_of
from claudeproxyd.translate.openai_chat.messages import MessageWriter
from claudeproxyd.translate.openai_chat.thinking import plan_thinking
from claudeproxyd.translate.prepared import TranslatedRequest, expected
from claudeproxyd.translate.thinking import with_room

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Conversation, Tool
    from claudeproxyd.translate.openai_chat.dialects import Dialect
    from claudeproxyd.translate.signatures import ConversationDigest, Signatures

_encode = msgspec.json.Encoder().encode

#: How a schema is told to a model that cannot be held to it.
SCHEMA_WORDS = "Answer with nothing but one JSON object that follows this JSON Schema:"


@dataclass(frozen=True, slots=True)
class ChatTerms:
    """The options of a translation: the server, the model, the limits, and what the operator has set."""

    server: str
    """One of :data:`~claudeproxyd.translate.openai_chat.dialects.SERVERS`, or ''."""
    model: str
    """The upstream's name of it."""
    max_output_tokens: int | None = None
    """The route's limit; None: the model's own, where it is known."""
    overrides: Overrides = field(default_factory=Overrides)
    url_sources: Sequence[str] = ()
    """Hosts that clients may name in URLs, beside public ones."""
    own_thinking: bool = False
    """Of a client that does not speak of thinking the model does as it likes; else it thinks as little as it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(TranslatedRequest):
    """A request to ``/chat/completions``. Made by :func:`translate`."""

    dialect: Dialect
    calls: Collection[str]
    """The ids of all calls of the conversation, as the client has them."""
    digest: ConversationDigest
    """Of the conversation, for what the answer is remembered by."""

    @property
    def streamed_body(self) -> bytes:
        """The same for an answer that is streamed."""
        if self.dialect.has("stream_options"):
            return b'%b,"stream":true,"stream_options":{"include_usage":true}}' % self.body[:-1]
        return b'%b,"stream":true}' % self.body[:-1]


def translate(conversation: Conversation, terms: ChatTerms, memory: Signatures) -> ChatRequest:
    """Return the request that says *conversation* to a server. Raises :class:`Unsupported` for what it cannot be told.

    *memory* has the reasoning that came with calls.
    """
    return at_once(translation(conversation, terms, memory))


def translation(conversation: Conversation, terms: ChatTerms, memory: Signatures) -> Steps[ChatRequest]:
    """:func:`translate` in steps; the longest is the encoding."""
    if conversation.is_prefilled and conversation.max_tokens is not None:
        raise Unsupported("This model does not support assistant message prefill")
    dialect = dialect_of(terms.server, terms.model, terms.overrides)
    warnings = list(conversation.warnings)
    names = ToolNames()
    choice = _tool_choice(conversation, dialect, names, warnings)
    offered = conversation.tools if choice != "none" or dialect.has("tool_choice_none") else []
    forced = choice not in ("auto", "none")
    thinking = plan_thinking(
        conversation.thinking, dialect, warnings, own=terms.own_thinking, tools=bool(offered), forced=forced
    )
    body: dict[str, object] = {"model": terms.model}
    system = list(conversation.system)
    answer_format = _response_format(conversation, dialect, system, warnings)
    writer = MessageWriter(dialect, names, memory.lookup, thinks=thinking.thinks, places=terms.url_sources)
    body["messages"] = yield from writer.write(system, conversation.turns)
    if offered:
        body["tools"] = yield from _tools(offered, names)
        if choice != "auto":
            body["tool_choice"] = choice
        if not conversation.tool_choice.parallel:
            if dialect.has("parallel_tool_calls"):
                body["parallel_tool_calls"] = False
            else:
                warnings.append("tool_choice.disable_parallel_tool_use: this model may call several tools at once")
    limit = dialect.max_output if terms.max_output_tokens is None else terms.max_output_tokens
    if (max_tokens := conversation.max_tokens) is not None:
        max_tokens = with_room(max_tokens, unasked=thinking.unasked)
        body[dialect.max_tokens] = max_tokens if limit is None else min(max_tokens, limit)
    _add_sampling(body, conversation, dialect, warnings)
    body |= thinking.members
    if answer_format is not None:
        body["response_format"] = answer_format
    if conversation.user_id and dialect.has("safety_identifier"):
        body["safety_identifier"] = safety_identifier(conversation.user_id)
    body |= dialect.members
    yield
    return ChatRequest(
        body=_encode(body),
        names=names,
        warnings=warnings,
        dialect=dialect,
        calls=writer.calls,
        digest=writer.digest,
        **expected(conversation),
    )


def _tools(tools: Sequence[Tool], names: ToolNames) -> Steps[list[dict[str, object]]]:
    made: list[dict[str, object]] = []
    for tool in tools:
        function: dict[str, object] = {"name": names.upstream(tool.name)}
        if tool.description:
            function["description"] = tool.description
        function["parameters"] = parameters(tool.schema)
        made.append({"type": "function", "function": function})
        yield
    return made


def _tool_choice(
    conversation: Conversation, dialect: Dialect, names: ToolNames, warnings: list[str]
) -> str | dict[str, object]:
    """Return ``tool_choice``; ``auto`` need not be said."""
    choice = conversation.tool_choice
    if choice.kind in ("any", "tool") and not dialect.has("tool_choice"):
        warnings.append("tool_choice: this model cannot be made to call a tool")
        return "auto"
    match choice.kind:
        case "any":
            return "required"
        case "tool":
            return {"type": "function", "function": {"name": names.upstream(choice.name)}}
        case kind:
            return kind


def _response_format(
    conversation: Conversation, dialect: Dialect, system: list[str], warnings: list[str]
) -> dict[str, object] | None:
    """Return ``response_format``; where a server knows none with a schema, *system* gets the schema in words."""
    schema = conversation.output_schema
    if schema is None:
        return None
    if dialect.has("json_schema"):
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": False}}
    warnings.append("output_config.format: this model is told of the schema, and not held to it")
    system.append(f"{SCHEMA_WORDS}\n{bytes(schema).decode()}")
    return {"type": "json_object"} if dialect.has("json_object") else None


def _add_sampling(body: dict[str, object], conversation: Conversation, dialect: Dialect, warnings: list[str]) -> None:
    for name, value in (
        ("temperature", conversation.temperature),
        ("top_p", conversation.top_p),
        ("top_k", conversation.top_k),
    ):
        if value is None:
            continue
        if dialect.has(name):
            body[name] = value
        else:
            warnings.append(dropped(name))
    if conversation.stop_sequences and dialect.has("stop"):
        body["stop"] = conversation.stop_sequences
