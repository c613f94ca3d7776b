"""A conversation as the body of ``generateContent``, ``streamGenerateContent`` or ``countTokens``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from claudeproxyd.errors import Unsupported
from claudeproxyd.steps import at_once
from claudeproxyd.translate.field_policy import not_carried
from claudeproxyd.translate.gemini.contents import ContentWriter
from claudeproxyd.translate.gemini.models import capabilities_of
from claudeproxyd.translate.gemini.schemas import json_schema, parameters
from claudeproxyd.translate.gemini.thinking import thinking_config, thinks_unasked
from claudeproxyd.translate.names import ToolNames
from claudeproxyd.translate.prepared import TranslatedRequest, expected
from claudeproxyd.translate.signatures import ConversationDigest
from claudeproxyd.translate.thinking import effective_thinking, with_room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Conversation, Tool, WebSearch
    from claudeproxyd.translate.gemini.models import ModelCapabilities
    from claudeproxyd.translate.signatures import Signatures

#: Google's word for it that searches and functions see each other's past.
_CIRCULATES = "includeServerSideToolInvocations"
_COUNTED_ON_VERTEX = ("contents", "systemInstruction", "tools", "generationConfig")

_encode = msgspec.json.Encoder().encode
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Terms:
    """The options of a translation: the model, the limits, and what the operator has set."""

    model: str
    """The upstream's name of it."""
    max_output_tokens: int | None
    """The route's limit; None: the model's own, where it is known."""
    on_vertex: bool
    """Vertex AI's form of the API, not the Gemini Developer API's."""
    safety_settings: Sequence[tuple[str, str]] = ()
    """Category, threshold; (): the API's own."""
    url_sources: Sequence[str] = ()
    """Buckets and hosts that clients may name, beside public ones."""
    own_thinking: bool = False
    """Of a client that does not speak of thinking the model does as it likes; else it thinks as little as it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiRequest(TranslatedRequest):
    """A request to ``generateContent`` and ``streamGenerateContent``. Made by :func:`translate`."""

    digest: ConversationDigest
    """All that the answer answers."""
    terms: Terms

    @property
    def count_body(self) -> bytes:
        """For ``countTokens``; made when asked for."""
        if self.terms.on_vertex:
            members = _split(self.body)
            return _encode({name: members[name] for name in _COUNTED_ON_VERTEX if name in members})
        model = self.terms.model
        name = _encode(model if "/" in model else f"models/{model}")
        return b'{"generateContentRequest":{"model":%b,%b}' % (name, self.body[1:])


def translate(conversation: Conversation, terms: Terms, signatures: Signatures) -> GeminiRequest:
    """Return the request that says *conversation* to Google. Raises :class:`Unsupported` for what it cannot be told.

    A conversation without ``max_tokens``, which is to be counted only, may end in a prefill.
    """
    return at_once(translation(conversation, terms, signatures))


def translation(conversation: Conversation, terms: Terms, signatures: Signatures) -> Steps[GeminiRequest]:
    """:func:`translate` in steps; the longest are the digest of a large text and the encoding."""
    if conversation.is_prefilled and conversation.max_tokens is not None:
        raise Unsupported("This model does not support assistant message prefill")
    capabilities = capabilities_of(terms.model)
    warnings = list(conversation.warnings)
    names = ToolNames(64, "A-Za-z0-9_.:-", "A-Za-z_")
    body: dict[str, Any] = {}
    system = [{"text": text} for text in conversation.system]
    if system and capabilities.system_instruction:
        body["systemInstruction"] = {"parts": system}
    yield from _add_tools(body, conversation, capabilities, terms, names, warnings)
    digest = ConversationDigest(conversation.system)
    circulates = _CIRCULATES in body.get("toolConfig", ())
    writer = ContentWriter(
        capabilities, terms.on_vertex, names, signatures, circulates=circulates, places=terms.url_sources
    )
    contents = body["contents"] = yield from writer.write(conversation.turns, digest)
    if not capabilities.system_instruction:
        contents[0]["parts"][:0] = system
    if config := _generation_config(conversation, capabilities, terms, warnings):
        body["generationConfig"] = config
    if terms.safety_settings:
        body["safetySettings"] = [
            {"category": category, "threshold": threshold} for category, threshold in terms.safety_settings
        ]
    yield
    return GeminiRequest(
        body=_encode(body),
        names=names,
        warnings=warnings,
        digest=digest,
        terms=terms,
        **expected(conversation),
    )


# Tools.


def _add_tools(
    body: dict[str, object],
    conversation: Conversation,
    capabilities: ModelCapabilities,
    terms: Terms,
    names: ToolNames,
    warnings: list[str],
) -> Steps[None]:
    """``tools`` and ``toolConfig``."""
    choice = conversation.tool_choice
    search = conversation.web_search if choice.kind != "none" else None
    tools: list[dict[str, object]] = []
    config: dict[str, object] = {}
    if conversation.tools:
        declarations = []
        for tool in conversation.tools:
            declarations.append(_declaration(tool, capabilities, names))
            yield
        tools.append({"functionDeclarations": declarations})
        if not choice.parallel:
            warnings.append("tool_choice.disable_parallel_tool_use: this model may call several tools at once")
    if search is not None:
        if conversation.tools and not capabilities.search_with_functions:
            raise Unsupported(not_carried("tools", "web_search together with other tools"))
        tools.append({"googleSearch": _google_search(search, terms.on_vertex, warnings)})
        if conversation.tools and not terms.on_vertex:
            config[_CIRCULATES] = True
    if tools and conversation.output_schema is not None and not capabilities.schema_with_tools:
        raise Unsupported(not_carried("output_config.format", "a JSON schema together with tools"))
    if search is not None and (choice.name == search.name or (choice.kind == "any" and not conversation.tools)):
        warnings.append("tool_choice: this model cannot be made to search the web")
    elif conversation.tools and choice.kind != "auto":
        calling: dict[str, object] = {"mode": "NONE" if choice.kind == "none" else "ANY"}
        if choice.kind == "tool":
            calling["allowedFunctionNames"] = [names.upstream(choice.name)]
        config["functionCallingConfig"] = calling
    if tools:
        body["tools"] = tools
    if config:
        body["toolConfig"] = config


def _declaration(tool: Tool, capabilities: ModelCapabilities, names: ToolNames) -> dict[str, object]:
    declaration: dict[str, object] = {"name": names.upstream(tool.name)}
    if tool.description:
        declaration["description"] = tool.description
    if capabilities.json_schema:
        declaration["parametersJsonSchema"] = json_schema(tool.schema)
    elif (schema := parameters(tool.schema)) is not None:
        declaration["parameters"] = schema
    return declaration


def _google_search(search: WebSearch, on_vertex: bool, warnings: list[str]) -> dict[str, object]:
    if search.allowed_domains:
        warnings.append("web_search.allowed_domains: this model searches the whole web")
    if search.max_uses is not None:
        warnings.append("web_search.max_uses: this model searches as often as it likes")
    if not search.blocked_domains:
        return {}
    if on_vertex:
        return {"excludeDomains": search.blocked_domains}
    warnings.append("web_search.blocked_domains: this model searches the whole web")
    return {}


# How the answer is to be made.


def _generation_config(
    conversation: Conversation, capabilities: ModelCapabilities, terms: Terms, warnings: list[str]
) -> dict[str, object]:
    thinking = conversation.thinking if terms.own_thinking else effective_thinking(conversation.thinking, warnings)
    limit = capabilities.output_limit(terms.on_vertex) if terms.max_output_tokens is None else terms.max_output_tokens
    max_tokens = conversation.max_tokens
    if max_tokens is not None:
        max_tokens = with_room(max_tokens, unasked=thinks_unasked(thinking, capabilities))
        if limit is not None:
            max_tokens = min(max_tokens, limit)
    config: dict[str, object] = {
        "maxOutputTokens": max_tokens,
        "temperature": conversation.temperature,
        "topP": conversation.top_p,
        "topK": _top_k(conversation.top_k, capabilities),
        "thinkingConfig": thinking_config(thinking, capabilities, max_tokens, warnings),
    }
    if conversation.output_schema is not None:
        config["responseMimeType"] = "application/json"
        if capabilities.json_schema:
            config["responseJsonSchema"] = json_schema(conversation.output_schema)
        else:
            config["responseSchema"] = parameters(conversation.output_schema)
    return {name: value for name, value in config.items() if value is not None}


def _top_k(wanted: int | None, capabilities: ModelCapabilities) -> int | None:
    if wanted is None or capabilities.most_top_k is None:
        return wanted
    return max(1, min(wanted, capabilities.most_top_k))
