"""Schemas without references."""

from __future__ import annotations

import copy
import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.references import (
    MAX_DEPTH,
    MAX_GROWTH_BYTES,
    MAX_REFERENCE_CHARS,
    inlined,
    merged,
    without_all_of,
)

NAME = {"type": "string", "minLength": 1}


class InliningTests(SynchronousTestCase):
    """What stands where a reference stood."""

    def inlined(self, schema: Any) -> Any:
        """And the original is as it was."""
        before = copy.deepcopy(schema)
        made = inlined(schema)
        self.assertEqual(schema, before)
        return made

    def test_forms(self) -> None:
        """Every form of a reference within the document is followed, whatever characters its way has."""
        for reference, definitions in (
            ("#/$defs/Name", {"$defs": {"Name": NAME}}),
            ("#/definitions/a~1b~0c%20d", {"definitions": {"a/b~c d": NAME}}),
            ("#/properties/other", {}),
            ("#/anyOf/1", {"anyOf": [{}, NAME]}),
            ("#name", {"$defs": {"N": {"$anchor": "name", **NAME}}}),
            ("https://example.com/name", {"$defs": {"N": {"$id": "https://example.com/name", **NAME}}}),
        ):
            schema = {"properties": {"it": {"$ref": reference}, "other": NAME}, **definitions}
            made = self.inlined(schema)
            self.assertEqual({k: v for k, v in made["properties"]["it"].items() if k[0] != "$"}, NAME, reference)
            self.assertNotIn("$ref", json.dumps(made))
            self.assertEqual([keyword for keyword in ("$defs", "definitions") if keyword in made], [])

    def test_beside(self) -> None:
        """What stands beside a reference counts too, and first; a reference to anything or nothing is one as well."""
        schema = {
            "$defs": {
                "P": {"description": "P", "properties": {"a": NAME}, "required": ["a"]},
                "yes": True,
                "no": False,
            },
            "anyOf": [
                {"$ref": "#/$defs/P", "description": "mine", "properties": {"b": NAME}, "required": ["b"]},
                {"$ref": "#/$defs/yes"},
                {"$ref": "#/$defs/no"},
                {"$ref": "#/$defs/yes", "type": "string"},
            ],
        }
        both = {"description": "mine", "properties": {"b": NAME, "a": NAME}, "required": ["b", "a"]}
        self.assertEqual(self.inlined(schema)["anyOf"], [both, True, False, {"type": "string"}])

    def test_cycles(self) -> None:
        """A tree's node is described once, its children's children are named; so is the whole document in itself."""
        node = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}}
        made = self.inlined({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
        self.assertEqual(made["properties"]["children"]["items"], {"type": "object", "description": "See Node."})
        made = self.inlined({"type": "object", "properties": {"again": {"$ref": "#"}}})
        again = made["properties"]["again"]["properties"]["again"]
        self.assertEqual(again, {"type": "object", "description": "See #."})
        self.assertEqual(self.inlined({"$ref": "#"}), {"description": "See #."})

    def test_nowhere(self) -> None:
        """A reference to nothing, or to another document, leaves its name for the model."""
        for reference in (
            "#/$defs/Gone",
            "#/properties/it/enum/7",
            "https://example.com/Gone",
            "#gone",
            "#/enum/x",
            "#" * 9_999,
        ):
            schema = {"properties": {"it": {"$ref": reference, "title": "It"}}, "enum": [1]}
            made = self.inlined(schema)["properties"]["it"]
            self.assertEqual(made["title"], "It")
            self.assertStartsWith(made["description"], "See ")
            self.assertLess(len(made["description"]), MAX_REFERENCE_CHARS + 9)

    def assertStartsWith(self, text: str, start: str) -> None:
        """Say both if not."""
        self.assertTrue(text.startswith(start), text)

    def test_data(self) -> None:
        """Properties of a keyword's name are properties, and data that looks like a schema is data."""
        schema = {
            "type": "object",
            "properties": {"$ref": NAME, "properties": NAME, "$defs": NAME, "items": {"enum": [{"$ref": "#"}]}},
            "default": {"$ref": "#/nowhere"},
            "required": ["$ref"],
        }
        self.assertEqual(self.inlined(schema), schema)

    def test_bare(self) -> None:
        """Properties without the word around them are understood; nothing else is taken for them."""
        bare = {"city": NAME, "type": {"type": "string"}}
        self.assertEqual(self.inlined({"items": bare})["items"], {"type": "object", "properties": bare})
        for other in (
            {},
            {"default": {}},
            {"items": {}},
            {"x-more": {}},
            {"$comment": {}},
            {"city": NAME, "type": "x"},
        ):
            self.assertEqual(self.inlined(other), other)

    def test_doubling(self) -> None:
        """References that double at every step, or bring in long texts each time, stay within the bound."""
        definitions: dict[str, Any] = {
            f"d{i}": {"properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}, "b": {"$ref": f"#/$defs/d{i + 1}"}}}
            for i in range(30)
        }
        for description in ("d", "d" * 100_000):
            definitions["d5"]["description"] = description
            schema = {"$ref": "#/$defs/d0", "$defs": definitions}
            made = inlined(schema)
            self.assertLess(len(json.dumps(made)), MAX_GROWTH_BYTES + 2 * len(json.dumps(schema)))

    def test_depth(self) -> None:
        """However deep it is given, or its references lead, it ends somewhere."""
        deep: dict[str, Any] = {}
        for _ in range(400):
            deep = {"type": "array", "description": "d", "items": deep}
        chain = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(5_000)}
        made = json.dumps(inlined(deep))
        self.assertEqual(made.count("items"), MAX_DEPTH)
        self.assertTrue(inlined({"$ref": "#/$defs/d0", "$defs": chain})["description"])

    def test_garbage(self) -> None:
        """What is no schema comes back as it is."""
        for value in (None, 1, "x", [1], True, {"properties": [1], "items": 3, "anyOf": {}, "$ref": 5}):
            self.assertEqual(self.inlined(value), value)


class MergingTests(SynchronousTestCase):
    """Two schemas at once."""

    def test_merges(self) -> None:
        """All properties are there, those of both are merged, and the first has the say where both do."""
        first = {"type": "object", "properties": {"a": {"title": "A"}, "b": True}, "required": ["a"]}
        second = {
            "type": "array",
            "properties": {"a": NAME, "b": NAME, "c": NAME},
            "required": ["c", "a"],
            "title": "S",
        }
        before = copy.deepcopy((first, second))
        properties = {"a": {"title": "A", **NAME}, "b": True, "c": NAME}
        both = {"type": "object", "properties": properties, "required": ["a", "c"], "title": "S"}
        self.assertEqual((merged(first, second), (first, second)), (both, before))

    def test_all_of(self) -> None:
        """allOf is merged with what stands beside it, also within itself; parts that are no schemas are passed over."""
        schema = {"title": "T", "allOf": [{"allOf": [{"required": ["a"]}, 5]}, {"required": ["b"], "title": "U"}]}
        self.assertEqual(without_all_of(schema), {"title": "T", "required": ["a", "b"]})
        self.assertEqual(without_all_of({"allOf": 5}), {"allOf": 5})
