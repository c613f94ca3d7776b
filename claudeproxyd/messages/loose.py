"""Reading along in what an upstream says, however oddly it says it: what it means for us must not decide whether it
reaches its client."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it does not take."""

_decode = msgspec.json.Decoder().decode


def read_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object that *data* is, or None. Pure; for answers that are passed on as they are.

    Where msgspec is strict the last word is the standard library's, as clients' parsers are no stricter: a byte order
    mark, NaN, half a surrogate pair. Bytes that are no UTF-8 break nothing but the text that they are in.
    """
    try:
        value = _decode(data)
    except UNREADABLE:
        try:
            value = json.loads(data.decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def is_word(value: object) -> TypeGuard[str]:
    """Whether *value* is a name of the API's, known or not: a stop reason, say."""
    return isinstance(value, str) and value.isascii() and value.isprintable()
