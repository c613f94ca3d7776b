"""What each block of a message comes to."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.translate import wire
from claudeproxyd.translate.conversation import (
    Conversation,
    Media,
    Part,
    ProviderBlock,
    Text,
    Thought,
    ToolResult,
    ToolUse,
)
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.reading import read_conversation
from tests.translate.asking import assistant, body, call, read, refusal, result, system, text, user


def parts(*content: Any, **members: Any) -> list[Part]:
    """What a user's blocks come to."""
    return read(user(*content), **members).turns[0].parts


def said_by_assistant(*content: Any) -> list[Part]:
    """What an assistant's blocks come to."""
    return read(user("hm?"), assistant(*content), user("go on")).turns[1].parts


def image(**source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


def document(*, source: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **members}


PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}


class MediaTests(SynchronousTestCase):
    """Images and documents."""

    def test_images(self) -> None:
        """Images come as their base64 or as their URL."""
        self.assertEqual(
            parts(
                image(type="base64", media_type="image/png", data="iVBO"),
                image(type="url", url="https://a.example/x.png"),
            ),
            [Media("image", "image/png", "iVBO"), Media("image", "", url="https://a.example/x.png")],
        )

    def test_files(self) -> None:
        """Files of Anthropic's Files API are out of reach, and the client is told which it was."""
        for kind in ("image", "document"):
            told = refusal(user("see", {"type": kind, "source": {"type": "file", "file_id": "file_1"}}))
            self.assertIn(f"messages.0.content.1.{kind}.source: file_id", told)

    def test_pdf(self) -> None:
        """A PDF keeps its title; the context that the client gave stands in front."""
        self.assertEqual(
            parts(document(source=PDF, title="Deed", context="found in the attic")),
            [Text("Context: found in the attic"), Media("document", "application/pdf", "JVBERi0=", title="Deed")],
        )
        self.assertEqual(
            parts(document(source={"type": "url", "url": "https://a.example/x.pdf"})),
            [Media("document", "", url="https://a.example/x.pdf")],
        )

    def test_text_document(self) -> None:
        """A document of text is text, its title and context in front."""
        source = {"type": "text", "media_type": "text/plain", "data": "once"}
        self.assertEqual(parts(document(source=source)), [Text("once")])
        self.assertEqual(parts(document(source=source, title="T", context="C")), [Text("Title: T\nContext: C\n\nonce")])

    def test_content_document(self) -> None:
        """A document of blocks is its blocks."""
        blocks = [image(type="url", url="u"), text("below")]
        self.assertEqual(
            parts(document(source={"type": "content", "content": blocks}, title="T")),
            [Text("Title: T"), Media("image", "", url="u"), Text("below")],
        )
        self.assertEqual(parts(document(source={"type": "content", "content": "flat"})), [Text("flat")])

    def test_search_result(self) -> None:
        """What the client's own search found is text with its title and source."""
        found = {
            "type": "search_result",
            "source": "https://a.example",
            "title": "T",
            "content": [text("a"), text("b")],
        }
        self.assertEqual(parts(found), [Text("Title: T\nSource: https://a.example\n\na"), Text("b")])

    def test_citations_wanted(self) -> None:
        """Citations that the client wants of its documents are missed, with one warning."""
        wish = document(source=PDF, citations={"enabled": True})
        self.assertIn("citations of document blocks", *read(user(wish, wish)).warnings)
        self.assertEqual(read(user(document(source=PDF, citations={"enabled": False}))).warnings, [])

    def test_misfits(self) -> None:
        """What lacks something is refused with its place."""
        for block, told in (
            ({"type": "image"}, "image.source: Field required"),
            (image(type="base64", media_type="image/png"), "image.source.base64.data: Field required"),
            (image(type="base64", data="x"), "image.source.base64.media_type: Field required"),
            (image(type="url", url=""), "image.source.url.url: String should have at least 1 character"),
            (image(type="carrier"), "image.source: Input tag 'carrier'"),
            (image(type=1), "source.type: Input should be a valid string"),
            (
                document(source={"type": "content", "content": [document(source=PDF)]}),
                "document.source.content.0: Input tag",
            ),
        ):
            self.assertIn(f"messages.0.content.0.{told}", refusal(user(block)))


