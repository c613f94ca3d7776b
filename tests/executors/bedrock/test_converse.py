"""Other models than Claude's on Bedrock, by the Converse API: what is asked where, and how it ends."""

from __future__ import annotations

import json
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from twisted.internet.defer import ensureDeferred

from claudeproxyd.errors import Unsupported
from claudeproxyd.leases import Route
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Then
from claudeproxyd.testing import EventRecorder, chunk
from tests.dispatch.fakes import House
from tests.executors.bedrock.support import BODY, STREAMED, BedrockTestCase, credential
from tests.framing.event_messages import event, exception
from tests.messages.accumulate import accumulate

NOVA = "us.amazon.nova-pro-v1:0"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
START = event("messageStart", {"role": "assistant"})
SAID = event("contentBlockDelta", {"delta": {"text": "hello"}, "contentBlockIndex": 0})
END = (
    event("contentBlockStop", {"contentBlockIndex": 0})
    + event("messageStop", {"stopReason": "end_turn"})
    + event(
        "metadata", {"usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}, "metrics": {"latencyMs": 1}}
    )
)
WHOLE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12},
}
TOOL = {"name": "t", "input_schema": {"type": "object", "properties": {}}}


def streamed(**members: Any) -> bytes:
    """A request for a stream, with these members."""
    return json.dumps({**json.loads(BODY), "stream": True, **members}).encode()


class Up(BedrockTestCase):
    """What is asked where."""

    def test_operations(self) -> None:
        """By the model's id as one segment of the path, signed; and the body is one that AWS's own library takes."""
        model = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
        for body, operation, shape in (
            (BODY, "converse", "Converse"),
            (streamed(), "converse-stream", "ConverseStream"),
        ):
            target, headers, sent = self.up(model=NOVA, body=body)
            self.assertEqual(target, f"/base/model/us.amazon.nova-pro-v1%3A0/{operation}")
            self.assertIn("/us-east-1/bedrock/aws4_request", headers["authorization"])
            wanted = model.operation_model(shape).input_shape
            report = ParamValidator().validate({"modelId": NOVA, **json.loads(sent)}, wanted)
            self.assertFalse(report.has_errors(), report.generate_report())

    def test_models_that_do_not_stream_with_tools(self) -> None:
        """They are asked for the whole answer, and the client has its stream all the same."""
        target, *_ = self.up(model=LLAMA, body=streamed(tools=[TOOL]))
        self.assertTrue(target.endswith("/converse"), target)
        target, *_ = self.up(model=LLAMA, body=streamed())
        self.assertTrue(target.endswith("/converse-stream"), target)
        sent, wire, _, _ = self.send(self.attempt(model=LLAMA, body=streamed(tools=[TOOL])))
        wire.respond(200, json.dumps(WHOLE).encode(), "content-type: application/json")
        events = EventRecorder()
        self.result(sent).deliver(events)
        self.assertEqual(accumulate(events.frames)["content"], [{"type": "text", "text": "hello"}])
        self.assertTrue(events.batches[-1].ended)

    def test_counting(self) -> None:
        """Bedrock counts for Claude alone: an estimate serves, and nobody is asked."""
        counted = House().request(body=BODY, count_tokens=True)
        self.assertRaises(Unsupported, self.executor.prepare, counted, Route("b", NOVA))
        attempt = self.attempt(model=NOVA, count_tokens=True)
        failed = self.result(ensureDeferred(self.executor.count_tokens(attempt)))
        self.assertIs(failed.outcome.kind, Kind.UNSUPPORTED)

    def test_claudes_by_another_name(self) -> None:
        """What the operator says is Claude's goes by InvokeModel."""
        arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
        target, *_ = self.up(model=arn)
        self.assertTrue(target.endswith("/converse"))
        self.make(credential(), claude_models=["arn:*"])
        target, *_ = self.up(model=arn)
        self.assertTrue(target.endswith("/invoke"))


class Down(BedrockTestCase):
    """What comes of it."""

    def test_whole(self) -> None:
        """A whole answer is a message."""
        answer = self.answer(200, json.dumps(WHOLE).encode(), "x-amzn-requestid: r-1", model=NOVA)
        message = json.loads(answer.body)
        self.assertEqual(
            (message["content"], message["stop_reason"]), ([{"type": "text", "text": "hello"}], "end_turn")
        )
        self.assertEqual((answer.usage.input, answer.usage.output, answer.request_id), (5, 7, "r-1"))

    def test_stream(self) -> None:
        """A stream is Claude's stream, wherever the network cuts it."""
        data = START + SAID + END
        for cut in range(1, len(data), 11):
            answer, events = self.streaming(data[:cut], data[cut:], model=NOVA)
            self.assertEqual(accumulate(events.frames)["content"], [{"type": "text", "text": "hello"}])
            self.assertTrue(events.batches[-1].ended)
            self.assertEqual((answer.usage.input, answer.usage.output), (5, 7))

    def test_stop_sequences(self) -> None:
        """They are watched for here, and of a whole answer as well the rest is not made."""
        sent, wire, head, _ = self.send(self.attempt(model=NOVA, body=streamed(stream=False, stop_sequences=["ll"])))
        self.assertIn("/converse-stream ", head.decode())
        wire.begin_stream(STREAMED)
        wire.say(chunk(START + SAID))
        message = json.loads(self.result(sent).body)
        self.assertEqual((message["content"][0]["text"], message["stop_reason"]), ("he", "stop_sequence"))

    def test_exceptions(self) -> None:
        """First ones are for another credential; late ones end the stream with an error."""
        for name, kind in (("throttlingException", Kind.QUOTA), ("modelStreamErrorException", Kind.TRANSIENT)):
            _, events = self.streaming(exception(name, "The words"), model=NOVA)
            self.assertIs(events.failure.outcome.kind, kind)
            self.assertEqual(events.frames, b"")
            _, events = self.streaming(START + SAID, exception(name, "The words"), model=NOVA)
            self.assertIs(events.failure.outcome.kind, kind)
            self.assertIs(events.failure.outcome.then, Then.ANSWER)
            self.assertEqual(events.failure.answer.message, "The words")

    def test_cuts(self) -> None:
        """A stream that ends before messageStop never ends cleanly."""
        self.assertIs(self.broken(START, model=NOVA).outcome.kind, Kind.TRANSIENT)
        self.assertIs(self.broken(START + SAID, model=NOVA).outcome.kind, Kind.BROKEN_STREAM)

    def test_refusals(self) -> None:
        """Errors are AWS's by their names; an overflow is told in the words that make clients compact."""
        for status, name, words, kind in (
            (400, "ValidationException", "Input is too long for requested model.", Kind.CLIENT_FAULT),
            (429, "ThrottlingException", "Too many requests", Kind.QUOTA),
            (408, "ModelTimeoutException", "", Kind.TRANSIENT),
        ):
            failed = self.failed(
                status, json.dumps({"message": words}).encode(), f"x-amzn-errortype: {name}", model=NOVA
            )
            assert isinstance(failed, AttemptFailed)
            self.assertIs(failed.outcome.kind, kind)
        failed = self.failed(
            400, b'{"message":"Input is too long"}', "x-amzn-errortype: ValidationException", model=NOVA
        )
        assert failed.answer is not None
        self.assertEqual(failed.answer.message, "Input is too long.")
