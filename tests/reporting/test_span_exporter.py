"""How spans are sent, on a clock and to a collector in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.tracing import Span, SpanKind
from claudeproxyd.reporting import sender
from claudeproxyd.reporting.posting import pause, retry_after
from claudeproxyd.reporting.sender import CLOSE_TIMEOUT
from claudeproxyd.reporting.span_exporter import (
    BATCH,
    INTERVAL,
    MAX_WAITING,
    PATIENCE,
    PIECE,
    SpanCounts,
    SpanExporter,
)
from claudeproxyd.sockets import NEXT_TURN
from tests.reporting.support import Post


def span(number: int = 1) -> Span:
    """Any span."""
    return Span(
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        span_id=f"{number:016x}",
        name="chat m",
        kind=SpanKind.CLIENT,
        start=1.0,
        end=2.5,
        attributes={"a": "x", "b": 1, "c": 0.5, "d": True, "e": ["y"]},
        error="broken" if number == 7 else None,
    )


class Collector(Post):
    """Keeps what is posted, until the test answers."""

    @property
    def spans(self) -> list[list[int]]:
        """The ids in each request."""
        return [
            [
                int(span.span_id.hex(), 16)
                for whole in ExportTraceServiceRequest.FromString(body).resource_spans
                for span in whole.scope_spans[0].spans
            ]
            for _, _, body in self.sent
        ]


class SpanExporterTests(SynchronousTestCase):
    """One exporter."""

    def setUp(self) -> None:
        self.patch(sender, "pause", lambda tries, asked: pause(tries, asked, lambda: 1.0))
        self.clock: Any = Clock()
        self.post = Collector()
        self.counts = SpanCounts()
        self.exporter = SpanExporter(
            self.clock, self.post, "http://c/v1/traces", {"x-key": "k"}, {"service.name": "s"}, self.counts
        )

    def export(self, *numbers: int) -> None:
        """Some spans."""
        for number in numbers:
            self.exporter.export(span(number))

    def turn(self) -> None:
        """Let a whole batch be encoded, a piece in each turn."""
        self.clock.pump([NEXT_TURN] * (BATCH // PIECE + 1))

    def test_batch(self) -> None:
        """Spans go together, a moment after the first; nothing is sent by the one who hands them over."""
        self.export(1, 2)
        self.assertEqual(self.post.sent, [])
        self.clock.advance(INTERVAL)
        self.assertEqual(self.post.spans, [[1, 2]])
        self.post.answer()
        self.assertEqual((self.counts.exported, self.counts.dropped, self.exporter.waiting), (2, {}, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_full_batch(self) -> None:
        """A full one goes in the next turn, and one is under way at a time."""
        self.export(*range(1, 2 * BATCH + 2))
        self.assertEqual(self.post.sent, [])
        self.clock.advance(NEXT_TURN)
        self.assertEqual(self.post.sent, [])  # others have turns meanwhile
        self.turn()
        self.assertEqual(self.post.spans, [list(range(1, BATCH + 1))])
        self.post.answer()
        self.turn()
        self.assertEqual(list(map(len, self.post.spans)), [BATCH, BATCH])
        self.post.answer()
        self.clock.advance(INTERVAL)
        self.assertEqual(list(map(len, self.post.spans)), [BATCH, BATCH, 1])

    def test_encoding(self) -> None:
        """As OTLP has it."""
        self.export(7)
        self.clock.advance(INTERVAL)
        url, headers, body = self.post.sent[0]
        self.assertEqual(
            (url, headers), ("http://c/v1/traces", {"x-key": "k", "content-type": "application/x-protobuf"})
        )
        (whole,) = ExportTraceServiceRequest.FromString(body).resource_spans
        self.assertEqual(whole.resource.attributes[0].value.string_value, "s")
        (scope,) = whole.scope_spans
        self.assertEqual(scope.scope.name, "claudeproxyd")
        (wire,) = scope.spans
        self.assertEqual((wire.trace_id.hex(), wire.parent_span_id), ("4bf92f3577b34da6a3ce929d0e0e4736", b""))
        self.assertEqual((wire.start_time_unix_nano, wire.end_time_unix_nano), (1_000_000_000, 2_500_000_000))
        self.assertEqual((wire.kind, wire.status.code, wire.status.message), (3, 2, "broken"))
        values = {each.key: each.value for each in wire.attributes}
        self.assertEqual((values["a"].string_value, values["b"].int_value, values["c"].double_value), ("x", 1, 0.5))
        self.assertTrue(values["d"].bool_value)
        self.assertEqual([each.string_value for each in values["e"].array_value.values], ["y"])

    def test_what_cannot_be_encoded(self) -> None:
        """What a client has chosen does not cost a batch: half a character, or a number beyond the format's."""
        attributes = {"a": "\ud800x", "b": 2**70, "c": ["\udfff"]}
        odd = replace(span(1), name="chat \ud800", start=-1.0, attributes=attributes, error="\ud800")
        self.exporter.export(odd)
        self.export(2)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.post.spans, [[1, 2]])

    def test_retry(self) -> None:
        """By the collector's word, else twice as long each time; spans that come meanwhile do not hurry it."""
        self.export(1)
        self.clock.advance(INTERVAL)
        self.post.answer(503, retry_after=7.0)
        self.export(*range(2, BATCH + 10))
        self.clock.advance(6.9)
        self.assertEqual(len(self.post.sent), 1)
        self.clock.advance(0.1)
        self.post.fail()
        self.clock.advance(1.9)
        self.assertEqual(len(self.post.sent), 2)
        self.clock.advance(0.1)
        self.assertEqual(self.post.spans, [[1]] * 3)
        self.post.answer()
        self.assertEqual(self.counts.exported, 1)

    def test_refused(self) -> None:
        """What will not be taken another time either is dropped, and counted; so is a part that was not taken."""
        for status in (400, 401, 404, 500):
            self.export(1)
            self.clock.advance(INTERVAL)
            self.post.answer(status)
        self.assertEqual((len(self.post.sent), self.counts.dropped), (4, {"refused": 4}))
        response = ExportTraceServiceResponse()
        response.partial_success.rejected_spans = 1
        self.export(1, 2)
        self.clock.advance(INTERVAL)
        self.post.answer(200, response.SerializeToString())
        self.assertEqual((self.counts.exported, self.counts.dropped), (1, {"refused": 5}))
        self.export(1)
        self.clock.advance(INTERVAL)
        self.post.answer(200, b"<html>")
        self.assertEqual(self.counts.exported, 2)

    def test_away(self) -> None:
        """A batch is given up after a while, and the queue has a bound: what is beyond is dropped, and counted."""
        self.export(*range(1, MAX_WAITING + 11))
        self.assertEqual(self.counts.dropped, {"full": 10})
        self.turn()
        until = self.clock.seconds() + PATIENCE
        while self.counts.dropped["unreachable"] == 0:
            self.clock.advance(1.0)
            if self.post.waiting:
                self.post.fail()
        self.assertLess(self.clock.seconds(), until + 2)
        self.assertEqual(self.counts.dropped["unreachable"], BATCH)
        self.assertLessEqual(self.exporter.waiting, MAX_WAITING)

    def test_close(self) -> None:
        """All that waits is sent at the end, once; no more is taken."""
        self.export(*range(1, BATCH + 2))
        closed = self.exporter.stopService()
        self.post.answer()
        self.post.answer()
        self.successResultOf(closed)
        self.assertEqual(self.counts.exported, BATCH + 1)
        self.export(1)
        self.assertEqual(self.counts.dropped, {"closing": 1})
        self.clock.advance(NEXT_TURN)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_while_the_collector_is_away(self) -> None:
        """The end waits for nobody: what is not taken at once is lost, and counted."""
        self.export(1)
        self.clock.advance(INTERVAL)
        self.post.fail()
        self.export(2)
        closed = self.exporter.stopService()
        self.assertEqual(self.post.spans, [[1], [1]])
        self.post.fail()
        self.post.fail()
        self.successResultOf(closed)
        self.assertEqual(self.counts.dropped.total(), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_while_the_collector_hangs(self) -> None:
        """The end does not wait for one that takes and never answers."""
        self.export(*range(1, BATCH + 2))
        closed = self.exporter.stopService()
        self.clock.pump([NEXT_TURN, CLOSE_TIMEOUT])
        self.successResultOf(closed)
        self.assertEqual(self.counts.dropped.total(), BATCH + 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_metrics(self) -> None:
        """What is lost can be seen."""
        metrics = Metrics()
        self.counts.register(metrics, lambda: self.exporter.waiting)
        self.export(1, 2)
        self.counts.dropped["full"] = 3
        text = metrics.render().decode()
        self.assertIn("claudeproxyd_spans_waiting{} 2.0", text)
        self.assertIn('claudeproxyd_spans_dropped_total{reason="full"} 3.0', text)


class PauseTests(SynchronousTestCase):
    """When to try again."""

    def test_retry_after(self) -> None:
        """Seconds, or a moment by the server's own clock; garbage says nothing."""
        self.assertEqual(retry_after("7"), 7.0)
        date = "Wed, 21 Oct 2026 07:28:00 GMT"
        self.assertEqual(retry_after("Wed, 21 Oct 2026 07:28:30 GMT", date), 30.0)
        self.assertEqual(retry_after(date, "Wed, 21 Oct 2026 07:28:30 GMT"), 0.0)
        for value in ("", "soon", "-3", "1.5", "٣", date):
            self.assertIsNone(retry_after(value), value)
        for value in ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +9999999999999"):
            self.assertIsNone(retry_after(value, date), value)
            self.assertIsNone(retry_after(date, value), value)

    def test_pause(self) -> None:
        """It doubles up to a limit, with some chance; what is asked for goes before, up to the same limit."""
        self.assertEqual([pause(tries, None, lambda: 1.0) for tries in (1, 2, 3, 50)], [1.0, 2.0, 4.0, 120.0])
        self.assertEqual(pause(3, None, lambda: 0.0), 2.0)
        self.assertEqual((pause(1, 30.0), pause(1, 3600.0), pause(1, 0.0)), (30.0, 120.0, 1.0))
