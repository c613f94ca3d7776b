"""What the sandbox reads of a request: the user's last words, tool results, tools, and the schema to answer by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import msgspec

from claudeproxyd.executors.sandbox.schema import instance
from claudeproxyd.json_guards import as_array, as_object, as_string
from claudeproxyd.messages.loose import without_halves

_CALL = re.compile(r"\[tool:([A-Za-z0-9_-]+)\s*")
_SENTENCE = re.compile(r"use the (\S+) tool to \w+ [\"“`](.+?)[\"”`]", re.IGNORECASE | re.DOTALL)

#: The last ones of a turn that are looked at: a body of a few kilobytes may hold two million.
_MAX_BLOCKS = 10_000

_json = json.JSONDecoder()


class Prompt:
    """One request's body as far as the sandbox cares. Takes any JSON object; what has an odd shape reads as absent."""

    def __init__(self, body: bytes) -> None:
        self._request = as_object(_decode(body))
        turn = next(
            (m for m in map(as_object, reversed(as_array(self._request.get("messages")))) if m.get("role") == "user"),
            {},
        )
        content = turn.get("content")
        blocks = (
            [{"type": "text", "text": content}]
            if isinstance(content, str)
            else [*map(as_object, as_array(content)[-_MAX_BLOCKS:])]
        )
        self.said = ""
        """The user's last words. Claude Code puts reminders of its own around them."""
        self.results: list[str] = []
        """What tools brought, where the last turn is that."""
        for block in blocks:
            text = as_string(block.get("text")).strip()
            if block.get("type") == "tool_result":
                self.results.append(_result(block.get("content")))
            elif text and not text.startswith("<system-reminder>"):
                self.said = text
        tools = {as_string(tool.get("name")): tool for tool in map(as_object, as_array(self._request.get("tools")))}
        self.tools: Mapping[str, Mapping[str, object]] = tools
        self.stop_sequences = [s for s in as_array(self._request.get("stop_sequences")) if isinstance(s, str)]

    @property
    def thinks(self) -> bool:
        """Whether thinking is asked for."""
        return self._thinking.get("type") in ("enabled", "adaptive", "between_tools")

    @property
    def shows_thinking(self) -> bool:
        """Whether the thoughts are to be seen, not only their signature."""
        return self._thinking.get("display") != "omitted"

    @property
    def _thinking(self) -> Mapping[str, object]:
        return as_object(self._request.get("thinking"))

    def json_answer(self) -> str | None:
        """A minimal answer by the schema that the request prescribes, or None if it prescribes none."""
        form = as_object(as_object(self._request.get("output_config")).get("format"))
        if form.get("type") != "json_schema":
            return None
        return json.dumps(instance(as_object(form.get("schema"))))

    def calls(self) -> list[tuple[str, str]]:
        """The tool calls that the user or ``tool_choice`` asks for: name and JSON input. None after tool results."""
        choice = as_object(self._request.get("tool_choice"))
        if self.results or choice.get("type") == "none":
            return []
        asked = list(self._asked())
        if not asked and self.tools and choice.get("type") in ("any", "tool"):
            name = as_string(choice.get("name")) or next(iter(self.tools))
            asked = [(name, json.dumps(instance(self._schema(name))))]
        return asked

    def _asked(self) -> Iterator[tuple[str, str]]:
        for match in _CALL.finditer(self.said):
            try:
                value, end = _json.raw_decode(self.said, match.end())
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict) and self.said[end:].lstrip().startswith("]"):
                yield match[1], self.said[match.end() : end]
        for name, words in _SENTENCE.findall(self.said):
            schema = self._schema(name)
            properties = as_object(schema.get("properties"))
            strings = [key for key in properties if as_object(properties[key]).get("type") == "string"]
            required = [key for key in strings if key in as_array(schema.get("required"))]
            argument = next(iter(required + strings), "input")
            yield name, json.dumps({argument: words}, ensure_ascii=False)

    def _schema(self, name: str) -> Mapping[str, object]:
        return as_object(self.tools.get(name, {}).get("input_schema"))


def _decode(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return msgspec.json.decode(without_halves(body))


def _result(content: object) -> str:
    """The text of a tool_result's content."""
    if isinstance(content, str):
        return content
    return "\n".join(as_string(block.get("text")) for block in map(as_object, as_array(content)))
