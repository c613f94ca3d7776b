"""The Anthropic executor on an upstream in memory: what goes up, what comes down, what failures come to."""

from __future__ import annotations

import errno
import gzip
import json
from typing import Any

from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.error import ConnectBindError, ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.dispatch.verdict import broken_off
from claudeproxyd.errors import TYPE_OF_STATUS
from claudeproxyd.executors.anthropic.executor import AnthropicExecutor
from claudeproxyd.executors.anthropic.maker import AnthropicMaker
from claudeproxyd.executors.messages_api import Betas
from claudeproxyd.executors.responses import BufferedResponse, StreamingResponse
from claudeproxyd.interfaces import (
    IBodyConsumer,
    IBufferedResponse,
    IExecutor,
    IExecutorMaker,
    ISecretSource,
    IStreamingResponse,
    IStreamReader,
)
from claudeproxyd.leases import Credential
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.observe.capture import Captures
from claudeproxyd.observe.scrub import remember
from claudeproxyd.outcomes.classify import operator_rule
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Scope, Then
from claudeproxyd.secrets.static import StaticSecret
from claudeproxyd.testing import EVENT_STREAM, EventRecorder, FakeAccount, MemoryConnection, chunk
from tests.executors.support import ExecutorTestCase
from tests.observe.test_lines import Threads

verifyClass(IExecutor, AnthropicExecutor)
verifyClass(IExecutorMaker, AnthropicMaker)
verifyClass(IStreamingResponse, StreamingResponse)
verifyClass(IBodyConsumer, StreamingResponse)
verifyClass(IBufferedResponse, BufferedResponse)
verifyClass(IStreamReader, ClaudeReader)
verifyObject(ISecretSource, StaticSecret({}))

MESSAGE = b'{"type":"message","stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":7}}'
START = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":5}}}\n\n'
BLOCK = b'event: content_block_start\ndata: {"type":"content_block_start","index":0}\n\n'
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"text":"%b"}}\n\n'
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
FIGURES = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":7}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
WHOLE = START + BLOCK + DELTA % b"hi" + BLOCK_STOP + FIGURES + STOP
OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'


class AnthropicTestCase(ExecutorTestCase):
    """The Anthropic one."""

    maker = AnthropicMaker()


