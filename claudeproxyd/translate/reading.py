"""A request's body into a :class:`~claudeproxyd.translate.conversation.Conversation`, for every translator alike."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.errors import Unsupported
from claudeproxyd.messages.loose import half_in
from claudeproxyd.steps import at_once
from claudeproxyd.translate.content import system_text
from claudeproxyd.translate.conversation import Conversation, Text, Thinking
from claudeproxyd.translate.field_policy import Action, dropped, not_carried
from claudeproxyd.translate.history import History
from claudeproxyd.translate.tools import Toolbox
from claudeproxyd.translate.turns import take_turns
from claudeproxyd.translate.wire import (
    Found,
    MediaSource,
    decode_members,
    decode_request,
    is_marked,
    misfit,
    require_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.field_policy import FieldPolicy
    from claudeproxyd.translate.wire import ContentBlock, Request

#: Versions of the API that refuse what 2023-06-01 still takes.
_STRICTER_VERSIONS = frozenset({"2026-10-21"})
#: How the system text begins that Claude Code writes for Anthropic's accounts alone.
_BILLING_PREFIX = "x-anthropic-billing-header:"
#: Characters of a refusal or a warning: both quote the client, whose names may have megabytes.
_MAX_MESSAGE_CHARS = 2000
_MAX_WARNINGS = 50
#: All that look like one are counted, before memory is spent on them; what models can read at once has fewer.
_MAX_OBJECTS = 1_000_000
#: The API takes as many messages; here the content blocks count as well, and system's: each costs time to read.
_MAX_BLOCKS = 100_000
#: As many as the API searches among.
_MAX_TOOLS = 10_000
#: Of all schemas together, which other backends get rewritten.
_MAX_SCHEMA_BYTES = 1_048_576
#: Each is looked for in every piece of the answer.
_MAX_STOP_SEQUENCES = 100
#: Of all of them together.
_MAX_STOP_CHARS = 16_384
#: Of the request itself, which has some twenty.
_MAX_MEMBERS = 1_000
_ABSENT = (b"null", b"[]", b"{}")


def read_conversation(body: bytes, *, family: str, policy: FieldPolicy, version: str = "2023-06-01") -> Conversation:
    """Return what a /v1/messages or count_tokens *body* amounts to. Called once for each backend family that is asked.

    *family* is the one whose minted signatures are taken back, *policy* says what its backends can be told, *version*
    is the client's anthropic-version.
    Raises :class:`Unsupported` for what the API itself would refuse, in its words, and for what
    *policy* rejects. Schemas and tool inputs are views into *body*.
    """
    return at_once(reading(body, family=family, policy=policy, version=version))


def reading(body: bytes, *, family: str, policy: FieldPolicy, version: str = "2023-06-01") -> Steps[Conversation]:
    """:func:`read_conversation` in steps; the longest is the decoding."""
    try:
        return (yield from _read(body, family, policy, version in _STRICTER_VERSIONS))
    except msgspec.ValidationError as e:
        raise misfit(e) from None
    except (msgspec.DecodeError, UnicodeError) as e:
        raise Unsupported(f"The request body is not valid JSON: {half_in(body) or e}") from None
    except RecursionError:
        raise Unsupported("The request body is nested too deeply") from None
    except Unsupported as e:
        raise Unsupported(str(e)[:_MAX_MESSAGE_CHARS]) from None


def _read(body: bytes, family: str, policy: FieldPolicy, strict: bool) -> Steps[Conversation]:
    if not body.isascii():
        body.decode()  # what is passed on as it came must be text at least
    if body.count(b"{") > _MAX_OBJECTS:
        raise Unsupported(f"The request body has more than {_MAX_OBJECTS:,} objects")
    warnings: list[str] = []
    _apply_to_fields(policy, body, warnings)
    yield
    request = decode_request(body)
    yield
    _check_size(request)
    yield
    if request.thread is not None and request.thread.type == "continue":
        raise Unsupported(not_carried("thread", "a conversation that lies elsewhere"))
    _check_sampling(request, strict=strict)
    toolbox = Toolbox(policy, warnings)
    yield from toolbox.fill(request.tools or ())
    yield
    history = History(body, family, policy, strict=strict, toolbox=toolbox, warnings=warnings)
    yield from history.read(request.messages)
    turns = yield from take_turns(history.messages)
    choice = toolbox.chosen(request.tool_choice)  # which may offer another tool
    tools, output_schema = toolbox.functions, _output_schema(request)
    _check_schemas([*(tool.schema for tool in tools), output_schema or b""])
    system, cached_system = _system(request.system)
    if is_marked(request) and isinstance(last := turns[-1].parts[-1], Text):
        last.cached = True
    return Conversation(
        system=system,
        cached_system=cached_system,
        turns=turns,
        tool_choice=choice,
        tools=tools,
        web_search=toolbox.web_search,
        thinking=_thinking(request, history.effort, warnings),
        max_tokens=request.max_tokens,
        stop_sequences=request.stop_sequences or [],
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        output_schema=output_schema,
        user_id=(request.metadata.user_id if request.metadata else None) or "",
        warnings=[warning[:_MAX_MESSAGE_CHARS] for warning in islice(dict.fromkeys(warnings), _MAX_WARNINGS)],
    )


def _apply_to_fields(policy: FieldPolicy, body: bytes, warnings: list[str]) -> None:
    """Reject and warn of members as *policy* says."""
    members = decode_members(body)
    if len(members) > _MAX_MEMBERS:
        raise Unsupported(f"The request body has more than {_MAX_MEMBERS:,} members")
    for name, value in members.items():
        action = policy.fields.get(name, Action.WARN)
        if action is Action.TRANSLATE or action is Action.DROP or bytes(memoryview(value)[:5]) in _ABSENT:
            continue
        if action is Action.REJECT:
            raise Unsupported(not_carried(name, f"`{name}`"))
        warnings.append(dropped(name))


def _check_size(request: Request) -> None:
    count = _blocks_in(request.system) + sum(1 + _blocks_in(message.content) for message in request.messages)
    if len(request.tools or ()) > _MAX_TOOLS:
        raise Unsupported(f"tools: there is a limit of {_MAX_TOOLS:,} tools")
    if count > _MAX_BLOCKS:
        raise Unsupported(f"messages: there is a limit of {_MAX_BLOCKS:,} messages and content blocks")


def _blocks_in(content: object) -> int:
    """Return the number of blocks, with those within them, and what they cite or offer."""
    if not isinstance(content, list):
        return 0
    count = len(content)
    for block in content:
        if block.content is not None:
            count += _blocks_in(block.content)
            if isinstance(block.content, Found):
                count += len(block.content.tool_references or ())
        if isinstance(block.source, MediaSource):
            count += _blocks_in(block.source.content)
        if isinstance(block.citations, list):
            count += len(block.citations)
        if block.tool_changes:
            count += len(block.tool_changes)
    return count


def _check_schemas(schemas: Iterable[msgspec.Raw | bytes]) -> None:
    if sum(len(memoryview(schema)) for schema in schemas) > _MAX_SCHEMA_BYTES:
        raise Unsupported(f"tools: their schemas have more than {_MAX_SCHEMA_BYTES:,} bytes together")


def _check_sampling(request: Request, *, strict: bool) -> None:
    for name, value, most in (
        ("max_tokens", request.max_tokens, None),
        ("temperature", request.temperature, 1),
        ("top_p", request.top_p, 1),
        ("top_k", request.top_k, None),
    ):
        if value is None:
            continue
        if strict and name != "max_tokens":
            raise Unsupported(f"{name}: Extra inputs are not permitted")
        if value < 0:
            raise Unsupported(f"{name}: Input should be greater than or equal to 0")
        if most is not None and value > most:
            raise Unsupported(f"{name}: Input should be less than or equal to {most}")
    if request.stop_sequences and len(request.stop_sequences) > _MAX_STOP_SEQUENCES:
        raise Unsupported(f"stop_sequences: List should have at most {_MAX_STOP_SEQUENCES} items")
    if sum(map(len, request.stop_sequences or ())) > _MAX_STOP_CHARS:
        raise Unsupported(f"stop_sequences: they should have at most {_MAX_STOP_CHARS:,} characters together")
    for index, stop in enumerate(request.stop_sequences or ()):
        if not stop.strip():
            raise Unsupported(f"stop_sequences.{index}: each stop sequence must contain non-whitespace")


def _system(system: str | list[ContentBlock] | None) -> tuple[list[str], list[int]]:
    """Return the texts of the prefix, and the places of those that bear a cache mark."""
    if isinstance(system, str):
        texts = [(system, False)]
    else:
        texts = [(system_text(block, f"system.{index}"), is_marked(block)) for index, block in enumerate(system or ())]
    told = [(text, cached) for text, cached in texts if text and not text.startswith(_BILLING_PREFIX)]
    return [text for text, _ in told], [place for place, (_, cached) in enumerate(told) if cached]


def _thinking(request: Request, effort: str, warnings: list[str]) -> Thinking:
    """Return how the client wants the model to think. *effort*: the last that the messages asked for."""
    config = request.output_config
    if config is not None and config.task_budget:
        warnings.append(dropped("output_config.task_budget"))
    thinking = Thinking(effort=effort or (config.effort if config else None) or "")
    wanted = request.thinking
    if wanted is None:
        return thinking
    thinking.shown = wanted.display != "omitted"
    match wanted.type:
        case "enabled":
            thinking.kind = "budget"
            thinking.budget = _budget(wanted.budget_tokens, request.max_tokens)
        case "disabled":
            thinking.kind = "disabled"
        case "adaptive" | "between_tools":
            thinking.kind = "adaptive"
    return thinking


def _budget(budget: int | None, max_tokens: int | None) -> int:
    """Return a budget below *max_tokens*: the API takes a larger one where thinking is interleaved."""
    if budget is None:
        raise Unsupported("thinking.enabled.budget_tokens: Field required")
    if budget < 1024:
        raise Unsupported("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    return budget if max_tokens is None else max(min(budget, max_tokens - 1), 0)


def _output_schema(request: Request) -> msgspec.Raw | None:
    wanted = (request.output_config and request.output_config.format) or request.output_format
    return require_object(wanted.schema, "output_config.format.schema") if wanted else None
