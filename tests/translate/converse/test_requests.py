"""What the executor and the reader have to know of a request, and the parts of it that travel."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.steps import STEP
from claudeproxyd.translate.conversation import Thought
from claudeproxyd.translate.converse.models import capabilities_of
from claudeproxyd.translate.converse.policy import POLICY
from claudeproxyd.translate.converse.reasoning import ReasoningContent, ReasoningText, seal, unseal
from claudeproxyd.translate.converse.requests import ConverseRequest, ConverseTerms, translate, translation
from claudeproxyd.translate.converse.schemas import MAX_REMEMBERED_BYTES, tool_schema
from claudeproxyd.translate.reading import read_conversation
from tests.translate.asking import assistant, body, call, result, text, tool, user
from tests.translate.converse.answering import METADATA, START, delta, end, stop, whole
from tests.translate.converse.answering import call as begun
from tests.translate.converse.answering import text as said

NOVA = "amazon.nova-pro-v1:0"
LLAMA = "meta.llama3-3-70b-instruct-v1:0"
OSS = "openai.gpt-oss-120b-1:0"


def translated(*messages: Any, model: str = NOVA, **members: Any) -> ConverseRequest:
    conversation = read_conversation(body(*messages, **members), family="bedrock", policy=POLICY)
    return translate(conversation, ConverseTerms(model))


class RequestTests(SynchronousTestCase):
    """Beside the body."""

    def test_streams(self) -> None:
        """Llama, Mistral and Palmyra do not stream when they have tools; without tools they do, and others always."""
        given = {"tools": [tool("look")]}
        for model, with_tools in ((NOVA, True), (LLAMA, False), ("mistral.x", False), ("writer.x", False), ("x", True)):
            self.assertEqual(translated(model=model, **given).streams, with_tools, model)
            self.assertTrue(translated(model=model).streams, model)

    def test_calls(self) -> None:
        """The ids of all calls so far are known, as clients have them."""
        made = translated(user("a"), assistant(call("call|1")), user(result("call|1", "b")), tools=[tool("look")])
        self.assertEqual(made.calls, {"call|1"})

    def test_counted_only(self) -> None:
        """A conversation that is only to be counted may end with the assistant."""
        messages = json.loads(translated(user("a"), assistant("b"), max_tokens=None).body)["messages"]
        self.assertEqual(messages[-1], {"role": "assistant", "content": [{"text": "b"}]})

    def test_steps(self) -> None:
        """A long conversation is translated in many steps."""
        long = [user(*[text("a")] * STEP), assistant("b"), user("c")]
        conversation = read_conversation(body(*long), family="bedrock", policy=POLICY)
        steps = translation(conversation, ConverseTerms(NOVA))
        self.assertGreater(sum(1 for _ in steps), 4)

    def test_unread(self) -> None:
        """The client's own JSON goes up as it was written, white space and all."""
        given = b'{ "deep": [1.0,\t1e2] }'
        raw = body(user("a"), assistant(call("t1")), user(result("t1", "b"))).replace(
            b'"input": {}', b'"input": ' + given
        )
        conversation = read_conversation(raw, family="bedrock", policy=POLICY)
        self.assertIn(given, translate(conversation, ConverseTerms(NOVA)).body)


class ReasoningTests(SynchronousTestCase):
    """Reasoning on its way through a client."""

    def test_and_back(self) -> None:
        """What is sealed for a model comes back as it was; its text from the thinking block, unless it is sealed."""
        gpt, oss, glm = (capabilities_of(id) for id in ("openai.gpt-6-sol", OSS, "zai.glm-5"))
        redacted = ReasoningContent(redacted_content="U2Vj")
        self.assertEqual(unseal(Thought("", seal(redacted, gpt)), gpt), redacted)
        shown = seal(ReasoningContent(ReasoningText()), oss)
        self.assertEqual(unseal(Thought("Hm.", shown), oss), ReasoningContent(ReasoningText("Hm.")))
        omitted = ReasoningContent(ReasoningText("Hm.", "c2ln"))
        self.assertEqual(unseal(Thought("", seal(omitted, glm)), glm), omitted)

    def test_not_taken(self) -> None:
        """What a model would refuse is not sealed: signatures by gpt-oss, what is unsigned by most."""
        signed, unsigned = ReasoningContent(ReasoningText(None, "c2ln")), ReasoningContent(ReasoningText())
        self.assertEqual(seal(signed, capabilities_of(OSS)), b"")
        self.assertEqual(seal(unsigned, capabilities_of("zai.glm-5")), b"")
        self.assertEqual(seal(ReasoningContent(redacted_content="a"), capabilities_of(NOVA)), b"")

    def test_what_clients_bring(self) -> None:
        """Another model's, and what is none, stays here."""
        oss = capabilities_of(OSS)
        for payload in (
            b"",
            b"[]",
            b'["gpt-oss"]',
            b'["gpt-oss",{"redactedContent":1}]',
            b"\xff",
            b'["gpt",{}]',
            b"[" * 9999,
        ):
            self.assertIsNone(unseal(Thought("Hm.", payload), oss), payload)


