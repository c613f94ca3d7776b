"""System messages in mid-conversation, for Claude's models that refuse them: "role 'system' is not supported". Pure.

Clients send them to models that take them; a route that leads to an older one, or a place where only such are to be
had, must not fail for it.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.members import span, spans
from claudeproxyd.messages.splicing import Splice, spliced, without_elements

#: Models that take them, as of November 2026; all others get a user's turn.
#:
#: Sources: Anthropic's page on mid-conversation system messages (Opus 4.8 is the first), the profiles of LangChain and
#: the
#: AI SDK, reports of refusals by Opus 4.7, Haiku 4.5 and Mythos Preview.
TAKEN_BY = (
    "claude-opus-4-[89]*",
    "claude-opus-[5-9]*",
    "claude-sonnet-[5-9]*",
    "claude-haiku-[5-9]*",
    "claude-fable-*",
    "claude-mythos-[5-9]*",
)

_IS_SYSTEM = re.compile(rb'"role"\s*:\s*"system"')


class _Effort(msgspec.Struct):
    effort: str = ""


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    cache_control: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Role(msgspec.Struct):
    role: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Block] = ""
    output_config: _Effort | None = None
    clear_at: str | None = None


class _Request(msgspec.Struct):
    messages: list[msgspec.Raw]
    output_config: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_role = msgspec.json.Decoder(_Role).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def takes_system_messages(model: str) -> bool:
    """Whether that model, by whichever provider's name of it, takes system messages in mid-conversation."""
    name = model[max(model.find("claude-"), 0) :].replace(".", "-")
    return any(fnmatchcase(name, glob) for glob in TAKEN_BY)


def without_system_messages(body: bytes) -> bytes:
    """Return a Messages or count_tokens body with a user's turn in the place of each; nearly always the very same
    object.

    The last effort that they asked for takes the place of the request's. What has no words (changes of the tools) stays
    as it is, for the API to refuse by name. Called by executors for each attempt.
    """
    if not _IS_SYSTEM.search(body):
        return body
    try:
        request = _decode_request(body)
        return spliced(body, sorted(_splices(request, body)))
    except UNREADABLE:
        return body


def _splices(request: _Request, body: bytes) -> list[Splice]:
    places = spans(request.messages, body)
    roles = [_decode_role(message).role for message in request.messages]
    last_user = max((index for index, role in enumerate(roles) if role == "user"), default=-1)
    splices: list[Splice] = []
    gone: set[int] = set()
    effort = ""
    for index, (start, end) in enumerate(places):
        if roles[index] != "system":
            continue
        message = _decode_message(body[start:end])
        effort = (message.output_config and message.output_config.effort) or effort
        if message.clear_at == "next_user_message" and index < last_user:
            gone.add(index)
        elif (blocks := _blocks(message)) is not None:
            if blocks:
                splices.append((start, end, _encode({"role": "user", "content": blocks})))
            else:
                gone.add(index)
    if effort and request.output_config is not msgspec.UNSET:
        splices += _with_effort(request.output_config, body, effort)
    return splices + without_elements(places, gone)


def _blocks(message: _Message) -> list[dict[str, object]] | None:
    """Return the blocks of the user's turn; None where the message has more than words."""
    blocks = [_Block("text", message.content)] if isinstance(message.content, str) else message.content
    if any(block.type != "text" for block in blocks):
        return None
    text = "\n\n".join(block.text for block in blocks if block.text)
    if not text:
        return []
    made: dict[str, object] = {"type": "text", "text": f"<system-reminder>\n{text}\n</system-reminder>"}
    marks = [block.cache_control for block in blocks if block.cache_control is not msgspec.UNSET]
    return [{**made, "cache_control": marks[-1]} if marks else made]


def _with_effort(config: msgspec.Raw, body: bytes, effort: str) -> list[Splice]:
    """Return the splice of the request's own effort, where it names one: older models know of none."""
    asked = _decode_object(config).get("effort")
    return [] if asked is None else [(*span(asked, body), _encode(effort))]
