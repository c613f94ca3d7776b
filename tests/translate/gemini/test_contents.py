"""Turns in Google's words."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.steps import at_once
from claudeproxyd.translate.conversation import (
    Media,
    Part,
    ProviderBlock,
    Text,
    Thought,
    ToolResult,
    ToolUse,
    Turn,
)
from claudeproxyd.translate.gemini.contents import UNSIGNED, ContentWriter
from claudeproxyd.translate.gemini.models import capabilities_of
from claudeproxyd.translate.names import ToolNames
from claudeproxyd.translate.signatures import ConversationDigest, Signatures

OLD = "gemini-2.5-flash"
NEW = "gemini-3-pro-preview"


def user(*parts: Part) -> Turn:
    return Turn("user", list(parts))


def assistant(*parts: Part) -> Turn:
    return Turn("assistant", list(parts))


def use(id: str, name: str = "f", input: str = "{}") -> ToolUse:
    return ToolUse(id, name, msgspec.Raw(input.encode()))


def result(id: str, *content: Text | Media, name: str = "f", is_error: bool = False) -> ToolResult:
    return ToolResult(id, name, list(content), is_error)


class ContentsTestCase(SynchronousTestCase):
    """What one conversation becomes."""

    def setUp(self) -> None:
        self.signatures = Signatures(lambda: 0.0)

    def write(
        self, *turns: Turn, model: str = NEW, on_vertex: bool = False, circulates: bool = False
    ) -> list[dict[str, Any]]:
        names = ToolNames(64, "A-Za-z0-9_", "A-Za-z_")
        writer = ContentWriter(capabilities_of(model), on_vertex, names, self.signatures, circulates=circulates)
        written: list[dict[str, Any]] = json.loads(
            msgspec.json.encode(at_once(writer.write(turns, ConversationDigest())))
        )
        return written

    def parts(self, *parts: Part, **options: Any) -> list[dict[str, Any]]:
        """Of one user turn."""
        (content,) = self.write(user(*parts), **options)
        written: list[dict[str, Any]] = content["parts"]
        return written


class TurnTests(ContentsTestCase):
    """Who says what."""

    def test_roles(self) -> None:
        """The assistant is called model; a text is one part."""
        self.assertEqual(
            self.write(user(Text("hi"), Text("there")), assistant(Text("Hello")), user(Text("bye"))),
            [
                {"role": "user", "parts": [{"text": "hi"}, {"text": "there"}]},
                {"role": "model", "parts": [{"text": "Hello"}]},
                {"role": "user", "parts": [{"text": "bye"}]},
            ],
        )

    def test_turn_of_which_nothing_is_left(self) -> None:
        """Thoughts that the model does not take leave no empty turn behind, and the turns around it are one."""
        turns = user(Text("a")), assistant(Thought("hm", b"")), user(Text("b"))
        self.assertEqual(
            self.write(*turns, model="gemini-2.0-flash"), [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]
        )


class ToolTests(ContentsTestCase):
    """Calls and results."""

    def test_call_and_result(self) -> None:
        """Both bear the id and the function's name; the input is the client's own JSON, a success is output."""
        contents = self.write(
            user(Text("go")),
            assistant(use("toolu_1", "f", '{"b": 1.0, "a": [1e3]}')),
            user(result("toolu_1", Text("one"), Text("two")), Text("and?")),
            model=OLD,
        )
        self.assertEqual(
            contents[1:],
            [
                {
                    "role": "model",
                    "parts": [{"functionCall": {"id": "toolu_1", "name": "f", "args": {"b": 1.0, "a": [1000.0]}}}],
                },
                {
                    "role": "user",
                    "parts": [
                        {"functionResponse": {"id": "toolu_1", "name": "f", "response": {"output": "one\ntwo"}}},
                    ],
                },
                {"role": "user", "parts": [{"text": "and?"}]},
            ],
        )

    def test_error(self) -> None:
        """The model is told that a call has failed."""
        (part,) = self.parts(result("t", Text("no such file"), is_error=True))
        self.assertEqual(part["functionResponse"]["response"], {"error": "no such file"})

    def test_nothing(self) -> None:
        """A tool that says nothing has succeeded all the same."""
        (part,) = self.parts(result("t"))
        self.assertEqual(part["functionResponse"]["response"], {"output": ""})

    def test_names(self) -> None:
        """A name that Google would refuse is changed in the same way in calls and in results."""
        contents = self.write(
            user(Text("go")), assistant(use("t", "mcp/x" * 30)), user(result("t", name="mcp/x" * 30)), model=OLD
        )
        call = contents[1]["parts"][0]["functionCall"]["name"]
        self.assertEqual(contents[2]["parts"][0]["functionResponse"]["name"], call)
        self.assertRegex(call, r"^[a-z_][a-z0-9_]{0,63}$")

    def test_image_within(self) -> None:
        """Newer models see a tool's images as part of its result."""
        (part,) = self.parts(result("t", Text("seen"), Media("image", "image/png", "iVBO")))
        response = part["functionResponse"]
        self.assertEqual(response["response"], {"output": "seen"})
        self.assertEqual(response["parts"], [{"inlineData": {"mimeType": "image/png", "data": "iVBO"}}])

    def test_image_beside(self) -> None:
        """Older models see them after all results, which are alone."""
        results, others = self.write(
            user(result("t", Media("image", "image/png", "iVBO")), result("u", Text("b")), Text("c")), model=OLD
        )
        self.assertEqual([next(iter(part)) for part in results["parts"]], ["functionResponse", "functionResponse"])
        self.assertEqual([next(iter(part)) for part in others["parts"]], ["inlineData", "text"])
        self.assertNotIn("parts", results["parts"][0]["functionResponse"])


