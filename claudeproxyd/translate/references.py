"""JSON Schemas without references: what is referred to stands where it is used. Pure; the original is never changed.

For backends that know no ``$ref``, or only some. Source of the rules: JSON Schema 2020-12 and the drafts before it.
"""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import unquote

import msgspec

#: A schema, or what its author takes for one: only what is asked of it is known to be there.
JSONSchema: TypeAlias = dict[str, Any]

#: Schemas within one another; what is deeper is cut to its type and description.
MAX_DEPTH = 48
#: Bytes that references may bring in: some, and so many times the document's own, up to a bound. References to
#: references can double it at every step.
MIN_GROWTH_BYTES = 4 * 1024
MAX_GROWTH_FACTOR = 4
MAX_GROWTH_BYTES = 128 * 1024
#: A longer reference leads nowhere.
MAX_REFERENCE_CHARS = 1_000

_encode = msgspec.json.Encoder().encode

_DEFINITIONS = ("$defs", "definitions")
#: Keywords whose value holds schemas by name, in a list, or is one.
_BY_NAME = frozenset(("properties", "patternProperties", "dependentSchemas"))
_IN_LIST = frozenset(("allOf", "anyOf", "oneOf", "prefixItems", "items"))
_ONE = frozenset(
    (
        "additionalItems",
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    )
)
#: What may be an object beside those; any other word with an object for a value is no keyword.
_DATA = frozenset(("const", "default", "dependencies", "dependentRequired", "discriminator", "example", "examples"))
_OBJECTS = _BY_NAME | _IN_LIST | _ONE | _DATA


def inlined(schema: object) -> object:
    """Return *schema* without references and definitions.

    A reference to what it stands in itself is cut: its type is kept, and its description names it. So are those that
    lead nowhere. An object of schemas that uses no keyword is taken for the properties that were meant.
    """
    return _Inlining(schema).schema(schema, 0, ())


def merged(*schemas: JSONSchema) -> JSONSchema:
    """Return one schema of several: all properties, all that is required; every other keyword by the first that has
    it."""
    made: JSONSchema = {}
    for schema in schemas:
        for keyword, value in schema.items():
            made.setdefault(keyword, value)
    for keyword in ("properties", "patternProperties"):
        by_name: dict[str, list[object]] = {}
        for given in (schema.get(keyword) for schema in schemas):
            for name, each in given.items() if isinstance(given, dict) else ():
                by_name.setdefault(name, []).append(each)
        if by_name:
            made[keyword] = {name: _at_once(several) for name, several in by_name.items()}
    required = [schema["required"] for schema in schemas if isinstance(schema.get("required"), list)]
    if len(required) > 1:
        made["required"] = list(dict.fromkeys(name for names in required for name in names if isinstance(name, str)))
    return made


def _at_once(schemas: list[object]) -> object:
    """Return one schema of several; the first, if that is no object."""
    first = schemas[0]
    return merged(*(each for each in schemas if isinstance(each, dict))) if isinstance(first, dict) else first


def without_all_of(schema: JSONSchema) -> JSONSchema:
    """Return *schema* merged with the schemas of its ``allOf``, and with those of theirs."""
    parts = schema.get("allOf")
    if not isinstance(parts, list):
        return schema
    rest = {keyword: value for keyword, value in schema.items() if keyword != "allOf"}
    return merged(rest, *(without_all_of(part) for part in parts if isinstance(part, dict)))


class _Inlining:
    """Puts the definitions of one document in the places of its references."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._room = MIN_GROWTH_BYTES + min(MAX_GROWTH_FACTOR * len(_encode(root)), MAX_GROWTH_BYTES)
        self._named: JSONSchema | None = None

    def schema(self, given: object, depth: int, within: tuple[str, ...]) -> object:
        """Return a schema without references. *within*: those that led here."""
        if not isinstance(given, dict):
            return given
        given = _with_properties(given)
        reference = given.get("$ref")
        if isinstance(reference, str):
            return self._referred(given, reference, depth, within)
        if depth >= MAX_DEPTH:
            return {keyword: given[keyword] for keyword in ("type", "description") if keyword in given}
        return {
            keyword: self._value(keyword, value, depth + 1, within)
            for keyword, value in given.items()
            if not (keyword in _DEFINITIONS and isinstance(value, dict))
        }

    def _value(self, keyword: str, value: object, depth: int, within: tuple[str, ...]) -> object:
        if keyword in _BY_NAME and isinstance(value, dict):
            return {name: self.schema(each, depth, within) for name, each in value.items()}
        if keyword in _IN_LIST and isinstance(value, list):
            return [self.schema(each, depth, within) for each in value]
        if keyword in _ONE:
            return self.schema(value, depth, within)
        return value

    def _referred(self, given: JSONSchema, reference: str, depth: int, within: tuple[str, ...]) -> object:
        beside = {keyword: value for keyword, value in given.items() if keyword != "$ref"}
        target = self._find(reference) if len(reference) <= MAX_REFERENCE_CHARS else None
        if (
            reference in within
            or depth >= MAX_DEPTH
            or not isinstance(target, dict | bool)
            or not self._has_room(target)
        ):
            type_ = target.get("type") if isinstance(target, dict) else None
            cut = {"type": type_} if isinstance(type_, str | list) else {}
            return merged(
                beside, {**cut, "description": f"See {reference[:MAX_REFERENCE_CHARS].rpartition('/')[2] or 'above'}."}
            )
        if isinstance(target, dict):
            return self.schema(merged(beside, target), depth + 1, (*within, reference))
        return self.schema(beside, depth + 1, within) if beside else target

    def _has_room(self, target: object) -> bool:
        """Whether *target* may be put in once more."""
        if self._room > 0:
            self._room -= len(_encode(target))
        return self._room > 0

    def _find(self, reference: str) -> object:
        """Return what *reference* points at; None where that is nothing here."""
        if not reference.startswith("#/"):
            return self._root if reference == "#" else self._names().get(reference)
        found = self._root
        for step in unquote(reference[2:]).split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list):
                found = found[int(name)] if name.isdecimal() and int(name) < len(found) else None
            else:
                found = found.get(name) if isinstance(found, dict) else None
        return found

    def _names(self) -> JSONSchema:
        """Return the definitions that have names of their own, as they are referred to."""
        if self._named is None:
            self._named = {}
            for keyword in _DEFINITIONS:
                definitions = self._root.get(keyword) if isinstance(self._root, dict) else None
                for each in definitions.values() if isinstance(definitions, dict) else ():
                    if isinstance(each, dict):
                        self._named |= {f"{each.get('$id')}": each, f"#{each.get('$anchor')}": each}
        return self._named


def _with_properties(given: JSONSchema) -> JSONSchema:
    """Return *given*; or an object schema with its members for properties, if they cannot be anything else."""
    bare = given and all(
        isinstance(value, dict) and name not in _OBJECTS and not name.startswith(("$", "x-")) and name != "definitions"
        for name, value in given.items()
    )
    return {"type": "object", "properties": given} if bare else given
