"""What metrics and the pool's page see of each credential."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.outcomes.types import OK, Kind, Outcome, Scope
from claudeproxyd.pool.service import CredentialPool
from tests.pool.support import AUTH, PROXY, QUOTA_HOUR, TRANSIENT, PoolTestCase, credential
from tests.speed import slowness

MANY = 10_000


def scrape(pool: CredentialPool) -> Mapping[tuple[str, ...], float]:
    """The rows of credentials: the family's last words, the credential, and a further label, to the value."""
    metrics = Metrics()
    pool.register(metrics)
    return {
        (
            sample.name.removeprefix("claudeproxyd_credential_"),
            sample.labels.pop("provider") + "/" + sample.labels.pop("credential"),
            *sample.labels.values(),
        ): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if "credential" in sample.labels
    }


class Sizes(PoolTestCase):
    """The pool as a whole has a gauge for each size."""

    def test_gauges(self) -> None:
        """A name counts one kind of thing; the metric that had all of them as a label stays for one release."""
        pool = self.pool("abc", credential("d", "q", max_concurrency=1), known_models=lambda model: model == "m")
        self.take(pool).release(QUOTA_HOUR)
        self.take(pool, session="s").release(OK)
        self.take(pool, count_tokens=True)
        self.take(pool, "made-up").release(TRANSIENT)
        self.take(pool, "q:m")
        self.wait(pool, "q:m")
        pool.set_enabled("p", "c", False)
        metrics = Metrics()
        pool.register(metrics)
        families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
        sizes = {
            name.removeprefix("claudeproxyd_pool_"): family.samples[0].value
            for name, family in families.items()
            if name.startswith("claudeproxyd_pool_")
        }
        self.assertEqual(
            sizes,
            {
                "in_flight_attempts": 2,
                "waiting_requests": 1,
                "cooldowns": 1,
                "gates": 2,
                "disabled_credentials": 1,
                "affinities": 1,
                "models": 4,
                "unknown_models": 1,
                "deadlines": 4,
            },
        )
        old = families["claudeproxyd_pool"]
        self.assertEqual({sample.labels["what"]: sample.value for sample in old.samples}, pool.gauges())
        self.assertEqual(sorted(pool.gauges().values()), sorted(sizes.values()))
        self.assertIn("next release", old.documentation)


class Rows(PoolTestCase):
    """Each credential has its rows."""

    def test_rows(self) -> None:
        """State, attempts under way and over, the longest cooldown and the highest level, by provider and name."""
        pool = self.pool(credential("a", max_concurrency=1), "bcd")
        for outcome in (QUOTA_HOUR, AUTH, OK):
            self.take(pool).release(outcome)
        pool.set_enabled("p", "d", False)
        self.take(pool, "other")
        self.clock.advance(600.0)
        self.assertEqual(
            scrape(pool),
            {
                ("state", "p/a", "busy"): 1,
                ("state", "p/b", "cooling"): 1,
                ("state", "p/c", "ready"): 1,
                ("state", "p/d", "disabled"): 1,
                ("in_flight", "p/a"): 1,
                ("in_flight", "p/b"): 0,
                ("in_flight", "p/c"): 0,
                ("in_flight", "p/d"): 0,
                ("attempts_total", "p/a", "quota"): 1,
                ("attempts_total", "p/b", "auth"): 1,
                ("attempts_total", "p/c", "ok"): 1,
                ("cooldown_seconds", "p/a"): 3000,
                ("cooldown_seconds", "p/b"): 1200,
                ("cooldown_seconds", "p/c"): 0,
                ("cooldown_seconds", "p/d"): 0,
                ("held_back_seconds", "p/a", "quota"): 3000,
                ("held_back_seconds", "p/b", "auth"): 1200,
                ("level", "p/a"): 1,
                ("level", "p/b"): 1,
                ("level", "p/c"): 0,
                ("level", "p/d"): 0,
            },
        )

    def test_provider(self) -> None:
        """A provider that cools holds all its credentials back, and nobody else's; so does one model of it."""
        for outcome in (replace(PROXY, base=1.0), Outcome(Kind.PERMISSION, Scope.MODEL_ON_PROVIDER, base=1.0)):
            pool = self.pool("ab", credential("c", "q"))
            self.take(pool, "p:m", "q:m")
            self.take(pool, "p:m", "q:m").release(outcome)
            rows = scrape(pool)
            self.assertEqual([rows["cooldown_seconds", each] for each in ("p/a", "p/b", "q/c")], [1, 1, 0])

    def test_over_a_reload(self) -> None:
        """A reload while a scrape is under way neither breaks it nor doubles a row."""
        pool = self.pool(*(credential(str(number)) for number in range(MANY)))
        metrics = Metrics()
        pool.register(metrics)
        pieces = metrics.pieces()
        told = [next(piece for piece in pieces if b"credential_state{" in piece)]
        pool.reload([credential("b")], pool.settings)
        told += pieces
        samples = [
            tuple(sample.labels.items())
            for family in text_string_to_metric_families(b"".join(told).decode())
            for sample in family.samples
            if sample.name == "claudeproxyd_credential_state"
        ]
        self.assertEqual(len(samples), MANY)
        self.assertEqual(len(set(samples)), MANY)
        entries = pool.snapshot()
        pool.reload([], pool.settings)
        self.assertEqual([entry["state"] for entry in entries], ["busy"])