class Up(AnthropicTestCase):
    """The request."""

    def test_urls(self) -> None:
        """A server in the API's place is not sent around the operator's own network; the API sees to that itself."""
        self.assertIn("url", self.refusal("http://169.254.169.254/a.png") or "passed")
        self.assertIsNone(self.refusal("https://x.example/a.png"))
        self.make(url_sources=["http://images.corp:8080"])
        self.assertIsNone(self.refusal("http://images.corp:8080/a.png"))
        self.make(base_url="https://api.anthropic.com")
        self.assertIsNone(self.refusal("http://169.254.169.254/a.png"))

    def refusal(self, url: str) -> str | None:
        """Why a request with an image at that URL does not go up."""
        content = [{"type": "image", "source": {"type": "url", "url": url}}]
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
        made = self.attempt(body=json.dumps(body).encode())
        return self.unsupported(made.request, made.route)

    def test_bytes(self) -> None:
        """The client's own body goes up as it came, with the query, on the base URL's path."""
        attempt = self.attempt()
        _, _, head, body = self.send(attempt)
        self.assertTrue(head.startswith(b"POST /base/v1/messages?beta=true HTTP/1.1\r\n"), head)
        self.assertEqual(body, attempt.request.envelope.body)
        self.assertEqual(attempt.bytes_out, len(body))

    def test_hop(self) -> None:
        """Whoever is sent a request, or asked for its models, is told which daemons it has been through."""
        self.make({"own_hop": b"0123456789abcdef"}.items())
        sent, _, head, _ = self.send(self.attempt(headers=[(b"x-claudeproxyd-hop", b"fedcba9876543210")]))
        sent.addErrback(lambda failure: None)
        self.assertIn(b"\r\nx-claudeproxyd-hop: fedcba9876543210, 0123456789abcdef\r\n", head)
        self.assertEqual(head.count(b"x-claudeproxyd-hop"), 1)
        self.models(Credential("p", "a", StaticSecret({"api_key": "k"}))).addErrback(lambda failure: None)
        self.assertIn(b"\r\nx-claudeproxyd-hop: 0123456789abcdef\r\n", self.net.accept().taken())

    def test_model(self) -> None:
        """Only the model is replaced where the route renames it."""
        attempt = self.attempt(model="other")
        _, _, _, body = self.send(attempt)
        self.assertEqual(body, attempt.request.envelope.body.replace(b'"model":"m"', b'"model":"other"'))

    def test_system_in_mid_conversation(self) -> None:
        """A model that the route chose and that refuses it gets a user's turn; the client's own gets what it sent."""
        said = [{"role": "user", "content": "hi"}, {"role": "system", "content": "Be quick."}]
        body = json.dumps({"model": "claude-opus-5-5", "max_tokens": 9, "messages": said}).encode()
        for model, role in (
            ("claude-opus-4-6", "user"), ("glm-5", "user"), ("claude-opus-4-8", "system"), ("claude-opus-5-5", "system")
        ):  # fmt: skip
            _, _, _, sent = self.send(self.attempt(body=body, model=model))
            self.assertEqual(json.loads(sent)["messages"][1]["role"], role, model)
        older = body.replace(b"claude-opus-5-5", b"claude-opus-4-6")
        self.assertEqual(self.send(self.attempt(body=older, model="claude-opus-4-6"))[3], older)

    def test_rectified(self) -> None:
        """What dispatch puts in place of the body goes up instead."""
        attempt = self.attempt()
        attempt.body = b'{"x":1}'
        self.assertEqual(self.send(attempt)[3], b'{"x":1}')

    def test_minted_blocks(self) -> None:
        """What another family's answer left in the conversation does not go up; the rest does, byte for byte."""
        thinking = b'{"type":"thinking","thinking":"","signature":"cpxd1.google.cw"}'
        said = (
            b'{"model":"m","max_tokens": 9,"messages":[{"role":"assistant","content":[%b{"type":"text","text":"a"}]}]}'
        )
        for count_tokens in (False, True):
            attempt = self.attempt(body=said % (thinking + b", "), count_tokens=count_tokens)
            *_, body = self.send(attempt, count_tokens=count_tokens)
            self.assertEqual(body, said % b"")

    def test_drop_fields(self) -> None:
        """Fields that the upstream does not take are taken out."""
        self.make(drop_fields=["max_tokens"])
        _, _, head, body = self.send()
        self.assertEqual(body, b'{"model":"m","messages":[],"stream":false}')
        self.assertIn(b"content-length: %d\r\n" % len(body), head.lower())

    def test_half_a_character(self) -> None:
        """Half a surrogate pair goes up as it came: the API refuses it in its own words, and others may take it."""
        said = b'{"model":"m", "max_tokens":9,"messages":[{"role":"user","content":"\\ud83d"}]}'
        self.assertEqual(self.send(self.attempt(body=said))[3], said)
        self.assertEqual(self.send(self.attempt(body=said, model="n"))[3], said.replace(b'"m"', b'"n"'))
        self.make(drop_fields=["max_tokens"])
        self.assertEqual(self.send(self.attempt(body=said))[3], said.replace(b'"max_tokens":9,', b""))

    def test_keys(self) -> None:
        """The credential's secret goes up, as a key or as a token; the client's own never does."""
        client = [(b"x-api-key", b"sk-client"), (b"authorization", b"Bearer client"), (b"cookie", b"c=client")]
        _, _, head, _ = self.send(self.attempt(headers=client))
        self.assertIn(b"\r\nx-api-key: sk-house\r\n", head + b"\r\n")
        self.assertNotIn(b"client", head)
        self.assertNotIn(b"authorization", head.lower())
        _, _, head, _ = self.send(self.attempt(secret={"bearer_token": "t"}.items(), headers=client))
        self.assertIn(b"\r\nauthorization: Bearer t\r\n", head + b"\r\n")
        self.assertNotIn(b"x-api-key", head.lower())

    def test_headers(self) -> None:
        """Codings are ours to ask for; the operator's headers and betas are added."""
        self.make(headers={"x-team": "for {client}"}, betas=Betas(add=["b-1"]))
        _, _, head, _ = self.send(self.attempt(headers=[(b"accept-encoding", b"br"), (b"user-agent", b"cli")]))
        for line in (b"accept-encoding: gzip", b"x-team: for client", b"anthropic-beta: b-1", b"user-agent: cli"):
            self.assertIn(b"\r\n" + line, head)
        self.assertIn(b"\r\nanthropic-version: 2023-06-01", head)
        self.assertEqual(head.lower().count(b"accept-encoding"), 1)
        _, _, head, _ = self.send(self.attempt(stream=True))
        self.assertIn(b"\r\naccept-encoding: identity", head)

    def test_operators_headers(self) -> None:
        """A header that the operator sets takes the place of the client's, and of a default: upstreams get one."""
        self.make(headers={"Anthropic-Version": "2026-10-21", "user-agent": "house"})
        for sent in ([], [(b"anthropic-version", b"2023-06-01"), (b"user-agent", b"cli")]):
            _, _, head, _ = self.send(self.attempt(headers=sent))
            lower = head.lower()
            self.assertEqual((lower.count(b"anthropic-version:"), lower.count(b"user-agent:")), (1, 1))
            self.assertIn(b"2026-10-21", head)
            self.assertIn(b"house", head)

    def test_count_tokens(self) -> None:
        """Counting goes to its own path, and is never streamed."""
        sent, wire, head, _ = self.send(self.attempt(stream=True, count_tokens=True), count_tokens=True)
        self.assertTrue(head.startswith(b"POST /base/v1/messages/count_tokens?beta=true "))
        self.assertIn(b"\r\naccept-encoding: gzip", head)
        wire.say(b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"input_tokens":3}')
        self.assertEqual(self.result(sent).usage.input, 3)

    def test_sent_again(self) -> None:
        """What goes out once more, as its kept connection was closed already, counts as another attempt."""
        self.answer(200, MESSAGE)
        attempt = self.attempt()
        sent, wire, _, _ = self.send(attempt)
        self.net.reactor.advance(2.0)
        wire.end()
        fresh = self.net.accept()
        self.assertIn(b"POST /base/v1/messages", fresh.taken())
        fresh.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(MESSAGE), MESSAGE))
        self.assertEqual(self.result(sent).body, MESSAGE)
        self.assertEqual((attempt.stale_at, attempt.number), (self.net.reactor.seconds(), 2))

    def test_cancel(self) -> None:
        """Cancelling closes the upstream's socket at once."""
        sent, wire, _, _ = self.send()
        sent.cancel()
        self.assertIsInstance(self.result(sent), CancelledError)
        self.assertTrue(wire.aborted)


