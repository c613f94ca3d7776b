"""The executor of chat completions on an upstream in memory: what goes up, what comes down, what failures come to."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.config.schema import Pool, Provider
from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.verdict import final_error
from claudeproxyd.errors import ClaudeError
from claudeproxyd.executors.openai_chat.executor import ChatExecutor
from claudeproxyd.executors.openai_chat.maker import OpenAIChatMaker
from claudeproxyd.executors.openai_chat.settings import ChatSettings
from claudeproxyd.interfaces import (
    IBufferedResponse,
    IExecutor,
    IExecutorMaker,
    IPrepared,
    IStreamingResponse,
    IStreamReader,
)
from claudeproxyd.leases import Credential
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Scope, Then
from claudeproxyd.secrets.static import StaticSecret
from claudeproxyd.testing import EventRecorder
from claudeproxyd.translate.openai_chat.answers import ChatReader
from tests.executors.support import ExecutorTestCase
from tests.messages.accumulate import accumulate

verifyClass(IExecutor, ChatExecutor)
verifyClass(IExecutorMaker, OpenAIChatMaker)
verifyClass(IStreamReader, ChatReader)

MODEL = "gpt-4.1"
ASKED: dict[str, Any] = {"model": "claude-x", "max_tokens": 90, "messages": [{"role": "user", "content": "Hello?"}]}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
TOOLS = [{"name": "f", "input_schema": {"type": "object"}}]


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """A chat.completion.chunk."""
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def sse(*chunks: Any) -> bytes:
    """As OpenAI frames them."""
    return b"".join(
        b"data: %b\n\n" % (each if isinstance(each, bytes) else json.dumps(each).encode()) for each in chunks
    )


def error(message: str, type: str = "invalid_request_error", code: Any = None) -> dict[str, Any]:
    """OpenAI's error body."""
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


FIRST, LAST = chunk(role="assistant", content="Hel"), chunk("stop", content="lo")
COUNTED = {"id": "chatcmpl-1", "choices": [], "usage": USAGE}
DONE = b"[DONE]"
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}


class ChatTestCase(ExecutorTestCase):
    """Requests that have been translated for a server."""

    maker = OpenAIChatMaker()

    def attempt(self, secret: Any = (("api_key", "sk-house"),), model: str = MODEL, **call: Any) -> Attempt:
        """One attempt; members of the body as *body*."""
        members = {**ASKED, "stream": call.pop("stream", False), **call.pop("body", {})}
        made = super().attempt(secret, model, body=json.dumps(members).encode(), **call)
        if not made.request.count_tokens:
            made.prepared = self.executor.prepare(made.request, made.route)
            verifyObject(IPrepared, made.prepared)
        return made

    def told(self, failure: AttemptFailed) -> ClaudeError:
        """What a client is told of it where nobody else can serve."""
        return final_error("claude-x", [failure], None, None, Pool()).error

    def target(self, **section: Any) -> tuple[bytes, bytes]:
        """The request line, and the headers below it, of a provider with these settings."""
        self.make(**section)
        self.executor.origin.base_path = urlsplit(section["base_url"]).path.encode()
        _, _, head, _ = self.send(self.attempt(model="my model"))
        line, _, headers = head.partition(b"\r\n")
        return line, headers