class MediaTests(ContentsTestCase):
    """Images and documents."""

    def test_data(self) -> None:
        """Images and PDFs go as they are; a title is told in front."""
        self.assertEqual(
            self.parts(Media("image", "image/webp", "AAAA"), Media("document", "application/pdf", "JVBE", title="T")),
            [
                {"inlineData": {"mimeType": "image/webp", "data": "AAAA"}},
                {"text": "Title: T"},
                {"inlineData": {"mimeType": "application/pdf", "data": "JVBE"}},
            ],
        )

    def test_title_in_result(self) -> None:
        """A document that a tool gives keeps its title as well."""
        (part,) = self.parts(result("t", Text("a"), Media("document", "application/pdf", "JVBE", title="T")))
        self.assertEqual(part["functionResponse"]["response"], {"output": "a\nTitle: T"})

    def test_types_refused(self) -> None:
        """A type that Google does not read is refused by its name, also within a result."""
        gif = Media("image", "image/gif", "R0lG")
        sheet = Media("document", "text/csv", "YQ==")
        for part, name in (
            (gif, "an image of type image/gif"),
            (sheet, "a document of type text/csv"),
            (result("t", gif), "an image of type image/gif"),
        ):
            self.assertIn(name, str(self.assertRaises(Unsupported, self.parts, part)))

    def test_urls_on_vertex(self) -> None:
        """Vertex fetches URLs; an image's type is read off its ending, a document is a PDF."""
        for media, mime_type in (
            (Media("image", "", url="https://x.example/a.PNG?width=3"), "image/png"),
            (Media("image", "", url="https://x.example/a.b/c.jpeg#d"), "image/jpeg"),
            (Media("document", "", url="https://x.example/pdf/2401.01234"), "application/pdf"),
        ):
            (part,) = self.parts(media, on_vertex=True)
            self.assertEqual(part, {"fileData": {"mimeType": mime_type, "fileUri": media.url}})
        (part,) = self.parts(result("t", Media("image", "", url="https://x.example/a.png")), on_vertex=True)
        self.assertIn("fileData", part["functionResponse"]["parts"][0])

    def test_urls_refused(self) -> None:
        """The Developer API fetches nothing for older models, and nobody guesses an image's type."""
        url = "https://x.example/picture"
        for model in ("gemini-2.0-flash", "gemma-3-27b-it", "mine"):
            refusal = self.assertRaises(Unsupported, self.parts, Media("image", "", url=url + ".png"), model=model)
            self.assertIn("an image by url", str(refusal))
            refusal = self.assertRaises(Unsupported, self.parts, Media("document", "", url=url), model=model)
            self.assertIn("a document by url", str(refusal))
        for media, words in (
            (Media("image", "", url="http://x.example/a.png"), "a source's url is not https"),
            (Media("document", "", url="gs://bucket/a.pdf"), "a source's url is not https"),
            (Media("image", "", url="https://x.example/a.heic"), "an image of type image/heic by url"),
        ):
            self.assertIn(words, str(self.assertRaises(Unsupported, self.parts, media)))
        for ending in ("", ".gif", ".png/", "?format=.png"):
            refusal = self.assertRaises(Unsupported, self.parts, Media("image", "", url=url + ending), on_vertex=True)
            self.assertIn("does not end in its type", str(refusal))
            self.assertNotIn("example", str(refusal))  # it may be signed, and what is refused is logged

    def test_urls_that_only_the_operator_may_read(self) -> None:
        """Google is sent to no bucket and no private host, wherever in a turn the client names it."""
        for url in (
            "gs://private/a.png",
            "http://x.example/a.png",
            "data:image/png;base64,AAAA.png",
            "https://[::1]/a.png",
        ):
            for part in (Media("image", "", url=url), result("t", Media("document", "", url=url))):
                refusal = self.assertRaises(Unsupported, self.parts, part, on_vertex=True)
                self.assertIn("public hosts", str(refusal))

    def test_long_refusals(self) -> None:
        """A refusal does not repeat megabytes of what a client has sent."""
        for media in (Media("image", "x" * 1_000_000, "AAAA"), Media("image", "", url="data:" + "x" * 1_000_000)):
            refusal = self.assertRaises(Unsupported, self.parts, media, on_vertex=True)
            self.assertLess(len(str(refusal)), 400)


