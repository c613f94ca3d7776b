"""What clients were answered in the last minutes, within bounds."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.access_log import AccessEntry
from claudeproxyd.observe.activity import KEPT_MINUTES, MAX_ANSWERS, MAX_STRANGERS, OTHER, ClientActivity, RecentAnswer
from claudeproxyd.observe.metrics import MAX_CLIENTS, Metrics


class ActivityTests(SynchronousTestCase):
    """With requests that are told."""

    def setUp(self) -> None:
        """One that nobody has called yet."""
        self.written: list[AccessEntry] = []
        self.running: dict[str, int] = {}
        self.activity = ClientActivity(self.running)

    def answer(self, **fields: Any) -> None:
        """One request that is over."""
        usual = {"client": "laptop", "path": "/v1/messages", "status": 200, "outcome": "ok"}
        entry = AccessEntry(time=0.0, request_id="r", **{**usual, **fields})
        self.activity.counting(self.written.append)(entry)

    def test_minutes(self) -> None:
        """Each minute is forgotten in its turn."""
        for _ in range(2 * KEPT_MINUTES):
            self.answer()
            self.activity.turn()
        ok = RecentAnswer("laptop", 200, "ok")
        self.assertEqual(self.activity.since(1), {ok: 1})
        self.assertEqual(self.activity.since(5), {ok: 5})
        self.assertEqual(self.activity.since(KEPT_MINUTES), {ok: KEPT_MINUTES})
        for _ in range(KEPT_MINUTES):
            self.activity.turn()
        self.assertEqual(self.activity.since(KEPT_MINUTES), {})

    def test_what_is_counted(self) -> None:
        """Neither probes nor what operators ask."""
        for path in ("/healthz", "/admin/v1/pool", "/metrics", ""):
            self.answer(path=path)
        self.assertEqual(self.activity.since(5), {})
        self.answer(path="/v1/messages/count_tokens")
        self.assertEqual(self.activity.since(5).total(), 1)
        self.assertEqual(len(self.written), 5)

    def test_bounds(self) -> None:
        """Nobody can fill the memory, and nobody is left out of the sum; strangers do not crowd out clients."""
        for number in range(3 * MAX_STRANGERS):
            self.answer(client="", status=401, outcome="", remote=f"192.0.2.{number}", error=f"unknown {number}")
        self.answer()
        answers = self.activity.since(5)
        self.assertEqual(answers[RecentAnswer("laptop", 200, "ok")], 1)
        self.assertEqual(answers[RecentAnswer("", 401, "", remote=OTHER)], 2 * MAX_STRANGERS)
        for number in range(2 * MAX_ANSWERS):
            self.answer(client=f"{number}")
        answers = self.activity.since(5)
        self.assertEqual(answers.total(), 3 * MAX_STRANGERS + 1 + 2 * MAX_ANSWERS)
        self.assertLess(len(answers), MAX_ANSWERS + 5)
        self.assertGreater(answers[RecentAnswer(OTHER, 200, "ok")], MAX_ANSWERS)

    def test_metric(self) -> None:
        """What is under way, by client."""
        metrics = Metrics()
        self.activity.register(metrics)
        self.running["laptop"] = 3
        self.assertIn(b'claudeproxyd_client_in_flight_requests{client="laptop"} 3', metrics.render())
        self.running.update({f"staff:{number}": 1 for number in range(MAX_CLIENTS + 6)})
        self.assertIn(b'claudeproxyd_client_in_flight_requests{client="other"} 7', metrics.render())
