"""The Gemini executor on an upstream in memory: what goes up, what comes down, what failures come to."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.config.schema import Pool, Provider
from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.dispatch.verdict import final_error
from claudeproxyd.errors import ClaudeError
from claudeproxyd.executors import translating
from claudeproxyd.executors.gathering import LimitedReader
from claudeproxyd.executors.gemini.executor import GeminiExecutor
from claudeproxyd.executors.gemini.maker import GeminiMaker
from claudeproxyd.executors.google import SafetySettings
from claudeproxyd.executors.http import MAX_PAGES
from claudeproxyd.executors.responses import LocalStream
from claudeproxyd.executors.turns import Turns
from claudeproxyd.interfaces import (
    IBufferedResponse,
    IExecutor,
    IExecutorMaker,
    IPrepared,
    IStreamingResponse,
    IStreamReader,
)
from claudeproxyd.leases import Credential, Route
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.observe.capture import Captures
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Scope, Then
from claudeproxyd.secrets.static import StaticSecret
from claudeproxyd.testing import EVENT_STREAM, EventRecorder, FakeAccount, MemoryConnection, chunk
from claudeproxyd.translate.gemini.answers import GeminiReader
from tests.executors.support import ExecutorTestCase
from tests.messages.accumulate import accumulate
from tests.observe.test_lines import Threads

verifyClass(IExecutor, GeminiExecutor)
verifyClass(IExecutorMaker, GeminiMaker)
verifyClass(IStreamingResponse, LocalStream)
verifyClass(IStreamReader, GeminiReader)
verifyClass(IStreamReader, LimitedReader)

MODEL = "gemini-2.5-pro"
ASKED: dict[str, Any] = {"model": "claude-x", "max_tokens": 90, "messages": [{"role": "user", "content": "Hello?"}]}
COUNTS = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}


def said(*parts: dict[str, Any], finish: str = "", **members: Any) -> dict[str, Any]:
    """A GenerateContentResponse; the last of an answer with *finish*."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0, **members}
    if finish:
        return {"candidates": [{**candidate, "finishReason": finish}], "usageMetadata": COUNTS}
    return {"candidates": [candidate]}


def sse(*responses: Any) -> bytes:
    """As ``alt=sse`` frames them."""
    return b"".join(b"data: " + json.dumps(response).encode() + b"\r\n\r\n" for response in responses)


def error(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    """Google's error body."""
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


def of_type(kind: str, **members: Any) -> dict[str, Any]:
    """One of an error's details."""
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **members}


FIRST = said({"text": "Hel"})
LAST = said({"text": "lo"}, finish="STOP")
WHOLE = said({"text": "Hello"}, finish="STOP")
OVERLOADED = error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")


class _Ticking(Clock):
    """A clock for work that takes a second a look."""

    def seconds(self) -> float:
        """One later each time."""
        self.rightNow += 1
        return self.rightNow


class GeminiTestCase(ExecutorTestCase):
    """Requests that have been translated for it."""

    maker = GeminiMaker()

    def attempt(self, secret: Any = (("api_key", "g-key"),), model: str = MODEL, **call: Any) -> Attempt:
        """One attempt; members of the body as *body*."""
        members = {**ASKED, "stream": call.pop("stream", False), **call.pop("body", {})}
        made = super().attempt(secret, model, body=json.dumps(members).encode(), **call)
        made.prepared = self.executor.prepare(made.request, made.route)
        if made.prepared is not None:
            verifyObject(IPrepared, made.prepared)
        return made

    def message(self, *answer: Any, **options: Any) -> dict[str, Any]:
        """The Claude message that a whole answer comes to."""
        answered = self.answer(*answer, **options)
        verifyObject(IBufferedResponse, answered)
        message: dict[str, Any] = json.loads(answered.body)
        return message

    def told(self, failure: AttemptFailed) -> ClaudeError:
        """What a client is told of it where nobody else can serve."""
        return final_error("claude-x", [failure], None, None, Pool()).error

    def refused(self, document: Any, *headers: str) -> tuple[Kind, Scope, Then, int, str]:
        """What an error comes to: for the pool, for dispatch, for the client."""
        whole = document[0] if isinstance(document, list) else document
        failure = self.failed(whole["error"]["code"], json.dumps(document).encode(), *headers)
        told = self.told(failure)
        outcome = failure.outcome
        return outcome.kind, outcome.scope, outcome.then, told.status, told.message


