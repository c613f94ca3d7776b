"""A Messages request as InvokeModel takes it: the client's own bytes, but for what Bedrock refuses. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import msgspec
from zope.interface import implementer

from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.bedrock.dialect import (
    BETAS,
    CACHE_FIELDS,
    CARRIED_ELSEWHERE,
    FIELDS,
    IDLE_BETAS,
    IDLE_FIELDS,
    MESSAGE_FIELDS,
    TOOL_FIELDS,
    TOOL_SEARCH,
    TOOLS,
    Beta,
)
from claudeproxyd.interfaces import IPrepared
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.members import span, spans, without_members
from claudeproxyd.messages.minted import without_minted
from claudeproxyd.messages.search import find, holds
from claudeproxyd.messages.splicing import Splice, spliced, without_elements
from claudeproxyd.messages.system_turns import takes_system_messages, without_system_messages
from claudeproxyd.messages.threads import continues_thread
from claudeproxyd.translate.field_policy import dropped, not_carried, tool_family

#: Names in one request that are warned about, and characters of each: clients choose them.
_MAX_WARNINGS = 20
_MAX_NAME_CHARS = 100
#: Blocks within one another that are looked into: a result's, and what those hold. The API knows no deeper ones.
_MAX_DEPTH = 2

_CACHE = b'"cache_control"'
#: One as it should be; nearly all are.
_PLAIN_CACHE = re.compile(
    rb'"cache_control"\s*:\s*(?:null|\{\s*"type"\s*:\s*"ephemeral"\s*(?:,\s*"ttl"\s*:\s*"[0-9a-z]*"\s*)?\})'
)
_EMPTY = (b"null", b"[]", b"{}")


class _Tool(msgspec.Struct):
    type: str | None = None


class _Effort(msgspec.Struct):
    effort: str | None = None


class _Request(msgspec.Struct):
    messages: list[msgspec.Raw]


class _Message(msgspec.Struct):
    role: str = ""
    content: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    output_config: _Effort | None = None


class _PlainMessage(msgspec.Struct, forbid_unknown_fields=True):
    role: msgspec.Raw
    content: msgspec.Raw


class _Block(msgspec.Struct):
    type: str = ""
    content: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    cache_control: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    tool_name: str = ""


class _Thinking(msgspec.Struct):
    budget_tokens: int | None = None


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_plain = msgspec.json.Decoder(list[_PlainMessage]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_tool = msgspec.json.Decoder(_Tool).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_block = msgspec.json.Decoder(_Block).decode
_decode_thinking = msgspec.json.Decoder(_Thinking).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What an operator has changed of the lists, and how the request is asked for."""

    add_betas: Sequence[str] = ()
    drop_betas: Collection[str] = ()
    drop_fields: Collection[str] = ()
    counts: bool = False
    """The request is to be counted: it may lack what an answer needs."""


@implementer(IPrepared)
@dataclass(frozen=True, slots=True)
class InvokeModelRequest:
    """A request as it goes up."""

    body: bytes
    warnings: Sequence[str] = field(default=())


def invoke_model_request(
    body: bytes, model: str, version: str, betas: Sequence[str], allowed: Allowed
) -> InvokeModelRequest:
    """Return a Messages or count_tokens body for a model, by the API's name of it. Raises Unsupported.

    *version*: as Bedrock calls it. *betas*: those that the client asked for.
    """
    if continues_thread(body):
        raise Unsupported("thread: Bedrock keeps no conversations")
    body = without_minted(body)
    if not takes_system_messages(model):
        body = without_system_messages(body)
    try:
        members, effort = _decode_members(body), ""
        if not _are_plain(members["messages"]):
            body, effort = _with_plain_messages(body)
            members = _decode_members(body)
        sent = _sent_betas(members, model, betas, allowed)
        parts = _Body(body, members, frozenset(sent), _is_plain(body))
        return _request(parts, version, sent, betas, allowed, effort)
    except UNREADABLE:  # of a shape that the API would refuse as well: in Bedrock's words
        return InvokeModelRequest(_with_members(without_members(body, IDLE_FIELDS), {"anthropic_version": version}))


