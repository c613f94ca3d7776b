"""The Responses executor on an upstream in memory: what goes up, what comes down, what failures come to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from twisted.internet.defer import ensureDeferred
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.config.schema import Pool, Provider
from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.verdict import final_error
from claudeproxyd.executors.openai_responses.executor import ResponsesExecutor
from claudeproxyd.executors.openai_responses.maker import OpenAIResponsesMaker
from claudeproxyd.executors.openai_responses.settings import ResponsesSettings
from claudeproxyd.interfaces import IBufferedResponse, IExecutor, IExecutorMaker, IPrepared, IStreamReader
from claudeproxyd.leases import Credential
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Then
from claudeproxyd.secrets.static import StaticSecret
from claudeproxyd.testing import EventRecorder, chunk
from claudeproxyd.translate.openai_responses import answers, item_queue
from claudeproxyd.translate.openai_responses.answers import ResponsesReader
from tests.executors.support import ExecutorTestCase
from tests.messages.accumulate import accumulate

verifyClass(IExecutor, ResponsesExecutor)
verifyClass(IExecutorMaker, OpenAIResponsesMaker)
verifyClass(IStreamReader, ResponsesReader)

MODEL = "gpt-5"
ASKED: dict[str, Any] = {"model": "claude-x", "max_tokens": 90, "messages": [{"role": "user", "content": "Hello?"}]}
USAGE = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 7}


def item(text: str) -> dict[str, Any]:
    """A message."""
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def response(*output: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A whole answer."""
    return {"id": "resp_1", "object": "response", "status": "completed", "output": output, "usage": USAGE, **members}


def sse(*events: dict[str, Any]) -> bytes:
    """As the API frames them."""
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


def delta(text: str) -> dict[str, Any]:
    """A piece of the only message."""
    return {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text}


def failed(code: str | None, message: str) -> dict[str, Any]:
    """An answer that failed."""
    return response(status="failed", error={"code": code, "message": message}, usage=None)


WHOLE = json.dumps(response(item("Hello"))).encode()
CREATED = {"type": "response.created", "response": {"id": "resp_1"}}
COMPLETED = {"type": "response.completed", "response": response(item("Hello"))}


class ResponsesTestCase(ExecutorTestCase):
    """Requests that have been translated for it."""

    maker = OpenAIResponsesMaker()

    def attempt(self, secret: Any = (("api_key", "sk-house"),), model: str = MODEL, **call: Any) -> Attempt:
        """One attempt; members of the body as *body*."""
        members = {**ASKED, "stream": call.pop("stream", False), **call.pop("body", {})}
        made = super().attempt(secret, model, body=json.dumps(members).encode(), **call)
        made.prepared = self.executor.prepare(made.request, made.route)
        verifyObject(IPrepared, made.prepared)
        return made

    def message(self, *answer: Any, **options: Any) -> dict[str, Any]:
        """The Claude message that a whole answer comes to."""
        answered = self.answer(*answer, **options)
        verifyObject(IBufferedResponse, answered)
        message: dict[str, Any] = json.loads(answered.body)
        return message

    def told(self, failure: AttemptFailed) -> tuple[int, str]:
        """What a client is told of it where nobody else can serve."""
        error = final_error("claude-x", [failure], None, None, Pool()).error
        return error.status, error.message