class Up(ChatTestCase):
    """The request."""

    def test_whole(self) -> None:
        """It goes to the one address below the base URL."""
        attempt = self.attempt()
        _, _, head, body = self.send(attempt)
        self.assertTrue(head.startswith(b"POST /base/chat/completions HTTP/1.1\r\n"), head)
        members = json.loads(body)
        self.assertEqual(members["messages"], [{"role": "user", "content": "Hello?"}])
        self.assertNotIn("stream", members)
        self.assertEqual(attempt.bytes_out, len(body))
        self.assertIn(b"\r\naccept-encoding: gzip", head)

    def test_streamed(self) -> None:
        """A stream is asked for in the body, with its usage."""
        _, _, head, body = self.send(self.attempt(stream=True))
        members = json.loads(body)
        self.assertEqual((members["stream"], members["stream_options"]), (True, {"include_usage": True}))
        self.assertIn(b"\r\naccept-encoding: identity", head)

    def test_streamed_without_options(self) -> None:
        """A server that refuses the member is not told of usage."""
        self.make(refuses=["stream_options"])
        members = json.loads(self.send(self.attempt(stream=True))[3])
        self.assertEqual((members["stream"], members.get("stream_options")), (True, None))

    def test_headers(self) -> None:
        """The key goes up, the operator's headers do; of the client's none does, and nor does its query."""
        self.make(headers={"openai-organization": "org-{client}"})
        client = [(b"x-api-key", b"sk-c"), (b"anthropic-beta", b"b-1"), (b"user-agent", b"cli"), (b"x-app", b"cli")]
        _, _, head, _ = self.send(self.attempt(headers=client))
        names = sorted(line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:])
        self.assertEqual(
            names,
            [
                b"accept-encoding",
                b"authorization",
                b"content-length",
                b"content-type",
                b"host",
                b"openai-organization",
                b"x-claudeproxyd-hop",
            ],
        )
        self.assertIn(b"\r\nauthorization: Bearer sk-house", head)
        self.assertIn(b"\r\nopenai-organization: org-client", head)

    def test_servers(self) -> None:
        """A server is known by its host, or by what the operator calls it."""
        for section, member in (
            ({"base_url": "http://api.openai.com/v1"}, "max_completion_tokens"),
            ({"base_url": "http://API.OpenAI.com/v1"}, "max_completion_tokens"),
            ({"base_url": "http://llm.corp/v1"}, "max_tokens"),
            ({"base_url": "http://llm.corp/v1", "dialect": "openai"}, "max_completion_tokens"),
            ({"base_url": "http://api.openai.com/v1", "max_tokens": "max_tokens"}, "max_tokens"),
        ):
            self.make(**section)
            self.assertIn(member, json.loads(self.send()[3]), section)

    def test_azure(self) -> None:
        """Azure has a path for each deployment, and one for all: its keys go in a header of their own."""
        base = "http://r.openai.azure.com"
        query = b"?api-version=2024-10-21"
        deployment = b"POST /openai/deployments/my%20model/chat/completions" + query
        for section, line in (
            ({"base_url": base, "api_version": "2024-10-21"}, deployment),
            ({"base_url": f"{base}/openai", "api_version": "2024-10-21"}, deployment),
            ({"base_url": f"{base}/openai/v1"}, b"POST /openai/v1/chat/completions"),
            (
                {"base_url": f"{base}/openai/v1", "api_version": "preview"},
                b"POST /openai/v1/chat/completions?api-version=preview",
            ),
        ):
            told, headers = self.target(**section)
            self.assertEqual(told, line + b" HTTP/1.1", section)
            self.assertIn(b"api-key: sk-house\r\n", headers)
            self.assertNotIn(b"uthorization", headers)

    def test_azures_tokens(self) -> None:
        """A token of Entra ID goes where tokens go."""
        self.make(base_url="http://r.openai.azure.com/openai/v1")
        _, _, head, _ = self.send(self.attempt(secret={"bearer_token": "eyJ0"}.items()))
        self.assertIn(b"\r\nauthorization: Bearer eyJ0", head)
        self.assertNotIn(b"api-key", head)

    def test_count_tokens(self) -> None:
        """No server of this kind counts: the daemon estimates, and asks nobody."""
        made = self.attempt(count_tokens=True)
        self.assertIn("count_tokens", self.unsupported(made.request, made.route) or "")
        outcome = self.result(ensureDeferred(self.executor.count_tokens(made))).outcome
        self.assertEqual((outcome.kind, outcome.then), (Kind.UNSUPPORTED, Then.NEXT_ROUTE))
        self.assertEqual(self.net.reactor.tcpClients, [])

    def test_unsupported(self) -> None:
        """What the server cannot be told is named before any attempt."""
        made = ExecutorTestCase.attempt(self, body=json.dumps({**ASKED, "safeguards": {"a": 1}}).encode())
        self.assertIn("safeguards", self.unsupported(made.request, made.route) or "")

    def test_stop_sequences(self) -> None:
        """A whole answer with stop sequences is asked for as a stream, whose end is where the first one is met."""
        sent, wire, _, body = self.send(self.attempt(body={"stop_sequences": ["END"]}))
        self.assertTrue(json.loads(body)["stream"])
        wire.begin_stream()
        self.assertEqual(self.so_far(sent), [])
        wire.say(b"%x\r\n%b\r\n" % (len(sse(chunk(content="One END two"))), sse(chunk(content="One END two"))))
        answer = self.result(sent)
        message = json.loads(answer.body)
        self.assertEqual((message["stop_reason"], message["content"][0]["text"]), ("stop_sequence", "One "))


