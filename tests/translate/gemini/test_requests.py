"""Whole requests, as Google gets them."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.conversation import (
    Conversation,
    Media,
    Part,
    Text,
    Thinking,
    Thought,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
    WebSearch,
)
from claudeproxyd.translate.gemini.requests import GeminiRequest, Terms, translate
from claudeproxyd.translate.signatures import ConversationDigest, Signatures
from tests.golden.families.gemini.strict import check_request

SCHEMA = msgspec.Raw(b'{"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}')
NEW = "gemini-3-pro-preview"
OLD = "gemini-2.5-flash"
OLDER = "gemini-2.0-flash"


def hello(**options: Any) -> Conversation:
    options.setdefault("system", [])
    options.setdefault("turns", [Turn("user", [Text("hi")])])
    options.setdefault("max_tokens", 1024)
    return Conversation(**options)


class RequestTestCase(SynchronousTestCase):
    """One conversation, one body."""

    def request(
        self,
        conversation: Conversation,
        model: str = NEW,
        on_vertex: bool = False,
        limit: int | None = None,
        safety_settings: list[tuple[str, str]] | None = None,
    ) -> GeminiRequest:
        terms = Terms(model, limit, on_vertex, safety_settings or ())
        return translate(conversation, terms, Signatures(lambda: 0.0))

    def body(self, conversation: Conversation, model: str = NEW, **options: Any) -> dict[str, Any]:
        """Of a request that nothing is to be warned of."""
        request = self.request(conversation, model, **options)
        self.assertEqual(list(request.warnings), [])
        body: dict[str, Any] = json.loads(request.body)
        check_request(body, options.get("on_vertex", False))
        return body

    def refusal(self, conversation: Conversation, model: str = NEW, **options: Any) -> str:
        return str(self.assertRaises(Unsupported, self.request, conversation, model, **options))


class BodyTests(RequestTestCase):
    """The members of the body."""

    def test_least(self) -> None:
        """What was not asked for is not sent."""
        self.assertEqual(
            self.body(hello()),
            {
                "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
                "generationConfig": {"maxOutputTokens": 3072, "thinkingConfig": {"thinkingLevel": "LOW"}},
            },
        )

    def test_system(self) -> None:
        """The prefix keeps its blocks."""
        self.assertEqual(
            self.body(hello(system=["a", "b"]))["systemInstruction"], {"parts": [{"text": "a"}, {"text": "b"}]}
        )

    def test_sampling(self) -> None:
        """Temperature and its like go as they were given."""
        config = self.body(hello(temperature=0.0, top_p=0.5, top_k=7), OLDER)["generationConfig"]
        self.assertEqual(config, {"maxOutputTokens": 1024, "temperature": 0.0, "topP": 0.5, "topK": 7})

    def test_limits(self) -> None:
        """More than the route or the model can give is not asked for; the route has the say."""
        for model, limit, asked, sent in (
            (NEW, None, 128_000, 65_536),
            (NEW, 8_000, 128_000, 8_000),
            (OLDER, None, 9_000, 8_192),
            (OLDER, 10_000, 9_000, 9_000),
            ("mine", None, 128_000, 128_000),
        ):
            config = self.body(hello(max_tokens=asked), model, limit=limit)["generationConfig"]
            self.assertEqual(config["maxOutputTokens"], sent, (model, limit))

    def test_thinking_within_the_limit(self) -> None:
        """A budget leaves the answer some of what the route allows."""
        conversation = hello(max_tokens=20_000, thinking=Thinking("budget", budget=10_000))
        config = self.body(conversation, OLD, limit=2_000)["generationConfig"]
        self.assertEqual(config["thinkingConfig"], {"thinkingBudget": 1_999, "includeThoughts": True})

    def test_stop_sequences(self) -> None:
        """They are for the reader of the answer: Google would not say which one it stopped at."""
        request = self.request(hello(stop_sequences=list("abcdefg")))
        self.assertNotIn(b"stopSequences", request.body)
        self.assertEqual(list(request.stop_sequences), list("abcdefg"))

    def test_safety_settings(self) -> None:
        """The operator's settings go with every request."""
        body = self.body(hello(), safety_settings=[("HARM_CATEGORY_HARASSMENT", "OFF")])
        self.assertEqual(body["safetySettings"], [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}])

    def test_prefill(self) -> None:
        """Words put into the model's mouth are refused as newer Claude models refuse them; they can be counted."""
        turns = [Turn("user", [Text("hi")]), Turn("assistant", [Text("Well,")])]
        self.assertEqual(self.refusal(hello(turns=turns)), "This model does not support assistant message prefill")
        self.assertEqual(len(self.body(hello(turns=turns, max_tokens=None))["contents"]), 2)

    def test_empty(self) -> None:
        """max_tokens 0 is answered without asking Google."""
        self.assertTrue(self.request(hello(max_tokens=0)).empty)
        self.assertFalse(self.request(hello(max_tokens=1)).empty)
        self.assertFalse(self.request(hello(max_tokens=None)).empty)

    def test_warnings_of_the_reader(self) -> None:
        """What the conversation's reader warned of is still warned of, and the conversation is left as it was."""
        conversation = hello(warnings=["x"], thinking=Thinking("adaptive"))
        self.assertEqual(len(self.request(conversation, OLDER).warnings), 2)
        self.assertEqual(conversation.warnings, ["x"])

    def test_what_the_answer_may_show(self) -> None:
        """Thinking blocks are for clients that asked for thinking; one may want them without words."""
        for thinking, thinks, shows in (
            (Thinking(), False, True),
            (Thinking("disabled"), False, True),
            (Thinking("budget", budget=1_024), True, True),
            (Thinking("adaptive", shown=False), True, False),
        ):
            request = self.request(hello(thinking=thinking))
            self.assertEqual((request.thinks, request.shows), (thinks, shows), thinking)


