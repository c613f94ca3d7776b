"""Schemas for ``parameters``."""

from __future__ import annotations

import copy
import json
from typing import Any

from google.genai.types import Schema
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.gemini.openapi import MAX_VALUE_CHARS, clean
from tests.integration.support.captures import captured

TYPES = {"string", "number", "integer", "boolean", "array", "object"}
STRING = {"type": "string"}

WORDS = [
    *(
        "type",
        "properties",
        "required",
        "items",
        "prefixItems",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "if",
        "then",
    ),
    *("else", "not", "$ref", "$defs", "description", "format", "minimum", "exclusiveMinimum", "maxItems", "minLength"),
    *(
        "additionalProperties",
        "patternProperties",
        "default",
        "nullable",
        "title",
        "minItems",
        "pattern",
        "uniqueItems",
    ),
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
    | st.sampled_from([*TYPES, "null", "#", "#/$defs/a", "#/properties/a", "date-time"])
)
names = st.sampled_from([*WORDS, "a", "b"])
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=30,
)


class OpenAPITestCase(SynchronousTestCase):
    """What the API takes."""

    def cleaned(self, schema: Any) -> dict[str, Any]:
        """Checked by Google's own type; the original is as it was."""
        before = copy.deepcopy(schema)
        made = clean(schema)
        self.assertEqual(schema, before)
        if made:
            Schema.model_validate_json(json.dumps(made), strict=False, extra="forbid")
            self.assertEqual(made["type"], "object")
            self.check(made)
        return made

    def check(self, schema: dict[str, Any]) -> None:
        """What the type does not say: every schema has a type or nothing but anyOf, and each word is of its type."""
        if "anyOf" in schema:
            self.assertEqual(schema.keys(), {"anyOf"})
            self.assertGreater(len(schema["anyOf"]), 1)
            for each in schema["anyOf"]:
                self.assertNotIn("anyOf", each)
                self.check(each)
            return
        self.assertIn(schema["type"], TYPES)
        self.assertEqual("properties" in schema, schema["type"] == "object")
        self.assertEqual("items" in schema, schema["type"] == "array")
        if "properties" in schema:
            self.assertTrue(schema["properties"])
            self.assertLessEqual(set(schema.get("required", ())), schema["properties"].keys())
            for each in schema["properties"].values():
                self.check(each)
        if "items" in schema:
            self.check(schema["items"])
        if "enum" in schema:
            self.assertEqual((schema["type"], all(schema["enum"])), ("string", True))
        self.assertNotIn(schema.get("description"), ("", " "))

    def one(self, schema: Any, **document: Any) -> dict[str, Any]:
        """What becomes of one property's schema."""
        made = self.cleaned({"type": "object", "properties": {"it": schema}, **document})
        it: dict[str, Any] = made["properties"]["it"]
        return it

    def assertBecomes(self, schema: Any, made: dict[str, Any], **document: Any) -> None:
        """Of a property's schema."""
        self.assertEqual(self.one(schema, **document), made)


