"""The model that lives in the daemon: its answers, its pace, and its failures."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.config.schema import Provider, Timeouts
from claudeproxyd.executors.sandbox.executor import PACE, REMEMBERED, SandboxExecutor
from claudeproxyd.executors.sandbox.maker import SandboxMaker
from claudeproxyd.executors.sandbox.stream import PING, SandboxStream
from claudeproxyd.executors.services import Services
from claudeproxyd.executors.turns import Turns
from claudeproxyd.interfaces import IBufferedResponse, IEventConsumer, IExecutor, IExecutorMaker, IStreamingResponse
from claudeproxyd.leases import Credential
from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.envelope import read_envelope
from claudeproxyd.messages.ids import is_minted
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Scope, Then
from claudeproxyd.secrets.static import StaticSecret
from claudeproxyd.testing import FakeAccount
from tests.executors.sandbox.test_prompt import BASH
from tests.messages.accumulate import accumulate
from tests.messages.grammar import Grammar


class FakeRequest:
    """As much of dispatch's ApiRequest as an executor sees."""

    def __init__(self, body: bytes) -> None:
        self.envelope = read_envelope(body)
        self.headers: list[tuple[bytes, bytes]] = []
        self.request_id = "req_1"
        self.count_tokens = False


class FakeAttempt:
    """As much of dispatch's Attempt as an executor sees."""

    def __init__(self, body: bytes, model: str) -> None:
        self.request = FakeRequest(body)
        self.model = model
        self.credential = Credential("p", "a", StaticSecret({}))
        self.head_at: float | None = None
        self.bytes_out = 0


@implementer(IEventConsumer)
class FakeConsumer:
    """Writes down what it is given, and may do something at each batch."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.reason: Exception | None = None
        self.at_batch = lambda: None

    def events(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.at_batch()

    def broken(self, reason: Exception) -> None:
        self.reason = reason

    @property
    def frames(self) -> bytes:
        return b"".join(batch.frames for batch in self.batches)

    @property
    def ended(self) -> bool:
        return bool(self.batches) and self.batches[-1].ended


verifyClass(IEventConsumer, FakeConsumer)


class SandboxCase(SynchronousTestCase):
    """An executor on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.executor = self.make()

    def make(self, **timeouts: float) -> SandboxExecutor:
        def origin(base_url: str) -> Any:
            raise AssertionError("the sandbox calls nobody")

        return SandboxExecutor(
            Services(
                buffers=FakeAccount([]),
                clock=self.clock,
                turns=Turns(self.clock),
                origin=origin,
                timeouts=Timeouts(**timeouts),
                max_event_bytes=1000,
                now=self.clock.seconds,
            )
        )

    def attempt(self, content: Any, model: str = "sandbox", **members: Any) -> FakeAttempt:
        body = {"model": "claude-x", "max_tokens": 1000, "messages": [{"role": "user", "content": content}], **members}
        return FakeAttempt(json.dumps(body).encode(), model)

    def ask(self, content: Any, model: str = "sandbox", **members: Any) -> Deferred[Any]:
        return ensureDeferred(self.executor.messages(self.attempt(content, model, **members)))  # type: ignore[arg-type]

    def whole(self, content: Any, **members: Any) -> dict[str, Any]:
        answer = self.successResultOf(self.ask(content, **members))
        verifyObject(IBufferedResponse, answer)
        message: dict[str, Any] = json.loads(answer.body)
        return message

    def stream(self, content: Any, model: str = "sandbox", **members: Any) -> tuple[SandboxStream, FakeConsumer]:
        answer = self.successResultOf(self.ask(content, model, stream=True, **members))
        verifyObject(IStreamingResponse, answer)
        consumer = FakeConsumer()
        answer.deliver(consumer)
        return answer, consumer

    def run_out(self, step: float = PACE, times: int = 500) -> None:
        self.clock.pump([step] * times)

    def failed(self, deferred: Deferred[Any]) -> AttemptFailed:
        failure: AttemptFailed = self.failureResultOf(deferred, AttemptFailed).value
        return failure


