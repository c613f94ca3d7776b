"""Which session a request belongs to: what keeps it on one credential, and so on one prompt cache."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.headers import value_of
from claudeproxyd.observe.scrub import redact

if TYPE_CHECKING:
    from claudeproxyd.dispatch.request import ApiRequest


class _Metadata(msgspec.Struct):
    user_id: str = ""


class _UserId(msgspec.Struct):
    session_id: str = ""


class _Turn(msgspec.Struct):
    role: str = ""
    content: msgspec.Raw = msgspec.Raw(b"")


class _Block(msgspec.Struct):
    type: str = ""


#: Characters of a session's name. Clients choose it, and it is kept by the thousand, and stored; a longer one goes by
#: its digest, and so does one that holds a key.
_MAX_NAME_CHARACTERS = 256

#: Of more bytes of messages only the beginning is looked at.
_LARGE_BYTES = 1_048_576
#: Of that much of them objects are made: of a megabyte of numbers that would take as long as all else together.
_READ_BYTES = 131_072
#: Of the first user message so much tells one conversation from another.
_TELLING_BYTES = 65_536

_decode_first = json.JSONDecoder().raw_decode
_decode_metadata = msgspec.json.Decoder(_Metadata).decode
_decode_user_id = msgspec.json.Decoder(_UserId).decode
_decode_turn = msgspec.json.Decoder(_Turn).decode
_decode_raw = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_turns = msgspec.json.Decoder(list[_Turn]).decode
_decode_blocks = msgspec.json.Decoder(list[_Block]).decode


def session_of(request: ApiRequest) -> str:
    """Return the name of the session that *request* belongs to.

    The first found of: Claude Code's session header, the user id's session, a hash of the conversation's start.
    """
    header = value_of(request.headers, b"x-claude-code-session-id")
    if header:
        return _bounded(header.decode("latin-1"))
    envelope = request.envelope
    if envelope.metadata:
        user_id = _user_id(envelope.metadata)
        if user_id:
            return _bounded(user_id)
    digest = hashlib.blake2b(request.principal.name.encode(), digest_size=12)
    digest.update(envelope.system)
    digest.update(_first_user_message(envelope.messages))
    return digest.hexdigest()


def _bounded(name: str) -> str:
    """Return *name*, or its digest where it is too long or holds a key."""
    is_kept = len(name) <= _MAX_NAME_CHARACTERS and redact(name) == name
    return name if is_kept else hashlib.blake2b(name.encode(), digest_size=12).hexdigest()


def in_tool_loop(messages: bytes) -> bool:
    """Return whether the last turn holds a tool_result: the client is in the middle of something."""
    if b'"tool_result"' not in messages:
        return False
    try:
        turns = _decode_turns(messages)
        return any(block.type == "tool_result" for block in _decode_blocks(turns[-1].content))
    except (*UNREADABLE, IndexError):
        return False


def _beginning(messages: bytes) -> bytes:
    """Return the beginning of a large conversation's first user message, which may be longer than what is read."""
    start = messages[:_READ_BYTES].decode("utf-8", "ignore")
    began = at = 0
    try:
        while True:
            began = start.index("{", at)
            turn, at = _decode_first(start, began)
            if turn.get("role") == "user":
                return start[began:at].encode()[:_TELLING_BYTES]
    except (*UNREADABLE, ValueError):
        begun = len(start[:began].encode())
        return messages[begun : begun + _TELLING_BYTES]


def _user_id(metadata: bytes) -> str:
    """Return the session in the user id, else the user id; '' for none."""
    try:
        user_id = _decode_metadata(metadata).user_id
    except UNREADABLE:
        return ""
    if user_id.startswith("{"):
        try:
            return _decode_user_id(user_id).session_id or user_id
        except UNREADABLE:
            return user_id
    return user_id


def _first_user_message(messages: bytes) -> bytes:
    """Return the beginning of the first user message; b'' for none, and the beginning of what cannot be read."""
    if len(messages) > _LARGE_BYTES:
        return _beginning(messages)
    try:
        for turn in _decode_raw(messages):
            if _decode_turn(turn).role == "user":
                return bytes(memoryview(turn)[:_TELLING_BYTES])
    except UNREADABLE:
        return messages[:4096]
    return b""
