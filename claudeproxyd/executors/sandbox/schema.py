"""A small value for a JSON schema."""

from __future__ import annotations

from collections.abc import Mapping

_DEPTH = 32
_VALUES = 1000
_LENGTH = 1000


def instance(schema: Mapping[str, object]) -> object:
    """What *schema* accepts, as far as types, constants, required members, items and bounds go.

    Takes any JSON as a schema. Of one that contains itself, or asks for very much, the rest is null.
    """
    return _Instance(schema).of(schema, _DEPTH)


class _Instance:
    """One schema's value, with a bound on the values it is made of: a few lines of schema can ask for billions."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._left = _VALUES

    def of(self, schema: object, depth: int) -> object:
        self._left -= 1
        if not isinstance(schema, dict) or not depth or self._left < 0:
            return None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum") and isinstance(schema["enum"], list):
            return schema["enum"][0]
        if isinstance(schema.get("$ref"), str):
            return self.of(self._target(schema["$ref"]), depth - 1)
        for key in ("anyOf", "oneOf", "allOf"):
            if schema.get(key) and isinstance(schema[key], list):
                return self.of(schema[key][0], depth - 1)
        kind = schema.get("type")
        match kind[0] if kind and isinstance(kind, list) else kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return [self.of(schema.get("items"), depth - 1) for _ in range(_bound(schema, "minItems"))]
            case "string":
                return "sandbox".ljust(_bound(schema, "minLength"), "x")
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return False
        return None

    def _target(self, reference: str) -> object:
        target = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                target = target.get(part) if isinstance(target, dict) else None
        return target

    def _object(self, schema: Mapping[str, object], depth: int) -> dict[str, object]:
        properties, required = schema.get("properties"), schema.get("required")
        if not isinstance(properties, dict) or not isinstance(required, list):
            return {}
        return {key: self.of(properties.get(key), depth - 1) for key in required if isinstance(key, str)}


def _bound(schema: Mapping[str, object], key: str) -> int:
    value = schema.get(key)
    return min(value, _LENGTH) if isinstance(value, int) else 0


def _number(schema: Mapping[str, object]) -> int | float:
    """The one nearest to 0."""
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if isinstance(lowest, int | float) and lowest > 0:
        return lowest
    return highest if isinstance(highest, int | float) and highest < 0 else 0
