"""A whole request: its members, and what is wrong with bodies."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.conversation import Text, Thinking
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.reading import read_conversation
from tests.translate.asking import assistant, body, call, read, refusal, result, text, user


def thinking(max_tokens: int = 4096, **wish: Any) -> Thinking:
    return read(thinking=wish, max_tokens=max_tokens).thinking


class MemberTests(SynchronousTestCase):
    """What is read beside the messages."""

    def test_plain(self) -> None:
        """Sampling, limits, stops and the user's id come through."""
        said = read(temperature=1, top_p=0.5, top_k=3, stop_sequences=["END"], metadata={"user_id": "u"}, max_tokens=7)
        self.assertEqual((said.temperature, said.top_p, said.top_k), (1.0, 0.5, 3))
        self.assertEqual((said.stop_sequences, said.user_id, said.max_tokens), (["END"], "u", 7))
        self.assertIsNone(read(max_tokens=None).max_tokens)

    def test_system(self) -> None:
        """The system prompt is its texts, without empty ones and without Claude Code's billing line."""
        billing = text("x-anthropic-billing-header: cc_version=2; cch=1;")
        blocks = [billing, text("a", cache_control={"type": "ephemeral"}), text(""), text("b")]
        self.assertEqual(read(system=blocks).system, ["a", "b"])
        self.assertEqual(read(system="a").system, ["a"])
        self.assertEqual(read(system="").system, [])
        self.assertIn("system.0: Input tag 'image'", refusal(system=[{"type": "image"}]))

    def test_cache_marks(self) -> None:
        """Where the client wants caches to end is known of texts: of the prefix, of messages, and of the request's
        end; a mark that is null is none."""
        mark = {"type": "ephemeral"}
        billing = text("x-anthropic-billing-header: cc_version=2; cch=1;", cache_control=mark)
        said = read(
            user(text("a", cache_control=mark), text("b", cache_control=None), text("c")),
            system=[billing, text("d"), text("e", cache_control=mark)],
        )
        self.assertEqual(said.cached_system, [1])
        self.assertEqual(said.turns[0].parts, [Text("a", cached=True), Text("b"), Text("c")])
        self.assertEqual(read(cache_control=mark).turns[0].parts, [Text("hello", cached=True)])
        document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "f"}}
        self.assertEqual(read(user({**document, "cache_control": mark})).turns[0].parts, [Text("f", cached=True)])

    def test_schema(self) -> None:
        """The schema of the answer stays the client's bytes, under its present name and under its first one."""
        wanted = {"type": "json_schema", "schema": {"type": "object"}}
        for members in ({"output_config": {"format": wanted}}, {"output_format": wanted}):
            schema = read(**members).output_schema
            assert schema is not None
            self.assertEqual(bytes(schema), b'{"type": "object"}')
        self.assertIsNone(read(output_config={"format": None}).output_schema)
        self.assertIn("output_config.format.schema: F", refusal(output_config={"format": {"type": "json_schema"}}))
        self.assertIn("output_config.format.type", refusal(output_config={"format": {"type": "xml"}}))

    def test_ranges(self) -> None:
        """What the API refuses here it refuses on every route."""
        self.assertEqual(refusal(temperature=1.1), "temperature: Input should be less than or equal to 1")
        self.assertEqual(refusal(top_p=2), "top_p: Input should be less than or equal to 1")
        self.assertEqual(refusal(top_k=-1), "top_k: Input should be greater than or equal to 0")
        self.assertEqual(refusal(max_tokens=-1), "max_tokens: Input should be greater than or equal to 0")
        self.assertIn("stop_sequences.1: each stop", refusal(stop_sequences=["a", " "]))

    def test_silent(self) -> None:
        """What no answer is the poorer for goes without a word."""
        said = read(
            cache_control={"type": "ephemeral"},
            context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            diagnostics={"previous_message_id": "msg_1"},
            service_tier="auto",
            inference_geo="eu",
            speed="fast",
            stream=True,
        )
        self.assertEqual(said.warnings, [])

    def test_warned(self) -> None:
        """What may be missed is named in a warning, what is not known above all."""
        said = read(fallbacks=[{"model": "m"}], telepathy={"on": True}, output_config={"task_budget": {"total": 9}})
        self.assertEqual(
            [warning.partition(":")[0] for warning in said.warnings],
            ["fallbacks", "telepathy", "output_config.task_budget"],
        )
        self.assertEqual(read(fallbacks=[], telepathy=None).warnings, [])

    def test_refused(self) -> None:
        """What would be another request without it is refused by name: a guard must not be lowered."""
        for name, value in (
            ("safeguards", [{"type": "dangerous_tool_use"}]),
            ("container", "container_1"),
            ("mcp_servers", [{"type": "url", "url": "u", "name": "n"}]),
            ("compaction", {"type": "summarize"}),
        ):
            self.assertIn(f"{name}: `{name}` is not supported", refusal(**{name: value}))
        self.assertEqual(read(safeguards=[], container=None, mcp_servers=[]).warnings, [])

    def test_thread(self) -> None:
        """One that begins brings the whole conversation, and is carried; one that goes on lies elsewhere."""
        self.assertEqual(read(thread={"type": "create"}).warnings, [])
        goes_on = {"type": "continue", "previous_message_id": "msg_1"}
        self.assertIn("thread: a conversation that lies elsewhere", refusal(thread=goes_on))