@dataclass(frozen=True, slots=True)
class _Body:
    """A body that was taken apart, and the betas that go up with it."""

    data: bytes
    members: Mapping[str, msgspec.Raw]
    betas: frozenset[str]
    is_plain: bool
    """Each ``cache_control`` is as Bedrock takes it."""


def _request(
    body: _Body, version: str, sent: Sequence[str], asked: Sequence[str], allowed: Allowed, effort: str
) -> InvokeModelRequest:
    members = body.members
    warnings: list[str] = [*_lost_betas(asked, allowed)]
    gone = set(allowed.drop_fields)
    for name, raw in members.items():
        if name in gone or _goes_up(FIELDS.get(name), body.betas):
            continue
        gone.add(name)
        if name in IDLE_FIELDS or bytes(raw) in _EMPTY:
            continue
        if name in CARRIED_ELSEWHERE:
            raise Unsupported(not_carried(name, "it"))
        warnings.append(dropped(name[:_MAX_NAME_CHARS]))
    if "tools" in members and bytes(members["tools"]) in _EMPTY:
        gone.add("tools")
    added: dict[str, object] = {"anthropic_version": version}
    if sent:
        added["anthropic_beta"] = sent
    splices = [*_in_tools(body), *_in_messages(body), *_in_system(body)]
    if effort:
        config = members.get("output_config")
        kept = {} if config is None or bytes(config) == b"null" else _decode_members(config)
        added["output_config"] = {**kept, "effort": effort}
        gone.add("output_config")
    if allowed.counts and "max_tokens" not in members:
        added["max_tokens"] = _enough_tokens(members.get("thinking"))
    made = without_members(spliced(body.data, sorted(splices)), gone)
    return InvokeModelRequest(_with_members(made, added), warnings[:_MAX_WARNINGS])


# -- betas


def _sent_betas(members: Mapping[str, msgspec.Raw], model: str, asked: Sequence[str], allowed: Allowed) -> list[str]:
    sent = (beta for name in asked if name not in allowed.drop_betas for beta in BETAS.get(name, ()))
    fitting = [beta.name for beta in sent if beta.name not in allowed.drop_betas and _fits(beta, members, model)]
    return list(dict.fromkeys([*fitting, *allowed.add_betas]))


def _fits(beta: Beta, members: Mapping[str, msgspec.Raw], model: str) -> bool:
    """Whether a model takes a beta, and the request makes use of it."""
    return any(fnmatchcase(model, glob) for glob in beta.models) and (
        not beta.uses or any(name in members and mark in bytes(members[name]) for name, mark in beta.uses)
    )


def _lost_betas(asked: Sequence[str], allowed: Allowed) -> Iterator[str]:
    for name in asked:
        if not (name in BETAS or name in IDLE_BETAS or name in allowed.add_betas or name in allowed.drop_betas):
            yield (
                f"anthropic-beta {name[:_MAX_NAME_CHARS]}: not sent, for Bedrock is not known to take it; betas.add"
                " sends it all the same, betas.drop ends this warning"
            )


# -- tools


def _in_tools(body: _Body) -> list[Splice]:
    """Leave out what Bedrock refuses in tools. Raises Unsupported for tools that it does not have."""
    raw = body.members.get("tools")
    if raw is None or bytes(raw) == b"null":
        return []
    tools = _decode_array(raw)
    places = spans(tools, body.data)
    splices: list[Splice] = []
    gone: set[int] = set()
    for index, (tool, (start, end)) in enumerate(zip(tools, places, strict=True)):
        members = _decode_members(tool)
        family = tool_family(_decode_tool(tool).type or "custom") if "type" in members else "custom"
        if family not in TOOLS:
            raise Unsupported(not_carried(f"tools.{index}", family[:_MAX_NAME_CHARS]))
        if family.startswith("tool_search") and TOOL_SEARCH.name not in body.betas:
            gone.add(index)  # every tool is there from the start
            continue
        others = [name for name in members if not _goes_up(TOOL_FIELDS.get(name), body.betas)]
        if not others and (body.is_plain or "cache_control" not in members):
            continue
        kept = without_members(body.data[start:end], others)
        kept = spliced(kept, _cache_control(kept, _decode_block(kept).cache_control))
        splices.append((start, end, kept))
    return splices + without_elements(places, gone)


