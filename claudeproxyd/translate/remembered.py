"""A memory of schemas that were rewritten: clients send the same tools with every request."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

import msgspec

from claudeproxyd.errors import Unsupported

T = TypeVar("T")

#: Schemas remembered, and the longest of them in bytes.
MAX_REMEMBERED_SCHEMAS = 512
MAX_REMEMBERED_BYTES = 16 * 1024


def remembered(make: Callable[[bytes], T]) -> Callable[[msgspec.Raw], T]:
    """Return *make*, which says :class:`Unsupported` of what it cannot read, and remembers what it made of short
    schemas."""
    remembering = lru_cache(MAX_REMEMBERED_SCHEMAS)(make)

    @wraps(make)
    def made(schema: msgspec.Raw) -> T:
        raw = bytes(schema)
        try:
            return remembering(raw) if len(raw) <= MAX_REMEMBERED_BYTES else make(raw)
        except (ValueError, RecursionError):
            raise Unsupported("a schema nests too deeply, or holds a number beyond all bounds") from None

    return made