class Order(PoolTestCase):
    """A person at three in the morning has no time."""

    def test_trouble_comes_first(self) -> None:
        """What is held back or disabled is at the top, for count_tokens too; the rest is in the file's order."""
        pool = self.pool("abcdef")
        pool.set_enabled("p", "f", False)
        leases = [self.take(pool) for _ in range(5)]
        leases[2].release(QUOTA_HOUR)
        for lease in (leases[0], leases[1], leases[3], leases[4]):
            lease.release(OK)
        for _ in range(4):
            lease = self.take(pool, count_tokens=True)
        lease.release(QUOTA_HOUR)
        self.assertEqual("".join(entry["credential"] for entry in pool.snapshot()), "cdfabe")

    def test_what_is_no_trouble(self) -> None:
        """A name that a client made up is none, nor is one model that is half open; a known one that is gone is."""
        pool = self.pool("ab", known_models=lambda model: model == "known")
        gone = Outcome(Kind.MODEL_UNAVAILABLE, Scope.MODEL, base=600.0, ceiling=43_200.0)

        def troubled() -> list[str]:
            return [entry["credential"] for entry in pool.snapshot() if entry["trouble"]]

        for _ in range(2):
            self.take(pool, "made-up").release(gone)
        self.assertEqual(troubled(), [])
        self.take(pool, "known").release(gone)
        self.assertEqual(troubled(), ["a"])
        self.clock.advance(600.0)
        self.assertEqual(troubled(), [])
        self.assertEqual(pool.snapshot()[0]["state"], "ready")


class Queued(PoolTestCase):
    """Who waits."""

    def test_queue(self) -> None:
        """By client and what is wanted: how many, for how long, and for how long still."""
        pool = self.pool(credential("a", max_concurrency=1), max_wait=30.0)
        self.take(pool)
        self.wait(pool, client="laptop")
        self.clock.advance(2.0)
        self.wait(pool, client="laptop")
        self.wait(pool, "other", client="ci", deadline=self.clock.seconds() + 5.0)
        self.clock.advance(1.0)
        usual = {"count_tokens": False}
        self.assertEqual(
            pool.queued(),
            [
                {"client": "laptop", "routes": ["p/m"], "requests": 2, "longest": 3.0, "patience": 27.0, **usual},
                {"client": "ci", "routes": ["p/other"], "requests": 1, "longest": 1.0, "patience": 4.0, **usual},
            ],
        )


class Large(PoolTestCase):
    """Ten thousand credentials do not hold the reactor up. The best of three, on a shared machine."""

    def test_scrape(self) -> None:
        """Each piece of a scrape takes a few milliseconds."""
        pool = self.large()
        metrics = Metrics()
        pool.register(metrics)
        best = min(self.longest(metrics.pieces) for _ in range(3))
        self.assertLess(best, 0.025 * slowness())

    def test_page(self) -> None:
        """So does each part of the page."""
        pool = self.large()

        def parts() -> Iterator[object]:
            snapshot = pool.snapshot()
            for start in range(0, MANY, 50):
                yield snapshot[start : start + 50]

        best = min(self.longest(parts) for _ in range(3))
        self.assertLess(best, 0.025 * slowness())

    def large(self) -> CredentialPool:
        """Half of them cool for one of ten models."""
        pool = self.pool(*(credential(str(number)) for number in range(MANY)))
        for model in range(10):
            for number in range(1000):
                self.take(pool, f"m{model}").release(QUOTA_HOUR if number % 2 else Outcome(Kind.OK))
        return pool

    def longest(self, make: Callable[[], Iterator[object]]) -> float:
        """Of the steps that *make*'s iterator takes, in seconds of this process."""
        took = []
        steps = make()
        while True:
            began = time.process_time()
            if next(steps, None) is None:
                return max(took)
            took.append(time.process_time() - began)
