"""Schemas for ``parametersJsonSchema``, and the memory of both kinds."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.gemini.schemas import MAX_REMEMBERED_BYTES, clean_json_schema, json_schema, parameters
from tests.integration.support.captures import captured
from tests.translate.gemini.test_openapi import json_values

STRING = {"type": "string"}


def raw(schema: Any) -> msgspec.Raw:
    """As it is in a body."""
    return msgspec.Raw(schema if isinstance(schema, bytes) else json.dumps(schema).encode())


class JSONSchemaTests(SynchronousTestCase):
    """What is mended."""

    def test_untouched(self) -> None:
        """A schema with nothing amiss is the client's own, byte for byte, with its numbers and spaces."""
        schema = (
            b'{ "type":"object", "properties":{"a":{"type":["string","null"],"minimum":1.10,"pattern":"<"},"const":{}}}'
        )
        self.assertEqual(bytes(json_schema(raw(schema))), schema)

    def test_references(self) -> None:
        """There is no reference left: the API refuses words beside one, and cycles in places."""
        node = {"type": "object", "properties": {"next": {"$ref": "#/definitions/Node", "description": "Next."}}}
        made = clean_json_schema({"$ref": "#/definitions/Node", "definitions": {"Node": node}})
        self.assertEqual(made["properties"]["next"], {"type": "object", "description": "Next."})

    def test_ignored(self) -> None:
        """What the API would ignore, and the model not know, is said in words that it knows, at any depth."""
        schema = {
            "anyOf": [{"allOf": [{"properties": {"a": {"const": "x"}}}, {"properties": {"b": {"const": 5}}}]}],
            "items": [{"const": True}],
        }
        properties = {"a": {"enum": ["x"]}, "b": {"enum": [5]}}
        self.assertEqual(
            clean_json_schema(schema), {"anyOf": [{"properties": properties}], "prefixItems": [{"const": True}]}
        )

    def test_tuples(self) -> None:
        """Tuples of older drafts, and what may follow them, are said as the draft does that the API reads."""
        older = {
            "items": [{"type": "string"}, {"items": [{}], "additionalItems": {"const": 1}}],
            "additionalItems": False,
        }
        newer = {"prefixItems": [{"type": "string"}, {"prefixItems": [{}], "items": {"enum": [1]}}], "items": False}
        self.assertEqual(clean_json_schema(older), newer)
        self.assertEqual(clean_json_schema(newer), newer)
        self.assertEqual(clean_json_schema({"items": {}, "additionalItems": {}}), {"items": {}, "additionalItems": {}})

    def test_max_items(self) -> None:
        """How many items there may be is told: beyond some hundreds in all the API refuses the whole request."""
        schema = {"properties": {"maxItems": {"type": "array", "maxItems": 500, "description": "Some."}}}
        made = clean_json_schema(schema)["properties"]["maxItems"]
        self.assertEqual(made, {"type": "array", "description": "Some. At most 500 items."})

    @given(json_values)
    def test_any(self, schema: Any) -> None:
        """Any JSON value is taken, and left as it was."""
        before = copy.deepcopy(schema)
        made = clean_json_schema(schema)
        self.assertEqual(schema, before)
        json.dumps(made)

    def test_real(self) -> None:
        """The tools of real clients keep every property."""
        for request in captured():
            for tool in request.body.get("tools", ()):
                schema = tool.get("input_schema", {})
                made = json.loads(bytes(json_schema(raw(schema))))
                self.assertEqual(made.get("properties", {}).keys(), schema.get("properties", {}).keys())


class MemoryTests(SynchronousTestCase):
    """From bytes to bytes."""

    def test_parameters(self) -> None:
        """A function's schema comes cleaned; one that takes nothing has none."""
        made = parameters(raw({"type": "object", "properties": {"a": {"const": "x"}}}))
        assert made is not None
        self.assertEqual(json.loads(bytes(made))["properties"], {"a": {"type": "string", "enum": ["x"]}})
        self.assertIsNone(parameters(raw({"type": "object", "properties": {}})))

    def test_remembers(self) -> None:
        """The same tools with every request cost next to nothing; long ones do not fill the memory."""
        schema = {"type": "object", "properties": {"remembered": {"const": "x"}}}
        for make in (parameters, json_schema):
            self.assertIs(make(raw(schema)), make(raw(schema)))
            long = {**schema, "description": "x" * MAX_REMEMBERED_BYTES}
            self.assertIsNot(make(raw(long)), make(raw(long)))

    def test_unreadable(self) -> None:
        """What cannot be read is the client's fault, and says so."""
        for schema in (b"[" * 5_000 + b"]" * 5_000, b'{"minimum": 1e999}', b'{"a": "\xff"}'):
            for make in (parameters, json_schema):
                self.assertRaises(Unsupported, make, raw(schema))