class Whole(ChatTestCase):
    """Answers that are not streamed."""

    def test_message(self) -> None:
        """A Claude message under the name that the client asked for; nothing of the server's headers but its id."""
        headers = ("openai-organization: corp", "x-request-id: req_up", "x-ratelimit-remaining-requests: 9")
        answer = self.answer(200, json.dumps(WHOLE).encode(), *headers)
        verifyObject(IBufferedResponse, answer)
        message = json.loads(answer.body)
        self.assertEqual(message["content"], [{"type": "text", "text": "Hello"}])
        self.assertEqual((message["model"], message["stop_reason"]), ("claude-x", "end_turn"))
        self.assertEqual((answer.usage.input, answer.usage.output), (5, 7))
        self.assertEqual((answer.headers, answer.request_id), ([(b"content-type", b"application/json")], "req_up"))

    def test_a_stream_all_the_same(self) -> None:
        """A stream that nobody asked for is an answer."""
        message = json.loads(self.answer(200, sse(FIRST, LAST, COUNTED, DONE)).body)
        self.assertEqual(message["content"], [{"type": "text", "text": "Hello"}])

    def test_limits(self) -> None:
        """A limit that an answer shows as used up is known."""
        headers = ("x-ratelimit-remaining-tokens: 0", "x-ratelimit-reset-tokens: 6m0s")
        self.assertEqual(self.answer(200, json.dumps(WHOLE).encode(), *headers).exhausted, 360)

    def test_error(self) -> None:
        """An error with a 200 is what it would be with its status: so it is for the client."""
        for document, kind, status, words in (
            (error("x", code="context_length_exceeded"), Kind.CLIENT_FAULT, 400, "prompt is too long"),
            (error("Slow", code="slow_down"), Kind.OVERLOADED, 529, ""),
            (error("No", code="insufficient_quota"), Kind.BILLING, 503, ""),
            ({"object": "error", "message": "bad", "code": 400}, Kind.CLIENT_FAULT, 400, "bad"),
        ):
            failure = self.failed(200, json.dumps(document).encode())
            told = self.told(failure)
            self.assertEqual((failure.outcome.kind, told.status), (kind, status), document)
            self.assertIn(words, told.message)

    def test_no_answer(self) -> None:
        """Pages, nothing, and JSON that is no answer are failures."""
        for body in (b"<html></html>", b"", b"{}", b"[]", b'{"choices":[]}', b"data: [DONE]\n\n"):
            self.assertEqual(self.failed(200, body).outcome.kind, Kind.TRANSIENT, body)

    def test_content_filter(self) -> None:
        """A prompt that a filter refuses is answered as an answer that it stops."""
        refused = {"error": {"message": "The response was filtered", "code": "content_filter", "status": 400}}
        for stream in (False, True):
            sent, wire, _, _ = self.send(self.attempt(stream=stream))
            wire.respond(400, json.dumps(refused).encode())
            answer = self.result(sent)
            if stream:
                verifyObject(IStreamingResponse, answer)
                events = EventRecorder()
                answer.deliver(events)
                message = accumulate(b"".join(batch.frames for batch in events.batches))
            else:
                message = json.loads(answer.body)
            self.assertEqual((message["stop_reason"], message["content"]), ("refusal", []))
            self.assertEqual(message["stop_details"]["explanation"], "The response was filtered")


