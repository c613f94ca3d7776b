"""Answers that are odd in one place: they are paid for, so they reach their client as they came, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from claudeproxyd.outcomes.types import AttemptFailed, Kind
from tests.executors.anthropic.test_executor import AnthropicTestCase
from tests.executors.gemini.test_executor import GeminiTestCase, sse
from tests.executors.support import ExecutorTestCase
from tests.executors.vertex.test_executor import BODY, VertexTestCase

SHAPES = (None, 0, 7, -1, 11.0, 11.5, 2**70, "", "11", "many", True, [], [1], {}, {"a": 1})
"""What may stand where something else is to be expected."""

COUNTED = {
    "input_tokens": 5,
    "output_tokens": 9,
    "cache_read_input_tokens": 3,
    "cache_creation_input_tokens": 2,
    "output_tokens_details": {"thinking_tokens": 1},
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": COUNTED,
}
FIGURES = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
}

RAW = (
    b"\xef\xbb\xbf%b" % json.dumps(MESSAGE).encode(),
    json.dumps(MESSAGE).replace("Hello", "\\ud99c").encode(),
    json.dumps(MESSAGE).replace("Hello", "a\\udc00b\\ud83d").encode(),
    json.dumps(MESSAGE).replace('"msg_1"', "NaN").encode(),
    json.dumps(MESSAGE | {"new": {"x": 1}}).replace("1}}", "-Infinity}}").encode(),
    json.dumps(MESSAGE).replace("Hello", "\\u00e9").encode().replace(b"\\u00e9", b"\xe9"),
    json.dumps(MESSAGE).replace("end_turn", "x").encode().replace(b'"x"', b'"\xe9"'),
    b" \r\n%b \n" % json.dumps(MESSAGE).encode(),
    json.dumps(MESSAGE).replace('"input_tokens": 5', '"input_tokens": 1e400').encode(),
    json.dumps(MESSAGE).replace('"usage"', '"usage": 7, "usage"').encode(),
)
"""Members that are as they should be, in bytes that are not."""


def odd(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same with one member missing, or of another shape; and by which."""
    for name in whole:
        yield name, {key: value for key, value in whole.items() if key != name}
        for shape in SHAPES:
            yield name, {**whole, name: shape}


def odd_messages() -> Iterator[tuple[str, dict[str, Any]]]:
    """Of a message, and of its usage."""
    yield from odd(MESSAGE)
    for name, usage in odd(COUNTED):
        yield name, {**MESSAGE, "usage": usage}
    for _, details in odd(COUNTED["output_tokens_details"]):  # type: ignore[arg-type]  # it is an object
        yield "output_tokens_details", {**MESSAGE, "usage": {**COUNTED, "output_tokens_details": details}}


def stream_of(message: dict[str, Any]) -> bytes:
    """The message as a stream: what it says at its start and at its end is as odd as the message."""
    start = {"type": "message_start", "message": message}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
    ending = {name: message[name] for name in ("stop_reason", "stop_sequence") if name in message}
    last = {"type": "message_delta", "delta": ending, **({"usage": message["usage"]} if "usage" in message else {})}
    events = (
        start,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        delta,
        {"type": "content_block_stop", "index": 0},
        last,
        {"type": "message_stop"},
    )
    return b"".join(b"event: %b\ndata: %b\n\n" % (str(e["type"]).encode(), json.dumps(e).encode()) for e in events)


class Served(ExecutorTestCase):
    """Answers that get through."""

    def served(self, body: bytes, **options: Any) -> Any:
        """What the executor makes of a 200 with that body."""
        answer = self.answer(200, body, **options)
        if isinstance(answer, AttemptFailed):
            self.fail(f"{answer} for {body!r}")
        return answer