class AnswerTests(SandboxCase):
    """What it says."""

    def test_implements(self) -> None:
        """It fits where every other provider fits."""
        verifyClass(IExecutor, SandboxExecutor)
        verifyObject(IExecutor, self.executor)
        verifyClass(IStreamingResponse, SandboxStream)
        self.assertIsNone(self.executor.prepare(None, None))

    def test_says_what_it_is(self) -> None:
        """Nobody takes it for a model: it says what it is, and what the user said."""
        message = self.whole("How are you?")
        text = message["content"][0]["text"]
        self.assertIn("sandbox of claudeproxyd", text)
        self.assertIn("“How are you?”", text)
        self.assertEqual((message["model"], message["stop_reason"]), ("claude-x", "end_turn"))
        self.assertGreater(message["usage"]["input_tokens"], 0)
        self.assertGreater(message["usage"]["output_tokens"], 20)

    def test_streamed_and_whole_are_the_same(self) -> None:
        """The same request brings the same content and usage, streamed or not, now or later."""
        for content, members in [
            ("hello", {}),
            ('[tool:Bash {"command":"ls"}] [tool:Bash {"command":"pwd"}]', {"tools": [BASH]}),
            ("think", {"thinking": {"type": "adaptive"}}),
            ("stop", {"stop_sequences": ["offline"]}),
            ("json", {"output_config": {"format": {"type": "json_schema", "schema": BASH["input_schema"]}}}),
        ]:
            whole = self.whole(content, **members)
            answer, consumer = self.stream(content, **members)
            self.run_out()
            self.assertTrue(consumer.ended)
            streamed = accumulate(consumer.frames)
            for message in (whole, streamed):
                del message["id"]
                message["usage"].pop("input_tokens")  # "stream": true is not in both bodies
                for block in message["content"]:
                    block.pop("id", None)
            self.assertEqual(streamed, whole)
            self.assertEqual(answer.stop_reason, whole["stop_reason"])
            self.assertEqual(answer.usage.output, whole["usage"]["output_tokens"])
            self.assertFalse(answer.usage.estimated)

    def test_calls_a_tool(self) -> None:
        """It calls the tool that it was asked to, and only one that the client offers."""
        message = self.whole('use the Bash tool to run "echo hi"', tools=[BASH])
        self.assertEqual(message["stop_reason"], "tool_use")
        self.assertEqual(message["content"][1]["input"], {"command": "echo hi"})
        message = self.whole('[tool:Bash {"command":"ls"}]')
        self.assertEqual((message["stop_reason"], len(message["content"])), ("end_turn", 1))
        self.assertIn("does not offer", message["content"][0]["text"])

    def test_answers_a_tool_result(self) -> None:
        """After a result it quotes both ends of it and stops, so that an agent's loop comes to an end."""
        result = {"type": "tool_result", "tool_use_id": "t", "content": "begin" + "x" * 1000 + "end"}
        message = self.whole([result], tools=[BASH])
        text = message["content"][0]["text"]
        self.assertIn("“begin", text)
        self.assertIn("end”", text)
        self.assertLess(len(text), 200)
        self.assertEqual(message["stop_reason"], "end_turn")

    def test_thinks(self) -> None:
        """With thinking on there is a signed thinking block; with display omitted, only its signature."""
        thought = self.whole("hi", thinking={"type": "enabled", "budget_tokens": 1024})["content"][0]
        self.assertTrue(thought["thinking"] and is_minted(thought["signature"]))
        message = self.whole("hi", thinking={"type": "adaptive", "display": "omitted"})
        self.assertEqual((message["content"][0]["type"], message["content"][0]["thinking"]), ("thinking", ""))
        self.assertGreater(message["usage"]["output_tokens_details"]["thinking_tokens"], 0)
        self.assertEqual(self.whole("hi", thinking={"type": "disabled"})["content"][0]["type"], "text")

    def test_max_tokens(self) -> None:
        """It never says more than it may; with 0 the message is empty."""
        message = self.whole("hi", max_tokens=5)
        self.assertEqual(message["stop_reason"], "max_tokens")
        self.assertTrue(0 < message["usage"]["output_tokens"] <= 5)
        message = self.whole("hi", max_tokens=0)
        self.assertEqual((message["content"], message["stop_reason"]), ([], "max_tokens"))

    def test_max_tokens_in_a_call(self) -> None:
        """A call that is cut short is not to be run."""
        message = self.whole('[tool:Bash {"command":"%s"}]' % ("x" * 4000), tools=[BASH], max_tokens=100)
        self.assertEqual((message["stop_reason"], message["content"][-1]["input"]), ("max_tokens", {}))

    def test_stop_sequences(self) -> None:
        """It keeps to stop sequences."""
        message = self.whole("hi", stop_sequences=["offline"])
        self.assertEqual((message["stop_reason"], message["stop_sequence"]), ("stop_sequence", "offline"))
        self.assertTrue(message["content"][0]["text"].endswith(", an "))

    def test_structured_output(self) -> None:
        """A prescribed schema gets a JSON text that it accepts."""
        message = self.whole("hi", output_config={"format": {"type": "json_schema", "schema": BASH["input_schema"]}})
        self.assertEqual(json.loads(message["content"][0]["text"]), {"command": "sandbox"})

    def test_count_tokens(self) -> None:
        """Tokens are counted by the estimate, and the answer says so."""
        attempt = self.attempt("hello")
        attempt.request.count_tokens = True
        answer = self.successResultOf(ensureDeferred(self.executor.count_tokens(attempt)))  # type: ignore[arg-type]
        self.assertGreater(json.loads(answer.body)["input_tokens"], 5)
        self.assertIn((b"x-claudeproxyd-estimate", b"true"), answer.headers)

    def test_models(self) -> None:
        """Clients that list models find the names they look for."""
        models = self.successResultOf(ensureDeferred(self.executor.models(None)))
        self.assertLessEqual(
            {"claude-sonnet-4-5", "claude-opus-4-8", "claude-haiku-4-5", "sandbox"}, {model["id"] for model in models}
        )
        for model in models:
            self.assertEqual((model["type"], model["lifecycle"]), ("model", "active"))


