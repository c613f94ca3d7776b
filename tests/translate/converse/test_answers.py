"""Answers of the Converse API, where the golden cases do not look: what is shown when, and what is odd."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.framing.sse import FrameTooLarge
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.outcomes.classify import classify
from claudeproxyd.outcomes.types import AttemptPhase, Evidence, Family, Kind
from claudeproxyd.translate.converse import answers
from claudeproxyd.translate.converse.answers import ConverseReader
from tests.golden.families.converse.arrivals import event, frame
from tests.golden.families.converse.merging import merge
from tests.messages.accumulate import accumulate
from tests.translate.converse.answering import (
    METADATA,
    START,
    Answer,
    Json,
    call,
    delta,
    end,
    request,
    stop,
    stream,
    text,
    whole,
)


def content(answer: Answer) -> list[Json]:
    """The blocks of a stream that has ended."""
    blocks: list[Json] = accumulate(answer.frames)["content"]
    return blocks


class StreamTests(SynchronousTestCase):
    """What a client is shown, and when."""

    def test_is_a_reader(self) -> None:
        """It is what executors drive."""
        verifyObject(IStreamReader, Answer().reader)

    def test_as_it_comes(self) -> None:
        """Text, reasoning and the input of calls are passed on in the read that they came in."""
        answer = Answer()
        answer.feed(event(START))
        for sent, shown in (
            (delta(0, reasoningContent={"text": "Hm."}), b'"thinking":"Hm."'),
            (text(1, "Hel"), b'"text":"Hel"'),
            (call(2, "tooluse_1"), b'"name":"Bash"'),
            (delta(2, toolUse={"input": '{"a"'}), b'"partial_json":"{\\"a\\""'),
        ):
            batch = answer.feed(event(sent))
            self.assertIn(shown, batch.frames)
            self.assertFalse(batch.ended)

    def test_end(self) -> None:
        """messageStop does not end the message, what it took is told behind it; metadata does."""
        answer = Answer()
        batch = answer.feed(stream(START, text(0, "a"), stop(0), end()))
        self.assertNotIn(b"message_stop", batch.frames)
        self.assertEqual(answer.reader.stop_reason, None)
        self.assertTrue(answer.feed(event(METADATA)).ended)
        self.assertEqual((answer.reader.stop_reason, answer.reader.usage.output), ("end_turn", 20))

    def test_nothing_behind_the_end(self) -> None:
        """What comes behind metadata is not read."""
        answer = Answer()
        batch = answer.feed(stream(START, text(0, "a"), end(), METADATA, text(0, "b"), {"throttlingException": {}}))
        self.assertTrue(batch.ended)
        self.assertIsNone(batch.error)
        self.assertEqual(content(answer), [{"type": "text", "text": "a"}])

    def test_ends_without_metadata(self) -> None:
        """A body that ends behind messageStop is whole, half of a message behind it or not."""
        for rest in (b"", event(METADATA)[:-3]):
            answer = Answer()
            answer.feed(stream(START, text(0, "a"), end()) + rest)
            self.assertEqual(answer.reader.unfinished, len(rest))
            self.assertTrue(answer.end().ended)
            self.assertTrue(answer.reader.usage.estimated)

    def test_cut(self) -> None:
        """One that ends before is not; what was delivered is estimated."""
        answer = Answer()
        answer.feed(stream(START, text(0, "Hello, hello.")))
        self.assertFalse(answer.end().ended)
        self.assertTrue(answer.reader.usage.estimated)
        self.assertTrue(answer.reader.content)

    def test_metadata_first(self) -> None:
        """Figures that come ahead of the end are kept."""
        answer = Answer()
        answer.feed(stream(START, text(0, "a"), METADATA))
        answer.feed(stream(end()))
        self.assertTrue(answer.end().ended)
        self.assertEqual(answer.reader.usage.input, 100)

    def test_figures_that_cannot_be(self) -> None:
        """They are unknown, and no failure."""
        answer = Answer()
        usage: Json = {"inputTokens": "many", "outputTokens": -1, "cacheReadInputTokens": 1e30, "totalTokens": None}
        answer.feed(stream(START, text(0, "a"), end(), {"metadata": {"usage": usage}}))
        self.assertEqual(accumulate(answer.frames)["usage"]["cache_read_input_tokens"], 0)
        self.assertTrue(answer.reader.usage.estimated)

    def test_unknown_events(self) -> None:
        """Events of a later date are left out and noted; those around a message are known."""
        answer = Answer()
        answer.feed(stream({"initial-response": {}}, START))
        self.assertEqual(answer.reader.anomaly, "")
        answer.feed(stream({"somethingNew": {"a": 1}}, text(0, "a"), end(), METADATA))
        self.assertEqual(answer.reader.anomaly, "unknown event somethingNew")
        self.assertEqual(content(answer), [{"type": "text", "text": "a"}])

    def test_unknown_event_that_is_a_key(self) -> None:
        """What is noted of names that an upstream made up is whole, or its length: half of a key nobody would mask."""
        answer = Answer()
        answer.feed(stream(START, {"0123456789abcdef" * 4: {}}, text(0, "a"), end(), METADATA))
        self.assertEqual(answer.reader.anomaly, "unknown event of 64 characters")

    def test_input_of_no_call(self) -> None:
        """Input of a call that has not begun, or is over, is damage."""
        for before in ((), (call(0, "tooluse_1"), stop(0))):
            answer = Answer()
            self.assertRaises(MalformedAnswer, answer.feed, stream(START, *before, delta(0, toolUse={"input": "{}"})))

    def test_input_that_is_no_object(self) -> None:
        """A call that cannot be run is damage, whether metadata ends the answer or the body does."""
        sent = stream(START, call(0, "tooluse_1"), delta(0, toolUse={"input": "]"}), stop(0), end("tool_use"))
        self.assertRaises(MalformedAnswer, Answer().feed, sent + event(METADATA))
        answer = Answer()
        answer.feed(sent)
        self.assertRaises(MalformedAnswer, answer.end)

    def test_damage(self) -> None:
        """A CRC that does not fit, an event that is no JSON, a block that has no number."""
        bad = bytearray(event(text(0, "a")))
        bad[-6] ^= 1
        odd = frame({":event-type": "contentBlockDelta"}, b'{"contentBlockIndex":null,"delta":{"text":"a"}}')
        for data in (bytes(bad), frame({":event-type": "contentBlockDelta"}, b"{"), odd):
            self.assertRaises(MalformedAnswer, Answer().feed, data)

    def test_too_large(self) -> None:
        """A message beyond the limit, and a body without messages that grows beyond it."""
        self.assertRaises(FrameTooLarge, Answer(limit=100).feed, event(text(0, "a" * 200)))
        answer = Answer(limit=100)
        answer.feed(b'{"output":' + b" " * 80)
        self.assertEqual(answer.reader.unfinished, 90)
        self.assertRaises(FrameTooLarge, answer.feed, b" " * 80)

    def test_reasoning_beyond_bounds(self) -> None:
        """Of reasoning that is not shown no more is kept than any model gives: beyond, it does not go back."""
        with patch.object(answers, "MAX_REASONING_CHARS", 5):
            answer = Answer(shows=False)
            answer.feed(stream(START, *[delta(0, reasoningContent={"text": "abc"})] * 3, stop(0), text(1, "a"), end()))
            answer.feed(event(METADATA))
        self.assertEqual(content(answer), [{"type": "text", "text": "a"}])
        self.assertIn("too long", answer.reader.anomaly)

    def test_hidden_reasoning_is_progress(self) -> None:
        """A stream that brings nothing but reasoning, of which the client sees nothing, is not one that hangs."""
        for hidden in ({"shows": False}, {"thinks": False}):
            answer = Answer(**hidden)
            batch = answer.feed(event(delta(0, reasoningContent={"text": "hm"})))
            self.assertEqual((batch.frames, batch.progress), (b"", True))
            self.assertFalse(answer.feed(event(START)).progress)


class ErrorTests(SynchronousTestCase):
    """What comes in an event's place."""

    def told(self, data: bytes) -> Json:
        batch = Answer().feed(data)
        assert batch.error is not None
        error: Json = json.loads(batch.error)
        return error

    def test_exceptions(self) -> None:
        """They are passed on as the body that they would be as an answer, with all members."""
        said = {"message": "Slow down.", "originalStatusCode": 429}
        told = self.told(event({"modelStreamErrorException": said}))
        self.assertEqual(told, {"__type": "modelStreamErrorException", **said})

    def test_errors_without_a_shape(self) -> None:
        """So is an error that the API has no exception for: it is in the headers."""
        headers = {":message-type": "error", ":error-code": "InternalError", ":error-message": "Oops."}
        self.assertEqual(self.told(frame(headers, b"")), {"__type": "InternalError", "message": "Oops."})
        headers = {":message-type": "exception", ":exception-type": "throttlingException"}
        self.assertEqual(self.told(frame(headers, b"slow")), {"__type": "throttlingException", "message": "slow"})

    def test_what_they_come_to(self) -> None:
        """Executors read them as they read an answer's body."""
        error = Answer().feed(event({"throttlingException": {"message": "Too many requests"}})).error
        evidence = Evidence(Family.BEDROCK, AttemptPhase.STREAM, 200, body=error or b"")
        self.assertEqual(classify(evidence).kind, Kind.QUOTA)

    def test_nothing_behind_one(self) -> None:
        """What came before one is shown, what comes behind it is not."""
        answer = Answer()
        batch = answer.feed(stream(START, text(0, "a"), {"internalServerException": {}}, text(0, "b")))
        self.assertIn(b'"text":"a"', batch.frames)
        self.assertNotIn(b'"text":"b"', batch.frames)


