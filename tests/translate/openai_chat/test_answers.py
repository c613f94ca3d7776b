"""Answers beyond what golden cases say: what is odd is noted, what is large is bounded, what fails is told apart."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.framing.sse import FrameTooLarge
from claudeproxyd.messages.reader import ErrorAnswer, MalformedAnswer, ModelFault
from claudeproxyd.translate.openai_chat import reasoning
from claudeproxyd.translate.openai_chat.carried import read_carried
from tests.messages.accumulate import accumulate
from tests.translate.openai_chat.answering import USAGE, Answer, chunk, piece, sse, whole


class ReaderTests(SynchronousTestCase):
    """The reader of a stream."""

    def test_pieces_go_on_as_they_come(self) -> None:
        """Each piece of a call's arguments is a frame at once."""
        answer = Answer()
        answer.reader.feed(sse(chunk(tool_calls=[piece(0, "call_1", "Bash", "")]), done=False))
        for part in ('{"comm', 'and":', '"ls"}'):
            batch = answer.reader.feed(sse(chunk(tool_calls=[piece(0, arguments=part)]), done=False))
            self.assertIn(json.dumps(part).encode(), batch.frames)

    def test_second_call_waits(self) -> None:
        """A call whose pieces come while another is open is shown behind it."""
        answer = Answer()
        sent = [piece(0, "a", "Bash", "{"), piece(1, "b", "Bash", "{}"), piece(0, arguments="}")]
        batches = [answer.reader.feed(sse(chunk(tool_calls=[each]), done=False)) for each in sent]
        self.assertEqual(batches[1].frames, b"")
        self.assertIn(b'"id":"b"', batches[2].frames)

    def test_anomalies(self) -> None:
        """What is odd passes, and is there for a log."""
        for sent, words in (
            ([chunk("novel", content="x")], "novel"),
            ([{"choices": [{"index": 1, "delta": {"content": "y"}}]}, chunk("stop", content="x")], "more than one"),
            ([{**chunk(content="x"), "id": 7}, chunk("stop")], "id of an unknown shape"),
            ([chunk(content=[{"type": "audio"}]), chunk("stop", content="x")], "no known kind"),
        ):
            answer = Answer()
            self.assertTrue(answer.body(sse(*sent)).ended)
            self.assertIn(words, answer.reader.anomaly)

    def test_usage_of_a_cut(self) -> None:
        """A stream that was cut has cost what was delivered, by estimate."""
        answer = Answer()
        self.assertFalse(answer.body(sse(chunk(content="x" * 70), done=False)).ended)
        self.assertEqual((answer.reader.usage.output, answer.reader.usage.estimated), (20, True))

    def test_stop_sequence_ends_it(self) -> None:
        """What follows a stop sequence is not waited for."""
        answer = Answer(stop_sequences=["END"])
        batch = answer.reader.feed(sse(chunk(content="One END two"), done=False))
        self.assertTrue(batch.ended)
        self.assertEqual(answer.reader.stop_reason, "stop_sequence")

    def test_usage_ends_it(self) -> None:
        """So is nothing behind the figures that come after the reason."""
        answer = Answer()
        batch = answer.reader.feed(
            sse(chunk(content="x"), {**chunk(), "choices": [{"finish_reason": "stop"}]}, done=False)
        )
        self.assertFalse(batch.ended)
        self.assertTrue(answer.reader.feed(sse({"choices": [], "usage": USAGE}, done=False)).ended)

    def test_too_large(self) -> None:
        """A frame without an end is bounded."""
        self.assertRaises(FrameTooLarge, Answer().reader.feed, b"data: " + b"x" * (2 << 20))

    def test_reasoning_is_bounded(self) -> None:
        """Of reasoning that never ends so much is kept."""
        self.patch(reasoning, "MAX_CHARS", 5)
        answer = Answer(server="deepseek", shows=False)
        answer.body(
            sse(chunk(reasoning_content="abcdefgh"), chunk("tool_calls", tool_calls=[piece(0, "a", "Bash", "{}")]))
        )
        key = answer.request.digest.call_key("m", "a")
        self.assertEqual(answer.memory.lookup(key), "abcde")

    def test_half_a_character(self) -> None:
        """A character that was cut between two chunks is put together; a half alone is none, and breaks nothing."""
        for pieces, words in (
            (("x\ud83d", "\ude00y"), "x\U0001f600y"),
            (("\ud83d", "\ude00\ud83d", "\ude00"), "\U0001f600\U0001f600"),
            (("x\ud83d", "y"), "xy"),
            (("x\ud83d",), "x"),
            (("\ude00x\ud83dy", "z\ude00"), "\ufffdx\ufffdyz\ufffd"),
        ):
            answer = Answer()
            data = sse(*(chunk(content=piece) for piece in pieces), chunk("stop"))
            self.assertTrue(answer.body(data).ended)
            self.assertEqual(accumulate(answer.frames)["content"], [{"type": "text", "text": words}])

    def test_half_a_character_of_an_argument(self) -> None:
        """Nor is one of a call's input lost."""
        answer = Answer()
        cut = (piece(id="a", name="Bash", arguments='{"x":"\ud83d'), piece(arguments='\ude00"}'))
        answer.body(sse(*(chunk(tool_calls=[each]) for each in cut), chunk("tool_calls")))
        (call,) = accumulate(answer.frames)["content"]
        self.assertEqual(call["input"], {"x": "\U0001f600"})


