"""Answers of Gemini's that are odd beside what they say: they are paid for, and read all the same."""

from __future__ import annotations

from types import UnionType
from typing import Union, get_args, get_origin

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.loose import read_object, without_halves
from claudeproxyd.translate.gemini.responses import GenerateContentResponse

#: What the model says, and what holds it: no answer can do without.
_SAID = frozenset({"candidates", "content", "parts", "text", "functionCall", "name", "args", "partialArgs"})
#: What stands for a member that was there, where its absence has a meaning of its own.
_INSTEAD = {"finishReason": "OTHER"}

_decode = msgspec.json.Decoder(GenerateContentResponse, strict=False).decode


def read_loosely(data: bytes) -> tuple[GenerateContentResponse, str]:
    """Return the response in bytes that are none by the letter, and what is odd about it, for a log.

    Members that are not of their type are left out, unless they are what the model says. Numbers may be strings, as in
    protobuf's JSON. Raises one of :data:`~claudeproxyd.json_guards.UNREADABLE`: it is no response.
    """
    mended = without_halves(data)
    members = read_object(mended)
    if members is None:
        return _decode(mended), ""  # it says best what is wrong
    odd: list[str] = []
    fitting = _fit_object(members, GenerateContentResponse, odd)
    if mended != data:
        odd.append("half a surrogate pair")
    return _decode(msgspec.json.encode(fitting)), odd[0] if odd else "a response of an unknown shape"


def _fit_object(members: dict[str, object], struct: type[msgspec.Struct], odd: list[str]) -> dict[str, object]:
    """Return the members that are read, as far as they have their types; the others are named in *odd*."""
    fields = msgspec.structs.fields(struct)
    return {
        field.encode_name: _fit(members[field.encode_name], field.type, field.encode_name, odd)
        for field in fields
        if field.encode_name in members
    }


def _fit(value: object, kind: object, name: str, odd: list[str]) -> object:
    choices = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    for choice in choices:
        if choice is msgspec.Raw:
            return value
        if isinstance(value, dict) and isinstance(choice, type) and issubclass(choice, msgspec.Struct):
            return _fit_object(value, choice, odd)
        if isinstance(value, list) and get_origin(choice) is list:
            return [_fit(each, get_args(choice)[0], name, odd) for each in value]
    try:
        msgspec.convert(value, kind, strict=False)
    except UNREADABLE:
        if name not in _SAID:
            odd.append(f"{name} of an unknown shape")
            return _INSTEAD.get(name)
    return value