class ClaudeAnswers:
    """Of everything that speaks the Messages API."""

    def test_whole(self: Any) -> None:
        """Whatever one member is, the body goes out as it came, and the other figures are known."""
        for name, message in odd_messages():
            body = json.dumps(message).encode()
            answer = self.served(body)
            self.assertEqual(answer.body, body)
            if name != "usage":
                for figure, member in FIGURES.items():
                    if member != name:
                        self.assertEqual(getattr(answer.usage, figure), COUNTED[member], body)
            self.assertIn(answer.stop_reason, ("end_turn", None, "", "11", "many"))

    def test_whole_bytes(self: Any) -> None:
        """So it is whatever the bytes are, as long as they are JSON to anybody."""
        for body in RAW:
            answer = self.served(body)
            self.assertEqual((answer.body, answer.usage.output), (body, 9))

    def test_unreadable_figures(self: Any) -> None:
        """A figure that cannot be read is not known, which is not 0, and there is something to log; 11.0 is one."""
        for shape in SHAPES[3:]:
            message = {**MESSAGE, "usage": {**COUNTED, "input_tokens": shape}}
            answer = self.served(json.dumps(message).encode())
            known = shape == 11.0
            self.assertEqual(answer.usage.input, 11 if known else None, shape)
            self.assertEqual("input_tokens" in answer.anomaly, not known, shape)
        for usage in ("[]", "7", '"x"'):
            answer = self.served(json.dumps({**MESSAGE, "usage": json.loads(usage)}).encode())
            self.assertIn("usage", answer.anomaly)
        self.assertEqual(self.served(json.dumps(MESSAGE).encode()).anomaly, "")

    def test_streamed(self: Any) -> None:
        """The same in a stream, whose figures are the same."""
        for name, message in odd_messages():
            frames = stream_of(message)
            answer, events, _ = self.deliver(frames, end=True)
            self.assertEqual((events.failure, events.frames), (None, frames))
            if name != "usage":
                for figure, member in FIGURES.items():
                    if member != name:
                        self.assertEqual(getattr(answer.usage, figure), COUNTED[member], frames)

    def test_no_message(self: Any) -> None:
        """What is no message at all is a failure: no JSON, no object, an error, a page, nothing."""
        for body in (
            b"",
            b"Hello",
            b"<html>Hello</html>",
            b"[]",
            b'"Hello"',
            b"7",
            b"null",
            b"{}",
            b'{"content":[]}',
            b'{"code":500,"msg":"no"}',
            b'{"error":{"message":"no","code":502}}',
            b'{"type":"error","error":{"type":"api_error","message":"no"}}',
            b'{"role":"assistant","content":[],"error":{"message":"no"}}',
            json.dumps(MESSAGE).encode()[:-1],
            b"{" * 9999,
            b'{"a":' * 9999,
        ):
            self.assertEqual(self.failed(200, body).outcome.kind, Kind.TRANSIENT, body)

    def test_count(self: Any) -> None:
        """A count goes out as it came, too; one that is no count fails."""
        for shape in SHAPES:
            body = json.dumps({"input_tokens": shape}).encode()
            answer = self.served(body, count_tokens=True)
            self.assertEqual(answer.body, body)
            self.assertEqual(
                answer.usage.input, {0: 0, 7: 7, 11.0: 11}.get(shape) if type(shape) in (int, float) else None
            )
        for body in (b"", b"{}", b"[]", b"7", b"<html>", b'{"error":{}}'):
            self.assertEqual(self.failed(200, body, count_tokens=True).outcome.kind, Kind.TRANSIENT, body)


class Anthropic(ClaudeAnswers, Served, AnthropicTestCase):
    """The Messages API itself, and what is compatible with it."""


class OnVertex(ClaudeAnswers, Served, VertexTestCase):
    """Claude on Vertex AI."""

    def attempt(self, *args: Any, stream: bool = False, **call: Any) -> Any:
        """One of a request that says itself whether it is streamed."""
        return super().attempt(
            *args, body=BODY.replace(b"}]}", b'}],"stream":%b}' % str(stream).lower().encode()), **call
        )