class Up(ResponsesTestCase):
    """The request."""

    def test_whole(self) -> None:
        """The translated request goes to /responses, and asks for no stream."""
        attempt = self.attempt()
        _, _, head, body = self.send(attempt)
        self.assertTrue(head.startswith(b"POST /base/responses HTTP/1.1\r\n"), head)
        sent = json.loads(body)
        self.assertEqual(sent["input"][0]["content"], [{"type": "input_text", "text": "Hello?"}])
        self.assertEqual((sent["model"], sent["store"], "stream" in sent), (MODEL, False, False))
        self.assertEqual(attempt.bytes_out, len(body))
        self.assertIn(b"\r\naccept-encoding: gzip", head)

    def test_streamed(self) -> None:
        """A stream is asked for by a member of the body."""
        _, _, head, body = self.send(self.attempt(stream=True))
        self.assertIs(json.loads(body)["stream"], True)
        self.assertIn(b"\r\naccept-encoding: identity", head)

    def test_headers(self) -> None:
        """The key goes up as OpenAI's SDK sends it; of the client's headers none does."""
        self.make(headers={"openai-project": "proj_1"})
        _, _, head, _ = self.send(self.attempt(headers=[(b"x-api-key", b"sk-c"), (b"anthropic-beta", b"b-1")]))
        self.assertIn(b"\r\nauthorization: Bearer sk-house", head)
        self.assertIn(b"\r\nopenai-project: proj_1", head)
        self.assertNotIn(b"sk-c", head)
        self.assertNotIn(b"anthropic", head)

    def test_bearer_token(self) -> None:
        """A token goes to the same place."""
        _, _, head, _ = self.send(self.attempt(secret={"bearer_token": "ey"}.items()))
        self.assertIn(b"\r\nauthorization: Bearer ey", head)

    def test_azure(self) -> None:
        """Azure has keys in a header of its own, and tokens where everybody has them."""
        self.make(base_url="http://res.openai.azure.com/openai/v1")
        _, _, head, _ = self.send()
        self.assertTrue(head.startswith(b"POST /base/responses HTTP/1.1\r\n"), head)
        self.assertIn(b"\r\napi-key: sk-house", head)
        self.assertNotIn(b"authorization", head)
        _, _, head, _ = self.send(self.attempt(secret={"bearer_token": "ey"}.items()))
        self.assertIn(b"\r\nauthorization: Bearer ey", head)
        self.assertNotIn(b"api-key", head)

    def test_api_version(self) -> None:
        """Older resources want the version that is asked for, and are Azure's wherever they are."""
        self.make(base_url="http://gateway.test/openai", api_version="2025-04-01-preview")
        _, _, head, _ = self.send()
        self.assertTrue(head.startswith(b"POST /base/responses?api-version=2025-04-01-preview HTTP/1.1\r\n"), head)
        self.assertIn(b"\r\napi-key: sk-house", head)

    def test_settings(self) -> None:
        """The operator says how thoughts are summed up, and what stands behind a name."""
        body = {"thinking": {"type": "adaptive"}}
        self.make(reasoning_summary="none", models_like={"team": "gpt-5.1"})
        sent = json.loads(self.send(self.attempt(model="team", body=body))[3])
        self.assertEqual((sent["model"], sent["reasoning"]), ("team", {"effort": "medium"}))
        self.assertEqual(sent["include"], ["reasoning.encrypted_content"])
        self.make(reasoning_summary="concise")
        sent = json.loads(self.send(self.attempt(body=body))[3])
        self.assertEqual(sent["reasoning"], {"effort": "medium", "summary": "concise"})

    def test_url_sources(self) -> None:
        """Hosts that the operator names may be named by clients."""
        image = {"type": "image", "source": {"type": "url", "url": "http://images.corp/a.png"}}
        asked = {**ASKED, "messages": [{"role": "user", "content": [image]}]}
        made = ExecutorTestCase.attempt(self, body=json.dumps(asked).encode())
        self.assertIn("url", self.unsupported(made.request, made.route) or "")
        self.make(url_sources=["http://images.corp"])
        self.assertIsNone(self.unsupported(made.request, made.route))

    def test_route(self) -> None:
        """The route's limit holds, and so does its word on thinking."""
        made = self.attempt()
        route = replace(made.route, max_output_tokens=50, own_thinking=True)
        sent = json.loads(self.executor.prepare(made.request, route).body)
        self.assertEqual((sent["max_output_tokens"], sent.get("reasoning")), (50, None))

    def test_rectified(self) -> None:
        """After a refusal of what was sealed nothing sealed goes up: no reasoning, and searches in words."""
        sealed = mint_signature("responses", b'{"id":"rs_1","encrypted_content":"gAAA"}')
        record = mint_signature("responses", b'[{"id":"ws_1","type":"web_search_call","action":{}}]')
        thought = {"type": "thinking", "thinking": "hm", "signature": sealed}
        search = {
            "type": "server_tool_use",
            "id": "cpxd1.responses.1",
            "name": "web_search",
            "input": {"query": "q", "encrypted_content": record},
        }
        said = [thought, search, {"type": "text", "text": "So."}]
        messages = [*ASKED["messages"], {"role": "assistant", "content": said}, {"role": "user", "content": "And?"}]
        tools = [{"type": "web_search_20250305", "name": "web_search"}]
        body = {"messages": messages, "tools": tools, "thinking": {"type": "adaptive"}}
        attempt = self.attempt(body=body)
        kinds = [each["type"] for each in json.loads(attempt.prepared.body)["input"]]
        self.assertEqual(kinds, ["message", "reasoning", "web_search_call", "message", "message"])
        attempt.body = json.dumps({**ASKED, **body}).encode()
        sent = json.loads(self.send(attempt)[3])
        self.assertEqual([each["type"] for each in sent["input"]], ["message"] * 4)