class Streams(ChatTestCase):
    """Answers that are streamed."""

    def test_message(self) -> None:
        """Events as they come; the end is the end, though the connection stays open."""
        answer, events, _ = self.deliver(sse(FIRST), sse(LAST), sse(COUNTED, DONE))
        message = accumulate(b"".join(batch.frames for batch in events.batches))
        self.assertEqual(message["content"], [{"type": "text", "text": "Hello"}])
        self.assertTrue(events.batches[-1].ended)
        self.assertEqual((answer.usage.input, answer.usage.output), (5, 7))
        self.assertEqual(answer.request_id, "chatcmpl-1")

    def test_an_object_all_the_same(self) -> None:
        """JSON in the place of a stream is an answer."""
        sent, wire, _, _ = self.send(self.attempt(stream=True))
        wire.respond(200, json.dumps(WHOLE).encode(), "content-type: application/json")
        events = EventRecorder()
        self.result(sent).deliver(events)
        self.assertTrue(events.batches[-1].ended)

    def test_error_first(self) -> None:
        """An error in the place of the first event: another credential is asked, and limits are told in words."""
        told = error(
            "Rate limit reached in organization org-abc123def. Please try again in 6m0s.",
            "requests",
            "rate_limit_exceeded",
        )
        _, events, _ = self.deliver(sse(told))
        outcome = events.failure.outcome
        self.assertEqual((outcome.kind, outcome.then, outcome.until_hint), (Kind.QUOTA, Then.NEXT, 360))
        self.assertNotIn("org-abc123def", self.told(events.failure).message)

    def test_error_later(self) -> None:
        """In mid-stream it is the client's to hear."""
        _, events, _ = self.deliver(sse(FIRST), sse(error("The server had an error", "server_error")))
        self.assertEqual((events.failure.outcome.kind, events.failure.outcome.then), (Kind.TRANSIENT, Then.ANSWER))

    def test_cut(self) -> None:
        """Without a reason it is cut, though the body's end is clean."""
        _, events, _ = self.deliver(sse(FIRST), end=True)
        self.assertEqual(events.failure.outcome.kind, Kind.BROKEN_STREAM)

    def test_html(self) -> None:
        """A page is none."""
        sent, wire, _, _ = self.send(self.attempt(stream=True))
        wire.respond(200, b"<html>", "content-type: text/html")
        self.assertEqual(self.result(sent).outcome.kind, Kind.TRANSIENT)


class Reasoning(ChatTestCase):
    """Reasoning that a server wants back."""

    def test_remembered(self) -> None:
        """A client that drops thinking blocks brings the call back, and the reasoning goes up with it."""
        self.make(base_url="http://api.deepseek.com")
        body = {"tools": TOOLS, "thinking": {"type": "adaptive"}}
        call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}
        sent, wire, _, _ = self.send(self.attempt(model="deepseek-v4", stream=True, body=body))
        wire.begin_stream()
        answer, events = self.result(sent), EventRecorder()
        answer.deliver(events)
        data = sse(chunk(reasoning_content="I need f."), chunk("tool_calls", tool_calls=[call]), DONE)
        wire.say(b"%x\r\n%b\r\n" % (len(data), data))
        self.assertTrue(events.batches[-1].ended)
        self.assertEqual(self.brought_back("deepseek-v4", ASKED["messages"]), "I need f.")

    def brought_back(self, model: str, asked: Any) -> str:
        """The reasoning with which the call goes up, of a client that asked so and brings the call alone."""
        messages = [
            *asked,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "x"}]},
        ]
        body = {"tools": TOOLS, "thinking": {"type": "adaptive"}, "messages": messages}
        made = self.attempt(model=model, body=body)
        back: str = json.loads(made.prepared.body)["messages"][1]["reasoning_content"]
        return back

    def test_ids_that_come_again(self) -> None:
        """Servers begin anew to count their calls: what another conversation has heard is nobody else's."""
        self.test_remembered()
        self.assertEqual(self.brought_back("deepseek-v4", [{"role": "user", "content": "Another."}]), "(not kept)")

    def test_models_of_other_makers(self) -> None:
        """One server may lead to many models, and the reasoning of one is not for those of others."""
        self.test_remembered()
        self.assertEqual(self.brought_back("kimi-k2.6", ASKED["messages"]), "(not kept)")

    def test_stays_in_memory(self) -> None:
        """The model's words are no state: they do not outlive the process."""
        self.test_remembered()
        self.assertEqual(len(self.executor.services.signatures), 0)