GEMINI: dict[str, Any] = {
    "candidates": [
        {
            "content": {"role": "model", "parts": [{"text": "Hello"}]},
            "finishReason": "STOP",
            "finishMessage": "done",
            "index": 0,
            "avgLogprobs": -0.1,
            "safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}],
            "citationMetadata": {"citationSources": []},
            "groundingMetadata": {"webSearchQueries": []},
            "tokenCount": 7,
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 5,
        "candidatesTokenCount": 7,
        "totalTokenCount": 12,
        "cachedContentTokenCount": 0,
        "thoughtsTokenCount": 0,
        "toolUsePromptTokenCount": 0,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 5}],
    },
    "promptFeedback": {"safetyRatings": []},
    "modelVersion": "gemini-2.5-pro",
    "responseId": "r1",
    "createTime": "2026-09-01T00:00:00Z",
}


def odd_responses() -> Iterator[dict[str, Any]]:
    """What Gemini says, odd in one member that is not what it says."""
    yield from (response for name, response in odd(GEMINI) if name != "candidates")
    for _, counts in odd(GEMINI["usageMetadata"]):
        yield {**GEMINI, "usageMetadata": counts}
    candidate = GEMINI["candidates"][0]
    for name, other in odd(candidate):
        if name == "content" or (name == "index" and other.get(name) in (7, 11.0, "11", 2**70)):
            continue  # another candidate is not looked at
        if name == "finishReason" and other.get(name) in (None, ""):
            continue  # an answer without an end
        yield {**GEMINI, "candidates": [other]}
    for name, part in odd({"text": "Hello", "thought": False, "thoughtSignature": "c2ln", "newMember": 1}):
        if name != "text" and part.get("thought") is not True:
            yield {**GEMINI, "candidates": [{**candidate, "content": {"role": "model", "parts": [part]}}]}
    for shape in SHAPES:
        if not isinstance(shape, str):
            yield {**GEMINI, "promptFeedback": {"blockReason": shape, "blockReasonMessage": shape}}


class Gemini(Served, GeminiTestCase):
    """Google's, which are translated."""

    def texts(self, body: bytes) -> str:
        """What a whole message says."""
        return "".join(block.get("text", "") for block in json.loads(body)["content"])

    def test_whole(self) -> None:
        """Whatever a member is that is not what the model says, the answer arrives."""
        for response in odd_responses():
            answer = self.served(json.dumps(response).encode())
            self.assertEqual(self.texts(answer.body), "Hello", response)

    def test_streamed(self) -> None:
        """The same in a stream."""
        for response in odd_responses():
            _, events, _ = self.deliver(sse(response), end=True)
            self.assertIsNone(events.failure, response)
            self.assertIn(b'"text":"Hello"', events.frames, response)
            self.assertTrue(events.batches[-1].ended)

    def test_figures(self) -> None:
        """One figure that cannot be read loses itself alone, and is told."""
        for shape in SHAPES:
            counts = {**GEMINI["usageMetadata"], "promptTokenCount": shape}
            answer = self.served(json.dumps({**GEMINI, "usageMetadata": counts}).encode())
            self.assertEqual(answer.usage.output, 7)
            if shape is not None and not isinstance(shape, int):
                self.assertIn("unknown shape", answer.anomaly)

    def test_bytes(self) -> None:
        """A byte order mark, NaN for a likelihood, half a character."""
        whole = json.dumps(GEMINI)
        for body in (
            b"\xef\xbb\xbf%b" % whole.encode(),
            whole.replace("-0.1", "NaN").encode(),
            whole.replace("-0.1", "-Infinity").encode(),
            whole.replace('"r1"', '"\\ud83d"').encode(),
            whole.replace("-0.1", "1e999").encode(),
        ):
            answer = self.served(body)
            self.assertEqual(self.texts(answer.body), "Hello")
            _, events, _ = self.deliver(b"data: %b\n\n" % body.removeprefix(b"\xef\xbb\xbf"), end=True)
            self.assertIsNone(events.failure, body)

    def test_count(self) -> None:
        """A count is a number, however it is written."""
        for total in ("11", "11.0", '"11"'):
            answer = self.served(b'{"totalTokens":%b}' % total.encode(), count_tokens=True)
            self.assertEqual(answer.body, b'{"input_tokens":11}')