class Up(GeminiTestCase):
    """The request."""

    def test_whole(self) -> None:
        """The translated request goes to generateContent of the route's model."""
        attempt = self.attempt()
        _, _, head, body = self.send(attempt)
        self.assertTrue(head.startswith(b"POST /base/v1beta/models/gemini-2.5-pro:generateContent HTTP/1.1\r\n"), head)
        self.assertEqual(json.loads(body)["contents"], [{"role": "user", "parts": [{"text": "Hello?"}]}])
        self.assertEqual(attempt.bytes_out, len(body))
        self.assertIn(b"\r\naccept-encoding: gzip", head)

    def test_streamed(self) -> None:
        """A stream is asked for as server-sent events, uncompressed."""
        _, _, head, _ = self.send(self.attempt(stream=True))
        self.assertTrue(
            head.startswith(b"POST /base/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse HTTP/1.1\r\n"), head
        )
        self.assertIn(b"\r\naccept-encoding: identity", head)

    def test_headers(self) -> None:
        """The key goes up, the operator's headers do; of the client's none does, and nor does its query."""
        self.make(headers={"x-team": "for {client}"})
        client = [(b"x-api-key", b"sk-c"), (b"anthropic-beta", b"b-1"), (b"user-agent", b"cli"), (b"x-app", b"cli")]
        _, _, head, _ = self.send(self.attempt(headers=client))
        names = sorted(line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:])
        self.assertEqual(
            names,
            [
                b"accept-encoding",
                b"content-length",
                b"content-type",
                b"host",
                b"x-claudeproxyd-hop",
                b"x-goog-api-key",
                b"x-team",
            ],
        )
        self.assertIn(b"\r\nx-goog-api-key: g-key", head)
        self.assertIn(b"\r\nx-team: for client", head)
        self.assertNotIn(b"beta=true", head)

    def test_bearer_token(self) -> None:
        """A token goes where tokens go."""
        _, _, head, _ = self.send(self.attempt(secret={"bearer_token": "ya29"}.items()))
        self.assertIn(b"\r\nauthorization: Bearer ya29", head)
        self.assertNotIn(b"goog", head)

    def test_models_names(self) -> None:
        """A name that a client chose leads to a model and nowhere else."""
        for model, path in (
            ("gemini x", b"models/gemini%20x"),
            ("../files/f", b"models/..%2Ffiles%2Ff"),
            ("models/m", b"models/m"),
            ("tunedModels/t/../x", b"tunedModels/t%2F..%2Fx"),
            ("é?a#b", b"models/%C3%A9%3Fa%23b"),
        ):
            _, _, head, _ = self.send(self.attempt(model=model))
            self.assertTrue(head.startswith(b"POST /base/v1beta/" + path + b":generateContent "), head)

    def test_safety_settings(self) -> None:
        """What the operator configures goes with each request."""
        self.make(safety_settings={"HARASSMENT": "OFF"})
        body = json.loads(self.send()[3])
        self.assertEqual(body["safetySettings"], [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}])
        self.make()
        self.assertNotIn("safetySettings", json.loads(self.send()[3]))

    def test_unsupported(self) -> None:
        """What Google cannot be told is named before any attempt."""
        made = ExecutorTestCase.attempt(self, body=json.dumps({**ASKED, "safeguards": {"a": 1}}).encode())
        self.assertIn("safeguards", self.unsupported(made.request, made.route) or "")

    def large(self, **members: Any) -> tuple[ApiRequest, Route]:
        """A request that takes long to translate."""
        messages = [{"role": "user", "content": "a" * 2_000_000}]
        made = ExecutorTestCase.attempt(self, body=json.dumps({**ASKED, "messages": messages, **members}).encode())
        return made.request, made.route

    def test_large(self) -> None:
        """A large request is translated with turns for others in between."""
        clock = _Ticking()
        self.executor.services = replace(self.executor.services, turns=Turns(clock))
        prepared = ensureDeferred(self.executor.prepare(*self.large()))
        self.assertNoResult(prepared)
        clock.pump([1] * 9)
        self.assertGreater(len(self.successResultOf(prepared).body), 2_000_000)

    def test_large_cancelled(self) -> None:
        """Nothing more is done of it once its client is gone."""
        clock = _Ticking()
        self.executor.services = replace(self.executor.services, turns=Turns(clock))
        prepared = ensureDeferred(self.executor.prepare(*self.large()))
        prepared.cancel()
        self.failureResultOf(prepared, CancelledError)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_large_unsupported(self) -> None:
        """What is wrong with a large one is named before any attempt too."""
        for members in ({"safeguards": {"a": 1}}, {"thread": {"type": "continue"}}):
            self.assertIn(*members, self.unsupported(*self.large(**members)) or "")

    def test_thinking_of_the_route(self) -> None:
        """A route may leave it to the model how much it thinks where the client does not say."""
        made = self.attempt()
        for own_thinking, expected in ((False, {"thinkingBudget": 128}), (True, None)):
            route = replace(made.route, model="gemini-2.5-pro", own_thinking=own_thinking)
            config = json.loads(self.executor.prepare(made.request, route).body)["generationConfig"]
            self.assertEqual(config.get("thinkingConfig"), expected)

    def test_version(self) -> None:
        """The stricter rules of a newer anthropic-version hold here too."""
        made = ExecutorTestCase.attempt(
            self,
            body=json.dumps({**ASKED, "temperature": 0.5}).encode(),
            headers=[(b"anthropic-version", b"2026-10-21")],
        )
        self.assertIn("temperature", self.unsupported(made.request, made.route) or "")

    def test_warnings(self) -> None:
        """What is lost is there for dispatch to log."""
        attempt = self.attempt(body={"mystery": 1})
        self.assertIn("mystery", " ".join(attempt.prepared.warnings))

    def test_rectified(self) -> None:
        """A history without its thinking is translated anew, without the signatures that were refused."""
        thought = {"type": "thinking", "thinking": "hm", "signature": "cpxd1.google.c2ln"}
        record = mint_signature("google", b'[{"toolCall":{},"thoughtSignature":"dG9sZA=="}]')
        search = {
            "type": "server_tool_use",
            "id": "cpxd1.google.1",
            "name": "web_search",
            "input": {"query": "q", "encrypted_content": record},
        }
        use = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
        messages = [
            *ASKED["messages"],
            {"role": "assistant", "content": [search, thought, use]},
            {"role": "user", "content": [result]},
        ]
        tools = [
            {"name": "f", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search"},
        ]
        self.executor.services.signatures.keep("toolu_1", "a2VwdA==")
        attempt = self.attempt(model="gemini-3-pro", body={"messages": messages, "tools": tools})
        body = attempt.prepared.body
        self.assertTrue(b"a2VwdA" in body or b"c2ln" in body)
        self.assertIn(b"dG9sZA", body)
        messages[1]["content"] = [search, use]
        attempt.body = json.dumps({**ASKED, "messages": messages, "tools": tools}).encode()
        _, _, _, body = self.send(attempt)
        self.assertNotIn(b"a2VwdA", body)
        self.assertNotIn(b"c2ln", body)
        self.assertNotIn(b"dG9sZA", body)
        self.assertIn(b'"functionCall"', body)

    def test_rectified_beyond_repair(self) -> None:
        """Where that cannot be told either, the next route is asked."""
        attempt = self.attempt()
        attempt.body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1,"safeguards":{"a":1}}'
        outcome = self.result(ensureDeferred(self.executor.messages(attempt))).outcome
        self.assertEqual((outcome.kind, outcome.then), (Kind.UNSUPPORTED, Then.NEXT_ROUTE))
        self.assertIn("safeguards", outcome.reason)

    def test_cancel(self) -> None:
        """Cancelling closes the upstream's socket at once."""
        sent, wire, _, _ = self.send()
        sent.cancel()
        self.assertIsInstance(self.result(sent), CancelledError)
        self.assertTrue(wire.aborted)

    def test_unprepared(self) -> None:
        """A request that came when its provider was not Google's yet, and waited, is translated all the same."""
        attempt = self.attempt()
        body, attempt.prepared = attempt.prepared.body, None
        _, _, _, sent = self.send(attempt)
        self.assertEqual(sent, body)

    def test_capture(self) -> None:
        """A captured request shows what Google was sent, without the key, and what it said."""
        for stream in (False, True):
            captures = Captures(self.net.reactor, Threads())
            captures.reload("always", "", 10_000, 1)
            capture = captures.begin("req_1")
            sent, wire, _, _ = self.send(self.attempt(stream=stream, capture=capture))
            body = sse(FIRST, LAST) if stream else json.dumps(WHOLE).encode()
            kind = b"text/event-stream" if stream else b"application/json"
            wire.say(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(body), body))
            answer = self.result(sent)
            if stream:
                answer.deliver(EventRecorder())
            assert capture is not None
            [shown] = json.loads(capture.file()[1])["attempts"]
            self.assertIn("Hello?", shown["request"]["body"]["text"])
            self.assertIn("GenerateContent" if stream else "generateContent", shown["request"]["path"])
            self.assertEqual(dict(shown["request"]["headers"])["x-goog-api-key"], "***")
            self.assertEqual(shown["answer"]["body"]["text"], body.decode())