class Failures(ChatTestCase):
    """What is no answer."""

    def test_errors(self) -> None:
        """What an error comes to: for the pool, for dispatch, for the client."""
        key, model = Scope.CREDENTIAL, Scope.MODEL
        for status, document, headers, expected in (
            (401, error("Incorrect API key provided", code="invalid_api_key"), (), (Kind.AUTH, key, 503)),
            (429, error("You exceeded", code="insufficient_quota"), (), (Kind.BILLING, key, 503)),
            (429, error("Rate limit", "requests"), ("x-ratelimit-reset-requests: 6m0s",), (Kind.QUOTA, model, 429)),
            (404, error("The model `m`", code="model_not_found"), (), (Kind.MODEL_UNAVAILABLE, model, 404)),
            (400, error("Unsupported parameter: 'x'"), (), (Kind.CLIENT_FAULT, Scope.NONE, 400)),
            (422, {"detail": [{"loc": ["body", "x"], "msg": "Extra"}]}, (), (Kind.CLIENT_FAULT, Scope.NONE, 422)),
            (503, error("Slow", "server_error", "slow_down"), (), (Kind.OVERLOADED, Scope.MODEL_ON_PROVIDER, 529)),
        ):  # fmt: skip
            failure = self.failed(status, json.dumps(document).encode(), *headers)
            outcome = failure.outcome
            self.assertEqual((outcome.kind, outcome.scope, self.told(failure).status), expected, document)

    def test_organization(self) -> None:
        """Whose account it is stays inside; the sentence goes out."""
        words = "Request too large for gpt-4o in organization org-AbC123dEf456 on tokens per min (TPM): Limit 30000."
        failure = self.failed(400, json.dumps(error(words)).encode())
        told = self.told(failure).message
        self.assertNotIn("AbC123", told)
        self.assertIn("on tokens per min (TPM)", told)

    def test_unreachable(self) -> None:
        """A server that is not there."""
        sent = ensureDeferred(self.executor.messages(self.attempt()))
        self.net.refuse(ConnectionRefusedError())
        self.assertEqual(self.result(sent).outcome.kind, Kind.TRANSIENT)


class Models(ChatTestCase):
    """The list of models."""

    def listed(self, body: Any) -> Any:
        """What a server's list comes to."""
        asked = self.models(Credential("p", "c", StaticSecret({"api_key": "sk-house"})))
        if self.net.reactor.tcpClients:
            self.wire = self.net.accept()
        wire = self.wire
        self.assertTrue(wire.taken().startswith(b"GET /base/models HTTP/1.1\r\n"))
        wire.respond(200, json.dumps(body).encode())
        return self.result(asked)

    def test_listed(self) -> None:
        """Each with what its server says of its window."""
        data = [
            {"id": "gpt-9", "object": "model", "created": 1, "owned_by": "openai"},
            {"id": "a/b", "name": "A: B", "context_length": 9, "top_provider": {"max_completion_tokens": 4}},
            {"id": "local", "max_model_len": 4096},
            {"id": "fast", "context_window": 7, "max_completion_tokens": 3},
        ]
        expected = [
            {"id": "gpt-9", "display_name": "gpt-9"},
            {"id": "a/b", "display_name": "A: B", "max_input_tokens": 9, "max_tokens": 4},
            {"id": "local", "display_name": "local", "max_input_tokens": 4096},
            {"id": "fast", "display_name": "fast", "max_input_tokens": 7, "max_tokens": 3},
        ]
        self.assertEqual(self.listed({"object": "list", "data": data}), expected)
        self.assertEqual(self.listed(data), expected)

    def test_azure(self) -> None:
        """Azure lists what could be deployed, which is nothing to go by."""
        self.make(base_url="http://r.openai.azure.com/openai/v1")
        self.assertEqual(self.result(self.models(Credential("p", "c", StaticSecret({"api_key": "k"})))), [])


class MakerTests(SynchronousTestCase):
    """The kind in a configuration."""

    def check(self, **settings: Any) -> list[str]:
        """Where these settings are wrong."""
        section = Provider(name="p", kind="openai-chat", own=ChatSettings(**settings))
        return [place for place, _ in OpenAIChatMaker().check(section)]

    def test_words(self) -> None:
        """Words for what a server takes are known ones."""
        self.assertEqual(self.check(), [])
        self.assertEqual(self.check(takes=["top_k"], refuses=["image"], efforts=["low"]), [])
        self.assertEqual(self.check(takes=["x"], refuses=["top_k", "y"]), ["takes[0]", "refuses[1]"])
        self.assertEqual(self.check(efforts=["much"], url_sources=["x"]), ["url_sources[0]", "efforts[0]"])

    def test_environment(self) -> None:
        """A key in the environment is enough to start."""
        maker = OpenAIChatMaker()
        self.assertIsNone(maker.from_environment({}))
        made = maker.from_environment({"OPENAI_API_KEY": "sk"}) or {}
        self.assertEqual(made["base_url"], "https://api.openai.com/v1")
        made = maker.from_environment({"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1"}) or {}
        self.assertEqual(made["base_url"], "http://127.0.0.1:8080/v1")
