"""In bad weather the pool makes it no worse: a few of the weathers, for some seconds each.

``benchmarks/weather.py`` has all of them, for as long as it takes to see them whole.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.weather.scenarios import BY_NAME
from tests.weather.simulation import Result, Simulation

SEED = 11


class GoodputTests(SynchronousTestCase):
    """What clients get beside what an oracle would have given them."""

    def run_both(self, name: str, seconds: float) -> tuple[Result, Result]:
        """What came of it, and at best."""
        scenario = replace(BY_NAME[name], seconds=seconds)
        return Simulation(scenario, SEED).run(), Simulation(scenario, SEED, oracle=True).run()

    def holds(self, name: str, seconds: float = 12.0, goodput: float = 0.95, attempts: float = 1.15) -> None:
        """At least that share of the goodput, nothing failed, and not many more attempts."""
        ours, best = self.run_both(name, seconds)
        self.assertGreaterEqual(ours.rate, goodput * best.rate, name)
        self.assertLessEqual(ours.failures, 0.001, name)
        self.assertLessEqual(ours.attempts / ours.succeeded, attempts * best.attempts / best.succeeded, name)

    def test_chance(self) -> None:
        """Failures by chance, from a fiftieth to a half of all attempts, cost what they cost and no more."""
        for name in ("529-2x1", "529-20x1", "500-10x3", "500-50x1", "cut-5x1"):
            self.holds(name, 8.0)

    def test_outages(self) -> None:
        """When everything fails for a while, the rest of the time is as good as ever."""
        self.holds("gb-25x1", 24.0, goodput=0.93)
        self.holds("outage-20s", 40.0)

    def test_slow_failures(self) -> None:
        """Failures that take longer than answers are no longer news when they come home."""
        self.holds("gb-25x1, failures of 1 s", 24.0, goodput=0.9)
        self.holds("gb-25x1, failures of 3 s", 30.0, goodput=0.85)

    def test_routes(self) -> None:
        """A preferred route is left while it is out or full, and taken again."""
        for name, seconds in (("two routes, outage", 30.0), ("two routes, cc-10", 12.0)):
            self.holds(name, seconds)
            ours, best = self.run_both(name, seconds)
            self.assertGreaterEqual(ours.well_placed, 0.95 * best.well_placed, name)
        ours, _ = self.run_both("two routes, outage", 30.0)
        self.assertGreater(sum(ours.at_best[4 * 26 : 4 * 29]), 0.9 * sum(ours.goodput[4 * 26 : 4 * 29]))

    def test_caches(self) -> None:
        """Sessions stay where their prompt is cached, unless that is out; who finds no room there comes back."""
        for name in ("caches, one capped key", "caches, outage of one key", "caches, 500-10x3"):
            ours, best = self.run_both(name, 15.0)
            self.assertGreaterEqual(ours.rate, 0.85 * best.rate, name)
            self.assertGreaterEqual(ours.well_placed, 0.94 * best.well_placed, name)

    def test_probes(self) -> None:
        """A place that is down is asked a few times a second and not by everybody."""
        ours, _ = self.run_both("outage-20s", 40.0)
        self.assertLess(sum(9.0 <= when < 25.0 for when in ours.sent) / 16, 2.1)

    def test_an_ill_key(self) -> None:
        """One of three keys is ill: the others take its share."""
        for name in ("bad1-80x3", "bad1-100x3", "bad9of10"):
            self.holds(name)

    def test_a_key_that_hangs(self) -> None:
        """Who was sent there waits once."""
        self.holds("hang1x2", 60.0)

    def test_caps(self) -> None:
        """What a key takes at once is learned from its refusals."""
        self.holds("cc-10x1", 20.0)
        self.holds("cc-5x3", 20.0)

    def test_buckets(self) -> None:
        """So is what it takes in a second, also where it says when to come back."""
        for name in ("rl-60x1", "rl-60x1, shallow", "rl-20x1, true hints"):
            self.holds(name, 30.0)

    def test_metastable(self) -> None:
        """Retries do not keep an overload alive that began with something else."""
        self.holds("metastable", 40.0, goodput=0.9)

    def test_two_daemons(self) -> None:
        """Who comes five seconds later to a key that takes ten at once is not kept from it."""
        ours, best = self.run_both("two daemons, cc-10", 30.0)
        self.assertGreater(ours.by_daemon[1], 0.2 * ours.succeeded)
        self.assertGreater(ours.rate, 0.9 * best.rate)

    def test_few_clients(self) -> None:
        """Five clients see no less of it than forty."""
        self.holds("5 clients, 529-20", 30.0, goodput=0.9)
