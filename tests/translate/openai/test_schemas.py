"""Schemas as chat completions take them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.openai.schemas import parameters


def made(schema: Any) -> Any:
    return json.loads(bytes(parameters(msgspec.Raw(json.dumps(schema).encode()))))


class SchemaTests(SynchronousTestCase):
    """What is added and what is changed."""

    def test_nothing_amiss(self) -> None:
        """The client's bytes stay, blanks and all."""
        raw = msgspec.Raw(b'{ "type":"object","properties":{"b":{}, "a":{"type":"string"}} }')
        self.assertEqual(bytes(parameters(raw)), bytes(raw))

    def test_completed(self) -> None:
        """An object has properties, an array items, at any depth; what says by itself what it holds stays."""
        for schema, expected in (
            ({}, {"type": "object", "properties": {}}),
            ({"type": "string"}, {"type": "object", "properties": {}}),
            ({"type": ["object", "null"]}, {"type": "object", "properties": {}}),
            ({"$schema": "x", "type": "object", "properties": {}}, {"type": "object", "properties": {}}),
            (
                {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}},
                {
                    "type": "object",
                    "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {}}}},
                },
            ),
            (
                {"type": "object", "properties": {"a": {"type": "array", "prefixItems": [{}]}}},
                {"type": "object", "properties": {"a": {"type": "array", "prefixItems": [{}]}}},
            ),
        ):
            self.assertEqual(made(schema), expected)

    def test_references(self) -> None:
        """A reference at the top is put in; deeper ones stay, with what they lead to."""
        shape = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "string"}}}
        self.assertEqual(made(shape), shape)
        top = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"b": {}}}}}
        self.assertEqual(made(top), {"type": "object", "properties": {"b": {}}})

    def test_choices(self) -> None:
        """Of choices at the top all properties may be there, and what every one requires has to."""
        choices = [
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "c"]},
            {"type": "object", "properties": {"c": {"type": "string"}}, "required": ["c"]},
        ]
        whole = made({"oneOf": choices})
        self.assertEqual((sorted(whole["properties"]), whole["required"]), (["a", "c"], ["c"]))
        self.assertNotIn("oneOf", whole)

    def test_too_deep(self) -> None:
        """What cannot be read is refused."""
        self.assertRaises(Unsupported, parameters, msgspec.Raw(b'{"a":' * 5000 + b"1" + b"}" * 5000))

    @settings(max_examples=200, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "array", "a"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["type", "properties", "items", "anyOf", "oneOf", "allOf", "required", "$ref", "x"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ).filter(lambda value: isinstance(value, dict))
    )
    def test_whatever_comes(self, schema: Any) -> None:
        """Whatever a client takes for a schema becomes an object's, or is refused."""
        try:
            whole = made(schema)
        except Unsupported:
            return
        self.assertEqual(whole["type"], "object")
        self.assertIn("properties", whole)
