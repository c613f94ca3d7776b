"""Version, and how the last reload went."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

import claudeproxyd
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.status import Status


class StatusTests(SynchronousTestCase):
    """As a scraper sees it."""

    def test_metrics(self) -> None:
        """A reload with a mistake shows until one goes well; the first configuration counts as one that did."""
        status, metrics = Status.begun(1000.0), Metrics()
        status.register(metrics)

        def reload() -> tuple[bool, bool]:
            text = metrics.render().decode()
            self.assertIn(f'claudeproxyd_build_info{{version="{claudeproxyd.__version__}",python="3.', text)
            well = "\nclaudeproxyd_config_last_reload_successful{} 1.0\n" in text
            return well, f"\nclaudeproxyd_config_last_reload_timestamp_seconds{{}} {status.reloaded_at!r}\n" in text

        self.assertEqual(reload(), (True, True))
        status.not_reloaded("a mistake", 1010.0)
        self.assertEqual((reload(), status.reloaded_at), ((False, True), 1010.0))
        status.reloaded("nothing changed", 1020.0)
        self.assertEqual((reload(), status.mistake), ((True, True), ""))