class ThinkingTests(SynchronousTestCase):
    """What the client wants of the model's thinking."""

    def test_kinds(self) -> None:
        """Each wish is read; none is none."""
        self.assertEqual(read().thinking, Thinking("default"))
        self.assertEqual(thinking(type="disabled"), Thinking("disabled"))
        self.assertEqual(thinking(type="between_tools"), Thinking("adaptive"))
        self.assertEqual(thinking(type="adaptive", display="updates"), Thinking("adaptive"))
        self.assertEqual(thinking(type="adaptive", display="omitted"), Thinking("adaptive", shown=False))
        self.assertEqual(thinking(type="enabled", budget_tokens=2000), Thinking("budget", 2000))

    def test_budget(self) -> None:
        """A budget stays below max_tokens; below 1024 the API takes none."""
        self.assertEqual(thinking(max_tokens=1500, type="enabled", budget_tokens=9000).budget, 1499)
        self.assertEqual(thinking(max_tokens=0, type="enabled", budget_tokens=9000).budget, 0)
        self.assertIn("equal to 1024", refusal(thinking={"type": "enabled", "budget_tokens": 1023}))
        self.assertIn("budget_tokens: Field required", refusal(thinking={"type": "enabled"}))

    def test_effort(self) -> None:
        """The effort is one of the five."""
        self.assertEqual(read(output_config={"effort": "xhigh"}).thinking.effort, "xhigh")
        self.assertEqual(
            refusal(output_config={"effort": "some"}),
            "output_config.effort: Input 'some' is none of the expected values",
        )


class VersionTests(SynchronousTestCase):
    """anthropic-version 2026-10-21 refuses what 2023-06-01 took."""

    def both(self, *messages: Any, **members: Any) -> str:
        read(*messages, **members)
        return refusal(*messages, version="2026-10-21", **members)

    def test_sampling(self) -> None:
        """No sampling parameters, at their defaults neither."""
        for members in ({"temperature": 1}, {"top_p": 1}, {"top_k": 0}):
            (name,) = members
            self.assertEqual(self.both(**members), f"{name}: Extra inputs are not permitted")

    def test_document_in_an_answer(self) -> None:
        """No document directly in an assistant's message."""
        document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}
        told = self.both(user("a"), assistant(document), user("b"))
        self.assertIn("messages.1.content.0: `document`", told)
        read(user(document), version="2026-10-21")

    def test_citations_of_users(self) -> None:
        """No citations on a user's text; an assistant's may have them, and an empty list is none."""
        cited = [{"type": "char_location", "document_title": "T", "cited_text": "c"}]
        self.assertIn("messages.0.content.0.text.citations", self.both(user(text("a", citations=cited))))
        read(user(text("a", citations=[])), assistant(text("b", citations=cited)), user("c"), version="2026-10-21")


