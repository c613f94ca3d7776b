"""Reading JSON of an unknown shape: what is not of the type that is asked for counts as empty, and what may fail."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

#: What msgspec raises for bytes that it does not take.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def as_object(value: object) -> Mapping[str, object]:
    """Return *value* if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_array(value: object) -> list[object]:
    """Return *value* if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def as_string(value: object) -> str:
    """Return *value* if it is a string, else ''."""
    return value if isinstance(value, str) else ""