class SchemaTests(SynchronousTestCase):
    """Schemas of tools."""

    def test_as_given(self) -> None:
        """A schema in which nothing is amiss, or of a model that takes all, stays the client's bytes."""
        schema = msgspec.Raw(b'{ "type":"object", "properties":{} }')
        self.assertEqual(bytes(tool_schema(schema, capabilities_of(NOVA))), bytes(schema))
        odd = msgspec.Raw(b'{"$defs":{},"type":"object"}')
        self.assertIs(tool_schema(odd, capabilities_of(LLAMA)), odd)

    def test_completed(self) -> None:
        """Nova wants a type and properties."""
        made = tool_schema(msgspec.Raw(b'{"additionalProperties":true}'), capabilities_of(NOVA))
        self.assertEqual(json.loads(bytes(made)), {"type": "object", "properties": {}})

    def test_large(self) -> None:
        """One that is too long to be remembered is made all the same."""
        long = json.dumps({"type": "object", "title": "x" * MAX_REMEMBERED_BYTES}).encode()
        made = tool_schema(msgspec.Raw(long), capabilities_of(NOVA))
        self.assertEqual(json.loads(bytes(made)), {"type": "object", "properties": {}})

    def test_unreadable(self) -> None:
        """One that nests beyond all bounds is refused."""
        deep = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
        self.assertRaises(Unsupported, tool_schema, msgspec.Raw(deep), capabilities_of(NOVA))


class RoundTripTests(SynchronousTestCase):
    """An answer, the turn that a client makes of it, and what goes back up."""

    def back(self, model: str, *, shows: bool = True) -> list[Any]:
        """The assistant's content in the next request."""
        message = whole(
            START,
            delta(0, reasoningContent={"text": "Hm. "}),
            delta(0, reasoningContent={"text": "Look."}),
            stop(0),
            delta(1, reasoningContent={"text": "Sure?"}),
            delta(1, reasoningContent={"signature": "c2ln"}),
            stop(1),
            delta(2, reasoningContent={"redactedContent": "U2VjcmV0"}),
            stop(2),
            said(3, "Looking."),
            stop(3),
            begun(4, "tooluse_1", "look"),
            delta(4, toolUse={"input": '{"at":"a"}'}),
            stop(4),
            end("tool_use"),
            METADATA,
            model=model,
            shows=shows,
            tools=["look"],
        )
        turn = {"role": "assistant", "content": message["content"]}
        wish = {"type": "adaptive", "display": "summarized" if shows else "omitted"}
        made = translated(
            user("a"), turn, user(result("tooluse_1", "b")), model=model, tools=[tool("look")], thinking=wish
        )
        content: list[Any] = json.loads(made.body)["messages"][1]["content"]
        return content

    def test_reasoning(self) -> None:
        """Each model gets what it takes of its own reasoning, as it came and where it stood, shown or not."""
        unsigned = {"reasoningContent": {"reasoningText": {"text": "Hm. Look."}}}
        signed = {"reasoningContent": {"reasoningText": {"text": "Sure?", "signature": "c2ln"}}}
        redacted = {"reasoningContent": {"redactedContent": "U2VjcmV0"}}
        rest = [
            {"text": "Looking."},
            {"toolUse": {"toolUseId": "tooluse_1", "name": "look", "input": {"at": "a"}}},
        ]
        for model, taken in (
            ("openai.gpt-6-sol", [signed, redacted]),
            ("zai.glm-5.3", [signed, redacted]),
            ("somebody.new", [signed, redacted]),
            (OSS, [unsigned]),
            ("moonshotai.kimi-k2.5", [unsigned, signed, redacted]),
            ("amazon.nova-2-lite-v1:0", []),
        ):
            for shows in (True, False):
                self.assertEqual(self.back(model, shows=shows), [*taken, *rest], f"{model} {shows}")