class BodyTests(SynchronousTestCase):
    """Bodies that are none."""

    def refused(self, sent: bytes) -> str:
        with self.assertRaises(Unsupported) as caught:
            read_conversation(sent, family="google", policy=POLICY)
        return str(caught.exception)

    def test_places(self) -> None:
        """A wrong type is refused with its place, in the API's manner."""
        for message, told in (
            (user(text(1)), "messages.0.content.0.text: Input should be a valid string"),  # type: ignore[arg-type] # that is the mistake
            (user({}), "messages.0.content.0.type: Field required"),
            ({"role": "user"}, "messages.0.content: Field required"),
            ({"role": "user", "content": 1}, "messages.0.content: Input should be a valid string or list"),
            ({"content": "a"}, "messages.0.role: Field required"),
            ({"role": "tool", "content": "a"}, "messages.0.role: Input 'tool' is none of the expected values"),
            ([], "messages.0: Input should be a valid dictionary"),
            (user({"type": "text"}), "messages.0.content.0.text.text: Field required"),
        ):
            self.assertEqual(refusal(message), told)
        self.assertEqual(refusal(messages="a"), "messages: Input should be a valid list")

    def test_garbage(self) -> None:
        """No JSON, no object, no messages, no text, no end of brackets: each is refused in words."""
        self.assertIn("not valid JSON", self.refused(b"{"))
        self.assertIn("not valid JSON", self.refused(body(tools=[]).replace(b"hello", b"\xff")))
        self.assertIn("not valid JSON", self.refused(body(x="\x00").replace(b"\\u0000", b"\xff")))
        for half, words in ((b"\\ud800", "no low surrogate"), (b"\\udc00", "invalid high surrogate")):
            told = self.refused(body().replace(b"hello", half))
            self.assertTrue(
                told.startswith(f"The request body is not valid JSON: {words} in string: line 1 column "), told
            )
        self.assertEqual(self.refused(b"[]"), "The request body: Input should be a valid dictionary")
        self.assertEqual(self.refused(b"{}"), "messages: Field required")
        deep = b"[" * 100_000 + b"]" * 100_000
        self.assertIn("nested too deeply", self.refused(body(x=0).replace(b'"x": 0', b'"x": ' + deep)))

    def test_bounded(self) -> None:
        """A client cannot have its request's size said back to it, nor written into the log."""
        self.assertLess(len(refusal(user("a"), tools=[{"type": "x" * 100_000}])), 3000)
        said = read(**{f"odd{number}" + "x" * 10_000: True for number in range(100)})
        self.assertLess(sum(map(len, said.warnings)), 200_000)

    def test_too_many(self) -> None:
        """What costs time for each is not read without bound: one request must not stop the daemon for all others."""
        blocks = [text("a")] * 60_000
        offered = {"tool_references": [{"type": "tool_reference", "tool_name": "t"}] * 60_000}
        found = {"type": "tool_search_tool_result", "tool_use_id": "a", "content": offered}
        for told in (
            refusal(*[user("a")] * 100_001),
            refusal(user(*blocks), assistant("b"), user(*blocks)),
            refusal(user("a"), system=[text("a")] * 100_000),
            refusal(user("a"), assistant(call("t")), user(result("t", blocks), *blocks)),
            refusal(user(*[{"type": "document", "source": {"type": "content", "content": blocks}}] * 2)),
            refusal(user("a"), assistant(*[text("a", citations=[{"title": "b"}] * 60_000)] * 2)),
            refusal(user("a"), assistant(*[found] * 2)),
            refusal(user("a"), assistant({"type": "compaction", "tool_changes": [{"type": "tool_removal"}] * 100_000})),
        ):
            self.assertEqual(told, "messages: there is a limit of 100,000 messages and content blocks")
        self.assertEqual(len(read(user(*["a"] * 99_999)).turns[0].parts), 99_999)
        self.assertIn("at most 100 items", refusal(stop_sequences=[str(number) for number in range(101)]))
        self.assertIn("16,384 characters together", refusal(stop_sequences=["x" * 6_000] * 3))
        schema = {"type": "object", "description": "x" * 600_000}
        tools = [{"name": name, "input_schema": schema} for name in ("a", "b")]
        read(tools=tools[:1])
        self.assertIn("their schemas have more than", refusal(tools=tools))
        self.assertIn("1,000,000 objects", refusal(user("{" * 1_000_001)))
        tools = [{"name": f"t{number}", "input_schema": {}} for number in range(10_001)]
        self.assertEqual(len(read(tools=tools[1:]).tools), 10_000)
        self.assertEqual(refusal(tools=tools), "tools: there is a limit of 10,000 tools")
        for odd in ([[]] * 20_001, [0] * 500_002, "," * 500_001):
            self.assertIn("too many values", refusal(user("a"), assistant({"type": "odd", "a": odd})))
        read(user("a"), assistant({"type": "odd", "a": "[," * 19_000}))
        self.assertIn("more than 1,000 members", refusal(**{f"odd{number}": 1 for number in range(1001)}))

    def test_claude_code(self) -> None:
        """A request as Claude Code sends it: everything finds its place and nothing is warned of."""
        request = {
            "model": "claude-opus-5-5",
            "messages": [
                {"role": "user", "content": [text("<system-reminder>ctx</system-reminder>"), text("run")]},
                {"role": "system", "content": "be brief", "output_config": {"effort": "medium"}},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "t", "signature": "EqoB"},
                        {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/a"}},
                        {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {"file_path": "/b"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "content": "none", "is_error": True, "tool_use_id": "toolu_2"},
                        {"tool_use_id": "toolu_1", "type": "tool_result", "content": "1", "cache_control": None},
                    ],
                },
            ],
            "system": [text("x-anthropic-billing-header: cc_version=2.1.330;"), text("You are")],
            "tools": [
                {"name": "Read", "description": "d", "input_schema": {"type": "object"}},
                {"name": "DeferredToolPlaceholder", "input_schema": {"type": "object"}, "defer_loading": True},
            ],
            "metadata": {"user_id": "{}"},
            "max_tokens": 128000,
            "thinking": {"type": "adaptive", "display": "updates"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "high"},
            "stream": True,
        }
        said = read_conversation(json.dumps(request).encode(), family="google", policy=POLICY)
        self.assertEqual(said.warnings, [])
        self.assertEqual(said.system, ["You are"])
        self.assertEqual([tool.name for tool in said.tools], ["Read"])
        self.assertEqual(said.thinking, Thinking("adaptive", effort="medium"))
        self.assertEqual([turn.role for turn in said.turns], ["user", "assistant", "user"])
        self.assertEqual(said.turns[0].parts[-1], Text("<system-reminder>\nbe brief\n</system-reminder>"))
        self.assertEqual([part.id for part in said.turns[2].parts], ["toolu_1", "toolu_2"])  # type: ignore[union-attr] # results
