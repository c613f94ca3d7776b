"""JSON Schemas as the Gemini API takes them, and a memory of them: clients send the same tools with every request.

``parametersJsonSchema`` and ``responseJsonSchema`` take JSON Schema, but for a few things that are refused or ignored:
references with anything beside them, to themselves or to other drafts' ``definitions``; ``allOf``; ``const``; tuples as
drafts before 2020-12 wrote them; and the ``maxItems`` of a request, which together may not pass some hundreds. Source:
``GenerationConfig`` in the Gemini API's reference, and what is known of its answers. ``parameters`` takes less: see
:mod:`.openapi`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

import msgspec

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.gemini.openapi import clean
from claudeproxyd.translate.references import JSONSchema, inlined, without_all_of

T = TypeVar("T")

#: Schemas remembered, and the longest of them in bytes.
MAX_REMEMBERED_SCHEMAS = 512
MAX_REMEMBERED_BYTES = 16 * 1024

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def _remembered(make: Callable[[bytes], T]) -> Callable[[msgspec.Raw], T]:
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


@_remembered
def parameters(schema: bytes) -> msgspec.Raw | None:
    """Return a function's schema for ``parameters``; None if it takes nothing, and the member is to be left out."""
    made = clean(_decode(schema))
    return msgspec.Raw(_encode(made)) if made else None


@_remembered
def json_schema(schema: bytes) -> msgspec.Raw:
    """Return a schema for ``parametersJsonSchema`` or ``responseJsonSchema``: the very *schema* where nothing is
    amiss."""
    given = _decode(schema)
    made = clean_json_schema(given)
    return msgspec.Raw(schema if made == given else _encode(made))


def clean_json_schema(schema: object) -> object:
    """Return *schema* without references, ``allOf`` merged, ``const`` as ``enum``, tuples as ``prefixItems``,
    ``maxItems`` in
    words."""
    return _mended(inlined(schema))


def _mended(schema: object) -> object:
    if isinstance(schema, list):
        return [_mended(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made: JSONSchema = {}
    schema = _with_prefix_items(without_all_of(schema))
    for keyword, value in schema.items():
        if keyword in ("properties", "patternProperties") and isinstance(value, dict):
            made[keyword] = {name: _mended(each) for name, each in value.items()}
        elif keyword in ("items", "prefixItems", "anyOf", "oneOf", "additionalProperties"):
            made[keyword] = _mended(value)
        elif keyword == "const" and isinstance(value, str | int | float) and not isinstance(value, bool):
            made["enum"] = [value]
        elif keyword != "maxItems":
            made[keyword] = value
    if "maxItems" in schema:
        made["description"] = f"{schema.get('description', '')} At most {schema['maxItems']} items.".strip()
    return made


def _with_prefix_items(schema: JSONSchema) -> JSONSchema:
    """Return a tuple in the words of JSON Schema 2020-12; every other schema as it is."""
    if not isinstance(schema.get("items"), list):
        return schema
    said = {"items": "prefixItems", "additionalItems": "items"}
    return {said.get(keyword, keyword): value for keyword, value in schema.items()}