class Whole(AnthropicTestCase):
    """Answers that are not streamed."""

    def test_message(self) -> None:
        """The body as it came, its figures, and the headers that a client may have."""
        answer = self.answer(200, MESSAGE, "request-id: req_up", "set-cookie: a=b", "x-new: 1")
        self.assertEqual((answer.body, answer.stop_reason, answer.request_id), (MESSAGE, "end_turn", "req_up"))
        self.assertEqual((answer.usage.input, answer.usage.output, answer.bytes_in), (5, 7, len(MESSAGE)))
        self.assertEqual(answer.headers, [(b"request-id", b"req_up"), (b"x-new", b"1")])

    def test_compressed(self) -> None:
        """Compressed bodies are decoded, by their header or by their first bytes."""
        for headers in (("content-encoding: gzip",), ()):
            answer = self.answer(200, gzip.compress(MESSAGE), *headers)
            self.assertEqual(answer.body, MESSAGE)
            self.assertNotIn(b"content-encoding", dict(answer.headers))

    def test_not_claude(self) -> None:
        """A 200 that is a page, nothing, an error or no message at all is a failed attempt."""
        for body in (
            b"<html>",
            b"",
            b"{}",
            b"[]",
            b'{"type":"error","error":{"type":"api_error"}}',
            b"\xff",
            b"{" * 9999,
        ):
            outcome = self.failed(200, body).outcome
            self.assertEqual((outcome.kind, outcome.then), (Kind.TRANSIENT, Then.NEXT), body)
        self.assertEqual(self.failed(200, b"{}", count_tokens=True).outcome.kind, Kind.TRANSIENT)
        self.assertEqual(self.failed(200, b"x", "content-encoding: br").outcome.kind, Kind.TRANSIENT)

    def test_blanks_without_end(self) -> None:
        """Blanks keep an answer alive, and not for ever: it has timeouts.content from its head to its end."""
        for count_tokens in (False, True):
            sent, wire, _, _ = self.send(self.attempt(count_tokens=count_tokens), count_tokens)
            wire.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(8):
                self.net.reactor.advance(100.0)
                wire.say(chunk(b" "))
            self.assertEqual(self.so_far(sent), [])
            self.net.reactor.advance(100.0)
            outcome = self.result(sent).outcome
            self.assertEqual((outcome.kind, outcome.timed_out), (Kind.TRANSIENT, True))
            self.assertTrue(wire.aborted)

    def test_damaged_coding(self) -> None:
        """Compressed bytes that cannot be decoded are shown to nobody as words."""
        damaged = gzip.compress(b"overloaded")[:-4]
        for status in (200, 500):
            failure = self.failed(status, damaged, "content-encoding: gzip")
            self.assertEqual(failure.outcome.kind, Kind.TRANSIENT)
            self.assertTrue(failure.outcome.reason.isascii(), failure.outcome.reason)

    def test_rate_limits(self) -> None:
        """They pass, or not, as configured; what they foresee is known either way."""
        header = "anthropic-ratelimit-tokens-remaining: 0", "anthropic-ratelimit-tokens-reset: 2023-11-14T22:13:50Z"
        answer = self.answer(200, MESSAGE, *header)
        self.assertEqual((len(answer.headers), answer.exhausted), (2, 30.0))
        self.make({"strip_rate_limits": True}.items())
        answer = self.answer(200, MESSAGE, *header)
        self.assertEqual((answer.headers, answer.exhausted), ([], 30.0))

    def test_answers_on_their_way_are_counted(self) -> None:
        """What is here of a whole answer, or an error, is part of max_buffered_bytes until it is whole or given up."""
        for status in (200, 500):
            for end in ("whole", "cut", "cancelled"):
                changes: list[int] = []
                self.make({"buffers": FakeAccount(changes)}.items())
                sent, wire, _, _ = self.send()
                sent.addErrback(lambda failure: None)
                wire.say(f"HTTP/1.1 {status} Whatever\r\ncontent-length: {len(MESSAGE)}\r\n\r\n".encode())
                wire.say(MESSAGE[:9])
                wire.say(MESSAGE[9:-1])
                self.assertEqual(sum(changes), len(MESSAGE) - 1)
                if end == "whole":
                    wire.say(MESSAGE[-1:])
                elif end == "cut":
                    wire.end()
                else:
                    sent.cancel()
                self.assertEqual(sum(changes), 0, (status, end))


