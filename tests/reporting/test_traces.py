"""Where a daemon's spans go, over reloads."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import TracesSettings
from claudeproxyd.config.secret import Secret
from claudeproxyd.reporting.span_exporter import INTERVAL
from claudeproxyd.reporting.traces import Traces
from tests.reporting.support import Post
from tests.reporting.test_span_exporter import span


class Way(Post):
    """A collector and the way to it."""

    closed = False

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


class TracesTests(SynchronousTestCase):
    """One daemon's."""

    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.ways: list[Way] = []
        self.traces = Traces(self.clock, self.way)

    def way(self, proxy: str) -> Any:
        """Another one."""
        self.ways.append(Way())
        return self.ways[-1]

    def sent(self) -> list[list[str]]:
        """Where each collector was sent spans."""
        return [[url for url, _, _ in way.sent] for way in self.ways]

    def test_off(self) -> None:
        """A span of a request that began before they were turned off is nobody's."""
        self.traces.configure(TracesSettings())
        self.traces.export(span())
        self.assertEqual((self.ways, self.clock.getDelayedCalls()), ([], []))

    def test_reload(self) -> None:
        """The same settings keep the way; others send what waits where it was for, and all else to the new place."""
        first = TracesSettings(endpoint="http://one", headers={"x-key": Secret("k")})
        self.traces.configure(first)
        self.traces.configure(TracesSettings(endpoint="http://one", headers={"x-key": Secret("k")}))
        self.traces.export(span(1))
        self.traces.configure(TracesSettings(endpoint="http://two/otlp"))
        self.traces.export(span(2))
        self.clock.advance(INTERVAL)
        self.assertEqual(self.sent(), [["http://one/v1/traces"], ["http://two/otlp"]])
        self.assertEqual(self.ways[0].sent[0][1]["x-key"], "k")
        self.ways[0].answer()
        self.assertEqual([way.closed for way in self.ways], [True, False])
        self.ways[1].answer()
        self.successResultOf(self.traces.stopService())
        self.assertEqual([way.closed for way in self.ways], [True, True])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_end_after_a_reload(self) -> None:
        """The end waits for what is still sent to where spans went before."""
        self.traces.configure(TracesSettings(endpoint="http://one"))
        self.traces.export(span(1))
        self.traces.configure(TracesSettings())
        self.clock.advance(INTERVAL)
        stopped = self.traces.stopService()
        self.assertNoResult(stopped)
        self.ways[0].answer()
        self.assertIsNone(self.successResultOf(stopped))
