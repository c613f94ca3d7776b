"""Which spans a request leaves behind, and what its attempts go upstream with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import claudeproxyd
from claudeproxyd.messages.usage import Usage
from claudeproxyd.observe.access_log import AccessEntry
from claudeproxyd.observe.tracing import Span, SpanKind, TracedProvider, Tracer
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Outcome, Scope, Then
from claudeproxyd.testing import EPOCH, make_request
from tests.dispatch.fakes import FakeBuffered, House

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FROM_CLIENT = [(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode()), (b"tracestate", b"a=1")]
NOT_SAMPLED = [(b"traceparent", f"00-{TRACE}-{PARENT}-00".encode())]
MESSAGE = b'{"type":"message","model":"claude-x-1","content":[]}'


def answer(body: bytes = MESSAGE) -> FakeBuffered:
    """One that took tokens."""
    made = FakeBuffered(body)
    made.usage = Usage()
    made.usage.input, made.usage.output, made.usage.cache_read, made.usage.thinking = 10, 5, 100, 2
    made.stop_reason = "end_turn"
    return made


def documented() -> set[str]:
    """The attributes that the page of traces has, as their patterns."""
    text = (Path(claudeproxyd.__file__).parents[1] / "docs" / "traces.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name.replace("NAME", "team") for row in rows for name in re.findall(r"`(.+?)`", row)}


class TracesTests(SynchronousTestCase):
    """One house whose requests are traced."""

    def house(self, *keys: str, **tracer: Any) -> House:
        """A dispatcher with a tracer."""
        self.spans: list[Span] = []
        providers = {"p": TracedProvider("anthropic", "api.example.com", 443)}
        return House(*keys, tracer=Tracer(self.spans.append, providers=providers, **tracer))

    def end(self, house: House, running: Any, **members: Any) -> list[Span]:
        """Have web end a request's trace; all spans, the request's last."""
        entry = AccessEntry(
            time=EPOCH,
            request_id="req_ours",
            method="POST",
            path="/v1/messages",
            model="m",
            outcome=running.log.outcome,
            attempts=running.log.attempts,
            duration=2.0,
            **{"status": 200, **members},
        )
        running.log.trace.end(entry, running.log.session)
        return self.spans

    def test_one_attempt(self) -> None:
        """A span of each, with what the conventions have names for."""
        house = self.house()
        house.executor.answers = [answer()]
        running = house.serve()
        attempt, request = self.end(house, running)
        self.assertEqual((attempt.trace_id, attempt.parent_id), (request.trace_id, request.span_id))
        self.assertEqual((request.parent_id, request.kind, request.name), ("", SpanKind.SERVER, "POST /v1/messages"))
        self.assertEqual((attempt.kind, attempt.name), (SpanKind.CLIENT, "chat p-m"))
        self.assertEqual((request.start, request.end), (EPOCH, EPOCH + 2.0))
        self.assertIsNone(attempt.error)
        expected = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "p-m",
            "gen_ai.request.max_tokens": 9,
            "gen_ai.response.model": "claude-x-1",
            "gen_ai.response.finish_reasons": ["end_turn"],
            "gen_ai.conversation.id": "session",
            "gen_ai.usage.input_tokens": 110,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.usage.cache_read.input_tokens": 100,
            "gen_ai.usage.reasoning.output_tokens": 2,
            "server.address": "api.example.com",
            "server.port": 443,
            "claudeproxyd.route": "p/p-m",
            "claudeproxyd.credential": "a",
            "claudeproxyd.outcome": "ok",
        }
        self.assertEqual({name: attempt.attributes.get(name) for name in expected}, expected)
        self.assertNotIn("error.type", attempt.attributes)
        self.assertLessEqual({*attempt.attributes, *request.attributes}, documented())
        self.assertEqual(request.attributes["claudeproxyd.label.team"], "x")
        self.assertEqual([record.trace_id for record in house.sink.records], [request.trace_id])

    def test_goes_up(self) -> None:
        """Each attempt goes upstream with its own span, in the client's trace."""
        house = self.house("a", "b", trusts_clients=True)
        quota = Outcome(
            Kind.QUOTA, Scope.CREDENTIAL, Then.NEXT, base=30.0, until_hint=7.0, reason="slow sk-ant-abcdefgh"
        )
        house.executor.answers = [AttemptFailed(quota), answer()]
        running = house.serve(headers=FROM_CLIENT)
        failed, served, request = self.end(house, running)
        self.assertEqual((request.trace_id, request.parent_id, request.state), (TRACE, PARENT, "a=1"))
        lines = [sent.attempt.trace.lines for sent in house.executor.sent]
        self.assertEqual(
            lines,
            [f"traceparent: 00-{TRACE}-{each.span_id}-01\r\ntracestate: a=1\r\n".encode() for each in (failed, served)],
        )
        self.assertEqual(failed.error, "slow ***")
        self.assertEqual(failed.attributes["error.type"], "quota")
        self.assertEqual(failed.attributes["claudeproxyd.cooldown.scope"], "credential")
        self.assertEqual(failed.attributes["claudeproxyd.cooldown.seconds"], 7.0)
        self.assertLessEqual(set(failed.attributes), documented())

    def test_stale(self) -> None:
        """A first sending that met a closed connection is an attempt of its own."""
        house = self.house()
        running = house.serve()
        (sent,) = house.executor.sent
        house.clock.advance(1.0)
        sent.attempt.went_stale(house.clock.seconds())
        house.clock.advance(1.0)
        sent.answered.callback(answer())
        stale, served, request = self.end(house, running)
        self.assertEqual([each.parent_id for each in (stale, served)], [request.span_id] * 2)
        self.assertEqual(stale.attributes["claudeproxyd.outcome"], "stale")
        self.assertIn(served.span_id.encode(), sent.attempt.trace.lines)

    def test_sampled_flag(self) -> None:
        """It is the client's where clients are trusted, and else of no weight: the share says."""
        cases: list[tuple[Any, bool, float, bool]] = [
            (FROM_CLIENT, True, 0.9, True),
            (NOT_SAMPLED, True, 0.1, False),
            (FROM_CLIENT, False, 0.9, False),
            (NOT_SAMPLED, False, 0.1, True),
            ([(b"traceparent", b"garbage")], True, 0.9, False),
            ([], True, 0.1, True),
        ]
        for headers, trusts, chance, sampled in cases:
            house = self.house(sample=0.5, trusts_clients=trusts, chance=lambda chance=chance: chance)
            house.executor.answers = [answer()]
            running = house.serve(headers=headers)
            self.assertEqual(len(self.end(house, running)), 2 if sampled else 0, (headers, trusts, chance))
            (sent,) = house.executor.sent
            flag = b"-01\r\n" if sampled else b"-00\r\n"
            self.assertIn(flag, sent.attempt.trace.lines)
            self.assertEqual(bool(house.sink.records[0].trace_id), sampled)

    def test_not_propagated(self) -> None:
        """Nothing goes up; and of a request that is not traced nothing is kept at all."""
        house = self.house(propagates=False)
        house.executor.answers = [answer()]
        house.serve()
        self.assertEqual(house.executor.sent[0].attempt.trace.lines, b"")
        house = self.house(propagates=False, sample=0.0)
        house.executor.answers = [answer()]
        self.assertIsNone(house.serve().log.trace)
        self.assertIsNone(house.executor.sent[0].attempt.trace)

    def test_broken_request(self) -> None:
        """A request that failed says why, and of what kind."""
        house = self.house()
        house.executor.answers = [AttemptFailed(Outcome(Kind.AUTH, Scope.CREDENTIAL, Then.NEXT, base=1.0))]
        running = house.serve()
        _, request = self.end(house, running, status=503, error="no credential")
        self.assertEqual(request.error, "no credential")
        self.assertEqual(request.attributes["http.response.status_code"], 503)
        self.assertEqual(request.attributes["error.type"], running.log.outcome)
        *_, request = self.end(house, running, status=429, error="wait")
        self.assertEqual((request.error, "error.type" in request.attributes), (None, False))
        self.assertEqual(request.attributes["claudeproxyd.outcome"], running.log.outcome)

    def test_model_of_a_stream(self) -> None:
        """It is read of ``message_start``, however that is framed."""
        start = b'{"type":"message_start","message":{"id":"x","model":"claude-x-2"}}'
        for frames, model in (
            (b"event: ping\ndata: {}\n\nevent: message_start\ndata: " + start + b"\n\nevent: x\n", "claude-x-2"),
            (b"data:" + start + b"\n\n", "claude-x-2"),
            (b"event: message_start\ndata: {broken\n\n", None),
            (b"", None),
        ):
            trace = Tracer(self.house_spans().append).begin([], make_request().principal)
            assert trace is not None
            attempt = trace.attempt()
            attempt.answered(frames)
            house = self.house()
            house.executor.answers = [answer()]
            house.serve()
            attempt.end(house.sink.records, Outcome(Kind.OK), None)
            self.assertEqual(self.found[0].attributes.get("gen_ai.response.model"), model)

    def house_spans(self) -> list[Span]:
        """A list of its own."""
        self.found: list[Span] = []
        return self.found