class Down(ResponsesTestCase):
    """The answer."""

    def test_whole(self) -> None:
        """A whole answer is a message; its id is known, its usage counted."""
        answered = self.answer(200, WHOLE)
        message = json.loads(answered.body)
        self.assertEqual(message["content"], [{"type": "text", "text": "Hello"}])
        self.assertEqual((message["model"], message["stop_reason"]), ("claude-x", "end_turn"))
        self.assertEqual((answered.usage.input, answered.usage.cache_read, answered.usage.output), (3, 2, 7))
        self.assertEqual(answered.request_id, "resp_1")

    def test_request_id(self) -> None:
        """What OpenAI's support asks for is in a header."""
        self.assertEqual(self.answer(200, WHOLE, "x-request-id: req_9").request_id, "req_9")

    def test_streamed(self) -> None:
        """Pieces come as they are made."""
        answer, events, wire = self.deliver(sse(CREATED, delta("Hel")))
        self.assertIn(b"Hel", events.frames)
        wire.say(chunk(sse(delta("lo"), COMPLETED)))
        self.assertEqual(accumulate(events.frames)["content"], [{"type": "text", "text": "Hello"}])
        self.assertEqual((answer.stop_reason, answer.usage.output), ("end_turn", 7))

    def test_arguments_stream(self) -> None:
        """A call's arguments go out with each piece."""
        call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": ""}
        added = {"type": "response.output_item.added", "output_index": 0, "item": call}
        piece = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"a"'}
        _, events, wire = self.deliver(sse(CREATED, added, piece))
        self.assertIn(rb'"partial_json":"{\"a\""', events.frames)
        wire.say(chunk(sse({**piece, "delta": ": 1"})))
        self.assertIn(rb'"partial_json":": 1"', events.frames)

    def test_stop_sequence(self) -> None:
        """A whole answer that may stop early is asked for as a stream, which ends there."""
        sent, wire, _, body = self.send(self.attempt(body={"stop_sequences": ["###"]}))
        self.assertIs(json.loads(body)["stream"], True)
        wire.begin_stream()
        wire.say(chunk(sse(CREATED, delta("one###two"))))
        message = json.loads(self.result(sent).body)
        self.assertEqual((message["content"][0]["text"], message["stop_sequence"]), ("one", "###"))

    def test_stream_that_is_none(self) -> None:
        """A server that does not stream answers all the same."""
        sent, wire, _, _ = self.send(self.attempt(stream=True))
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        wire.say(head % len(WHOLE) + WHOLE)
        events = EventRecorder()
        self.result(sent).deliver(events)
        self.assertEqual(accumulate(events.frames)["content"][0]["text"], "Hello")

    def test_stream_unasked(self) -> None:
        """So does one that always streams."""
        message = self.message(200, sse(CREATED, delta("Hel"), COMPLETED), "content-type: text/event-stream")
        self.assertEqual(message["content"][0]["text"], "Hello")

    def test_hidden_reasoning(self) -> None:
        """A model may reason at length, and unseen: that is no stream without anything of an answer."""
        thought = {"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 0, "delta": "x" * 1000}
        _, events, wire = self.deliver(sse(CREATED), *[sse(*[thought] * 100) for _ in range(20)])
        wire.say(chunk(sse({**delta("Hello"), "output_index": 1}, COMPLETED)))
        self.assertEqual(accumulate(events.frames)["content"], [{"type": "text", "text": "Hello"}])

    def test_endless(self) -> None:
        """An answer without end is none: neither its pieces nor its items are kept for ever."""
        self.patch(answers, "MAX_KEPT", 1000)
        self.patch(item_queue, "MAX_ITEMS", 10)
        added = {"type": "response.output_item.added", "item": {"type": "message"}}
        for reads in ([delta("x" * 600)] * 2, [{**added, "output_index": at} for at in range(11)]):
            _, events, _ = self.deliver(sse(CREATED), *map(sse, reads))
            self.assertIn("more than 10", events.failure.outcome.reason)

    def test_empty(self) -> None:
        """``max_tokens: 0`` is answered here."""
        answered = self.result(ensureDeferred(self.executor.messages(self.attempt(body={"max_tokens": 0}))))
        self.assertEqual(json.loads(answered.body)["stop_reason"], "max_tokens")
        self.assertFalse(self.net.reactor.tcpClients)


class Failures(ResponsesTestCase):
    """What comes in the place of an answer."""

    def test_whole_answer_that_failed(self) -> None:
        """A 200 may say that the answer failed: it counts as its code says, and the client hears the sentence."""
        for code, kind, status in (
            ("server_error", Kind.TRANSIENT, 500),
            ("rate_limit_exceeded", Kind.QUOTA, 429),
            ("invalid_image", Kind.CLIENT_FAULT, 400),
        ):
            failure = self.failed(200, json.dumps(failed(code, "It failed.")).encode())
            self.assertEqual(failure.outcome.kind, kind)
            self.assertEqual(failure.outcome.reason, "It failed.")
            assert failure.answer is not None
            self.assertEqual(failure.answer.status, status)

    def test_stream_that_failed(self) -> None:
        """The same of a stream, before and after content."""
        event = {"type": "response.failed", "response": failed("rate_limit_exceeded", "Please try again in 20s.")}
        for reads, then in (((), Then.NEXT), ((delta("Hel"),), Then.ANSWER)):
            _, events, _ = self.deliver(sse(CREATED), *map(sse, reads), sse(event))
            outcome = events.failure.outcome
            self.assertEqual((outcome.kind, outcome.then, outcome.until_hint), (Kind.QUOTA, then, 20.0))

    def test_too_long(self) -> None:
        """A prompt that is too long is told in the words by which clients compact, however OpenAI says it."""
        words = "Your input exceeds the context window of this model. Please adjust your input and try again."
        error = {"error": {"message": words, "type": "invalid_request_error", "code": "context_length_exceeded"}}
        refused = self.failed(400, json.dumps(error).encode())
        later = self.failed(200, json.dumps(failed("context_length_exceeded", words)).encode())
        for failure in (refused, later):
            self.assertEqual(self.told(failure), (400, "prompt is too long"))

    def test_sealed_reasoning(self) -> None:
        """What cannot be opened is left out, once."""
        error = {
            "error": {"message": "The encrypted content could not be verified.", "code": "invalid_encrypted_content"}
        }
        outcome = self.failed(400, json.dumps(error).encode()).outcome
        self.assertEqual((outcome.kind, outcome.then), (Kind.RECTIFY, Then.RECTIFY_ONCE))

    def test_cut(self) -> None:
        """A stream without its last event is cut, whatever was said before."""
        _, events, _ = self.deliver(sse(CREATED, delta("Hel")), end=True)
        self.assertEqual(events.failure.outcome.kind, Kind.BROKEN_STREAM)

    def test_html(self) -> None:
        """A page is no answer."""
        self.assertEqual(self.failed(200, b"<html>", "content-type: text/html").outcome.kind, Kind.TRANSIENT)

    def test_filtered_prompt(self) -> None:
        """A prompt that Azure's filter refuses is a refusal, as an answer that it stops is."""
        words = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
        error = {"error": {"message": words, "code": "content_filter", "param": "prompt"}}
        message = self.message(400, json.dumps(error).encode())
        self.assertEqual((message["stop_reason"], message["content"]), ("refusal", []))
        self.assertEqual(message["stop_details"]["explanation"], words)


class CountTests(ResponsesTestCase):
    """count_tokens."""

    def test_counted(self) -> None:
        """The upstream is asked about what it would be sent, but for how it is to answer."""
        sent, wire, head, body = self.send(self.attempt(count_tokens=True), count_tokens=True)
        self.assertTrue(head.startswith(b"POST /base/responses/input_tokens HTTP/1.1\r\n"), head)
        self.assertEqual(json.loads(body).keys(), {"model", "input", "reasoning"})
        wire.respond(200, b'{"object":"response.input_tokens","input_tokens":31}')
        self.assertEqual(self.result(sent).body, b'{"input_tokens":31}')

    def test_no_count(self) -> None:
        """What is no count fails."""
        for body in (b"{}", b'{"input_tokens":-1}', b"x"):
            self.assertEqual(self.failed(200, body, count_tokens=True).outcome.kind, Kind.TRANSIENT)

    def test_not_there(self) -> None:
        """A server that cannot count is asked once."""
        attempt = self.attempt(count_tokens=True)
        outcome = self.failed(404, b"Not Found", "content-type: text/plain", count_tokens=True).outcome
        self.assertEqual(outcome.kind, Kind.UNSUPPORTED)
        self.assertIn("count_tokens", self.unsupported(attempt.request, attempt.route) or "")
        sent, _, _, _ = self.send(attempt, count_tokens=True)  # that was prepared before
        self.assertEqual(self.result(sent).outcome.kind, Kind.UNSUPPORTED)
        self.message(200, WHOLE)

    def test_no_model(self) -> None:
        """A model that is not there says nothing of the server."""
        error = {"error": {"message": "The model `gpt-9` does not exist", "code": "model_not_found"}}
        outcome = self.failed(404, json.dumps(error).encode(), count_tokens=True).outcome
        self.assertEqual(outcome.kind, Kind.MODEL_UNAVAILABLE)
        self.attempt(count_tokens=True)

    def test_estimate(self) -> None:
        """The operator may have the daemon estimate from the start."""
        attempt = self.attempt(count_tokens=True)
        self.make(count_tokens="estimate")
        self.assertIn("count_tokens", self.unsupported(attempt.request, attempt.route) or "")


class ModelTests(ResponsesTestCase):
    """The list."""

    credential = Credential("up", "main", StaticSecret({"api_key": "sk-house"}))

    def test_listed(self) -> None:
        """Models that answer in words are listed, with what is known of them."""
        listed = self.models(self.credential)
        wire = self.net.accept()
        self.assertTrue(wire.taken().startswith(b"GET /base/models HTTP/1.1\r\n"))
        ids = ["gpt-5", "unheard-of", "text-embedding-3-large", "gpt-4o-realtime", "whisper-1", "gpt-image-1"]
        wire.respond(200, json.dumps({"object": "list", "data": [{"id": id} for id in ids]}).encode())
        known, unknown = self.result(listed)
        self.assertEqual((known["id"], known["max_tokens"]), ("gpt-5", 128_000))
        self.assertEqual(known["capabilities"]["thinking"]["supported"], True)
        self.assertEqual(unknown, {"id": "unheard-of", "display_name": "unheard-of"})

    def test_azure(self) -> None:
        """Azure lists models that are not deployed: none of them."""
        self.make(base_url="http://res.openai.azure.com/openai/v1")
        self.assertEqual(self.result(self.models(self.credential)), [])


class MakerTests(ExecutorTestCase):
    """The kind."""

    maker = OpenAIResponsesMaker()

    def test_check(self) -> None:
        """Hosts are looked at."""
        section = Provider(name="a", kind="openai-responses", own=ResponsesSettings(url_sources=["corp/"]))
        self.assertEqual([place for place, _ in self.maker.check(section)], ["url_sources[0]"])