class PaceTests(SandboxCase):
    """When it says it."""

    def test_a_word_at_a_time(self) -> None:
        """Words come one by one at the set pace, each in a batch of its own."""
        _, consumer = self.stream("hi [sandbox:words=3 pace=2]")
        self.clock.advance(0)
        self.assertEqual(len(consumer.batches), 1)
        self.clock.advance(1.9)
        self.assertEqual(len(consumer.batches), 1)
        self.clock.pump([0.1, 2, 2])
        self.assertEqual([batch.content for batch in consumer.batches], [True] * 4)
        self.assertTrue(consumer.ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_burst(self) -> None:
        """A burst of words is one batch."""
        _, consumer = self.stream("[sandbox:words=100 burst=50]")
        self.clock.advance(0)
        self.assertEqual(consumer.batches[0].count, 52)

    def test_paused(self) -> None:
        """While a slow client holds it up it says nothing and keeps nothing; then it goes on where it was."""
        answer, consumer = self.stream("hi")
        self.run_out(times=3)
        answer.pauseProducing()
        answer.pauseProducing()
        before = len(consumer.batches)
        self.clock.advance(1000)
        self.assertEqual((len(consumer.batches), self.clock.getDelayedCalls()), (before, []))
        answer.resumeProducing()
        answer.resumeProducing()
        self.assertEqual(len(consumer.batches), before)
        self.clock.advance(PACE)
        self.assertEqual(len(consumer.batches), before + 1)
        self.run_out()
        self.assertIn("“hi”", accumulate(consumer.frames)["content"][0]["text"])

    def test_paused_from_the_start(self) -> None:
        """A client that was slow already when the attempt began is not sent a word."""
        answer = self.successResultOf(self.ask("hi", stream=True))
        answer.pauseProducing()
        consumer = FakeConsumer()
        answer.deliver(consumer)
        self.clock.advance(10)
        self.assertEqual(consumer.batches, [])
        answer.resumeProducing()
        self.run_out()
        self.assertTrue(consumer.ended)

    def test_paused_at_each_word(self) -> None:
        """A consumer may pause it from within its own call."""
        answer, consumer = self.stream("hi")
        consumer.at_batch = answer.pauseProducing
        self.run_out(times=5)
        self.assertEqual(len(consumer.batches), 1)
        while not consumer.ended:
            answer.resumeProducing()
            self.clock.advance(PACE)
        accumulate(consumer.frames)

    def test_stopped(self) -> None:
        """When the client leaves not a word more is said, no timer is left, and the output is estimated."""
        answer, consumer = self.stream("hi")
        self.run_out(times=5)
        answer.stopProducing()
        answer.resumeProducing()
        before = len(consumer.batches)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.run_out()
        self.assertEqual((len(consumer.batches), consumer.reason), (before, None))
        self.assertTrue(answer.usage.estimated)
        self.assertGreater(answer.usage.output or 0, 0)

    def test_stopped_while_paused(self) -> None:
        """An answer that is stopped while it is held up never comes back to life."""
        answer, consumer = self.stream("hi")
        answer.pauseProducing()
        answer.stopProducing()
        answer.resumeProducing()
        self.assertEqual((consumer.batches, self.clock.getDelayedCalls()), ([], []))

    def test_stopped_at_a_word(self) -> None:
        """A consumer may stop it from within its own call."""
        answer, consumer = self.stream("hi")
        consumer.at_batch = answer.stopProducing
        self.run_out()
        self.assertEqual(len(consumer.batches), 1)

    def test_slow_first_byte(self) -> None:
        """The head of the answer can be late, and the wait can be cancelled."""
        d = self.ask("hi [sandbox:slow-first-byte=5]", stream=True)
        self.clock.advance(4.9)
        self.assertNoResult(d)
        self.clock.advance(0.1)
        self.successResultOf(d)
        d = self.ask("hi [sandbox:slow-first-byte=5]")
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FailureTests(SandboxCase):
    """How it fails when asked to."""

    def test_one_request_id(self) -> None:
        """There is one request and nobody upstream, so its header, its body and its record have one id: ours."""
        for content in ("hi [sandbox:status=529]", "hi [sandbox:error=api_error]"):
            answer = self.failed(self.ask(content)).answer
            assert answer is not None
            self.assertEqual(dict(answer.headers)[b"request-id"], b"req_1")
            self.assertEqual(json.loads(answer.body)["request_id"], "req_1")
        self.assertEqual(self.successResultOf(self.ask("hi")).request_id, "req_1")

    def test_status(self) -> None:
        """A refusal is classified like Anthropic's own and carries its Claude-shaped body and retry-after."""
        for model, content in [
            ("sandbox-status-429+retry-after-7", "hi"),
            ("m", "hi [sandbox:status=429 retry-after=7]"),
        ]:
            failure = self.failed(self.ask(content, model))
            self.assertEqual((failure.outcome.kind, failure.outcome.until_hint), (Kind.QUOTA, 7.0))
            answer = failure.answer
            assert answer is not None
            self.assertEqual((answer.status, answer.verbatim), (429, True))
            self.assertIn((b"retry-after", b"7"), answer.headers)
            self.assertEqual(json.loads(answer.body)["error"]["type"], "rate_limit_error")

    def test_kinds(self) -> None:
        """The usual statuses come to the usual outcomes."""
        for status, kind in [(400, Kind.CLIENT_FAULT), (401, Kind.AUTH), (500, Kind.TRANSIENT), (529, Kind.OVERLOADED)]:
            self.assertIs(self.failed(self.ask(f"[sandbox:status={status}]")).outcome.kind, kind)

    def test_unknown_wish(self) -> None:
        """A misspelt wish is the client's fault, and no credential is blamed."""
        failure = self.failed(self.ask("[sandbox:cutt]"))
        self.assertEqual((failure.outcome.kind, failure.outcome.scope), (Kind.CLIENT_FAULT, Scope.NONE))
        assert failure.answer is not None
        self.assertIn(b"cutt", failure.answer.body)

    def test_fail_first(self) -> None:
        """The first attempts fail and the next one works, which shows a failover; then it begins anew."""
        for _ in range(2):
            for _ in range(2):
                self.assertIs(self.failed(self.ask("[sandbox:fail-first=2]")).outcome.kind, Kind.OVERLOADED)
            self.successResultOf(self.ask("[sandbox:fail-first=2]"))
        answer = self.failed(self.ask("[sandbox:fail-first=1 status=500]")).answer
        assert answer is not None
        self.assertEqual(answer.status, 500)

    def test_fail_first_is_bounded(self) -> None:
        """Prompts that fail and never come again are forgotten."""
        for number in range(REMEMBERED + 10):
            self.failed(self.ask(f"{number} [sandbox:fail-first=1]"))
        self.failed(self.ask("0 [sandbox:fail-first=1]"))
        self.successResultOf(self.ask(f"{REMEMBERED} [sandbox:fail-first=1]"))

    def test_not_an_answer(self) -> None:
        """HTML and emptiness with a status of 200 are no answers, streamed or not."""
        for fault in ("html", "empty"):
            for stream in (True, False):
                failure = self.failed(self.ask(f"[sandbox:{fault}]", stream=stream))
                self.assertEqual((failure.outcome.kind, failure.outcome.then), (Kind.TRANSIENT, Then.NEXT))

    def test_whole_answers_break_before_they_are_given(self) -> None:
        """A whole answer that is cut or damaged fails, and the client sees nothing of it."""
        for fault, kind in [("cut=after-3", Kind.TRANSIENT), ("malformed", Kind.TRANSIENT), ("error", Kind.OVERLOADED)]:
            self.assertIs(self.failed(self.ask(f"[sandbox:{fault}]")).outcome.kind, kind)

    def test_streams_break_where_asked(self) -> None:
        """A stream is cut, damaged or ended by an error after as many words as asked, and never ends cleanly."""
        for fault in ("cut", "malformed", "error=overloaded_error"):
            separator = "-" if "=" in fault else "="
            answer, consumer = self.stream(f"[sandbox:{fault}{separator}after-3]")
            self.run_out()
            self.assertEqual(len(consumer.batches), 3)
            self.assertFalse(consumer.ended)
            Grammar().frames(consumer.frames)
            reason = consumer.reason
            assert isinstance(reason, AttemptFailed)
            self.assertIs(reason.outcome.then, Then.ANSWER)
            self.assertTrue(answer.usage.estimated)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_streams_break_before_content(self) -> None:
        """Before the first word a break costs the client nothing: another credential is tried."""
        for fault, kind in [("cut", Kind.TRANSIENT), ("error=overloaded_error", Kind.OVERLOADED)]:
            _, consumer = self.stream(f"[sandbox:{fault}]")
            self.clock.advance(0)
            self.assertEqual(consumer.batches, [])
            reason = consumer.reason
            assert isinstance(reason, AttemptFailed)
            self.assertEqual((reason.outcome.kind, reason.outcome.then), (kind, Then.NEXT))

    def test_in_band_error_travels(self) -> None:
        """The error that ends a stream can be relayed as it is."""
        _, consumer = self.stream("[sandbox:error=api_error-after-1]")
        self.run_out()
        reason = consumer.reason
        assert isinstance(reason, AttemptFailed)
        assert reason.answer is not None
        self.assertEqual(json.loads(reason.answer.body)["error"]["type"], "api_error")

    def test_stall(self) -> None:
        """A stream that stalls ends as idle; the time for which the client held it up does not count."""
        self.executor = self.make(idle=30.0)
        answer, consumer = self.stream("[sandbox:stall=after-1]")
        self.clock.pump([0, PACE])
        self.clock.advance(29)
        answer.pauseProducing()
        self.clock.advance(1000)
        self.assertIsNone(consumer.reason)
        answer.resumeProducing()
        self.clock.advance(0.9)
        self.assertIsNone(consumer.reason)
        self.clock.advance(0.1)
        reason = consumer.reason
        assert isinstance(reason, AttemptFailed)
        self.assertTrue(reason.outcome.timed_out)

    def test_first_byte_timeout(self) -> None:
        """An answer whose head never comes times out, whole or streamed, and waits for ever where no limit is set."""
        self.executor = self.make(first_byte=10.0, first_byte_whole=20.0)
        for content, stream, limit in [
            ("[sandbox:slow-first-byte=11]", True, 10),
            ("[sandbox:stall]", False, 20),
            ("[sandbox:pings-only]", False, 20),
        ]:
            d = self.ask(content, stream=stream)
            self.clock.advance(limit - 0.1)
            self.assertNoResult(d)
            self.clock.advance(0.1)
            self.assertTrue(self.failed(d).outcome.timed_out)
        self.executor = self.make(first_byte_whole=0.0)
        d = self.ask("[sandbox:stall]")
        self.clock.advance(10_000)
        self.assertNoResult(d)
        d.cancel()
        self.failureResultOf(d, CancelledError)

    def test_pings_only(self) -> None:
        """Pings are no content: ahead of the first word nothing is handed on, after it the pings are."""
        _, consumer = self.stream("[sandbox:pings-only]")
        self.run_out(PING, 100)
        self.assertEqual((consumer.batches, consumer.reason), ([], None))
        answer, consumer = self.stream("[sandbox:pings-only=after-1]")
        self.run_out(PING, 10)
        self.assertGreater(consumer.frames.count(b"event: ping"), 5)
        self.assertFalse(consumer.ended)
        answer.stopProducing()


class MakerTests(SandboxCase):
    """What the configuration asks of it."""

    def test_maker(self) -> None:
        """A provider of kind sandbox needs neither URL nor key, and is told that a URL is a mistake."""
        maker = SandboxMaker()
        verifyObject(IExecutorMaker, maker)
        self.assertEqual(list(maker.credential_schema), [])
        section = Provider(name="demo", kind="sandbox")
        self.assertEqual(list(maker.check(section)), [])
        self.assertEqual(
            [member for member, _ in maker.check(Provider(name="d", kind="sandbox", base_url="x"))], ["base_url"]
        )
        made = maker.make(section, self.executor._services)
        self.assertEqual((made.kind, made.family), ("sandbox", "anthropic"))