class ResultTests(SynchronousTestCase):
    """What a tool_result holds."""

    def content(self, *blocks: Any) -> list[Text | Media]:
        found = read(user("go"), assistant(call("i")), user(result("i", list(blocks)))).turns[2].parts[0]
        assert isinstance(found, ToolResult)
        return found.content

    def test_kinds(self) -> None:
        """Texts, images, documents and search results come through; nothing at all is fine."""
        self.assertEqual(
            self.content(text("a"), image(type="url", url="u"), document(source=PDF)),
            [Text("a"), Media("image", "", url="u"), Media("document", "application/pdf", "JVBERi0=")],
        )
        self.assertEqual(self.content(text("")), [])
        for nothing in ("", None, []):
            said = read(user("go"), assistant(call("i")), user(result("i", nothing)))
            self.assertEqual(said.turns[2].parts, [ToolResult("i", "look", [])])

    def test_browser_state(self) -> None:
        """What a browser shows is told as text."""
        (told,) = self.content({"type": "browser_state", "tabs": [{"tab_id": "1", "title": "T", "url": "u"}]})
        self.assertEqual(told, Text('[browser_state] {"tabs":[{"tab_id":"1","title":"T","url":"u"}]}'))

    def test_unknown(self) -> None:
        """A block of a kind that is not known yet is told as text, and the log names it."""
        said = read(user("go"), assistant(call("i")), user(result("i", [text("a"), {"type": "smell", "of": "gas"}])))
        self.assertEqual(said.turns[2].parts[0].content[1], Text('[smell] {"of":"gas"}'))  # type: ignore[union-attr] # a result
        self.assertIn("smell", said.warnings[0])

    def test_many_told(self) -> None:
        """A result of thousands of odd blocks is read in one go, not once for each of them."""
        decoded = 0
        decode = wire.msgspec.json.decode

        def counting(*given: Any) -> Any:
            nonlocal decoded
            decoded += 1
            return decode(*given)

        self.patch(wire.msgspec.json, "decode", counting)
        self.assertEqual(len(self.content(*[{"type": "browser_state", "tabs": []}] * 1000)), 1000)
        self.assertEqual(decoded, 1)

    def test_object(self) -> None:
        """Content that is neither text nor a list is refused."""
        told = refusal(user("go"), assistant(call("i")), user(result("i", {})))
        self.assertEqual(told, "messages.2.content.0.tool_result.content: Input should be a valid string or list")


class ThinkingTests(SynchronousTestCase):
    """Thinking of earlier turns."""

    def test_own(self) -> None:
        """Thinking that this backend has signed goes back with what it signed."""
        signed = {"type": "thinking", "thinking": "hm", "signature": mint_signature("google", b"\x00sig")}
        self.assertEqual(said_by_assistant(signed, "yes"), [Thought("hm", b"\x00sig"), Text("yes")])

    def test_others(self) -> None:
        """Thinking of others, unsigned or redacted thinking goes; a turn of nothing else goes with it."""
        gone = [
            {"type": "thinking", "thinking": "hm", "signature": "EqoB"},
            {"type": "thinking", "thinking": "hm", "signature": mint_signature("openai", b"x")},
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "thinking", "thinking": "hm"},
            {"type": "thinking", "thinking": "", "signature": mint_signature("google", b"")},
            {"type": "redacted_thinking", "data": "secret"},
        ]
        self.assertEqual(said_by_assistant(*gone, "yes"), [Text("yes")])
        said = read(user("a"), assistant(*gone), user("b"))
        self.assertEqual([turn.parts for turn in said.turns], [[Text("a"), Text("b")]])
        self.assertEqual(said.warnings, [])

    def test_users(self) -> None:
        """A user does not think."""
        signed = {"type": "thinking", "thinking": "hm", "signature": mint_signature("google", b"x")}
        self.assertEqual(parts(signed, "a"), [Text("a")])


