"""What the sandbox reads of a request."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.executors.sandbox.prompt import Prompt
from claudeproxyd.executors.sandbox.schema import instance

BASH = {
    "name": "Bash",
    "input_schema": {
        "type": "object",
        "properties": {"timeout": {"type": "number"}, "description": {"type": "string"}, "command": {"type": "string"}},
        "required": ["command"],
    },
}


def prompt(content: Any, **members: Any) -> Prompt:
    return Prompt(json.dumps({"messages": [{"role": "user", "content": content}], **members}).encode())


class PromptTests(SynchronousTestCase):
    """The user's words and what they ask for."""

    def test_half_a_character(self) -> None:
        """Half a surrogate pair is a replacement character: what is said back can be told."""
        self.assertEqual(Prompt(b'{"messages":[{"role":"user","content":"a\\ud83d"}]}').said, "a\ufffd")

    def test_last_words(self) -> None:
        """The user's own last words are found, past Claude Code's reminders and its system turn."""
        messages = [
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "hm"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "second"},
                    {"type": "text", "text": "<system-reminder>Be good.</system-reminder>"},
                ],
            },
            {"role": "system", "content": "more"},
        ]
        self.assertEqual(Prompt(json.dumps({"messages": messages}).encode()).said, "second")

    def test_marked_calls(self) -> None:
        """Marks give tool calls with exactly their JSON, brackets inside it included."""
        asked = prompt('[tool:Bash {"command":"echo ]"}] and [tool:Read {"n": 1.0}]', tools=[BASH])
        self.assertEqual(asked.calls(), [("Bash", '{"command":"echo ]"}'), ("Read", '{"n": 1.0}')])

    def test_a_sentence(self) -> None:
        """A plain sentence fills the tool's first required text."""
        asked = prompt('Please use the Bash tool to run "echo hi".', tools=[BASH])
        self.assertEqual(asked.calls(), [("Bash", '{"command": "echo hi"}')])

    def test_damaged_marks(self) -> None:
        """A mark whose input is no JSON object is only text."""
        for mark in (
            "[tool:Bash {]",
            "[tool:Bash []]",
            '[tool:Bash {"a":1}',
            "[tool:Bash]",
            "[tool:Bash " + "[" * 5000,
        ):
            self.assertEqual(prompt(mark, tools=[BASH]).calls(), [], mark[:20])

    def test_tool_choice(self) -> None:
        """A forced choice gives a call; none forbids it; after a result it is time to answer."""
        forced = {"type": "tool", "name": "Bash"}
        self.assertEqual(prompt("hi", tools=[BASH], tool_choice=forced).calls(), [("Bash", '{"command": "sandbox"}')])
        self.assertEqual(prompt("hi", tools=[BASH], tool_choice={"type": "any"}).calls()[0][0], "Bash")
        self.assertEqual(prompt("[tool:Bash {}]", tools=[BASH], tool_choice={"type": "none"}).calls(), [])
        result = [{"type": "tool_result", "content": "out"}, {"type": "text", "text": "[tool:Bash {}]"}]
        self.assertEqual(prompt(result, tools=[BASH], tool_choice=forced).calls(), [])

    def test_results(self) -> None:
        """Both shapes of a tool's result are read."""
        blocks = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
        read = prompt([{"type": "tool_result", "content": "out"}, {"type": "tool_result", "content": blocks}])
        self.assertEqual(read.results, ["out", "a\n\nb"])

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(["messages", "tools", "tool_choice", "thinking", "output_config", "stop_sequences"]),
            st.recursive(
                st.none() | st.integers() | st.text(),
                lambda inner: (
                    st.lists(inner)
                    | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "name", "format"]), inner)
                ),
            ),
        )
    )
    def test_odd_shapes(self, request: dict[str, Any]) -> None:
        """A body of whatever shape brings no traceback."""
        read = Prompt(json.dumps(request).encode())
        self.assertIsInstance(read.calls(), list)
        self.assertIsInstance(read.json_answer(), str | None)
        self.assertIsInstance(read.thinks and read.shows_thinking, bool)


class InstanceTests(SynchronousTestCase):
    """Small values for schemas."""

    def test_values(self) -> None:
        """Each kind of schema gets a value that it accepts."""
        for schema, value in [
            ({"type": "string"}, "sandbox"),
            ({"type": "string", "minLength": 9}, "sandboxxx"),
            ({"type": "integer", "minimum": 5}, 5),
            ({"type": "number", "minimum": 0.5}, 0.5),
            ({"type": "number", "maximum": -1}, -1),
            ({"type": "boolean"}, False),
            ({"type": "null"}, None),
            ({"type": ["string", "null"]}, "sandbox"),
            ({"enum": ["a", "b"]}, "a"),
            ({"const": 0}, 0),
            ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
            ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
            ({"type": "array"}, []),
            (BASH["input_schema"], {"command": "sandbox"}),
            (
                {
                    "$ref": "#/$defs/a",
                    "$defs": {"a": {"type": "object", "properties": {"b": {"const": 1}}, "required": ["b"]}},
                },
                {"b": 1},
            ),
        ]:
            self.assertEqual(instance(schema), value, schema)  # type: ignore[arg-type]

    def test_greedy_schemas(self) -> None:
        """A schema that contains itself, or multiplies, ends in a small value, soon."""
        members = {str(n): {"$ref": "#"} for n in range(50)}
        for schema in (
            {"$ref": "#"},
            {"type": "object", "properties": members, "required": list(members)},
            {"type": "array", "minItems": 10**9, "items": {"$ref": "#"}},
            {"type": "string", "minLength": 10**9},
        ):
            self.assertLess(len(json.dumps(instance(schema))), 1_000_000)