class HiddenTests(SynchronousTestCase):
    """What a client is not shown."""

    def test_hidden_reasoning_is_progress(self) -> None:
        """A stream that brings nothing but reasoning, of which the client sees nothing, is not one that hangs."""
        for delta in ({"reasoning_content": "hm"}, {"content": [{"type": "thinking", "thinking": "hm"}]}):
            answer = Answer(shows=False)
            batch = answer.reader.feed(sse(chunk(**delta), done=False))
            self.assertEqual((batch.frames, batch.progress), (b"", True))
            self.assertFalse(answer.reader.feed(sse(chunk(), done=False)).progress)


class WholeTests(SynchronousTestCase):
    """Answers that are not streamed."""

    def test_errors(self) -> None:
        """An error is one, with its own JSON; anything else that is no answer is malformed."""
        for body in (b'{"error":{"code":400}}', sse({"error": {"code": 400}}), b'{"object":"error","code":400}'):
            error = self.assertRaises(ErrorAnswer, whole, body)
            self.assertIn(b'"code"', error.body)
        for body in (b"", b"x", b"{}", b"[]", b"<p>", b"data: [DONE]\n\n", sse(chunk(content="x"), done=False)):
            self.assertRaises(MalformedAnswer, whole, body)

    def test_bom(self) -> None:
        """A byte order mark is none of the answer."""
        body = json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}).encode()
        self.assertEqual(whole(b"\xef\xbb\xbf" + body)["content"], [{"type": "text", "text": "x"}])


class CarriedTests(SynchronousTestCase):
    """What travels in signatures."""

    def test_others(self) -> None:
        """What is not ours is read as nothing."""
        for payload in (b"", b"x", b"[]", b'["responses",1]', b'{"a":1}', b'["chat"]', b'["chat",1,2]', b"\xff"):
            self.assertIsNone(read_carried(payload), payload)
        carried = read_carried(b'["chat","deepseek","reasoning"]')
        assert carried is not None
        self.assertEqual(
            (carried.maker, carried.form, carried.text, carried.details), ("deepseek", "reasoning", "", [])
        )


class FaultTests(SynchronousTestCase):
    """The model's faults and the server's."""

    def test_nothing(self) -> None:
        """Nothing said is the model's fault, unless it was its last chance."""
        answer = Answer()
        answer.reader._last = False
        self.assertRaises(ModelFault, answer.body, sse(chunk("stop")))
        self.assertTrue(Answer().body(sse(chunk("stop"))).ended)
