"""JSON Schemas as chat completions take them, and a memory of them: clients send the same tools with every request.

OpenAI refuses parameters that are no object, objects without ``properties``, arrays without ``items``, and ``anyOf``
and its like at the top. Everything else stays the client's.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from claudeproxyd.errors import Unsupported
from claudeproxyd.json_guards import as_array
from claudeproxyd.translate.references import JSONSchema, inlined, merged, without_all_of

#: Schemas remembered, and the longest of them in bytes.
MAX_REMEMBERED_SCHEMAS = 512
MAX_REMEMBERED_BYTES = 16 * 1024

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

#: What says by itself what an object or an array may hold.
_HOLDS = ("$ref", "anyOf", "oneOf", "allOf", "enum", "const", "not", "$dynamicRef")
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_IN_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")
_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


def parameters(schema: msgspec.Raw) -> msgspec.Raw:
    """Return a function's schema: the very *schema* where nothing is amiss. Raises :class:`Unsupported`."""
    raw = bytes(schema)
    try:
        return _remembered(raw) if len(raw) <= MAX_REMEMBERED_BYTES else _made(raw)
    except (ValueError, RecursionError):
        raise Unsupported("a schema nests too deeply, or holds a number beyond all bounds") from None


def _made(raw: bytes) -> msgspec.Raw:
    given = _decode(raw)
    made = completed(given)
    return msgspec.Raw(raw if made == given else _encode(made))


_remembered = lru_cache(MAX_REMEMBERED_SCHEMAS)(_made)


def completed(schema: JSONSchema) -> JSONSchema:
    """Return *schema* as an object schema that lacks nothing that OpenAI wants to see."""
    made = {keyword: value for keyword, value in schema.items() if keyword != "$schema"}
    if "$ref" in made:
        alone = inlined(made)
        made = alone if isinstance(alone, dict) else {}
    whole = _mended_object({**_without_choices(without_all_of(made)), "type": "object"})
    whole.setdefault("properties", {})
    return whole


def _without_choices(schema: JSONSchema) -> JSONSchema:
    """Return *schema* with what each of its choices may have, required where all of them do."""
    for keyword in ("anyOf", "oneOf"):
        if keyword not in schema:
            continue
        choices = [choice for choice in as_array(schema[keyword]) if isinstance(choice, dict)]
        rest = {name: value for name, value in schema.items() if name != keyword}
        required = [_required(choice) for choice in choices]
        in_all = [name for name in required[0] if all(name in each for each in required)] if required else []
        schema = merged(rest, *({**choice, "required": []} for choice in choices))
        schema["required"] = list(dict.fromkeys([*_required(rest), *in_all]))
        if not schema["required"]:
            del schema["required"]
    return schema


def _required(schema: JSONSchema) -> list[str]:
    return [name for name in as_array(schema.get("required")) if isinstance(name, str)]


def _mended(schema: object) -> object:
    return _mended_object(schema) if isinstance(schema, dict) else schema


def _mended_object(schema: JSONSchema) -> JSONSchema:
    made: JSONSchema = {}
    for keyword, value in schema.items():
        if keyword in _BY_NAME and isinstance(value, dict):
            made[keyword] = {name: _mended(each) for name, each in value.items()}
        elif keyword in _IN_LIST and isinstance(value, list):
            made[keyword] = [_mended(each) for each in value]
        elif keyword in _ONE:
            made[keyword] = _mended(value)
        else:
            made[keyword] = value
    if not any(keyword in made for keyword in _HOLDS):
        if made.get("type") == "object":
            made.setdefault("properties", {})
        elif made.get("type") == "array" and "prefixItems" not in made:
            made.setdefault("items", {})
    return made