class Failures(AnthropicTestCase):
    """What goes wrong before a stream begins."""

    def test_refused(self) -> None:
        """An upstream's error is kept verbatim where it is in the API's shape, with its headers."""
        body = b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}'
        failure = self.failed(400, body, "request-id: req_up", "set-cookie: a=b", "content-type: application/json")
        self.assertEqual((failure.outcome.kind, failure.outcome.then), (Kind.CLIENT_FAULT, Then.ANSWER))
        answer = failure.answer
        assert answer is not None
        self.assertEqual((answer.status, answer.body, answer.verbatim), (400, body, True))
        self.assertEqual(answer.headers, [(b"request-id", b"req_up"), (b"content-type", b"application/json")])

    def test_refused_otherwise(self) -> None:
        """What has another shape is not passed on as it is; its sentence is, an overflow in the words of the API."""
        words = b"request (9 tokens) exceeds the available context size (8 tokens)"
        overflow = b'{"error":{"code":"exceed_context_size_error","message":"%b"}}' % words
        for body, message in (
            (b"<html>", ""),
            (b'{"error":{"message":"no"}}', "no"),
            (b"", ""),
            (overflow, "prompt is too long: 9 tokens > 8 maximum"),
        ):
            answer = self.failed(400, body).answer
            assert answer is not None
            self.assertEqual((answer.verbatim, answer.status, answer.message), (False, 400, message))

    def test_hint(self) -> None:
        """What the upstream asks for reaches the pool."""
        outcome = self.failed(429, b"{}", "retry-after: 17").outcome
        self.assertEqual((outcome.kind, outcome.until_hint), (Kind.QUOTA, 17.0))

    def test_rules(self) -> None:
        """The operator's rules come first."""
        self.make({"rules": [operator_rule("transient", 400, "flaky")]}.items())
        self.assertEqual(self.failed(400, b"flaky").outcome.kind, Kind.TRANSIENT)

    def test_cut_error(self) -> None:
        """An error whose body breaks off is still what its status says."""
        sent, wire, _, _ = self.send()
        wire.say(b"HTTP/1.1 429 No\r\nretry-after: 17\r\ncontent-length: 100\r\n\r\n{")
        wire.end()
        self.assertEqual(self.result(sent).outcome.kind, Kind.QUOTA)

    def test_error_that_drips(self) -> None:
        """An error's body has five seconds in all, whatever comes of it; then the status speaks."""
        for status, kind in ((500, Kind.TRANSIENT), (429, Kind.QUOTA), (400, Kind.CLIENT_FAULT)):
            for drip in (b"", b" "):
                sent, wire, _, _ = self.send()
                wire.say(b"HTTP/1.1 %d No\r\nretry-after: 17\r\ncontent-length: 100000\r\n\r\n{" % status)
                for _ in range(4):
                    self.net.reactor.advance(1.0)
                    if drip:
                        wire.say(drip)
                self.assertEqual(self.so_far(sent), [])
                self.net.reactor.advance(1.0)
                self.assertEqual(self.result(sent).outcome.kind, kind)
                self.assertTrue(wire.aborted)

    def test_connect(self) -> None:
        """No connection is a failure that is worth another try."""
        sent = ensureDeferred(self.executor.messages(self.attempt()))
        self.net.refuse(ConnectionRefusedError())
        outcome = self.result(sent).outcome
        self.assertEqual((outcome.kind, outcome.repeatable), (Kind.TRANSIENT, True))

    def test_nothing_left_here(self) -> None:
        """That we have no descriptor left cools nobody."""
        sent = ensureDeferred(self.executor.messages(self.attempt()))
        self.net.refuse(ConnectBindError(errno.EMFILE, "Too many open files"))
        outcome = self.result(sent).outcome
        self.assertEqual((outcome.kind, outcome.scope, outcome.then), (Kind.INTERNAL, Scope.NONE, Then.NEXT))

    def test_first_byte(self) -> None:
        """Silence is a time-out of ours, sooner for a stream than for a whole answer."""
        for stream, seconds in ((True, 120.0), (False, 540.0)):
            sent, wire, _, _ = self.send(self.attempt(stream=stream))
            self.net.reactor.advance(seconds - 0.1)
            self.assertFalse(sent.called)
            self.net.reactor.advance(0.1)
            outcome = self.result(sent).outcome
            self.assertEqual((outcome.timed_out, outcome.repeatable), (True, False))
            self.assertTrue(wire.aborted)