class RuleTests(OpenAPITestCase):
    """One by one."""

    def test_kept(self) -> None:
        """What the API has words for is as it was, number for number."""
        schema = {
            "type": "object",
            "description": "All of it.",
            "properties": {
                "text": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 9,
                    "pattern": "^a+$",
                    "description": "A <b> & c.",
                },
                "when": {"type": "string", "format": "date-time"},
                "choice": {"type": "string", "enum": ["a", "b"]},
                "count": {"type": "integer", "minimum": -(2**53) - 1, "maximum": 2**53 + 1, "format": "int64"},
                "large": {"type": "integer", "maximum": 2**63 - 1},
                "share": {"type": "number", "minimum": 0.1, "maximum": 1e300, "format": "double"},
                "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 1},
                "map": {"type": "object", "properties": {"a": STRING}, "minProperties": 1, "maxProperties": 2},
            },
            "required": ["text", "list"],
        }
        del schema["properties"]["share"]["maximum"]  # type: ignore[index]  # a number beyond 64 bits is not said
        self.assertEqual(self.cleaned(schema), schema)

    def test_nothing(self) -> None:
        """A function without parameters has no schema: the API refuses an object without properties."""
        for schema in ({"type": "object", "properties": {}}, {}, True, None, [], {"properties": {"a": False}}):
            self.assertEqual(self.cleaned(schema), {})

    def test_names(self) -> None:
        """Properties of a keyword's name are properties."""
        schema = {"type": "object", "properties": dict.fromkeys(WORDS, STRING), "required": WORDS}
        self.assertEqual(self.cleaned(schema), schema)

    def test_dropped(self) -> None:
        """Words that mean nothing to the API or to the model go."""
        noise = {"$schema": "x", "$id": "x", "$comment": "x", "deprecated": True, "x-y": 1, "readOnly": True}
        noise |= {
            "additionalProperties": False,
            "unevaluatedProperties": False,
            "minLength": "3",
            "enum": [],
            "title": "",
        }
        self.assertBecomes({"type": "string", **noise}, STRING)

    def test_required(self) -> None:
        """Only names of properties, each once, are required, and also those that say so of themselves."""
        schema = {
            "properties": {"a": {"type": "string", "required": True}, "b": STRING},
            "required": ["b", "c", "b", 1],
        }
        made = self.cleaned(schema)
        self.assertEqual(made, {"type": "object", "properties": {"a": STRING, "b": STRING}, "required": ["b", "a"]})

    def test_references(self) -> None:
        """What is referred to stands in its place; a cycle is cut at an object that says what it is."""
        node = {"type": "object", "properties": {"name": STRING, "next": {"$ref": "#/$defs/Node"}}}
        made = self.one({"$ref": "#/$defs/Node"}, **{"$defs": {"Node": node}})
        self.assertEqual(made["properties"]["name"], STRING)
        self.assertEqual(
            (made["properties"]["next"]["type"], made["properties"]["next"]["description"]), ("object", "See Node.")
        )

    def test_alternatives(self) -> None:
        """anyOf stays, and oneOf becomes it; what stands beside it goes to the first, for nothing may stand there."""
        both = [{"type": "integer"}, {"type": "array", "items": STRING}]
        for keyword in ("anyOf", "oneOf"):
            first = {"type": "integer", "description": "Which."}
            self.assertBecomes({keyword: both, "description": "Which."}, {"anyOf": [first, both[1]]})
        self.assertBecomes(
            {"type": "string", "anyOf": [{"minLength": 1}, {"pattern": "x"}]},
            {"anyOf": [{"type": "string", "minLength": 1}, {"type": "string", "pattern": "x"}]},
        )
        nested = {"anyOf": [STRING, {"anyOf": [both[0], STRING]}, False]}
        self.assertBecomes(nested, {"anyOf": [STRING, both[0]]})
        self.assertBecomes({"anyOf": [STRING, STRING]}, STRING)

    def test_choices(self) -> None:
        """Alternatives that are one text each are one list of texts."""
        self.assertBecomes({"oneOf": [{"const": "a"}, {"enum": ["b", "a"]}]}, {"type": "string", "enum": ["a", "b"]})

    def test_alternative_objects(self) -> None:
        """Alternatives beside properties are one object: required is what all of them require, the rest is told."""
        made = self.cleaned(
            {
                "type": "object",
                "properties": {"a": STRING},
                "required": ["a"],
                "anyOf": [{"required": ["b", "x"]}, {"properties": {"b": STRING, "c": STRING}, "required": ["b", "c"]}],
            }
        )
        self.assertEqual(made["properties"], dict.fromkeys("abc", STRING))
        self.assertEqual((made["required"], made["description"]), (["a", "b"], "Give x; or c."))
        made = self.cleaned({"oneOf": [{"type": "object", "properties": {"a": STRING}}, {"properties": {"b": STRING}}]})
        self.assertEqual(made, {"type": "object", "properties": {"a": STRING, "b": STRING}})

    def test_null(self) -> None:
        """Whichever way null is allowed, it is nullable."""
        made = {**STRING, "nullable": True}
        for schema in (
            {"type": ["string", "null"]},
            {"anyOf": [STRING, {"type": "null"}]},
            {"type": "string", "nullable": True},
            {"type": "STRING", "oneOf": [{"type": "null"}, {}]},
            {"type": "null"},
        ):
            self.assertBecomes(schema, made)
        self.assertBecomes({"enum": ["a", None]}, {"type": "string", "enum": ["a"], "nullable": True})
        self.assertBecomes(
            {"type": ["object", "null"], "properties": {"a": STRING}},
            {"type": "object", "properties": {"a": STRING}, "nullable": True},
        )

    def test_types(self) -> None:
        """Several types are alternatives, each with its own words; a missing one is inferred."""
        self.assertBecomes(
            {"type": ["array", "string"], "items": STRING, "minLength": 2},
            {"anyOf": [{"type": "array", "items": STRING}, {"type": "string", "minLength": 2}]},
        )
        self.assertBecomes({"items": STRING}, {"type": "array", "items": STRING})
        self.assertBecomes({"properties": {"a": STRING}}, {"type": "object", "properties": {"a": STRING}})
        self.assertBecomes({"minimum": 1}, {"type": "number", "minimum": 1})
        self.assertBecomes({"pattern": "x"}, {"type": "string", "pattern": "x"})
        self.assertBecomes({"type": "Integer"}, {"type": "integer"})

    def test_anything(self) -> None:
        """What may be any value is every type: the API wants one, and a tool gets what it would take."""
        for schema in ({}, True, None, {"type": "any"}):
            made = self.one(schema)
            self.assertEqual({each["type"] for each in made["anyOf"]}, TYPES - {"integer"})
        self.assertIn("anyOf", self.one({"type": "array"})["items"])

    def test_values(self) -> None:
        """Only texts can be an enum; other values keep their type, are told, and numbers have bounds."""
        self.assertBecomes({"const": "a"}, {"type": "string", "enum": ["a"]})
        made = {"type": "integer", "minimum": 1, "maximum": 5, "description": "One of 1, 5, 2."}
        self.assertBecomes({"enum": [1, 5, 2]}, made)
        self.assertBecomes({"const": True}, {"type": "boolean", "description": "Always true."})
        made = {"type": "string", "enum": ["a"], "description": 'One of "a", "".'}
        self.assertBecomes({"type": "string", "enum": ["a", ""]}, made)
        self.assertBecomes(
            {"enum": ["auto", 1]},
            {
                "anyOf": [
                    {**STRING, "enum": ["auto"], "description": 'One of "auto", 1.'},
                    {"type": "integer", "minimum": 1, "maximum": 1},
                ]
            },
        )

    def test_all_of(self) -> None:
        """allOf is one schema, at any depth."""
        parts = [{"properties": {"b": STRING}, "required": ["b"]}, {"allOf": [{"properties": {"c": STRING}}]}]
        made = self.one({"type": "object", "properties": {"a": STRING}, "required": ["a"], "allOf": parts})
        self.assertEqual(made, {"type": "object", "properties": dict.fromkeys("abc", STRING), "required": ["a", "b"]})

    def test_conditions(self) -> None:
        """What may be there under a condition may be there."""
        made = self.one(
            {
                "properties": {"a": STRING},
                "if": {"properties": {"a": {"const": "x"}}},
                "then": {"properties": {"b": STRING}, "required": ["b"]},
                "else": {"properties": {"c": STRING}},
                "dependentSchemas": {"a": {"properties": {"d": STRING}}},
            }
        )
        self.assertEqual(made, {"type": "object", "properties": dict.fromkeys("abcd", STRING)})

    def test_tuples(self) -> None:
        """A tuple is an array of any of its members; their order is told."""
        members = [STRING, {"type": "number"}, STRING]
        made = {"type": "array", "items": {"anyOf": members[:2]}, "minItems": 3}
        made["description"] = "In this order: string, number, string."
        self.assertBecomes({"type": "array", "prefixItems": members, "items": False, "minItems": 3}, made)
        self.assertBecomes({"type": "array", "items": members, "minItems": 3}, made)
        made = self.one({"prefixItems": [STRING], "items": {"type": "boolean"}})
        self.assertEqual(made["items"], {"anyOf": [STRING, {"type": "boolean"}]})

    def test_maps(self) -> None:
        """An object without properties, which the API refuses, has one that stands for all."""
        value = {"type": "integer", "description": "Any members, of whatever names."}
        for schema in (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            {"type": "object", "patternProperties": {"^x": {"type": "integer"}}},
        ):
            self.assertBecomes(schema, {"type": "object", "properties": {"key": value}})
        self.assertIn("anyOf", self.one({"type": "object"})["properties"]["key"])
        self.assertIn("key", self.cleaned({"type": "object", "additionalProperties": STRING})["properties"])

    def test_bare(self) -> None:
        """Properties without the word around them are understood."""
        self.assertBecomes({"city": STRING}, {"type": "object", "properties": {"city": STRING}})

    def test_never(self) -> None:
        """A property that must not be there is not offered."""
        made = self.cleaned({"properties": {"a": STRING, "b": False}, "required": ["b"]})
        self.assertEqual(made, {"type": "object", "properties": {"a": STRING}})

    def test_bounds(self) -> None:
        """An excluded bound is exact where numbers are whole, and told in any case; drafts' booleans are no bounds."""
        made = self.one({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9.5})
        self.assertEqual((made["minimum"], made["maximum"], made["description"]), (1, 9, "More than 0. Less than 9.5."))
        made = {"type": "number", "minimum": 0.5, "description": "More than 0.5."}
        self.assertBecomes({"type": "number", "exclusiveMinimum": 0.5}, made)
        made = {"type": "number", "minimum": 1}
        self.assertBecomes({"type": "number", "minimum": 1, "exclusiveMinimum": True, "maximum": 10**400}, made)
        self.assertBecomes({"type": "string", "minLength": 2.0, "maxLength": -1}, {"type": "string", "minLength": 2})

    def test_words(self) -> None:
        """What the API has no word for is told after the description, or after the title where there is none."""
        self.assertBecomes(
            {
                "type": "string",
                "title": "T",
                "description": "D.",
                "format": "uri",
                "default": False,
                "examples": ["a", 1],
            },
            {**STRING, "description": 'D. By default false. For example "a", 1. Format: uri.'},
        )
        made = self.one({"type": "array", "title": "T", "items": STRING, "maxItems": 3, "uniqueItems": True})
        self.assertEqual(made["description"], "T At most 3 items. No item twice.")
        self.assertLess(len(self.one({"enum": list(range(9_999))})["description"]), MAX_VALUE_CHARS + 50)


