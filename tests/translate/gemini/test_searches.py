"""Google's record of its own searches: in the answer, with the client, and back."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.ids import mint_signature, read_signature
from claudeproxyd.translate.gemini.responses import AnswerPart
from claudeproxyd.translate.gemini.searches import MAX_RECORD_BYTES, Search, read_record
from claudeproxyd.translate.signatures import ConversationDigest
from tests.translate.gemini.answering import Answer, Json, chunk, message, sse, text


def asked(id: str = "s1", *queries: str) -> Json:
    return {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": list(queries)}, "id": id}, **SIGNED}


def found(id: str = "s1", suggestions: str = "<div>") -> Json:
    response = {"search_suggestions": suggestions}
    return {"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "response": response, "id": id}, **SIGNED}


SIGNED = {"thoughtSignature": "c2lnbmVk"}
END = chunk(finish="STOP")


def part(value: Json) -> AnswerPart:
    return msgspec.json.decode(msgspec.json.encode(value), type=AnswerPart)


def record_of(block: Json) -> bytes | None:
    return read_signature("google", block["input"]["encrypted_content"])


class SearchTests(SynchronousTestCase):
    """One search, piece by piece."""

    def test_whole(self) -> None:
        """A search is whole when all that was asked is answered; its record has every piece as it came."""
        pieces = [asked("s1", "a", "b"), asked("s2", "c"), found("s2"), found("s1")]
        search = Search()
        self.assertEqual([search.add(part(each)) for each in pieces], [False, False, False, True])
        self.assertEqual(search.queries, ["a", "b", "c"])
        self.assertEqual(msgspec.json.decode(msgspec.json.encode(read_record(search.record))), pieces)

    def test_tools_that_ask_nothing(self) -> None:
        """Calls without queries, or with arguments of another shape, are searches all the same."""
        for call in ({}, {"args": None}, {"args": {"queries": "x"}}, {"args": {"urls": ["u"]}}, 1, "x", []):
            search = Search()
            search.add(part({"toolCall": call}))
            self.assertTrue(search.add(part({"toolResponse": {}})))
            self.assertEqual(search.queries, [""])

    def test_too_long(self) -> None:
        """What would make every later request huge stays here."""
        search = Search()
        search.add(part(asked()))
        search.add(part(found(suggestions="x" * MAX_RECORD_BYTES)))
        self.assertEqual(search.record, b"")

    def test_what_is_no_record(self) -> None:
        """Only parts of a search go back: nothing else that a client may have made up, and nothing damaged."""
        for record in (
            b"",
            b"{}",
            b"[1]",
            b'[{"text":"x"}]',
            b'[{"toolCall":{}}',
            b'[{"toolCall":{]}]',
            b"\xff",
            b"[" * 9999,
        ):
            self.assertIsNone(read_record(record), record)


class AnswerTests(SynchronousTestCase):
    """Searches as the client has them."""

    def test_place(self) -> None:
        """A search stands where it was made, and bears its record; its results come when Google names them."""
        content = message(chunk(text("a")), chunk(asked("s1", "q")), chunk(found()), chunk(text("b")), END)["content"]
        self.assertEqual(
            [block["type"] for block in content], ["text", "server_tool_use", "text", "web_search_tool_result"]
        )
        self.assertEqual(content[1]["input"]["query"], "q")
        self.assertEqual(msgspec.json.decode(record_of(content[1]) or b""), [asked("s1", "q"), found()])
        self.assertEqual((content[3]["tool_use_id"], content[3]["content"]), (content[1]["id"], []))

    def test_several_queries(self) -> None:
        """Each query is counted as a search; the first has the record for all."""
        answer = message(chunk(asked("s1", "a", "b"), found()), END)
        one, other, *_ = answer["content"]
        self.assertEqual([one["input"]["query"], other["input"]["query"]], ["a", "b"])
        self.assertEqual(other["input"]["encrypted_content"], mint_signature("google", b""))
        self.assertEqual(answer["usage"]["server_tool_use"]["web_search_requests"], 2)

    def test_too_long(self) -> None:
        """A search whose record cannot travel is told without it."""
        content = message(chunk(asked("s1", "q"), found(suggestions="x" * MAX_RECORD_BYTES)), END)["content"]
        self.assertEqual(content[0]["input"], {"query": "q"})

    def test_unanswered(self) -> None:
        """A call without a response would be refused if it went back: the search is told by its sources alone."""
        answer = message(chunk(asked("s1", "q")), chunk(text("a"), groundingMetadata={"webSearchQueries": ["q"]}), END)
        self.assertEqual([block.get("input") for block in answer["content"]], [None, {"query": "q"}, None])

    def test_signed_text_before(self) -> None:
        """A search ends the text before it, whose signature is that of just this text."""
        answer = Answer()
        answer.body(sse(chunk(text("a", **SIGNED)), chunk(asked(), found()), chunk(text("b")), END))
        self.assertEqual(answer.signatures.lookup(ConversationDigest().key("a")), "c2lnbmVk")
        self.assertIsNone(answer.signatures.lookup(ConversationDigest().key("b")))

    def test_nothing_in_it(self) -> None:
        """Members that are null are no search."""
        answer = Answer()
        answer.body(sse(chunk({"toolCall": None, "text": "a"}, {"toolResponse": None}), END))
        self.assertNotIn(b"server_tool_use", answer.frames)