class Counting(GeminiTestCase):
    """count_tokens."""

    def test_counted(self) -> None:
        """The model counts the translated request, and the client gets the API's answer."""
        attempt = self.attempt(count_tokens=True)
        sent, wire, head, body = self.send(attempt, count_tokens=True)
        self.assertTrue(head.startswith(b"POST /base/v1beta/models/gemini-2.5-pro:countTokens HTTP/1.1\r\n"), head)
        self.assertEqual(json.loads(body)["generateContentRequest"]["model"], "models/gemini-2.5-pro")
        answer = b'{"totalTokens": 31, "promptTokensDetails": []}'
        wire.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))
        counted = self.result(sent)
        self.assertEqual((json.loads(counted.body), counted.usage.input), ({"input_tokens": 31}, 31))

    def test_no_count(self) -> None:
        """An answer without a count is a failed attempt."""
        for body in (b"{}", b"[]", b"<html>", b'{"totalTokens":"x"}', b'{"totalTokens":-1}'):
            self.assertEqual(self.failed(200, body, count_tokens=True).outcome.kind, Kind.TRANSIENT)

    def test_not_there(self) -> None:
        """Where the upstream cannot count, dispatch makes an estimate."""
        outcome = self.failed(404, b"{}", count_tokens=True).outcome
        self.assertEqual((outcome.kind, outcome.then), (Kind.UNSUPPORTED, Then.NEXT))


