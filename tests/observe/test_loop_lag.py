"""How late the reactor is."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.loop_lag import LAG_EVERY, LoopLag
from claudeproxyd.observe.metrics import Metrics


class LoopLagTests(SynchronousTestCase):
    """Called by a timer that comes when it can."""

    def test_late(self) -> None:
        """What is late is counted by how much; what is missed meanwhile is not counted again."""
        clock = Clock()
        lag = LoopLag(clock.seconds)
        for seconds in (0.0, LAG_EVERY, LAG_EVERY, LAG_EVERY + 3.0, LAG_EVERY):
            clock.advance(seconds)
            lag.look()
        self.assertEqual(lag.late.count, 4)
        self.assertAlmostEqual(lag.late.total, 3.0)
        metrics = Metrics()
        lag.register(metrics)
        self.assertIn(b'claudeproxyd_event_loop_lag_seconds_bucket{le="2.5"} 3\n', metrics.render())