class CallTests(SynchronousTestCase):
    """What an assistant called."""

    def test_input_is_untouched(self) -> None:
        """The input goes back as the very bytes that the client sent."""
        sent = b'{ "n":1.0, "big":12345678901234567890123 }'
        request = body(user("go"), assistant(call("i")), user(result("i"))).replace(b'"input": {}', b'"input": ' + sent)
        made = read_conversation(request, family="google", policy=POLICY).turns[1].parts[0]
        assert isinstance(made, ToolUse)
        self.assertEqual((made.id, made.name, bytes(made.input)), ("i", "look", sent))

    def test_misfits(self) -> None:
        """A call without a name, an id or an object for its input is refused with its place."""
        for spoilt, told in (
            ({"name": None}, "name: Field required"),
            ({"id": ""}, "id: String should have at least 1 character"),
            ({"input": []}, "input: Input should be a valid dictionary"),
            ({"input": None}, "input: Input should be a valid dictionary"),
        ):
            self.assertEqual(
                refusal(user("go"), assistant({**call("i"), **spoilt}), user(result("i"))),
                f"messages.1.content.0.tool_use.{told}",
            )


class ServerSideTests(SynchronousTestCase):
    """What Anthropic's servers did in earlier turns."""

    def test_search(self) -> None:
        """A search and what it found are told as text, without what only machines read."""
        self.assertEqual(
            said_by_assistant(
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "srvtoolu_1",
                    "content": [
                        {
                            "type": "web_search_result",
                            "title": "T",
                            "url": "u",
                            "encrypted_content": "Eq",
                            "page_age": None,
                        }
                    ],
                },
                text(
                    "so",
                    citations=[{"type": "web_search_result_location", "title": "T", "url": "u", "cited_text": "c"}],
                ),
            ),
            [
                Text('[server_tool_use] {"name":"web_search","input":{"query":"q"}}'),
                Text('[web_search_tool_result] {"content":[{"title":"T","url":"u","page_age":null}]}'),
                Text("so [Source: T, u]"),
            ],
        )

    def test_search_of_the_family(self) -> None:
        """A search that the backend made itself comes with its own words; those of any other, or of nobody, do not."""
        told = [
            '[server_tool_use] {"name":"web_search","input":{"query":"q"}}',
            '[web_search_tool_result] {"content":[]}',
        ]
        for sealed, native in (
            (mint_signature("google", b"[]"), True),
            (mint_signature("google", b""), True),
            (mint_signature("openai", b"[]"), False),
            ("cpxd1.google.?", False),
            ("EqMDCio", False),
            (7, False),
        ):
            said = said_by_assistant(
                {
                    "type": "server_tool_use",
                    "id": "s1",
                    "name": "web_search",
                    "input": {"query": "q", "encrypted_content": sealed},
                },
                {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
            )
            payload = b"[]" if sealed == mint_signature("google", b"[]") else b""
            expected = (
                [ProviderBlock(told[0], payload), ProviderBlock(told[1], b"")]
                if native
                else [Text(each) for each in told]
            )
            self.assertEqual(said, expected, sealed)

    def test_search_without_an_id(self) -> None:
        """A call that nothing can refer to takes no other block's words away."""
        nameless = {
            "type": "server_tool_use",
            "name": "n",
            "input": {"encrypted_content": mint_signature("google", b"")},
        }
        *_, last = said_by_assistant(nameless, {"type": "mcp_tool_use", "name": "m", "input": {}})
        self.assertEqual(last, Text('[mcp_tool_use] {"name":"m","input":{}}'))

    def test_fetched_document(self) -> None:
        """The bytes of a document that was fetched are left out, with a warning."""
        fetched = {"type": "web_fetch_result", "url": "u", "content": document(source=PDF)}
        said = read(
            user("?"), assistant({"type": "web_fetch_tool_result", "tool_use_id": "i", "content": fetched}), user("!")
        )
        told = '[web_fetch_tool_result] {"content":{"url":"u","content":{"source":{"media_type":"application/pdf"}}}}'
        self.assertEqual(said.turns[1].parts, [Text(told)])
        self.assertIn("fetched", said.warnings[0])

    def test_unseen(self) -> None:
        """What the API does not show to its own models goes."""
        self.assertEqual(
            said_by_assistant({"type": "fallback"}, {"type": "mcp_tool_listing", "tools": []}, "a"), [Text("a")]
        )

    def test_unknown(self) -> None:
        """A block of next month is told as text, and the log names it."""
        said = read(user({"type": "smell", "of": {"what": 2**70}}))
        self.assertEqual(said.turns[0].parts, [Text(f'[smell] {{"of":{{"what":{2**70}}}}}')])
        self.assertIn("smell", said.warnings[0])


class CompactionTests(SynchronousTestCase):
    """Summaries that stand for what was said before."""

    def compacted(self, **block: Any) -> Conversation:
        return read(
            user("long ago"),
            assistant(call("i")),
            user(result("i"), "and then?"),
            assistant({"type": "compaction", **block}, "where were we"),
            user("there"),
        )

    def test_summary(self) -> None:
        """The summary takes the place of all before it, as on the API."""
        said = self.compacted(content="they met", encrypted_content="Eq")
        self.assertEqual(
            [turn.parts for turn in said.turns],
            [[Text("<summary>\nthey met\n</summary>")], [Text("where were we")], [Text("there")]],
        )

    def test_tools(self) -> None:
        """The changes of tools that it sums up hold on; anything else among them is refused."""
        later = {"name": "t", "input_schema": {}, "defer_loading": True}
        change = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "t"}}
        compaction = {"type": "compaction", "content": "they met", "tool_changes": [change]}
        said = read(assistant(compaction), user("on"), tools=[later])
        self.assertEqual([offered.name for offered in said.tools], ["t"])
        compaction["tool_changes"] = [text("a")]
        self.assertIn("compaction.tool_changes.0: Input tag 'text'", refusal(assistant(compaction), user("on")))

    def test_failed(self) -> None:
        """A compaction that failed changes nothing."""
        self.assertEqual(len(self.compacted(content=None).turns), 5)

    def test_first_of_all(self) -> None:
        """A conversation may begin with it."""
        said = read(assistant({"type": "compaction", "content": "they met"}), user("on"))
        self.assertEqual([turn.parts for turn in said.turns], [[Text("<summary>\nthey met\n</summary>"), Text("on")]])