class Whole(GeminiTestCase):
    """Answers that are not streamed."""

    def test_message(self) -> None:
        """A Claude message under the name that the client asked for; nothing of Google's headers."""
        body = json.dumps(WHOLE).encode()
        answer = self.answer(200, body, "server: ESF", "x-gemini-service-tier: standard", "request-id: req_up")
        message = json.loads(answer.body)
        self.assertTrue(message.pop("id").startswith("msg_"))
        self.assertEqual(message["content"], [{"type": "text", "text": "Hello"}])
        self.assertEqual(
            (message["model"], message["stop_reason"], message["role"]), ("claude-x", "end_turn", "assistant")
        )
        self.assertEqual((answer.usage.input, answer.usage.output, answer.stop_reason), (5, 7, "end_turn"))
        self.assertEqual((answer.headers, answer.bytes_in), ([(b"content-type", b"application/json")], len(body)))

    def test_error(self) -> None:
        """An error in the place of an answer is what it would be with its status: so it is for the client."""
        told = "The input token count (210000) exceeds the maximum number of tokens allowed (200000)."
        for status, name, message, kind, words in (
            (400, "INVALID_ARGUMENT", told, Kind.CLIENT_FAULT, "prompt is too long: 210000"),
            (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", Kind.QUOTA, ""),
        ):
            failure = self.failed(200, json.dumps(error(status, name, message)).encode())
            self.assertEqual((failure.outcome.kind, self.told(failure).status), (kind, status))
            self.assertIn(words, self.told(failure).message)

    def test_what_there_is_to_know(self) -> None:
        """An estimate is marked as one, Google's id of the answer is known to the operator, and what was odd is."""
        document = {**said({"text": "Hello"}), "responseId": "r1"}
        document["candidates"][0]["finishReason"] = "NEW"
        answer = self.answer(200, json.dumps(document).encode())
        self.assertEqual((answer.usage.estimated, answer.request_id, "NEW" in answer.anomaly), (True, "r1", True))
        self.assertEqual(answer.headers, [(b"content-type", b"application/json")])

    def test_compressed(self) -> None:
        """Compressed bodies are decoded, by their header or by their first bytes."""
        body = gzip.compress(json.dumps(WHOLE).encode())
        for headers in (("content-encoding: gzip",), ()):
            self.assertEqual(self.message(200, body, *headers)["stop_reason"], "end_turn")

    def test_no_answer(self) -> None:
        """A 200 that is a page, nothing, no response, or one without an end is a failed attempt."""
        for body in (b"<html>", b"", b"{}", b"[]", b"\xff", b"{" * 9999, json.dumps(FIRST).encode()):
            outcome = self.failed(200, body).outcome
            self.assertEqual((outcome.kind, outcome.then), (Kind.TRANSIENT, Then.NEXT), body)

    def test_error_in_a_200(self) -> None:
        """An error in the place of an answer is taken by its own name."""
        self.assertEqual(self.failed(200, json.dumps(OVERLOADED).encode()).outcome.kind, Kind.OVERLOADED)

    def test_model_fault(self) -> None:
        """A call that the model malformed is worth one repetition; then the client is told that it was the model."""
        body = said(finish="MALFORMED_FUNCTION_CALL", finishMessage="Malformed function call: print(")
        failure = self.failed(200, json.dumps(body).encode())
        self.assertEqual((failure.outcome.kind, failure.outcome.then), (Kind.MODEL_FAULT, Then.REPEAT_ONCE))
        self.assertEqual(failure.outcome.scope, Scope.NONE)
        told = self.told(failure)
        self.assertEqual((told.status, told.type), (502, "api_error"))
        self.assertIn("MALFORMED_FUNCTION_CALL", told.message)

    def test_nothing_said(self) -> None:
        """STOP without a word is worth one repetition too; of that the client gets what there is."""
        body = json.dumps(said(finish="STOP")).encode()
        failure = self.failed(200, body)
        self.assertEqual((failure.outcome.kind, failure.outcome.then), (Kind.MODEL_FAULT, Then.REPEAT_ONCE))
        attempt = self.attempt()
        attempt.last = True
        sent, wire, *_ = self.send(attempt)
        wire.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        self.assertEqual(json.loads(self.result(sent).body)["content"], [])

    def test_spoilt_answers_cost_too(self) -> None:
        """What Google counted of an answer that the model spoilt is known."""
        attempt = self.attempt()
        sent, wire, *_ = self.send(attempt)
        body = json.dumps(said(finish="MALFORMED_FUNCTION_CALL")).encode()
        wire.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        self.assertIsInstance(self.result(sent), AttemptFailed)
        assert attempt.usage is not None
        self.assertEqual((attempt.usage.input, attempt.usage.output), (5, 7))

    def test_unknown_fault(self) -> None:
        """So is an answer that ended for a reason which nobody knows, without a word."""
        self.assertEqual(self.failed(200, json.dumps(said(finish="OTHER")).encode()).outcome.kind, Kind.MODEL_FAULT)

    def test_nothing_to_say(self) -> None:
        """``max_tokens: 0`` is answered here: Google has no such request."""
        answer = self.result(ensureDeferred(self.executor.messages(self.attempt(body={"max_tokens": 0}))))
        verifyObject(IBufferedResponse, answer)
        message = json.loads(answer.body)
        self.assertEqual((message["content"], message["stop_reason"]), ([], "max_tokens"))
        self.assertEqual((message["usage"]["output_tokens"], answer.bytes_in > 0), (0, True))
        self.assertEqual(self.net.reactor.tcpClients, [])

    def test_nothing_to_say_streamed(self) -> None:
        """The same as a stream, which commits."""
        answer = self.result(ensureDeferred(self.executor.messages(self.attempt(body={"max_tokens": 0}, stream=True))))
        verifyObject(IStreamingResponse, answer)
        events = EventRecorder()
        answer.pauseProducing()
        answer.deliver(events)
        self.assertEqual(accumulate(events.frames)["stop_reason"], "max_tokens")
        self.assertEqual([(batch.content, batch.ended) for batch in events.batches], [(True, True)])


class Streams(GeminiTestCase):
    """Streams of events."""

    def test_id(self) -> None:
        """Google's id of the answer is known to the operator, once it has been told."""
        answer, wire = self.stream()
        self.assertEqual(answer.request_id, "")
        answer.deliver(EventRecorder())
        wire.say(chunk(sse({**FIRST, "responseId": "r1"})))
        self.assertEqual(answer.request_id, "r1")

    def test_whole(self) -> None:
        """A Claude stream, whatever the reads; the figures are known, the connection is free for another request."""
        body = sse(FIRST, LAST)
        for size in (7, len(body)):
            answer, events, wire = self.deliver(*[body[at : at + size] for at in range(0, len(body), size)], end=True)
            message = accumulate(events.frames)
            self.assertEqual(message["content"], [{"type": "text", "text": "Hello"}])
            self.assertEqual((message["model"], message["stop_reason"]), ("claude-x", "end_turn"))
            self.assertTrue(events.batches[-1].ended)
            self.assertEqual((answer.usage.input, answer.usage.output, answer.usage.estimated), (5, 7, False))
            self.assertEqual((answer.stop_reason, answer.bytes_in, answer.request_id), ("end_turn", len(body), ""))
            self.assertEqual((events.failure, wire.aborted), (None, False))
        self.assertEqual(self.net.origin.idle, 1)

    def test_first_figures(self) -> None:
        """Where Google has not counted yet, message_start has an estimate of the input."""
        _, events, _ = self.deliver(sse(FIRST))
        start = json.loads(events.frames.split(b"data: ")[1].split(b"\n")[0])
        self.assertGreater(start["message"]["usage"]["input_tokens"], 0)

    def test_array(self) -> None:
        """An answer in Google's other framing, by an upstream that lost the query, is read as well."""
        answer, wire = self.stream("content-type: application/json; charset=UTF-8")
        events = EventRecorder()
        answer.deliver(events)
        body = json.dumps([FIRST, LAST]).encode()
        wire.say(chunk(body[:100]) + chunk(body[100:]) + chunk(b""))
        self.assertEqual(accumulate(events.frames)["content"], [{"type": "text", "text": "Hello"}])

    def test_late_figures(self) -> None:
        """An end whose figures never come is an end all the same."""
        ending = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
        answer, events, _ = self.deliver(sse(ending), end=True)
        self.assertTrue(events.batches[-1].ended)
        self.assertIsNone(events.failure)
        self.assertEqual(answer.stop_reason, "end_turn")

    def test_pause(self) -> None:
        """A client that reads slowly pauses Google's socket; the idle time does not run meanwhile."""
        answer, events, wire = self.deliver(sse(FIRST))
        answer.pauseProducing()
        self.assertEqual(wire.producerState, "paused")
        self.net.reactor.advance(1000.0)
        self.assertIsNone(events.failure)
        answer.resumeProducing()
        self.assertEqual(wire.producerState, "producing")
        wire.say(chunk(sse(LAST)) + chunk(b""))
        self.assertTrue(events.batches[-1].ended)

    def test_stop(self) -> None:
        """A client that leaves closes Google's socket, and what was held of a frame is given back."""
        changes: list[int] = []
        self.make(services={"buffers": FakeAccount(changes)})
        answer, events, wire = self.deliver(sse(FIRST), b"data: {")
        self.assertEqual(sum(changes), 7)
        answer.stopProducing()
        self.assertTrue(wire.aborted)
        self.assertEqual((sum(changes), events.failure), (0, None))

    def test_cut(self) -> None:
        """An end without a finish reason is a cut, clean or not: transient before content, a broken stream after it."""
        thinking = said({"text": "hm", "thought": True})
        for reads, kind in (
            ((), Kind.TRANSIENT),
            ((sse(thinking),), Kind.TRANSIENT),
            ((sse(FIRST),), Kind.BROKEN_STREAM),
            ((sse(FIRST, LAST)[:-40],), Kind.BROKEN_STREAM),
        ):
            for clean in (True, False):
                answer, events, wire = self.deliver(*reads, end=clean)
                if not clean:
                    wire.end()
                self.assertEqual(events.failure.outcome.kind, kind, reads)
                self.assertEqual(events.failure.outcome.reason, "upstream closed the stream before message_stop")
                self.assertTrue(answer.usage.estimated)

    def test_error_before_content(self) -> None:
        """An error in the stream before content is an answer with a status: another credential takes over."""
        for reads in ((sse(OVERLOADED),), (sse(said({"text": "hm", "thought": True})), sse(OVERLOADED))):
            _, events, wire = self.deliver(*reads)
            outcome, answer = events.failure.outcome, events.failure.answer
            self.assertEqual((outcome.kind, outcome.then, outcome.repeatable), (Kind.OVERLOADED, Then.NEXT, True))
            self.assertEqual(
                (answer.status, answer.verbatim, answer.message), (503, False, OVERLOADED["error"]["message"])
            )
            self.assertTrue(wire.aborted)

    def test_error_after_content(self) -> None:
        """After content the error is the client's to see, in a type of the Claude API's."""
        _, events, wire = self.deliver(sse(FIRST), sse(said({"text": "lo"}), OVERLOADED))
        self.assertIn(b'"lo"', events.frames)
        self.assertEqual(events.failure.outcome.then, Then.ANSWER)
        self.assertNotIn(b"UNAVAILABLE", events.frames)
        self.assertTrue(wire.aborted)

    def test_error_in_place_of_a_stream(self) -> None:
        """An error with a 200, as an object or in an array, is taken by its name and hints."""
        quota = error(429, "RESOURCE_EXHAUSTED", "Quota", of_type("RetryInfo", retryDelay="17s"))
        for document in (quota, [quota]):
            answer, wire = self.stream("content-type: application/json; charset=UTF-8")
            events = EventRecorder()
            answer.deliver(events)
            wire.say(chunk(json.dumps(document).encode()) + chunk(b""))
            outcome = events.failure.outcome
            self.assertEqual((outcome.kind, outcome.until_hint), (Kind.QUOTA, 17.0))

    def test_model_fault(self) -> None:
        """A malformed call is repeated before content, and an error after it."""
        fault = said(finish="MALFORMED_FUNCTION_CALL", finishMessage="Malformed function call: print(")
        _, events, _ = self.deliver(sse(fault), end=True)
        self.assertEqual(
            (events.failure.outcome.kind, events.failure.outcome.then), (Kind.MODEL_FAULT, Then.REPEAT_ONCE)
        )
        _, events, _ = self.deliver(sse(FIRST), sse(fault), end=True)
        self.assertEqual((events.failure.outcome.kind, events.failure.outcome.then), (Kind.MODEL_FAULT, Then.ANSWER))

    def test_damaged(self) -> None:
        """What is no response breaks the stream."""
        for damage in (b"data: {\r\n\r\n", b"data: [1]\r\n\r\n"):
            _, events, wire = self.deliver(damage)
            self.assertEqual(events.failure.outcome.kind, Kind.TRANSIENT)
            self.assertTrue(wire.aborted)
            _, events, _ = self.deliver(sse(FIRST), damage)
            self.assertEqual(events.failure.outcome.kind, Kind.BROKEN_STREAM)

    def test_endless_event(self) -> None:
        """An event without an end is given up at its bound."""
        _, events, wire = self.deliver(b"data: " + b"x" * 100_000)
        self.assertEqual(events.failure.outcome.kind, Kind.TRANSIENT)
        self.assertTrue(wire.aborted)

    def test_idle(self) -> None:
        """Silence is a time-out."""
        _, events, _ = self.deliver(sse(FIRST))
        self.net.reactor.advance(300.0)
        self.assertEqual((events.failure.outcome.kind, events.failure.outcome.timed_out), (Kind.BROKEN_STREAM, True))

    def test_compressed(self) -> None:
        """A stream that is compressed although we asked for none is decoded."""
        answer, wire = self.stream("content-type: text/event-stream", "content-encoding: gzip")
        events = EventRecorder()
        answer.deliver(events)
        wire.say(chunk(gzip.compress(sse(FIRST, LAST))) + chunk(b""))
        self.assertEqual(accumulate(events.frames)["stop_reason"], "end_turn")

    def test_page(self) -> None:
        """A 200 that is a page is a failed attempt."""
        failure = self.failed(200, b"<html>", "content-type: text/html", stream=True)
        self.assertEqual((failure.outcome.kind, failure.answer), (Kind.TRANSIENT, None))

    def test_broken_off(self) -> None:
        """A body that breaks off is a cut, though it has given a reason for its end: some give one with every chunk."""
        _, events, wire = self.deliver(sse(FIRST, LAST))
        self.assertFalse(events.batches[-1].ended)
        wire.end()
        self.assertEqual(events.failure.outcome.kind, Kind.BROKEN_STREAM)


class Failures(GeminiTestCase):
    """Google's errors: what they mean for the pool, and what a client is told of them."""

    def test_retry_info(self) -> None:
        """A quota says when to come back, in the body."""
        quota = of_type("QuotaFailure", violations=[{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}])
        body = error(
            429, "RESOURCE_EXHAUSTED", "You exceeded your quota", quota, of_type("RetryInfo", retryDelay="34s")
        )
        for document in (body, [body]):
            failure = self.failed(429, json.dumps(document).encode())
            self.assertEqual(
                (failure.outcome.kind, failure.outcome.scope, failure.outcome.until_hint),
                (Kind.QUOTA, Scope.MODEL, 34.0),
            )
            self.assertEqual(self.told(failure).type, "rate_limit_error")
            self.assertNotIn("RESOURCE_EXHAUSTED", self.told(failure).message)

    def test_quotas(self) -> None:
        """A quota a minute cools for one, a quota a day until midnight in California, of one model or of all."""
        for quota, low, high, scope in (
            ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", 60.0, 60.0, Scope.MODEL),
            ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", 3600.0, 90_000.0, Scope.MODEL),
            ("GenerateRequestsPerDayPerProject", 3600.0, 90_000.0, Scope.CREDENTIAL),
        ):
            violations = of_type("QuotaFailure", violations=[{"quotaId": quota}])
            body = json.dumps(error(429, "RESOURCE_EXHAUSTED", "Quota", violations)).encode()
            outcome = self.failed(429, body).outcome
            self.assertTrue(low <= (outcome.until_hint or 0) <= high, (quota, outcome.until_hint))
            self.assertEqual(outcome.scope, scope)

    def test_no_quota_at_all(self) -> None:
        """A model that an account has no quota for is not there for it."""
        violations = of_type("QuotaFailure", violations=[{"quotaId": "x", "quotaValue": "0"}])
        kind, scope, then, status, _ = self.refused(error(429, "RESOURCE_EXHAUSTED", "Quota", violations))
        self.assertEqual((kind, scope, then, status), (Kind.MODEL_UNAVAILABLE, Scope.MODEL, Then.NEXT, 404))

    def test_keys(self) -> None:
        """A key that is no good is ours to mend: the client's was fine."""
        for code, status, reason in (
            (400, "INVALID_ARGUMENT", "API_KEY_INVALID"),
            (403, "PERMISSION_DENIED", "SERVICE_DISABLED"),
            (403, "PERMISSION_DENIED", "API_KEY_SERVICE_BLOCKED"),
        ):
            detail = of_type("ErrorInfo", reason=reason)
            told = self.refused(error(code, status, "API key not valid. Please pass a valid API key.", detail))
            self.assertEqual(told[:4], (Kind.AUTH, Scope.CREDENTIAL, Then.NEXT, 503))
            self.assertNotIn("API key", told[4])

    def test_location(self) -> None:
        """Where the daemon stands is a matter of the provider."""
        body = error(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")
        self.assertEqual(self.refused(body)[:4], (Kind.LOCATION, Scope.PROVIDER, Then.NEXT_PROVIDER, 503))

    def test_overloaded(self) -> None:
        """Overload cools the model for everybody, shortly."""
        told = self.refused(OVERLOADED)
        self.assertEqual(told[:4], (Kind.OVERLOADED, Scope.MODEL_ON_PROVIDER, Then.NEXT, 529))

    def test_overflow(self) -> None:
        """A context overflow is told in the words that clients compact on."""
        for message, words in (
            (
                "The input token count (1,200,000) exceeds the maximum number of tokens allowed (1048576).",
                "prompt is too long: 1200000 tokens > 1048576 maximum",
            ),
            ("The input token count exceeds the maximum number of tokens allowed.", "prompt is too long"),
        ):
            kind, _, then, status, told = self.refused(error(400, "INVALID_ARGUMENT", message))
            self.assertEqual((kind, then, status, told), (Kind.CLIENT_FAULT, Then.ANSWER, 400, words))

    def test_client_fault(self) -> None:
        """What is wrong with a request is told in Google's sentence and the Claude API's type."""
        failure = self.failed(400, json.dumps(error(400, "INVALID_ARGUMENT", "Unknown name: x")).encode())
        told = self.told(failure)
        self.assertEqual((told.status, told.type, told.message), (400, "invalid_request_error", "Unknown name: x"))

    def test_unknown_model(self) -> None:
        """A model that Google does not know is a 404."""
        message = "models/gemini-9 is not found for API version v1beta, or is not supported for generateContent."
        told = self.refused(error(404, "NOT_FOUND", message))
        self.assertEqual((told[0], told[3], told[4]), (Kind.MODEL_UNAVAILABLE, 404, message))

    def test_thought_signature(self) -> None:
        """A signature that Google takes no more is left out, once."""
        body = error(400, "INVALID_ARGUMENT", "Thought signature is not valid for this model.")
        self.assertEqual(self.refused(body)[::2][:2], (Kind.RECTIFY, Then.RECTIFY_ONCE))

    def test_transient(self) -> None:
        """A fault of Google's is told with its status and sentence."""
        told = self.refused(error(500, "INTERNAL", "An internal error has occurred."))
        self.assertEqual((told[0], told[3]), (Kind.TRANSIENT, 500))
        self.assertIn("An internal error has occurred.", told[4])

    def test_page(self) -> None:
        """An error page is told by its title, not by its markup."""
        failure = self.failed(
            502, b"<!DOCTYPE html><html><title>Error 502 (Server Error)!!1</title><p>x", "content-type: text/html"
        )
        told = self.told(failure)
        self.assertEqual((failure.outcome.kind, told.status), (Kind.TRANSIENT, 502))
        self.assertNotIn("<", told.message)

    def test_connect(self) -> None:
        """No connection is a failure that is worth another try."""
        sent = ensureDeferred(self.executor.messages(self.attempt()))
        self.net.refuse(ConnectionRefusedError())
        outcome = self.result(sent).outcome
        self.assertEqual((outcome.kind, outcome.repeatable), (Kind.TRANSIENT, True))


class StopSequences(GeminiTestCase):
    """A whole answer that may end at a stop sequence: of a stream from upstream, so that it ends there too."""

    def ask(self, *headers: str, **options: Any) -> tuple[Any, MemoryConnection, Attempt]:
        """What comes of it, once the head of the stream is in."""
        attempt = self.attempt(body={"stop_sequences": ["###"]}, **options)
        sent, wire, head, _ = self.send(attempt)
        self.assertIn(b":streamGenerateContent?alt=sse HTTP/1.1\r\n", head)
        self.assertIn(b"\r\naccept-encoding: identity", head)
        lines = ["HTTP/1.1 200 OK", "transfer-encoding: chunked", *(headers or (EVENT_STREAM,))]
        wire.say("\r\n".join(lines).encode() + b"\r\n\r\n")
        return sent, wire, attempt

    def test_met(self) -> None:
        """The client has its answer as soon as one is met, and the upstream is let go at its next word."""
        sent, wire, _ = self.ask()
        wire.say(chunk(sse(said({"text": "a#"}))))
        self.assertNoResult(sent)
        wire.say(chunk(sse(said({"text": "## b"}))))
        answer = self.result(sent)
        verifyObject(IBufferedResponse, answer)
        message = json.loads(answer.body)
        self.assertEqual(message["content"], [{"type": "text", "text": "a"}])
        self.assertEqual((message["stop_reason"], message["stop_sequence"]), ("stop_sequence", "###"))
        self.assertTrue(answer.usage.estimated)
        self.assertEqual(answer.bytes_in, len(sse(said({"text": "a#"}), said({"text": "## b"}))))
        self.assertFalse(wire.aborted)
        wire.say(chunk(sse(said({"text": "c"}))))
        self.assertTrue(wire.aborted)

    def test_not_met(self) -> None:
        """An answer without any is whole at its end, with Google's own figures, and may come as an array."""
        for headers, body in (
            ((), sse(said({"text": "a#"}), said({"text": "b"}, finish="STOP"))),
            (("content-type: application/json",), json.dumps([said({"text": "a#b"}, finish="STOP")]).encode()),
        ):
            self.make()
            sent, wire, _ = self.ask(*headers)
            wire.say(chunk(body) + chunk(b""))
            answer = self.result(sent)
            message = json.loads(answer.body)
            self.assertEqual((message["content"][0]["text"], message["stop_reason"]), ("a#b", "end_turn"))
            self.assertEqual((answer.usage.input, answer.usage.output, answer.usage.estimated), (5, 7, False))
            self.assertEqual(answer.headers, [(b"content-type", b"application/json")])

    def test_failures(self) -> None:
        """Nothing of it has reached the client: whatever breaks it, another credential can take over."""
        begun = sse(said({"text": "a"}))
        for rest, kind in (
            (b"data: {\r\n\r\n", Kind.TRANSIENT),
            (sse(error(503, "UNAVAILABLE", "The model is overloaded.")), Kind.OVERLOADED),
            (sse(said(finish="MALFORMED_FUNCTION_CALL")), Kind.MODEL_FAULT),
            (b"", Kind.TRANSIENT),
        ):
            self.make()
            sent, wire, _ = self.ask()
            wire.say(chunk(begun))
            wire.say((chunk(rest) if rest else b"") + chunk(b""))
            failure = self.result(sent)
            self.assertIsInstance(failure, AttemptFailed)
            self.assertEqual(failure.outcome.kind, kind)
            self.assertNotEqual(failure.outcome.then, Then.ANSWER)

    def test_not_a_stream(self) -> None:
        """A page in the place of a stream is no answer."""
        sent, wire, _ = self.ask("content-type: text/html")
        wire.say(chunk(b"<html>") + chunk(b""))
        self.assertEqual(self.result(sent).outcome.kind, Kind.TRANSIENT)

    def test_thoughts_alone(self) -> None:
        """Thoughts without an answer are asked for once more: the client has not been shown them."""
        sent, wire, _ = self.ask()
        wire.say(chunk(sse(said({"text": "h", "thought": True}), said(finish="STOP"))) + chunk(b""))
        self.assertEqual(self.result(sent).outcome.kind, Kind.MODEL_FAULT)

    def test_cancelled(self) -> None:
        """A client that leaves closes the upstream's socket."""
        sent, wire, _ = self.ask()
        wire.say(chunk(sse(said({"text": "a"}))))
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        self.assertTrue(wire.aborted)

    def test_never_whole(self) -> None:
        """An upstream that keeps the answer alive and does not end it is given up."""
        sent, wire, _ = self.ask()
        limit = self.executor.services.timeouts.content
        for _ in range(10):
            wire.say(chunk(b": alive\r\n\r\n"))
            self.net.reactor.advance(limit / 10)
        failure = self.result(sent)
        self.assertEqual((failure.outcome.kind, failure.outcome.timed_out), (Kind.TRANSIENT, True))
        self.assertTrue(wire.aborted)

    def test_bound(self) -> None:
        """An answer that does not end does not fill the memory, and what there is of it is counted."""
        held: list[int] = []
        self.patch(translating, "MAX_WHOLE_ANSWER", 1_000)
        self.make({"buffers": FakeAccount(held)})
        sent, wire, _ = self.ask()
        wire.say(chunk(sse(said({"text": "a" * 500}))))
        self.assertGreater(sum(held), 500)
        wire.say(chunk(sse(said({"text": "a" * 500}))))
        self.assertEqual(self.result(sent).outcome.kind, Kind.TRANSIENT)
        self.assertEqual(sum(held), 0)


class Models(GeminiTestCase):
    """The list of models."""

    def page(self, wire: MemoryConnection, page: Any, status: int = 200) -> None:
        """Answer with a page."""
        body = json.dumps(page).encode()
        wire.say(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))

    def ask(self) -> tuple[Any, MemoryConnection]:
        """Ask for the list."""
        listed = self.models(Credential("p", "a", StaticSecret({"api_key": "g-key"})))
        return listed, self.net.accept()

    def test_pages(self) -> None:
        """Those that generate, page by page, as the Claude list has them."""
        listed, wire = self.ask()
        self.assertTrue(wire.value().startswith(b"GET /base/v1beta/models?pageSize=1000 HTTP/1.1\r\n"))
        self.assertIn(b"\r\nx-goog-api-key: g-key\r\n", wire.taken())
        generates = {"supportedGenerationMethods": ["generateContent", "countTokens"]}
        embeds = {"name": "models/embedding-001", "supportedGenerationMethods": ["embedContent"]}
        limits = {"inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}
        pro = {"name": "models/gemini-2.5-pro", "displayName": "Gemini 2.5 Pro", **limits, **generates}
        self.page(wire, {"models": [pro, embeds], "nextPageToken": "a/b="})
        self.assertTrue(
            wire.taken().startswith(b"GET /base/v1beta/models?pageSize=1000&pageToken=a%2Fb%3D HTTP/1.1\r\n")
        )
        self.page(wire, {"models": [{"name": "models/g", **generates}]})
        first, second = self.successResultOf(listed)
        self.assertEqual((first["id"], first["display_name"]), ("gemini-2.5-pro", "Gemini 2.5 Pro"))
        self.assertEqual((first["max_input_tokens"], first["max_tokens"]), (1_048_576, 65_536))
        thinking = first["capabilities"]["thinking"]
        self.assertEqual((thinking["supported"], thinking["types"]["disabled"]), (True, {"supported": True}))
        self.assertEqual(second, {"id": "g", "display_name": "g"})

    def test_no_end(self) -> None:
        """A list that leads in a circle ends where it closes, and one that never ends after some pages."""
        model = {"name": "models/g", "supportedGenerationMethods": ["generateContent"]}
        for tokens, pages in (("a", "b", "a"), 3), ([str(number) for number in range(99)], MAX_PAGES):
            listed, wire = self.ask()
            for token in tokens[:pages]:
                self.assertNoResult(listed)
                self.page(wire, {"models": [model], "nextPageToken": token})
            self.assertEqual(len(self.successResultOf(listed)), pages)
            wire.end()

    def test_refused(self) -> None:
        """A key that may not list is a classified failure."""
        listed, wire = self.ask()
        self.page(wire, error(400, "INVALID_ARGUMENT", "no", of_type("ErrorInfo", reason="API_KEY_INVALID")), 400)
        self.assertEqual(self.failureResultOf(listed, AttemptFailed).value.outcome.kind, Kind.AUTH)

    def test_empty(self) -> None:
        """An account without models has an empty list, and a page without any is the last."""
        for page in ({}, {"models": [], "nextPageToken": "again"}):
            listed, wire = self.ask()
            self.page(wire, page)
            self.assertEqual(self.successResultOf(listed), [])
            wire.end()


class Settings(SynchronousTestCase):
    """What the maker says of a section."""

    def check(self, **own: Any) -> list[str]:
        """The members that are wrong."""
        section = Provider(name="g", kind="gemini", own=SafetySettings(**own))
        return [member for member, _ in GeminiMaker().check(section)]

    def test_check(self) -> None:
        """Safety settings that Google does not know are mistakes."""
        self.assertEqual(self.check(safety_settings={"HARASSMENT": "OFF", "HATE_SPEECH": "BLOCK_ONLY_HIGH"}), [])
        self.assertEqual(
            self.check(safety_settings={"RUDENESS": "OFF", "HARASSMENT": "SOMETIMES"}),
            ["safety_settings.RUDENESS", "safety_settings.HARASSMENT"],
        )