class Streams(AnthropicTestCase):
    """Streams of events."""

    def test_whole(self) -> None:
        """Every byte as it came, the figures known, the connection free for another request."""
        answer, events, wire = self.deliver(*[WHOLE[at : at + 7] for at in range(0, len(WHOLE), 7)], end=True)
        self.assertEqual(events.frames, WHOLE)
        self.assertTrue(events.batches[-1].ended)
        self.assertEqual((answer.usage.input, answer.usage.output, answer.usage.estimated), (5, 7, False))
        self.assertEqual((answer.stop_reason, answer.bytes_in), ("end_turn", len(WHOLE)))
        self.assertEqual((events.failure, self.net.origin.idle, wire.aborted), (None, 1, False))

    def test_pings(self) -> None:
        """Upstream pings pass after the first content event, and are dropped before it."""
        _, events, _ = self.deliver(PING + START, PING, BLOCK + DELTA % b"a", PING)
        self.assertEqual(events.frames, START + BLOCK + DELTA % b"a" + PING)

    def test_lingering(self) -> None:
        """An upstream that does not end after message_stop costs no more than its connection."""
        _, events, wire = self.deliver(WHOLE)
        self.net.reactor.advance(5.0)
        self.assertTrue(wire.aborted)
        self.assertIsNone(events.failure)
        _, events, _ = self.deliver(WHOLE, PING * 100)
        self.assertEqual((events.frames, events.failure), (WHOLE, None))

    def test_unfinished_frames_are_counted(self) -> None:
        """What is held of a frame that does not end is part of max_buffered_bytes, and given back however it ends."""
        half = b"event: content_block_delta\ndata: " + b"x" * 5_000
        for end in (b"", b"\n\n"):
            changes: list[int] = []
            self.make(services={"buffers": FakeAccount(changes)})
            answer, _, wire = self.deliver(START, half[:3_000], half[3_000:])
            self.assertEqual(sum(changes), len(half))
            if end:
                wire.say(chunk(end))
            else:
                answer.stopProducing()
            self.assertEqual(sum(changes), 0)

    def test_error_before_content(self) -> None:
        """An in-band error before content is an answer with a status: another credential takes over."""
        for reads in ((START + OVERLOADED,), (START, OVERLOADED), (OVERLOADED,)):
            _, events, wire = self.deliver(*reads)
            outcome, answer = events.failure.outcome, events.failure.answer
            self.assertEqual((outcome.kind, outcome.then, outcome.repeatable), (Kind.OVERLOADED, Then.NEXT, True))
            self.assertEqual((answer.status, dict(answer.headers)[b"content-type"]), (529, b"application/json"))
            self.assertEqual(json.loads(answer.body)["error"]["message"], "Overloaded")
            self.assertTrue(wire.aborted)

    def test_error_with_content_in_one_read(self) -> None:
        """Content that came in one read with the error has reached nobody: another credential takes over."""
        _, events, _ = self.deliver(START, BLOCK + DELTA % b"a" + OVERLOADED)
        self.assertNotIn(b"delta", events.frames)
        self.assertEqual((events.failure.outcome.kind, events.failure.outcome.then), (Kind.OVERLOADED, Then.NEXT))

    def test_error_after_content(self) -> None:
        """After content the error is the client's to see, and what came before it in its read is delivered."""
        _, events, wire = self.deliver(START + BLOCK + DELTA % b"a", DELTA % b"b" + OVERLOADED + DELTA % b"c")
        self.assertEqual(events.frames, START + BLOCK + DELTA % b"a" + DELTA % b"b")
        self.assertEqual(events.failure.outcome.then, Then.ANSWER)
        self.assertTrue(wire.aborted)

    def test_cut(self) -> None:
        """An end without message_stop is a cut, clean or not: transient before content, a broken stream after it."""
        for reads, kind in (
            ((START,), Kind.TRANSIENT),
            ((START + BLOCK + DELTA % b"a",), Kind.BROKEN_STREAM),
            ((WHOLE.replace(STOP, b""),), Kind.BROKEN_STREAM),
            ((WHOLE[:-3],), Kind.BROKEN_STREAM),
            ((WHOLE.replace(STOP, b"event: message_stop"),), Kind.BROKEN_STREAM),
            ((WHOLE.replace(FIGURES + STOP, FIGURES[:-1]),), Kind.BROKEN_STREAM),
            ((), Kind.TRANSIENT),
        ):
            for clean in (True, False):
                _, events, wire = self.deliver(*reads, end=clean)
                if not clean:
                    wire.end()
                self.assertEqual(events.failure.outcome.kind, kind)
                self.assertEqual(events.failure.outcome.reason, "upstream closed the stream before message_stop")

    def test_no_last_empty_line(self) -> None:
        """Everything was there: a message_stop whose empty line is missing ends the message, and an error is one."""
        for line_end in (b"\n", b"\r\n", b"\r"):
            whole = WHOLE.replace(b"\n", line_end)
            for missing in (1, 2):
                for at in (len(whole) // 2, len(whole) - 40):
                    cut = whole[: -missing * len(line_end)]
                    answer, events, wire = self.deliver(cut[:at], cut[at:], end=True)
                    self.assertEqual((events.failure, events.frames), (None, WHOLE))
                    self.assertEqual((answer.stop_reason, answer.usage.output, wire.aborted), ("end_turn", 7, False))
        _, events, _ = self.deliver(START + BLOCK + DELTA % b"a", OVERLOADED[:-2], end=True)
        self.assertEqual(events.failure.answer.message, "Overloaded")

    def test_another_message(self) -> None:
        """A repetition behind the upstream, within a message: a failed attempt before content, else a broken stream."""
        another = START.replace(b'"message":{', b'"message":{"id":"msg_2",')
        for reads, kind in (((START, another), Kind.TRANSIENT), ((START + DELTA % b"a", another), Kind.BROKEN_STREAM)):
            _, events, wire = self.deliver(*reads, WHOLE)
            self.assertEqual(events.failure.outcome.kind, kind)
            self.assertIn("another message", events.failure.outcome.reason)
            self.assertTrue(wire.aborted)

    def test_errors_of_other_dialects(self) -> None:
        """An error without a type is told in the upstream's words, with its status or its type, first and late."""
        for error, status in (
            (b'{"error":{"message":"no luck","code":502}}', 502),
            (b'{"error":{"type":"overloaded_error","message":"no luck"}}', 529),
            (b'{"error":{"type":"rate_limit_error","message":"no luck"}}', 429),
            (b'{"error":{"type":"invalid_request_error","message":"no luck"}}', 400),
            (b'{"error":{"message":"no luck"}}', 500),
            (b'{"error":"no luck"}', 500),
        ):
            for reads in ((), (START,), (START + DELTA % b"a",)):
                _, events, _ = self.deliver(*reads, b"data: %b\n\n" % error)
                answer = events.failure.answer
                self.assertEqual((answer.status, answer.message), (status, "no luck"))
                if reads and b"delta" in reads[-1]:
                    told = broken_off(events.failure).error
                    self.assertEqual((told.status, told.message), (status, "no luck"))
        for kind in {*TYPE_OF_STATUS.values()}:
            _, events, _ = self.deliver(
                START + DELTA % b"a", b'data: {"error":{"type":"%b","message":"no luck"}}\n\n' % kind.encode()
            )
            self.assertEqual(broken_off(events.failure).error.type, kind)

    def test_nothing_certain(self) -> None:
        """A stream that fails ahead of its first delta has no figure that is certain."""
        for reads in ((START,), (START, OVERLOADED), (START + BLOCK,)):
            answer, events, _ = self.deliver(*reads, end=True)
            self.assertIsNotNone(events.failure)
            self.assertTrue(answer.usage.estimated)

    def test_cut_figures(self) -> None:
        """A stream that was cut: input of message_start, output estimated and marked so."""
        answer, _, _ = self.deliver(START, DELTA % (b"x" * 400), end=True)
        self.assertEqual((answer.usage.input, answer.usage.estimated), (5, True))
        self.assertTrue(90 <= answer.usage.output <= 110)

    def test_idle(self) -> None:
        """Silence is a time-out; not while it is we who have paused."""
        answer, events, _ = self.deliver(START + BLOCK + DELTA % b"a")
        answer.pauseProducing()
        self.net.reactor.advance(1000.0)
        self.assertIsNone(events.failure)
        answer.resumeProducing()
        self.net.reactor.advance(300.0)
        self.assertEqual((events.failure.outcome.kind, events.failure.outcome.timed_out), (Kind.BROKEN_STREAM, True))

    def test_damaged(self) -> None:
        """A frame that does not parse breaks the stream; what came in its read reached nobody."""
        _, events, wire = self.deliver(START + BLOCK + DELTA % b"a" + b"event: ping\ndata: {\n\n")
        self.assertEqual((events.failure.outcome.kind, events.failure.outcome.then), (Kind.TRANSIENT, Then.NEXT))
        self.assertTrue(wire.aborted)
        _, events, _ = self.deliver(START + BLOCK + DELTA % b"a", b"event: ping\ndata: {\n\n")
        self.assertEqual((events.failure.outcome.kind, events.failure.outcome.then), (Kind.BROKEN_STREAM, Then.ANSWER))

    def test_endless_event(self) -> None:
        """An event without an end is given up at its bound."""
        _, events, wire = self.deliver(START, b"data: " + b"x" * 100_000)
        self.assertEqual(events.failure.outcome.kind, Kind.TRANSIENT)
        self.assertTrue(wire.aborted)

    def test_compressed(self) -> None:
        """A stream that is compressed although we asked for none is decoded, whether its head says so or not."""
        for headers in (("content-encoding: gzip",), ()):
            answer, wire = self.stream(EVENT_STREAM, *headers)
            events = EventRecorder()
            answer.deliver(events)
            packed = gzip.compress(WHOLE)
            for part in (packed[:20], packed[20:]):
                wire.say(chunk(part))
            wire.say(chunk(b""))
            self.assertEqual((events.frames, events.failure), (WHOLE, None))
            self.assertNotIn(b"content-encoding", dict(answer.headers))

    def test_unknown_coding(self) -> None:
        """One that we cannot decode is a failed attempt, and its connection is not left behind."""
        failure, wire = self.stream(EVENT_STREAM, "content-encoding: br")
        self.assertIsInstance(failure, AttemptFailed)
        self.assertEqual(failure.outcome.kind, Kind.TRANSIENT)
        self.assertTrue(wire.aborted)

    def test_not_a_stream(self) -> None:
        """A 200 of another type is a failed attempt."""
        for kind in ("text/html", "application/json"):
            failure = self.failed(200, b"{}", "content-type: " + kind, stream=True)
            self.assertEqual(failure.outcome.kind, Kind.TRANSIENT)

    def test_not_a_stream_that_drips(self) -> None:
        """Such a page is not waited for, either."""
        sent, wire, _, _ = self.send(self.attempt(stream=True))
        wire.say(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ntransfer-encoding: chunked\r\n\r\n")
        wire.say(chunk(b"<html>"))
        self.net.reactor.advance(5.0)
        self.assertEqual(self.result(sent).outcome.kind, Kind.TRANSIENT)
        self.assertTrue(wire.aborted)

    def test_barren(self) -> None:
        """An upstream that says nothing, and much of it, is broken off: comments, empty lines, pings, before the
        first content and after it."""
        for rubbish in (b":\n\n", b"\n", b"\r\n", PING, b": processing\n\n" + PING, b"id: 1\n\n"):
            for before in (START, START + BLOCK + DELTA % b"a"):
                _, events, wire = self.deliver(before)
                read = rubbish * (60_000 // len(rubbish))
                reads = 0
                while events.failure is None and reads < 40:
                    wire.say(chunk(read))
                    reads += 1
                self.assertTrue(16 <= reads <= 18, (rubbish, reads))
                self.assertIn("nothing of the answer", events.failure.outcome.reason)
                self.assertTrue(wire.aborted)

    def test_barren_and_large(self) -> None:
        """A comment that comes in many reads counts as what it is, once it is whole."""
        _, events, wire = self.deliver(START)
        comment = b":" + b"x" * 90_000 + b"\n\n"
        comments = 0
        while events.failure is None and comments < 20:
            comments += 1
            for start in range(0, len(comment), 30_000):
                wire.say(chunk(comment[start : start + 30_000]))
        self.assertEqual(comments, 12)

    def test_fruitful(self) -> None:
        """Pings and comments between events do no harm however many there are, nor does a large event."""
        self.make({"max_event_bytes": 3_000_000}.items())
        _, events, wire = self.deliver(START + BLOCK)
        for _ in range(40):
            wire.say(chunk(PING * 1_000))
            wire.say(chunk(b": x\n\n" * 1_000 + DELTA % b"a"))
        large = DELTA % (b"x" * 2_500_000)
        for start in range(0, len(large), 60_000):
            wire.say(chunk(large[start : start + 60_000]))
        wire.say(chunk(BLOCK_STOP + FIGURES + STOP))
        self.assertIsNone(events.failure)
        self.assertTrue(events.batches[-1].ended)

    def test_compressed_beyond_a_step(self) -> None:
        """What one read decompresses to is read step by step, and nothing of it is lost."""
        self.make({"max_event_bytes": 3_000_000}.items())
        answer, wire = self.stream(EVENT_STREAM, "content-encoding: gzip")
        answer.deliver(events := EventRecorder())
        whole = START + BLOCK + DELTA % b"abc" * 20_000 + BLOCK_STOP + FIGURES + STOP
        wire.say(chunk(gzip.compress(whole)))
        self.assertEqual((events.frames, events.failure), (whole, None))
        answer, wire = self.stream(EVENT_STREAM, "content-encoding: gzip")
        answer.deliver(events := EventRecorder())
        wire.say(chunk(gzip.compress(START + b":\n\n" * 900_000)))
        self.assertIn("nothing of the answer", events.failure.outcome.reason)


class Models(AnthropicTestCase):
    """What a credential can use."""

    def page(self, wire: MemoryConnection, **page: Any) -> None:
        """One page of the list."""
        body = json.dumps(page).encode()
        wire.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    def test_pages(self) -> None:
        """All pages, with the credential's key; an id cannot break out of the request line."""
        asked = self.models(self.attempt().credential)
        wire = self.net.accept()
        head = wire.taken()
        self.assertTrue(head.startswith(b"GET /base/v1/models?limit=1000 HTTP/1.1\r\n"))
        self.assertIn(b"x-api-key: sk-house\r\n", head)
        self.page(wire, data=[{"id": "a"}], has_more=True, last_id="a b&c")
        self.assertTrue(wire.taken().startswith(b"GET /base/v1/models?limit=1000&after_id=a%20b%26c HTTP/1.1\r\n"))
        self.page(wire, data=[{"id": "b"}])
        self.assertEqual(self.result(asked), [{"id": "a"}, {"id": "b"}])

    def test_no_end(self) -> None:
        """A list that says it goes on, but does not, ends."""
        for last in [], [{"id": "a"}]:
            asked = self.models(self.attempt().credential)
            wire = self.net.accept()
            self.page(wire, data=[{"id": "a"}], has_more=True, last_id="a")
            self.page(wire, data=last, has_more=True, last_id="a")
            self.assertEqual(self.result(asked), [{"id": "a"}, *last])
            wire.end()

    def test_refused(self) -> None:
        """A refusal is a classified failure."""
        asked = self.models(self.attempt().credential)
        self.net.accept().say(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n")
        self.assertEqual(self.result(asked).outcome.kind, Kind.AUTH)


class Secret(SynchronousTestCase):
    """A secret that stands in the configuration."""

    def test_static(self) -> None:
        """Always there, never newer, and not in its repr."""
        source = StaticSecret({"api_key": "sk-very-secret"})
        self.assertEqual(source.present(), {"api_key": "sk-very-secret"})
        self.assertEqual(self.successResultOf(source.refresh()), {"api_key": "sk-very-secret"})
        self.assertFalse(source.refreshable)
        self.assertNotIn("very", repr(source))


class Secrets(AnthropicTestCase):
    """An upstream that repeats our key, which is of no shape that could be known."""

    KEY = "key-of-the-house-01"

    def setUp(self) -> None:
        super().setUp()
        remember([self.KEY])

    def error(self, message: str) -> bytes:
        """Claude's error."""
        return json.dumps({"type": "error", "error": {"type": "api_error", "message": message}}).encode()

    def check(self, failure: AttemptFailed) -> None:
        """Neither what is relayed nor what is noted down has it."""
        self.assertNotIn(self.KEY, failure.outcome.reason)
        if failure.answer is not None:
            self.assertIn(b"***", failure.answer.body)
            self.assertNotIn(self.KEY, repr(failure.answer))

    def test_errors(self) -> None:
        """Of any status, whatever the rest of it says, cut or not."""
        for status in (400, 401, 403, 404, 409, 413, 422, 429, 500, 503, 529):
            for message in (f"bad {self.KEY}", "x" * 390 + self.KEY, "x" * 7_990 + self.KEY):
                failure = self.failed(status, self.error(message), f"x-echo: {self.KEY}", f"x-api-key: {self.KEY}")
                self.check(failure)
                assert failure.answer is not None
                self.assertIn((b"x-echo", b"***"), failure.answer.headers)
                self.assertNotIn(b"x-api-key", dict(failure.answer.headers))

    def test_in_band(self) -> None:
        """First, or after content."""
        error = b"event: error\ndata: " + self.error(f"bad {self.KEY}") + b"\n\n"
        for reads in ((error,), (START, BLOCK, DELTA % b"hi", error)):
            _, events, _ = self.deliver(*reads)
            self.check(events.failure)

    def test_good_answers(self) -> None:
        """Their headers; and what counts tokens, which holds nothing else."""
        answer = self.answer(200, MESSAGE, f"x-echo: {self.KEY}")
        self.assertIn((b"x-echo", b"***"), answer.headers)
        answer, _ = self.stream(EVENT_STREAM, f"x-echo: {self.KEY}")
        self.assertIn((b"x-echo", b"***"), answer.headers)
        body = json.dumps({"input_tokens": 5, "of": self.KEY}).encode()
        self.assertEqual(json.loads(self.answer(200, body, count_tokens=True).body), {"input_tokens": 5, "of": "***"})

    def test_content_is_not_looked_at(self) -> None:
        """What a good answer says is its own affair: it goes on as it came."""
        message = b'{"type":"message","content":[{"type":"text","text":"%b"}]}' % self.KEY.encode()
        self.assertEqual(self.answer(200, message).body, message)
        _, events, _ = self.deliver(START, BLOCK, DELTA % self.KEY.encode(), STOP)
        self.assertIn(self.KEY.encode(), events.frames)

    def captured(self, *reads: bytes, status: int = 200, stream: bool = False, coding: str = "gzip") -> Any:
        """The capture of an answer's body that came in these reads."""
        captures = Captures(self.net.reactor, Threads())
        captures.reload("always", "", 100_000, 1)
        capture = captures.begin("req_1")
        assert capture is not None
        sent, wire, _, _ = self.send(self.attempt(stream=stream, capture=capture))
        media = EVENT_STREAM if stream and status == 200 else "content-type: application/json"
        length = "transfer-encoding: chunked" if stream else f"content-length: {sum(map(len, reads))}"
        wire.say(f"HTTP/1.1 {status} X\r\n{media}\r\n{length}\r\ncontent-encoding: {coding}\r\n\r\n".encode())
        result: list[Any] = []
        sent.addBoth(result.append)
        if stream and result:
            result[0].deliver(EventRecorder())
        for read in reads:
            wire.say(chunk(read) if stream else read)
        if stream:
            wire.say(chunk(b""))
        (shown,) = json.loads(capture.file()[1])["attempts"]
        return shown

    def test_captures_are_decoded(self) -> None:
        """Inside a coding nothing could be masked: what is captured is what was said."""
        body = self.error(f"bad {self.KEY}")
        self.assertIn("bad ***", self.captured(gzip.compress(body), status=503)["answer"]["body"]["text"])
        message = b'{"type":"message","content":"%b"}' % self.KEY.encode()
        shown = self.captured(gzip.compress(message))["answer"]["body"]
        self.assertEqual((shown["text"], shown["bytes"]), ('{"type":"message","content":"***"}', len(message)))
        packed = gzip.compress(WHOLE + self.KEY.encode())
        shown = self.captured(packed[:30], packed[30:], stream=True)["answer"]["body"]
        self.assertIn("message_stop", shown["text"])
        self.assertNotIn(self.KEY, shown["text"])

    def test_captures_of_what_cannot_be_decoded(self) -> None:
        """Nothing can be masked in it, so there is nothing of it but that."""
        for stream in (False, True):
            for status in (200, 503):
                shown = self.captured(self.KEY.encode(), status=status, stream=stream)
                self.assertEqual(shown["answer"]["body"].get("text"), "")
                self.assertIn("failure", shown)

    def test_captures_of_pages(self) -> None:
        """A page in the place of a stream is in the capture too."""
        captures = Captures(self.net.reactor, Threads())
        captures.reload("always", "", 100_000, 1)
        capture = captures.begin("req_1")
        assert capture is not None
        sent, wire, _, _ = self.send(self.attempt(stream=True, capture=capture))
        wire.say(b"HTTP/1.1 200 X\r\ncontent-type: text/html\r\ncontent-length: 10\r\n\r\n<p>No</p>.")
        self.assertIsInstance(self.result(sent), AttemptFailed)
        (shown,) = json.loads(capture.file()[1])["attempts"]
        self.assertEqual(shown["answer"]["body"]["text"], "<p>No</p>.")
