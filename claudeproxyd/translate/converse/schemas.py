"""Schemas of tools for models that take less than JSON Schema, and a memory of them: clients send them every time."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.references import inlined

if TYPE_CHECKING:
    from claudeproxyd.translate.converse.models import ConverseCapabilities

#: Schemas remembered, and the longest of them in bytes.
MAX_REMEMBERED_SCHEMAS = 512
MAX_REMEMBERED_BYTES = 16 * 1024

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def tool_schema(schema: msgspec.Raw, capabilities: ConverseCapabilities) -> msgspec.Raw:
    """Return *schema* as the model takes it. Raises :class:`Unsupported` for one that cannot be read."""
    if not capabilities.inlines:
        return schema
    raw = bytes(schema)
    make = _remembered if len(raw) <= MAX_REMEMBERED_BYTES else _plain
    try:
        return make(raw, capabilities.schema_members)
    except (ValueError, RecursionError):
        raise Unsupported("a schema nests too deeply, or holds a number beyond all bounds") from None


def _plain(raw: bytes, members: tuple[str, ...]) -> msgspec.Raw:
    """Return a schema without references; on the top level with these *members* alone, if there are any."""
    given = _decode(raw)
    made = inlined(given)
    if members and isinstance(made, dict):
        made = {"type": "object", "properties": {}} | {name: each for name, each in made.items() if name in members}
    return msgspec.Raw(raw if made == given else _encode(made))


_remembered = lru_cache(MAX_REMEMBERED_SCHEMAS)(_plain)
