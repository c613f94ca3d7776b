"""JSON Schemas as OpenAI takes them, and a memory of them: clients send the same tools with every request.

OpenAI refuses an object without ``properties`` and an array without ``items``, and a function whose schema is a choice
of several at the top. All else of JSON Schema passes, as long as nobody asks for ``strict``.
"""

from __future__ import annotations

import msgspec

from claudeproxyd.translate.references import JSONSchema, merged, without_all_of
from claudeproxyd.translate.remembered import remembered

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

_BY_NAME = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
_IN_LIST = frozenset(("anyOf", "oneOf", "allOf", "prefixItems", "items"))
_ONE = frozenset(("items", "additionalProperties", "contains", "not", "if", "then", "else", "additionalItems"))
#: What may not stand at the top of a function's schema.
_CHOICES = ("anyOf", "oneOf")
_NOT_AT_THE_TOP = (*_CHOICES, "enum", "not")


@remembered
def parameters(schema: bytes) -> msgspec.Raw:
    """Return a function's schema: the very *schema* where nothing is amiss."""
    given = _decode(schema)
    made = _with_members(_of_one_kind(given))
    return msgspec.Raw(schema if made == given else _encode(made))


@remembered
def output_schema(schema: bytes) -> msgspec.Raw:
    """Return the schema of an answer."""
    given = _decode(schema)
    made = _with_members(given)
    return msgspec.Raw(schema if made == given else _encode(made))


def _of_one_kind(schema: JSONSchema) -> JSONSchema:
    """Return an object's schema that has the members of all choices; those that every choice demands stay demanded."""
    if schema.get("type") == "object" and not any(word in schema for word in (*_NOT_AT_THE_TOP, "allOf")):
        return schema
    schema = without_all_of(schema)
    made = {word: value for word, value in schema.items() if word not in _NOT_AT_THE_TOP}
    for word in _CHOICES:
        choices = [each for each in schema.get(word) or () if isinstance(each, dict)]
        if not choices:
            continue
        demanded = set.intersection(*(set(choice.get("required") or ()) for choice in choices))
        made = merged(made, *({**choice, "required": []} for choice in choices))
        made["required"] = [*made.get("required", ()), *sorted(demanded)]
    return {**made, "type": "object"}


def _with_members(schema: object) -> object:
    if isinstance(schema, list):
        return [_with_members(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made: JSONSchema = {}
    for word, value in schema.items():
        if word in _BY_NAME and isinstance(value, dict):
            made[word] = {name: _with_members(each) for name, each in value.items()}
        elif (word in _IN_LIST and isinstance(value, list)) or word in _ONE:
            made[word] = _with_members(value)
        else:
            made[word] = value
    kind = made.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind):
        made.setdefault("properties", {})
    if (kind == "array" or (isinstance(kind, list) and "array" in kind)) and "prefixItems" not in made:
        made.setdefault("items", {})
    return made