class WholeTests(SynchronousTestCase):
    """Answers in one body."""

    def body(self, **members: Any) -> bytes:
        return json.dumps({**merge([START, text(0, "a"), end(), METADATA]), **members}).encode()

    def read(self, body: bytes, **how: Any) -> Json:
        machine = BlockMachine("m", family="bedrock", whole=True)
        ConverseReader(machine, request(**how), len(body)).read_whole(body)
        message: Json = json.loads(machine.message())
        return message

    def test_in_place_of_a_stream(self) -> None:
        """A model that does not stream answers a stream's reader with a whole answer, in any pieces."""
        answer = Answer()
        body = b" " + self.body()
        for at in range(0, len(body), 7):
            self.assertEqual(answer.feed(body[at : at + 7]).frames, b"")
        self.assertTrue(answer.end().ended)
        self.assertEqual(accumulate(answer.frames)["content"], [{"type": "text", "text": "a"}])

    def test_no_answer(self) -> None:
        """JSON that has no message, or does not say how it ends, is none; nor is half of an answer."""
        for body in (b"{}", b'{"output":{}}', self.body(stopReason=None), self.body()[:-5], b"[]", b"<html>"):
            self.assertRaises(MalformedAnswer, self.read, body)

    def test_byte_order_mark(self) -> None:
        """What some proxies put in front is left out."""
        self.assertEqual(self.read(b"\xef\xbb\xbf" + self.body())["stop_reason"], "end_turn")

    def test_citations(self) -> None:
        """Text with sources is text: sources are not asked for."""
        cited: Json = {"citationsContent": {"content": [{"text": "It "}, {"text": "rains."}], "citations": [{}]}}
        output = {"message": {"content": [cited, {"somethingNew": {}}, {"text": "b"}]}}
        said = [block["text"] for block in self.read(self.body(output=output))["content"]]
        self.assertEqual(said, ["It rains.", "b"])

    def test_empty(self) -> None:
        """An answer without content is the model's fault, once."""
        self.assertRaises(ModelFault, whole, START, end(), METADATA)
        self.assertEqual(whole(START, end(), METADATA, last=True)["content"], [])

    def test_stops(self) -> None:
        """A whole answer is searched for stop sequences as a stream is, and its figures are the API's."""
        message = whole(START, text(0, "one END two"), text(1, "three"), end(), METADATA, stop_sequences=["END"])
        self.assertEqual((message["stop_reason"], message["stop_sequence"]), ("stop_sequence", "END"))
        self.assertEqual(
            (message["content"], message["usage"]["output_tokens"]), ([{"type": "text", "text": "one "}], 20)
        )