class AnyValueTests(OpenAPITestCase):
    """Whatever a client sends."""

    def test_real(self) -> None:
        """The tools of real clients pass, and lose no property."""
        tools = [tool for request in captured() for tool in request.body.get("tools", ()) if "input_schema" in tool]
        schemas = {tool["name"]: tool["input_schema"] for tool in tools}
        self.assertGreater(len(schemas), 10)
        for schema in schemas.values():
            made = self.cleaned(schema)
            self.assertEqual(made.get("properties", {}).keys(), schema.get("properties", {}).keys())

    @settings(max_examples=300, deadline=None)
    @given(json_values)
    def test_any(self, schema: Any) -> None:
        """Any JSON value gives a schema that the API takes."""
        self.cleaned(schema)
        self.cleaned({"type": "object", "properties": {"a": schema}, "$defs": {"a": schema}})

    def test_large(self) -> None:
        """References that double, and what nests without end, stay within bounds."""
        doubling: dict[str, Any] = {
            f"d{i}": {"properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}, "b": {"$ref": f"#/$defs/d{i + 1}"}}}
            for i in range(30)
        }
        self.assertLess(len(json.dumps(self.one({"$ref": "#/$defs/d0"}, **{"$defs": doubling}))), 2_000_000)
        deep: dict[str, Any] = {}
        for _ in range(100):
            deep = {"type": "array", "prefixItems": [{"anyOf": [deep, STRING]}]}
        self.one(deep)