class SchemaTests(RequestTestCase):
    """Structured output."""

    def test_schema(self) -> None:
        """The answer follows the client's schema, its members in the client's order."""
        request = self.request(hello(output_schema=SCHEMA))
        config = json.loads(request.body)["generationConfig"]
        self.assertEqual(config["responseMimeType"], "application/json")
        self.assertEqual(list(config["responseJsonSchema"]["properties"]), ["b", "a"])
        self.assertIn(bytes(SCHEMA), request.body)

    def test_schema_for_older_models(self) -> None:
        """A model that does not read JSON Schema gets Google's own."""
        config = self.body(hello(output_schema=SCHEMA), OLDER)["generationConfig"]
        self.assertEqual(config["responseSchema"]["type"].upper(), "OBJECT")

    def test_with_tools(self) -> None:
        """Where the model refuses schemas beside tools, so do we, by name."""
        conversation = hello(output_schema=SCHEMA, tools=[Tool("f", "", SCHEMA)])
        self.body(conversation)
        self.assertIn("output_config.format", self.refusal(conversation, OLD))
        self.assertIn("output_config.format", self.refusal(hello(output_schema=SCHEMA, web_search=WebSearch()), OLD))


class ToolTests(RequestTestCase):
    """Functions and web search."""

    def test_declarations(self) -> None:
        """A tool's schema goes as the client wrote it, byte for byte; an empty description stays away."""
        request = self.request(hello(tools=[Tool("f", "does f", SCHEMA), Tool("g", "", SCHEMA)]))
        first, second = json.loads(request.body)["tools"][0]["functionDeclarations"]
        self.assertEqual((first["name"], first["description"]), ("f", "does f"))
        self.assertNotIn("description", second)
        self.assertEqual(request.body.count(b'"parametersJsonSchema":' + bytes(SCHEMA)), 2)

    def test_declarations_for_older_models(self) -> None:
        """A model that does not read JSON Schema gets Google's own; a function without parameters none."""
        tools = [Tool("f", "", SCHEMA), Tool("g", "", msgspec.Raw(b'{"type":"object","properties":{}}'))]
        first, second = self.body(hello(tools=tools), OLDER)["tools"][0]["functionDeclarations"]
        self.assertEqual(first["parameters"]["type"].upper(), "OBJECT")
        self.assertEqual(second, {"name": "g"})

    def test_choice(self) -> None:
        """Whether a tool must be called; left open, Google's default is the client's."""
        tools = [Tool("f", "", SCHEMA), Tool("a b", "", SCHEMA)]
        for choice, config in (
            (ToolChoice(), None),
            (ToolChoice("any"), {"mode": "ANY"}),
            (ToolChoice("none"), {"mode": "NONE"}),
            (ToolChoice("tool", "f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        ):
            body = self.body(hello(tools=tools, tool_choice=choice))
            self.assertEqual(body.get("toolConfig", {}).get("functionCallingConfig"), config, choice)
            self.assertEqual(len(body["tools"][0]["functionDeclarations"]), 2)

    def test_names(self) -> None:
        """A name that Google would refuse is the same in the declaration and the choice, and can be read back."""
        name = "mcp/" + "x" * 80
        request = self.request(hello(tools=[Tool(name, "", SCHEMA)], tool_choice=ToolChoice("tool", name)))
        body = json.loads(request.body)
        (allowed,) = body["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"]
        self.assertEqual(body["tools"][0]["functionDeclarations"][0]["name"], allowed)
        self.assertEqual(request.names.client(allowed), name)

    def test_parallel(self) -> None:
        """That extra calls cannot be forbidden is a warning."""
        choice = ToolChoice(parallel=False)
        (warning,) = self.request(hello(tools=[Tool("f", "", SCHEMA)], tool_choice=choice)).warnings
        self.assertIn("disable_parallel_tool_use", warning)
        self.body(hello(tool_choice=choice))

    def test_search(self) -> None:
        """A web search is Google's."""
        for model in (NEW, OLD, OLDER):
            self.assertEqual(self.body(hello(web_search=WebSearch()), model)["tools"], [{"googleSearch": {}}])
        self.assertNotIn("tools", self.body(hello(web_search=WebSearch(), tool_choice=ToolChoice("none"))))

    def test_search_with_functions(self) -> None:
        """Newer models do both, the Developer API if asked to tell of its searches; older ones are not tried."""
        conversation = hello(web_search=WebSearch(), tools=[Tool("f", "", SCHEMA)], tool_choice=ToolChoice("any"))
        body = self.body(conversation)
        self.assertEqual([list(tool) for tool in body["tools"]], [["functionDeclarations"], ["googleSearch"]])
        calling = {"functionCallingConfig": {"mode": "ANY"}}
        self.assertEqual(body["toolConfig"], {"includeServerSideToolInvocations": True, **calling})
        self.assertEqual(self.body(conversation, on_vertex=True)["toolConfig"], calling)
        self.assertIn("web_search", self.refusal(conversation, OLD))

    def test_search_limits(self) -> None:
        """What Google's search cannot be told is warned of; Vertex knows blocked domains."""
        search = WebSearch(allowed_domains=["a.example"], blocked_domains=["b.example"], max_uses=3)
        request = self.request(hello(web_search=search))
        self.assertEqual(
            [warning.partition(":")[0] for warning in request.warnings],
            ["web_search.allowed_domains", "web_search.max_uses", "web_search.blocked_domains"],
        )
        body = self.body(hello(web_search=WebSearch(blocked_domains=["b.example"])), on_vertex=True)
        self.assertEqual(body["tools"], [{"googleSearch": {"excludeDomains": ["b.example"]}}])

    def test_search_demanded(self) -> None:
        """Claude Code demands a search where it wants one: Google decides by itself, and that is warned of."""
        for choice in (ToolChoice("tool", "web_search"), ToolChoice("any")):
            request = self.request(hello(web_search=WebSearch(), tool_choice=choice))
            self.assertNotIn("toolConfig", json.loads(request.body))
            (warning,) = request.warnings
            self.assertIn("tool_choice", warning)


class CountTests(RequestTestCase):
    """The bodies of countTokens."""

    CONVERSATION = hello(
        max_tokens=None, system=["s"], tools=[Tool("f", "", SCHEMA)], tool_choice=ToolChoice("any"), top_k=3
    )

    def test_developer_api(self) -> None:
        """All that generateContent would get is counted."""
        request = self.request(self.CONVERSATION)
        self.assertEqual(
            json.loads(request.count_body),
            {"generateContentRequest": {"model": f"models/{NEW}", **json.loads(request.body)}},
        )
        request = self.request(self.CONVERSATION, "tunedModels/mine")
        self.assertEqual(json.loads(request.count_body)["generateContentRequest"]["model"], "tunedModels/mine")

    def test_vertex(self) -> None:
        """Vertex gets the members that it knows, in the flat."""
        request = self.request(self.CONVERSATION, on_vertex=True, safety_settings=[("HARM_CATEGORY_HARASSMENT", "OFF")])
        body = json.loads(request.body)
        del body["toolConfig"], body["safetySettings"]
        self.assertEqual(json.loads(request.count_body), body)
        self.assertEqual(list(body), ["systemInstruction", "tools", "contents", "generationConfig"])


# Any conversation.

words = st.text(min_size=1, max_size=20)
names = st.text(min_size=1, max_size=90)
data = st.binary(min_size=1, max_size=9).map(lambda raw: base64.b64encode(raw).decode())
kinds = st.sampled_from(["image", "document"])
urls = st.sampled_from(
    ["https://x.example/a.png", "https://x.example/a.pdf", "https://x.example/a?b=c.png", "gs://a/b"]
)
media_types = st.sampled_from(["image/gif", "application/pdf", "text/csv", ""])
media = st.builds(
    Media, st.just("image"), st.sampled_from(["image/png", "image/jpeg", "image/webp"]), data
) | st.builds(Media, st.just("document"), st.just("application/pdf"), data, st.just(""), st.just("") | words)
odd_media = st.builds(Media, kinds, media_types, data) | st.builds(Media, kinds, st.just(""), st.just(""), urls)
texts = st.builds(Text, words)
thoughts = st.builds(Thought, st.just("") | words, st.binary(max_size=9))
inputs = st.dictionaries(words, st.integers() | words | st.none(), max_size=3)
schemas = st.sampled_from(
    [
        bytes(SCHEMA),
        b'{"type":"object"}',
        b'{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"a_b":{"type":'
        b'["string","null"],"minLength":1},"c":{"anyOf":[{"$ref":"#/$defs/D"},{"const":3}]}},"$defs":{"D":{"type":'
        b'"object","additionalProperties":{"type":"number"}}},"required":["a_b"],"additionalProperties":false}',
    ]
).map(msgspec.Raw)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """As the reader makes them: turns alternate, every call is answered at the head of the next turn."""
    said_by_user = texts | media if draw(st.integers(0, 3)) else texts | odd_media
    tools = draw(st.lists(names, max_size=3, unique=True))
    turns = [Turn("user", draw(st.lists(said_by_user, min_size=1, max_size=3)))]
    for step in range(draw(st.integers(0, 3))):
        said: list[Part] = draw(st.lists(texts | thoughts, min_size=1, max_size=3))
        calls = draw(st.lists(st.sampled_from(tools), max_size=3)) if tools else []
        results: list[Part] = []
        for number, name in enumerate(calls):
            said.append(ToolUse(f"toolu_{step}_{number}", name, raw(draw(inputs))))
            content = draw(st.lists(said_by_user, max_size=2))
            results.append(ToolResult(f"toolu_{step}_{number}", name, content, draw(st.booleans())))
        turns.append(Turn("assistant", said))
        turns.append(Turn("user", results + draw(st.lists(said_by_user, min_size=not results, max_size=2))))
    kind = draw(st.sampled_from(["auto", "any", "none", *(["tool"] if tools else [])]))
    choice = ToolChoice(kind, draw(st.sampled_from(tools)) if kind == "tool" else "", draw(st.booleans()))
    max_tokens = draw(st.integers(1, 200_000))
    rarely = st.integers(0, 3).map(lambda number: not number)
    efforts = st.sampled_from(["", "low", "medium", "high", "xhigh", "max"])
    return Conversation(
        system=draw(st.lists(words, max_size=2)),
        turns=turns,
        tools=[Tool(name, draw(st.just("") | words), draw(schemas)) for name in tools],
        web_search=WebSearch(max_uses=draw(st.none() | st.integers(1, 9))) if draw(rarely) else None,
        tool_choice=choice,
        thinking=Thinking(
            draw(st.sampled_from(["default", "disabled", "budget", "adaptive"])),
            draw(st.integers(1, max_tokens)),
            draw(efforts),
            draw(st.booleans()),
        ),
        max_tokens=max_tokens,
        stop_sequences=draw(st.lists(words, max_size=7)),
        temperature=draw(st.none() | st.floats(0, 1)),
        top_p=draw(st.none() | st.floats(0, 1)),
        top_k=draw(st.none() | st.integers(0, 500)),
        output_schema=draw(schemas) if draw(rarely) else None,
    )


models = st.sampled_from([NEW, OLD, OLDER, "gemini-3-flash-preview", "gemini-2.5-pro", "gemma-3-27b-it", "mine"])


class PropertyTests(RequestTestCase):
    """Whatever a client says, Google understands, or the client is told why not."""

    @settings(max_examples=200, deadline=None)
    @given(conversations(), models, st.booleans())
    def check(self, conversation: Conversation, model: str, on_vertex: bool) -> None:
        signatures = Signatures(lambda: 0.0)
        said = ConversationDigest(conversation.system)
        for turn in conversation.turns:
            for part in turn.parts:
                if isinstance(part, ToolUse) and part.id.endswith("1"):
                    signatures.keep(part.id, "a2VwdA==")
                elif isinstance(part, Text):
                    signatures.keep(said.key(part.text), "dGV4dA==")
            said.update(turn)
        try:
            request = translate(conversation, Terms(model, None, on_vertex), signatures)
        except Unsupported as refusal:
            self.assertTrue(str(refusal))
            return
        body = json.loads(request.body)
        check_request(body, on_vertex)
        json.loads(request.count_body)
        self.check_results(conversation, body)

    def check_results(self, conversation: Conversation, body: dict[str, Any]) -> None:
        """No call, result or text is missing, and each name is read back."""
        written = json.dumps(body["contents"], ensure_ascii=False)
        for turn in conversation.turns:
            for part in turn.parts:
                if isinstance(part, Text):
                    self.assertIn(json.dumps(part.text, ensure_ascii=False), written)
                elif isinstance(part, ToolUse):
                    self.assertEqual(written.count(json.dumps(part.id)), 2)

    def test_any_conversation(self) -> None:
        """Google's own types take every body, in the order of turns, calls and results that its API wants."""
        self.check()