def _goes_up(needed: Sequence[Beta] | None, betas: Collection[str]) -> bool:
    """Whether a member goes up that needs one of these; None: it is not known to be taken at all."""
    return needed is not None and (not needed or any(beta.name in betas for beta in needed))


# -- blocks


def _cache_control(within: bytes, raw: msgspec.Raw | msgspec.UnsetType) -> list[Splice]:
    """Leave what Bedrock takes of one, which was decoded out of *within*."""
    if isinstance(raw, msgspec.UnsetType) or bytes(raw) == b"null":
        return []
    start, end = span(raw, within)
    others = [name for name in _decode_members(raw) if name not in CACHE_FIELDS]
    return [(start, end, without_members(within[start:end], others))] if others else []


def _in_system(body: _Body) -> list[Splice]:
    raw = body.members.get("system")
    if raw is None or not _is_array(raw) or body.is_plain:
        return []
    return [splice for block in _decode_array(raw) for splice in _in_block(block, body, references=False)]


def _in_messages(body: _Body) -> list[Splice]:
    """Blocks of messages: what Bedrock refuses in ``cache_control``, and references to tools where it knows none."""
    references = TOOL_SEARCH.name not in body.betas and holds(body.data, b'"tool_reference"')
    if body.is_plain and not references:
        return []
    splices: list[Splice] = []
    for message in _decode_array(body.members["messages"]):
        content = _decode_message(message).content
        if isinstance(content, msgspec.UnsetType) or not _is_array(content):
            continue
        for block in _decode_array(content):
            splices += _in_block(block, body, references=references)
    return splices


def _in_block(raw: msgspec.Raw, body: _Body, *, references: bool, depth: int = 0) -> Iterator[Splice]:
    block = _decode_block(raw)
    if references and block.type == "tool_reference":
        yield (*span(raw, body.data), _encode({"type": "text", "text": f"The tool {block.tool_name} is there."}))
        return
    yield from _cache_control(body.data, block.cache_control)
    content = block.content
    if depth < _MAX_DEPTH and not isinstance(content, msgspec.UnsetType) and _is_array(content):
        for inner in _decode_array(content):
            yield from _in_block(inner, body, references=references, depth=depth + 1)


def _is_array(raw: msgspec.Raw) -> bool:
    return bytes(memoryview(raw)[:1]) == b"["


def _is_plain(body: bytes) -> bool:
    at = 0
    while (at := find(body, _CACHE, at)) >= 0:
        found = _PLAIN_CACHE.match(body, at)
        if found is None:
            return False
        at = found.end()
    return True


# -- messages


def _are_plain(messages: msgspec.Raw) -> bool:
    """Whether they have the members alone that Bedrock takes."""
    try:
        _decode_plain(messages)
    except UNREADABLE:
        return False
    return True


def _with_plain_messages(body: bytes) -> tuple[bytes, str]:
    """Return the body without what single messages have beside their content, which Bedrock does not know, and the last
    effort that one asks for, which is to be the request's; '' if none does."""
    effort = ""
    splices: list[Splice] = []
    messages = _decode_request(body).messages
    places = spans(messages, body)
    gone: set[int] = set()
    for index, (message, (start, end)) in enumerate(zip(messages, places, strict=True)):
        read = _decode_message(message)
        effort = (read.output_config and read.output_config.effort) or effort
        others = [name for name in _decode_members(message) if name not in MESSAGE_FIELDS]
        if read.role == "system" and isinstance(read.content, msgspec.UnsetType):
            gone.add(index)  # it only said how the answer is to be made
        elif others:
            splices.append((start, end, without_members(body[start:end], others)))
    return spliced(body, sorted(splices + without_elements(places, gone))), effort


def _enough_tokens(thinking: msgspec.Raw | None) -> int:
    """Return a ``max_tokens`` for a request that has none: a budget for thinking has to be below it."""
    if thinking is None or bytes(thinking) == b"null":
        return 1
    return (_decode_thinking(thinking).budget_tokens or 0) + 1


def _with_members(body: bytes, members: dict[str, object]) -> bytes:
    """The object with these at its start; it has others already, ``messages`` at least."""
    start = body.index(b"{") + 1
    return b"".join((body[:start], _encode(members)[1:-1], b",", body[start:]))