class NativeTests(ContentsTestCase):
    """Searches that Google has told in its own words."""

    RECORD = b'[{"toolCall":{"id":"s"},"thoughtSignature":"c2ln"},{"toolResponse":{"id":"s"}}]'

    def said(self, *parts: Part, circulates: bool = True) -> list[dict[str, Any]]:
        contents = self.write(user(Text("go")), assistant(*parts), user(Text("on")), circulates=circulates)
        written: list[dict[str, Any]] = contents[1]["parts"]
        return written

    def test_place(self) -> None:
        """A search goes back as it came, where it stood, and its results with it."""
        parts = Text("a"), ProviderBlock("asked", self.RECORD), Text("b"), ProviderBlock("found", b"")
        self.assertEqual(self.said(*parts), [{"text": "a"}, *json.loads(self.RECORD), {"text": "b"}])

    def test_words(self) -> None:
        """Where searches are not taken back, or there is nothing to give back, they are told in words."""
        parts = ProviderBlock("asked", self.RECORD), ProviderBlock("found", b"")
        in_words = [{"text": "asked"}, {"text": "found"}]
        self.assertEqual(self.said(*parts, circulates=False), in_words)
        for record in (b"[", b'[{"text":"x"}]', b""):
            self.assertEqual(self.said(ProviderBlock("asked", record), ProviderBlock("found", b"")), in_words, record)

    def test_of_the_user(self) -> None:
        """Google's own calls are not for the user to say."""
        self.assertEqual(self.parts(ProviderBlock("asked", self.RECORD), circulates=True), [{"text": "asked"}])