class SystemMessageTests(SynchronousTestCase):
    """System text in mid-conversation."""

    def test_reminder(self) -> None:
        """It stays where it is, as a user's text that says what it is; the prefix does not change."""
        said = read(user("a"), system("x"), assistant("b"), user("c"), system("y", "z"), system=[text("s")])
        self.assertEqual(said.system, ["s"])
        self.assertEqual(said.turns[0].parts, [Text("a"), Text("<system-reminder>\nx\n</system-reminder>")])
        self.assertEqual(said.turns[2].parts, [Text("c"), Text("<system-reminder>\ny\n\nz\n</system-reminder>")])

    def test_effort(self) -> None:
        """The effort that was asked for last counts."""
        low, high = {"effort": "low"}, {"effort": "high"}
        said = read(user("a"), system("x", output_config=low), output_config=high)
        self.assertEqual(said.thinking.effort, "low")
        alone = {"role": "system", "output_config": high}
        self.assertEqual(read(user("a"), system("x", output_config=low), alone).thinking.effort, "high")
        self.assertEqual(read(user("a"), system("x", output_config={})).thinking.effort, "")

    def test_clear_at(self) -> None:
        """Text that is meant for one turn alone is gone once the user has spoken again, as on the API."""
        brief = system("now", clear_at="next_user_message")
        self.assertEqual(len(read(user("a"), brief).turns[0].parts), 2)
        self.assertEqual(read(user("a"), brief, assistant("b"), user("c")).turns[0].parts, [Text("a")])
        kept = read(user("a"), system("now", clear_at="never"), assistant("b"), user("c"))
        self.assertEqual(len(kept.turns[0].parts), 2)

    def test_misfits(self) -> None:
        """It holds text and changes of tools, and something at least."""
        self.assertIn("messages.1.content.0: Input tag 'image'", refusal(user("a"), system(image(type="url", url="u"))))
        self.assertEqual(refusal(user("a"), {"role": "system"}), "messages.1.content: Field required")
