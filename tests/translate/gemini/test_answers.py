"""Gemini's answers as Claude messages: each row of the table."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.framing.sse import FrameTooLarge
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.translate.conversation import ToolUse, Turn
from claudeproxyd.translate.gemini.answers import MAX_TEXT_CHARS
from claudeproxyd.translate.signatures import ConversationDigest
from tests.messages.accumulate import accumulate
from tests.messages.grammar import Grammar
from tests.translate.gemini.answering import (
    COUNTS,
    USAGE,
    Answer,
    Json,
    call,
    chunk,
    message,
    sse,
    streamed,
    text,
    thought,
    whole,
)

SIGNATURE = base64.b64encode(b"\x12\xfb what Google signed").decode()
MINTED = mint_signature("google", b"\x12\xfb what Google signed")
UNSIGNED = mint_signature("google", b"")

END = chunk(finish="STOP")


def content(*chunks: Json, **options: Any) -> list[Json]:
    """The blocks of an answer that both ways come to, without the ids of calls."""
    blocks: list[Json] = message(*chunks, **options)["content"]
    return blocks


class TextTests(SynchronousTestCase):
    """Text and thoughts."""

    def test_text(self) -> None:
        """Pieces of text are one block; the message is in the client's terms, its usage in the API's figures."""
        self.assertEqual(
            message(chunk(text("Hel")), chunk(text("lo")), END),
            {
                "id": "msg_000000000000000000000001",
                "type": "message",
                "role": "assistant",
                "model": "claude-x",
                "content": [{"type": "text", "text": "Hello"}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": USAGE,
            },
        )

    def test_thoughts(self) -> None:
        """Thoughts are thinking blocks, signed where Google signed them."""
        self.assertEqual(
            content(chunk(thought("h")), chunk(thought("m", thoughtSignature=SIGNATURE)), chunk(text("a")), END),
            [{"type": "thinking", "thinking": "hm", "signature": MINTED}, {"type": "text", "text": "a"}],
        )

    def test_unsigned_thoughts(self) -> None:
        """Thoughts that Google left unsigned have a signature all the same, as strict clients want one."""
        self.assertEqual(content(chunk(thought("h"), text("a")), END)[0]["signature"], UNSIGNED)

    def test_hidden_thoughts(self) -> None:
        """A client that does not want to read thoughts gets their signature alone."""
        chunks = chunk(thought("h", thoughtSignature=SIGNATURE)), chunk(text("a")), END
        self.assertEqual(
            content(*chunks, shows=False),
            [{"type": "thinking", "thinking": "", "signature": MINTED}, {"type": "text", "text": "a"}],
        )
        self.assertEqual(content(*chunks, thinks=False), [{"type": "text", "text": "a"}])

    def test_signed_text(self) -> None:
        """A text's signature is remembered by the text as the client has it, with the last chunk or an empty one."""
        for last in (text("lo", thoughtSignature=SIGNATURE), text("", thoughtSignature=SIGNATURE)):
            answer = Answer()
            answer.body(sse(chunk(text("Hel")), chunk(text("lo")), chunk(last, finish="STOP")))
            said = "Hello" + last["text"]
            self.assertEqual(answer.signatures.lookup(ConversationDigest().key(said)), SIGNATURE)

    def test_text_after_signed_text(self) -> None:
        """What follows a signed text is a text of its own: the signed one has to come back as it was."""
        chunks = chunk(text("a", thoughtSignature=SIGNATURE)), chunk(text("b")), END
        self.assertEqual([block["text"] for block in content(*chunks)], ["a", "b"])
        answer = Answer()
        answer.body(sse(*chunks))
        self.assertEqual(answer.signatures.lookup(ConversationDigest().key("a")), SIGNATURE)
        self.assertIsNone(answer.signatures.lookup(ConversationDigest().key("b")))

    def test_text_without_end(self) -> None:
        """A text longer than any model's passes, but it is not kept: its signature is lost, and the next one's not."""
        half = chunk(text("x" * (MAX_TEXT_CHARS // 2)))
        last = chunk(text("y", thoughtSignature=SIGNATURE))
        answer = Answer()
        answer.body(sse(half, half, last, last, END))
        self.assertEqual(len(answer.signatures), 1)
        self.assertEqual(answer.signatures.lookup(ConversationDigest().key("y")), SIGNATURE)
        blocks = content(half, half, last, END)
        self.assertEqual([len(block["text"]) for block in blocks], [MAX_TEXT_CHARS + 1])

    def test_signature_alone(self) -> None:
        """A signature in an empty part after thoughts signs the thoughts."""
        chunks = chunk(thought("h")), chunk(text("", thoughtSignature=SIGNATURE), finish="STOP")
        self.assertEqual(content(*chunks), [{"type": "thinking", "thinking": "h", "signature": MINTED}])

    def test_signature_in_no_alphabet(self) -> None:
        """A signature that could not be given back is left out, and said to be odd."""
        for signature in ("?", "ü"):
            answer = Answer()
            self.assertTrue(answer.body(sse(chunk(thought("h", thoughtSignature=signature)), END)).ended)
            self.assertIn("base64", answer.reader.anomaly)

    def test_stop_sequence(self) -> None:
        """The message ends at the client's stop sequence at once, whatever Gemini goes on to say."""
        answer = Answer(stop_sequences=["STOP"])
        self.assertFalse(answer.feed(sse(chunk(text("a ST"), usageMetadata=None))).ended)
        self.assertTrue(answer.feed(sse(chunk(text("OP b")))).ended)
        self.assertEqual((answer.reader.stop_reason, answer.machine.usage.estimated), ("stop_sequence", True))
        chunks = chunk(text("a ST")), chunk(text("OP b"), call(), finish="STOP")
        self.assertEqual(content(*chunks, stop_sequences=["STOP"]), [{"type": "text", "text": "a "}])

    def test_signed_text_that_was_stopped(self) -> None:
        """The signature of a text that the client has only in part is not remembered: it would never come back."""
        answer = Answer(stop_sequences=["STOP"])
        answer.body(sse(chunk(text("a STOP b", thoughtSignature=SIGNATURE), finish="STOP")))
        self.assertEqual(len(answer.signatures), 0)

    def test_code(self) -> None:
        """Code that Google ran can be read."""
        parts = [
            {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
        ]
        said = content(chunk(*parts, text("so 1")), END)
        self.assertEqual(said[0]["text"], "```python\nprint(1)\n```\n```\n1\n```\nso 1")

    def test_parts_that_no_message_can_hold(self) -> None:
        """A part that nobody knows is left out, and said to be."""
        answer = Answer()
        answer.body(sse(chunk(text("a"), {"smell": {"mimeType": "smell/rose", "data": "AA=="}}, finish="STOP")))
        self.assertIn("left out", answer.reader.anomaly)

    def test_odd_part_in_an_array(self) -> None:
        """What is of no type that we know costs nothing but itself, also where all responses come in one array."""
        said = content(chunk(text("a"), {"inlineData": "odd"}), chunk(text("b"), finish="STOP"))
        self.assertEqual(said[0]["text"], "ab")

    def test_odd_part_beside_a_search(self) -> None:
        """What is odd in one response of an array leaves the bytes of the others, such as a search's record, alone."""
        search = [{"toolCall": {"id": "s", "args": {"queries": ["q"]}}}, {"toolResponse": {"\u00e9": None}}]
        blocks = content(chunk({"inlineData": "odd"}), chunk(*search), chunk(text("a"), finish="STOP"))
        self.assertIn("server_tool_use", [block["type"] for block in blocks])


class HiddenTests(SynchronousTestCase):
    """What a client is not shown."""

    def test_hidden_thoughts_are_progress(self) -> None:
        """A stream that brings nothing but thoughts, of which the client sees nothing, is not one that hangs."""
        answer = Answer(shows=False)
        batch = answer.feed(sse(chunk(thought("hm"))))
        self.assertEqual((batch.frames, batch.progress), (b"", True))
        self.assertFalse(answer.feed(sse(chunk())).progress)


class HalvesTests(SynchronousTestCase):
    """Servers that cut text between the two halves of a surrogate pair, as JavaScript's ``substring`` does."""

    def test_half_a_pair(self) -> None:
        """Halves in two chunks are put together, all others become marks; pairs and backslashes stay what they are."""
        for chunks, put_together in (
            ([chunk(text("ab \ud83d")), chunk(text("\ude00 \U0001f600 \\ud83d"), finish="STOP")], "\U0001f600"),
            ([chunk(text("ab \ud83d"), text("\ude00 \U0001f600 \\ud83d"), finish="STOP")], "\ufffd\ufffd"),
        ):
            answer = Answer()
            message = accumulate(b"".join(batch.frames for batch in (answer.feed(sse(*chunks)), answer.reader.end())))
            self.assertEqual(message["content"][0]["text"], f"ab {put_together} \U0001f600 \\ud83d")
            self.assertIn("surrogate", answer.reader.anomaly)


class ToolTests(SynchronousTestCase):
    """Calls of tools."""

    def test_calls(self) -> None:
        """Parallel calls are calls with Google's ids, the client's names, and the input to the letter."""
        long = "mcp__server__" + "x" * 80
        name = Answer(tools=[long]).told[0]
        chunks = chunk(text("so"), call(name, {"n": 1.0, "é": ["a"]}, id="fc-1")), chunk(call("bash", id="fc-2")), END
        answer = message(*chunks, tools=[long, "Bash"])
        self.assertEqual(
            answer["content"],
            [
                {"type": "text", "text": "so"},
                {"type": "tool_use", "id": "fc-1", "name": long, "input": {"n": 1.0, "é": ["a"]}},
                {"type": "tool_use", "id": "fc-2", "name": "Bash", "input": {}},
            ],
        )
        self.assertEqual(answer["stop_reason"], "tool_use")

    def test_numbers_to_the_letter(self) -> None:
        """Numbers in the input that no machine word holds reach the tool as the model wrote them."""
        frame = sse(chunk(call(args="ARGS"), finish="STOP")).replace(
            b'"ARGS"', b'{"n":12345678901234567890123,"x":1.10}'
        )
        answer = Answer()
        answer.body(frame)
        self.assertIn(rb'"partial_json":"{\"n\":12345678901234567890123,\"x\":1.10}"', answer.frames)

    def test_ids_that_do_not_fit(self) -> None:
        """An id that clients do not take, or a second time, is replaced by one that they do."""
        ids = [block["id"] for block in content(chunk(call(id="a b"), call(id="c"), call(id="c"), call()), END)]
        self.assertEqual(ids[1], "c")
        self.assertTrue(all(id.startswith("toolu_") for id in (ids[0], *ids[2:])), ids)
        self.assertEqual(len(set(ids)), 4)

    def test_ids_of_other_turns(self) -> None:
        """An id that the conversation has already, or that is remembered of another one, is not given again."""
        answer = Answer()
        answer.request.digest.update(Turn("assistant", [ToolUse("call_1", "f", msgspec.Raw(b"{}"))]))
        answer.signatures.keep("call_2", SIGNATURE)
        answer.body(sse(chunk(*(call(id=f"call_{number}") for number in (1, 2, 3))), END))
        self.assertNotIn(b"call_1", answer.frames)
        self.assertNotIn(b"call_2", answer.frames)
        self.assertIn(b"call_3", answer.frames)

    def test_signed_call(self) -> None:
        """A call's signature is remembered by its id, and travels in the thinking block before it."""
        for parts, thinking in (([thought("h")], "h"), ([], "")):
            blocks = content(chunk(*parts, call(id="fc-1", signature=SIGNATURE), call(id="fc-2")), END)
            self.assertEqual(blocks[0], {"type": "thinking", "thinking": thinking, "signature": MINTED})
            self.assertEqual([block["type"] for block in blocks], ["thinking", "tool_use", "tool_use"])
        for thinks in (True, False):
            answer = Answer(thinks=thinks)
            answer.body(sse(chunk(call(id="fc-1", signature=SIGNATURE), call(id="fc-2")), END))
            self.assertEqual(answer.signatures.lookup("fc-1"), SIGNATURE)
            self.assertIsNone(answer.signatures.lookup("fc-2"))
            self.assertEqual(b"thinking" in answer.frames.partition(b"message_delta")[0], thinks)

    def test_call_signed_later(self) -> None:
        """A signature in an empty text after the calls is the first call's."""
        answer = Answer()
        answer.body(sse(chunk(call(id="fc-1"), call(id="fc-2")), chunk(text("", thoughtSignature=SIGNATURE)), END))
        self.assertEqual(answer.signatures.lookup("fc-1"), SIGNATURE)

    def test_cut_at_max_tokens(self) -> None:
        """max_tokens says more than that there are calls."""
        self.assertEqual(message(chunk(call(), finish="MAX_TOKENS"))["stop_reason"], "max_tokens")

    def test_call_without_a_name(self) -> None:
        """A call of nothing is no answer, and neither is one with input that no tool can take."""
        self.assertRaises(MalformedAnswer, content, chunk({"functionCall": {"args": {}}}), END)
        self.assertRaises(MalformedAnswer, content, chunk(call(args=["a"])), END)

    def test_arguments_in_pieces(self) -> None:
        """Streamed arguments become one input."""
        pieces = [
            [{"jsonPath": "$.location", "stringValue": "New ", "willContinue": True}],
            [{"jsonPath": "$.location", "stringValue": "Delhi"}],
            [{"jsonPath": "$.days[0]['of week']", "numberValue": 3}, {"jsonPath": "$.days[1].x", "nullValue": None}],
            [{"jsonPath": "$.sure", "boolValue": False}, {"jsonPath": "$.days[1]", "willContinue": False}],
        ]
        chunks = [
            chunk(call("Weather", willContinue=True, id="fc-1", signature=SIGNATURE)),
            *[chunk({"functionCall": {"partialArgs": each, "willContinue": True}}) for each in pieces],
            chunk({"functionCall": {}}),
            chunk(call("Bash", partialArgs=[{"jsonPath": "$.command", "stringValue": "ls"}])),
            END,
        ]
        blocks = content(*chunks)
        self.assertEqual(
            [(block["name"], block["input"]) for block in blocks[1:]],
            [
                ("Weather", {"location": "New Delhi", "days": [{"of week": 3}, {"x": None}], "sure": False}),
                ("Bash", {"command": "ls"}),
            ],
        )
        self.assertEqual(blocks[0]["signature"], MINTED)

    def test_pieces_that_fit_nowhere(self) -> None:
        """Pieces of arguments that contradict each other, or want a huge array, never become a call."""
        for pieces in (
            [{"jsonPath": "$.a[1000000]", "numberValue": 3}],
            [{"jsonPath": "$", "stringValue": "x"}],
            [{"jsonPath": "$.a..b", "stringValue": "x"}],
            [{"jsonPath": "$.a", "stringValue": "x"}, {"jsonPath": "$.a.b", "stringValue": "x"}],
            [{"jsonPath": "$.a", "numberValue": 1}, {"jsonPath": "$.a", "stringValue": "x"}],
            [{"jsonPath": "$" + ".a" * 100_000, "stringValue": "x"}],
            "no list",
        ):
            self.assertRaises(MalformedAnswer, streamed, chunk(call(partialArgs=pieces)), END)
            self.assertRaises(MalformedAnswer, streamed, chunk(call(partialArgs=pieces, willContinue=True)), END)


class UsageTests(SynchronousTestCase):
    """Figures."""

    def test_at_the_start(self) -> None:
        """The message starts with an estimate of the input where Google counts late, and ends with its count."""
        answer = Answer()
        answer.machine.usage.input = 12
        answer.feed(sse(chunk(text("a"))))
        self.assertIn(b'"input_tokens":12,', answer.frames)
        answer.feed(sse(END))
        self.assertIn(b'"input_tokens":47,', answer.end().frames)

    def test_counted_after_all(self) -> None:
        """Whoever asks too early gets an estimate; Google's count takes its place."""
        answer = Answer()
        answer.feed(sse(chunk(text("a"))))
        self.assertTrue(answer.reader.usage.estimated)
        answer.body(sse(END))
        self.assertEqual((answer.reader.usage.output, answer.reader.usage.estimated), (25, False))

    def test_left_out(self) -> None:
        """A figure that a chunk leaves out is as an earlier one had it, and sums with it are made anew."""
        for later, usage in (
            ({"thoughtsTokenCount": 9}, {"output_tokens": 29, "output_tokens_details": {"thinking_tokens": 9}}),
            ({"candidatesTokenCount": 21}, {"output_tokens": 26}),
            ({"cachedContentTokenCount": 70}, {"input_tokens": 37, "cache_read_input_tokens": 70}),
            ({"toolUsePromptTokenCount": 8}, {"input_tokens": 48}),
            ({"promptTokenCount": 101}, {"input_tokens": 48}),
        ):
            chunks = chunk(text("a")) | {"usageMetadata": COUNTS}, chunk(finish="STOP") | {"usageMetadata": later}
            self.assertEqual(message(*chunks)["usage"], USAGE | usage)

    def test_figures_that_cannot_be(self) -> None:
        """A figure below zero, or beyond what its field can hold, is as one that was left out."""
        for wrong in (-1, 2**31, 10**30):
            counts = dict.fromkeys(COUNTS, wrong)
            chunks = chunk(text("a")) | {"usageMetadata": COUNTS}, chunk(finish="STOP") | {"usageMetadata": counts}
            self.assertEqual(message(*chunks)["usage"], USAGE)
            answer = Answer()
            answer.body(sse(chunk(text("a" * 400), finish="STOP") | {"usageMetadata": counts}))
            usage = answer.reader.usage
            self.assertEqual((usage.estimated, usage.thinking, usage.cache_read), (True, None, None))

    def test_only_thoughts(self) -> None:
        """An answer that did not get beyond thoughts has used their tokens."""
        end = chunk(finish="MAX_TOKENS") | {"usageMetadata": {"promptTokenCount": 3, "thoughtsTokenCount": 9}}
        self.assertEqual(message(chunk(thought("h")), end)["usage"]["output_tokens"], 9)

    def test_cut(self) -> None:
        """Of an answer that was cut the output is estimated, unless Google had counted some."""
        answer = Answer()
        answer.feed(sse(chunk(text("x" * 400))))
        self.assertFalse(answer.end().ended)
        self.assertTrue(answer.reader.usage.estimated)
        self.assertGreater(answer.reader.usage.output or 0, 50)
        answer = Answer()
        answer.feed(sse(chunk(text("x" * 400)) | {"usageMetadata": COUNTS}))
        self.assertEqual((answer.reader.usage.output, answer.reader.usage.estimated), (25, False))


class EndTests(SynchronousTestCase):
    """Where an answer ends, and where it breaks off."""

    def test_reasons_ahead_of_the_end(self) -> None:
        """A finishReason with every chunk, or ahead of all that is said, cuts no answer short."""
        stop = chunk(finish="STOP")
        for chunks in (
            [chunk(text("a"), finish="STOP"), chunk(text("b"), finish="STOP"), chunk(text(""), finish="STOP")],
            [stop, stop, chunk(text("a")), chunk(text("b")), stop],
            [stop, chunk(text("a")), chunk(text("b"))],
            [chunk(text("a"), finish="STOP"), chunk(text("b"))],
        ):
            self.assertEqual(content(*chunks), [{"type": "text", "text": "ab"}])

    def test_end_of_the_body(self) -> None:
        """The message ends with the body, and until then something more may come."""
        answer = Answer()
        self.assertFalse(answer.feed(sse(chunk(text("a"), finish="STOP"))).ended)
        self.assertTrue(answer.end().ended)
        self.assertEqual(answer.feed(b"nonsense").count, 0)

    def test_reason_of_several(self) -> None:
        """STOP, which some say for want of another word, does not unsay what is wrong."""
        for reasons in (["STOP", "MAX_TOKENS"], ["MAX_TOKENS", "STOP"], ["MAX_TOKENS", "SAFETY", "STOP"]):
            chunks = [chunk(text("a"), finish=reason) for reason in reasons]
            expected = "refusal" if "SAFETY" in reasons else "max_tokens"
            self.assertEqual(message(*chunks)["stop_reason"], expected)

    def test_counts_after_the_reason(self) -> None:
        """Figures that come after the reason for the end count; without any the output is estimated."""
        stop = {"candidates": [{"finishReason": "STOP"}]}
        for last in (sse({"usageMetadata": COUNTS}), b""):
            answer = Answer()
            self.assertTrue(answer.body(sse(chunk(text("a")), stop), last).ended)
            self.assertEqual(answer.machine.usage.estimated, not last)

    def test_cut(self) -> None:
        """A body that ends without a finishReason was cut, and so was one that ends within a chunk."""
        stopped = chunk(text("a"), finish="STOP")
        for body in (
            sse(chunk(text("a"))),
            sse(chunk(text("a")), END)[:-20],
            sse(stopped, stopped)[:-20],
            json.dumps([stopped, stopped]).encode()[:-20],
            b"",
            b"[",
            b"data: [DONE]\n\n",
        ):
            answer = Answer()
            answer.feed(body)
            self.assertFalse(answer.end().ended, body)
        self.assertRaises(MalformedAnswer, whole, chunk(text("a")))

    def test_unspecified(self) -> None:
        """The default name of an enumeration is no end."""
        chunks = chunk(text("a"), finishReason="FINISH_REASON_UNSPECIFIED") | {"usageMetadata": COUNTS}
        self.assertEqual(content(chunks, chunk(text("b")), END), [{"type": "text", "text": "ab"}])

    def test_no_empty_line_at_the_end(self) -> None:
        """The last chunk counts though its empty line is missing."""
        answer = Answer()
        self.assertFalse(answer.feed(sse(chunk(text("a")), END).rstrip()).ended)
        self.assertTrue(answer.end().ended)

    def test_empty_answers(self) -> None:
        """Chunks without candidates, content or parts are passed over."""
        empty: list[Json] = [
            {},
            {"candidates": []},
            {"candidates": None},
            {"candidates": [{}]},
            {"candidates": [{"content": {}}]},
            {"candidates": [{"content": {"parts": None, "role": "model"}}]},
            {"candidates": [{"content": None, "groundingMetadata": None, "citationMetadata": {}}]},
            chunk({}),
            chunk(text("")),
            {"promptFeedback": {"safetyRatings": []}, "error": None},
        ]
        self.assertEqual(content(*empty, END), [])

    def test_thoughts_alone(self) -> None:
        """Thoughts without an answer are worth a repetition until the client has been shown them."""
        chunks = chunk(thought("h")), END
        self.assertRaises(ModelFault, whole, *chunks, last=False)
        self.assertRaises(ModelFault, Answer(last=False, shows=False).body, sse(*chunks))
        answer = Answer(last=False)
        self.assertTrue(answer.body(sse(*chunks)).ended)
        self.assertEqual(accumulate(answer.frames)["content"][0]["thinking"], "h")

    def test_other_candidates(self) -> None:
        """Only the first candidate is the answer."""
        second = {"index": 1, "content": {"parts": [text("no")]}, "finishReason": "STOP"}
        chunks = [chunk(text("a")), chunk(text("b"))]
        chunks[0]["candidates"].append(second)
        self.assertEqual(content(*chunks, END), [{"type": "text", "text": "ab"}])

    def test_unknown_reason(self) -> None:
        """An ending that nobody knows is noticed."""
        answer = Answer()
        answer.body(sse(chunk(text("a"), finish="FROM_NEXT_YEAR")))
        self.assertIn("FROM_NEXT_YEAR", answer.reader.anomaly)


class FramingTests(SynchronousTestCase):
    """However the bytes come."""

    def test_framings(self) -> None:
        """Events and arrays, with any line ends, comments and [DONE], in any pieces, are one and the same answer."""
        chunks = [chunk(text("Hé")), chunk(text("llo"), call(args={"a": "}\\"})), END]
        bodies = [
            sse(*chunks),
            sse(*chunks, end="\n\n"),
            sse(*chunks, end="\r\r"),
            b"\xef\xbb\xbf: hello\n\n" + sse(*chunks[:2]) + b": ping\r\n\r\n" + sse(END) + b"data: [DONE]\n\n",
            json.dumps(chunks).encode(),
            b" \r\n" + json.dumps(chunks, indent=2, ensure_ascii=False).encode(),
            b"".join(b"event: message\r\nid: 1\r\ndata:%b\r\n\r\n" % json.dumps(each).encode() for each in chunks),
            b"data: " + json.dumps(chunks, indent=2).replace("\n", "\ndata: ").encode() + b"\n\n",
        ]
        expected = Answer()
        expected.body(bodies[0])
        self.assertIn(b'"tool_use"', expected.frames)
        for body in bodies:
            for size in (len(body), 7, 1):
                answer = Answer()
                reads = [body[at : at + size] for at in range(0, len(body), size)]
                self.assertTrue(answer.body(*reads).ended, body)
                self.assertEqual(answer.frames, expected.frames)

    def test_errors(self) -> None:
        """An error ends the stream, before and after content, and comes out as JSON to be judged."""
        error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
        said = sse(chunk(text("a")))
        for before, told in (
            (b"", sse(error)),
            (b"", b"data: " + json.dumps([error]).encode() + b"\r\n\r\n"),
            (b"", json.dumps(error, indent=2).encode()),
            (b"", json.dumps([error], indent=2).encode()),
            (said, sse(error)),
            (said, sse(error).rstrip()),
            (said, json.dumps(error, indent=2).encode()),
        ):
            answer = Answer()
            batch = answer.feed(before, told)
            if batch.error is None:
                batch = answer.end()
            self.assertEqual(json.loads(batch.error or b"null"), error, told)
            self.assertEqual(answer.reader.content, bool(before))
            self.assertFalse(batch.ended)
        self.assertRaises(MalformedAnswer, whole, error)

    def test_frames_before_an_error(self) -> None:
        """What came in the same read as an error is legal as far as it goes."""
        answer = Answer()
        batch = answer.feed(sse(chunk(text("a")), {"error": {"code": 500}}, END))
        self.assertTrue(batch.error and batch.content and batch.count)
        self.assertEqual([event["type"] for event in Grammar().frames(batch.frames)][-1], "content_block_delta")

    def test_damage(self) -> None:
        """What is no GenerateContentResponse is no answer."""
        for body in (
            b"data: {nope}\n\n",
            b'data: {"candidates": 1}\n\n',
            b'data: {"candidates": [{"content": {"parts": [{"text": 1}]}}]}\n\n',
            b'data: {"candidates": [null]}\n\n',
            b"data: 1\n\n",
            b'data: {"a": \xff}\n\n',
            b"data: " + b"[" * 100_000 + b"\n\n",
            b'[{"candidates": {}}]',
            sse(chunk(call(args="A"))).replace(b'"A"', b'{"a": "\xff"}'),
            sse(chunk(call(args="A"))).replace(b'"A"', b'{"a":' * 9_000 + b"1" + b"}" * 9_000),
        ):
            self.assertRaises(MalformedAnswer, Answer().feed, body)

    def test_large_frames(self) -> None:
        """An event that does not end cannot fill the memory; until then its bytes are counted."""
        for start in (b"data: ", b"[{"):
            answer = Answer(limit=100)
            answer.feed(start + b'"' + b"x" * 50)
            self.assertGreater(answer.reader.unfinished, 50)
            self.assertRaises(FrameTooLarge, answer.feed, b"x" * 50)

    def test_whole_bodies(self) -> None:
        """A body that is no whole answer is said to be none."""
        for body in (b"", b"<html>", b"[]", b"{}", b"null", b'{"error": {"code": 500, "message": "x"}}'):
            answer = Answer(whole=True)
            self.assertRaises(MalformedAnswer, answer.reader.read_whole, body)


class SdkTests(SynchronousTestCase):
    """Anthropic's SDK knows every member."""

    def test_all_of_it(self) -> None:
        """Whole and streamed, an answer with everything in it has no member that the SDK lacks."""
        grounding = {
            "webSearchQueries": ["q"],
            "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}],
            "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 2}, "groundingChunkIndices": [0]}],
        }
        chunks = [
            chunk(thought("h")),
            chunk(call(signature=SIGNATURE)),
            chunk(text("said"), groundingMetadata=grounding),
            chunk(finish="SAFETY"),
        ]
        parsed = TypeAdapter(Message).validate_python(message(*chunks))
        self.assertEqual(extras(parsed), [])
        answer = Answer()
        answer.body(sse(*chunks))
        events = TypeAdapter(list[RawMessageStreamEvent]).validate_python(Grammar().frames(answer.frames))
        self.assertEqual([extra for event in events for extra in extras(event)], [])


def extras(value: Any) -> list[str]:
    """Members that an SDK's model has no field for."""
    if isinstance(value, list):
        return [extra for member in value for extra in extras(member)]
    if not hasattr(value, "model_fields_set"):
        return []
    inner = [extra for name in value.model_fields_set for extra in extras(getattr(value, name))]
    return [*(value.model_extra or {}), *inner]