class SignatureTests(ContentsTestCase):
    """Where a thoughtSignature goes back. ``c2ln`` is the base64 of ``sig``."""

    def model_parts(self, *parts: Part, model: str = NEW) -> list[dict[str, Any]]:
        results = [result(part.id) for part in parts if isinstance(part, ToolUse)]
        contents = self.write(user(Text("go")), assistant(*parts), user(*results or [Text("on")]), model=model)
        written: list[dict[str, Any]] = contents[1]["parts"]
        return written

    def signatures_of(self, *parts: Part, model: str = NEW) -> list[str | None]:
        return [part.get("thoughtSignature") for part in self.model_parts(*parts, model=model)]

    def test_call_remembered(self) -> None:
        """A call gets back what was kept by its id, whatever the client has made of the thinking before it."""
        self.signatures.keep("t", "a2VwdA==")
        self.assertEqual(self.signatures_of(use("t")), ["a2VwdA=="])
        self.assertEqual(self.signatures_of(Thought("", b"sig"), use("t")), ["a2VwdA=="])

    def test_call_carried(self) -> None:
        """Another daemon's memory is not needed: the thinking block right before a call carries its signature."""
        for model in (NEW, OLD, "gemma-3-27b-it"):
            self.assertEqual(self.signatures_of(Thought("", b"sig"), use("t"), use("u"), model=model), ["c2ln", None])

    def test_thoughts_before_calls(self) -> None:
        """What was thought goes back as well; each call has its own signature."""
        self.assertEqual(
            self.model_parts(Thought("hm", b"sig"), use("t"), Thought("", b"gis"), use("u")),
            [
                {"text": "hm", "thought": True},
                {"functionCall": {"id": "t", "name": "f", "args": {}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"id": "u", "name": "f", "args": {}}, "thoughtSignature": "Z2lz"},
            ],
        )

    def test_thought_with_a_text(self) -> None:
        """A thought that no call follows keeps its own signature; a text gets what was kept for it."""
        said = ConversationDigest()
        said.update(user(Text("go")))
        self.signatures.keep(said.key("so"), "dGV4dA==")
        self.assertEqual(
            self.model_parts(Thought("hm", b"sig"), Text("so")),
            [
                {"text": "hm", "thought": True, "thoughtSignature": "c2ln"},
                {"text": "so", "thoughtSignature": "dGV4dA=="},
            ],
        )

    def test_hollow_thought(self) -> None:
        """A block that neither says nor bears anything is not sent."""
        self.assertEqual(self.model_parts(Thought("", b""), Text("so")), [{"text": "so"}])

    def test_texts_of_the_user(self) -> None:
        """A user who repeats the model's words does not speak with its signature."""
        self.signatures.keep(ConversationDigest().key("so"), "dGV4dA==")
        self.assertEqual(self.parts(Text("so")), [{"text": "so"}])

    def test_unsigned_calls(self) -> None:
        """A call that came from another model does not end the conversation: the first of its step says so."""
        self.assertEqual(self.signatures_of(Text("ok"), use("t"), use("u")), [None, UNSIGNED, None])
        self.assertEqual(self.signatures_of(use("t"), model=OLD), [None])

    def test_later_call_signed_alone(self) -> None:
        """The first call of a step has to be signed even where a later one is."""
        self.signatures.keep("u", "a2VwdA==")
        self.assertEqual(self.signatures_of(use("t"), use("u")), [UNSIGNED, "a2VwdA=="])

    def test_only_the_present_turn(self) -> None:
        """Of what was before the user spoke last Google wants no signature, so none is made up."""
        contents = self.write(
            user(Text("go")),
            assistant(use("old")),
            user(result("old")),
            assistant(Text("done")),
            user(Text("again")),
            assistant(use("a")),
            user(result("a"), Text("<system-reminder>hurry</system-reminder>")),
            assistant(use("b")),
            user(result("b")),
        )
        signed = [
            (part["functionCall"]["id"], part.get("thoughtSignature"))
            for content in contents
            for part in content["parts"]
            if "functionCall" in part
        ]
        self.assertEqual(signed, [("old", None), ("a", UNSIGNED), ("b", UNSIGNED)])

    def test_hostile_payload(self) -> None:
        """A client that forges a payload cannot make a part that is not base64."""
        (_, call) = self.model_parts(Thought("x", b'\xff"}\n'), use("t"))
        self.assertEqual(call["thoughtSignature"], "/yJ9Cg==")
