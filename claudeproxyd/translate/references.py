"""JSON Schemas without references: what is referred to stands where it is used. Pure; the original is never changed.

For backends that know no ``$ref``, or only some. Source of the rules: JSON Schema 2020-12 and the drafts before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

#: Schemas within one another; what is deeper is cut to its type and description.
DEPTH = 48
#: Schemas in all; those that come after are cut like that too: references to references can double at every step.
NODES = 3_000

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


def inlined(schema: Any) -> Any:
    """*schema* without references and definitions.

    A reference to what it stands in itself is cut: its type is kept, and its description names it. So are those that
    lead nowhere. An object of schemas that uses no keyword is taken for the properties that were meant.
    """
    return _Inlining(schema).schema(schema, 0, ())


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both at once: all properties, all that is required; of the rest what *first* says, or else *second*."""
    made = {**second, **first}
    for keyword in ("properties", "patternProperties"):
        one, other = first.get(keyword), second.get(keyword)
        if isinstance(one, dict) and isinstance(other, dict):
            made[keyword] = {**one, **other}
            for name in one.keys() & other.keys():
                both = isinstance(one[name], dict) and isinstance(other[name], dict)
                made[keyword][name] = merged(one[name], other[name]) if both else one[name]
    one, other = first.get("required"), second.get("required")
    if isinstance(one, list) and isinstance(other, list):
        made["required"] = [*one, *(name for name in other if name not in one)]
    return made


def without_all_of(schema: dict[str, Any]) -> dict[str, Any]:
    """*schema* merged with all that its ``allOf`` asks for, and that of those."""
    parts = schema.get("allOf")
    if not isinstance(parts, list):
        return schema
    schema = {keyword: value for keyword, value in schema.items() if keyword != "allOf"}
    for part in parts:
        if isinstance(part, dict):
            schema = merged(schema, without_all_of(part))
    return schema


class _Inlining:
    """Of one document."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._nodes = 0

    def schema(self, given: Any, depth: int, within: tuple[str, ...]) -> Any:
        """*within*: the references that led here."""
        if not isinstance(given, dict):
            return given
        self._nodes += 1
        given = _with_properties(given)
        reference = given.get("$ref")
        if isinstance(reference, str):
            return self._referred(given, reference, depth, within)
        if depth >= DEPTH or self._nodes > NODES:
            return {keyword: given[keyword] for keyword in ("type", "description") if keyword in given}
        return {
            keyword: self._value(keyword, value, depth + 1, within)
            for keyword, value in given.items()
            if not (keyword in _DEFINITIONS and isinstance(value, dict))
        }

    def _value(self, keyword: str, value: Any, depth: int, within: tuple[str, ...]) -> Any:
        if keyword in _BY_NAME and isinstance(value, dict):
            return {name: self.schema(each, depth, within) for name, each in value.items()}
        if keyword in _IN_LIST and isinstance(value, list):
            return [self.schema(each, depth, within) for each in value]
        if keyword in _ONE:
            return self.schema(value, depth, within)
        return value

    def _referred(self, given: dict[str, Any], reference: str, depth: int, within: tuple[str, ...]) -> Any:
        beside = {keyword: value for keyword, value in given.items() if keyword != "$ref"}
        target = self._find(reference)
        if reference in within or depth >= DEPTH or not isinstance(target, dict | bool):
            known = isinstance(target, dict) and isinstance(target.get("type"), str | list)
            cut = {"type": target["type"]} if known else {}
            return merged(beside, {**cut, "description": f"See {reference.rpartition('/')[2] or 'above'}."})
        if isinstance(target, dict):
            return self.schema(merged(beside, target), depth + 1, (*within, reference))
        return self.schema(beside, depth + 1, within) if beside else target

    def _find(self, reference: str) -> Any:
        """What *reference* points at; None where that is nothing here."""
        if not reference.startswith("#/"):
            return self._root if reference == "#" else self._named(reference)
        found = self._root
        for step in unquote(reference[2:]).split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list):
                found = found[int(name)] if name.isdecimal() and int(name) < len(found) else None
            else:
                found = found.get(name) if isinstance(found, dict) else None
        return found

    def _named(self, reference: str) -> Any:
        """The definition that calls itself so."""
        for keyword in _DEFINITIONS:
            definitions = self._root.get(keyword) if isinstance(self._root, dict) else None
            for definition in definitions.values() if isinstance(definitions, dict) else ():
                if isinstance(definition, dict) and (
                    definition.get("$id") == reference or f"#{definition.get('$anchor')}" == reference
                ):
                    return definition
        return None


def _with_properties(given: dict[str, Any]) -> dict[str, Any]:
    """*given*, or an object schema with its members for properties if they cannot be anything else."""
    bare = given and all(
        isinstance(value, dict) and name not in _OBJECTS and not name.startswith(("$", "x-")) and name != "definitions"
        for name, value in given.items()
    )
    return {"type": "object", "properties": given} if bare else given
