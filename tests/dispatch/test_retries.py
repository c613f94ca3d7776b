"""When another try is worth it, and when it must be paid for."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.dispatch.retries import RetryBudget, Tries, costs_budget
from claudeproxyd.outcomes import AttemptFailed, Kind, Outcome, Then
from tests.pool.support import credential


class Budget(SynchronousTestCase):
    """``retry_budget``: a share of the requests of ten seconds, with a floor."""

    def spend(self, budget: RetryBudget, now: float) -> int:
        """How many retries there are."""
        for count in range(1000):
            if not budget.take(now):
                return count
        raise AssertionError("no end")

    def test_floor(self) -> None:
        """A quiet gateway can still retry: ten times in ten seconds."""
        budget = RetryBudget(0.2)
        self.assertEqual(self.spend(budget, 100.0), 10)

    def test_share(self) -> None:
        """A busy one retries a fifth of its requests."""
        budget = RetryBudget(0.2)
        for _ in range(500):
            budget.request(100.0)
        self.assertEqual(self.spend(budget, 101.0), 100)

    def test_window(self) -> None:
        """What was spent is forgotten after ten seconds, not before five; so is what was asked for."""
        budget = RetryBudget(0.2)
        for _ in range(500):
            budget.request(100.0)
        self.spend(budget, 100.0)
        self.assertEqual(self.spend(budget, 104.9), 0)
        self.assertEqual(self.spend(budget, 111.0), 10)

    def test_nothing(self) -> None:
        """A share of 0 leaves the floor."""
        budget = RetryBudget(0.0)
        for _ in range(500):
            budget.request(0.0)
        self.assertEqual(self.spend(budget, 0.0), 10)

    def test_what_costs(self) -> None:
        """Failures of an upstream cost; what is a credential's own trouble does not."""
        costly = {kind for kind in Kind if costs_budget(Outcome(kind))}
        self.assertLessEqual({Kind.TRANSIENT, Kind.OVERLOADED, Kind.BROKEN_STREAM}, costly)
        free = {Kind.QUOTA, Kind.AUTH, Kind.BILLING, Kind.PERMISSION, Kind.MODEL_UNAVAILABLE}
        self.assertEqual(costly & free, set())


class TriesOfOneRequest(SynchronousTestCase):
    """``max_attempts``, three tries a candidate, repetitions, backoff."""

    def setUp(self) -> None:
        self.a, self.b = credential("a"), credential("b")

    def failure(self, kind: Kind = Kind.TRANSIENT, repeatable: bool = True) -> AttemptFailed:
        """One attempt's end."""
        return AttemptFailed(Outcome(kind, repeatable=repeatable))

    def test_max_attempts(self) -> None:
        """As many as configured, over all credentials."""
        tries = Tries(2)
        tries.failed(self.a, self.failure())
        self.assertTrue(tries.may_go_on())
        tries.failed(self.b, self.failure())
        self.assertFalse(tries.may_go_on())

    def test_three_a_candidate(self) -> None:
        """A candidate is given up after three; others are not touched by that."""
        tries = Tries(9)
        for expected in (set(), set(), {self.a}):
            tries.failed(self.a, self.failure())
            self.assertEqual(tries.given_up, expected)

    def test_not_again(self) -> None:
        """What is not repeatable is given up at once: quota, a first-byte time-out, x-should-retry: false."""
        tries = Tries(9)
        tries.failed(self.a, self.failure(repeatable=False))
        self.assertEqual(tries.given_up, {self.a})

    def test_repetitions(self) -> None:
        """Each kind of repetition is had once; what is none, never."""
        tries = Tries(6)
        for then in (Then.REPEAT_ONCE, Then.RECTIFY_ONCE, Then.REFRESH_ONCE):
            self.assertTrue(tries.may_repeat(then, self.a))
            self.assertTrue(tries.once(then, self.a))
            self.assertFalse(tries.may_repeat(then, self.a))
            self.assertFalse(tries.once(then, self.a))
        for then in (Then.ANSWER, Then.NEXT, Then.NEXT_ROUTE, Then.NEXT_PROVIDER, Then.DONE):
            self.assertFalse(tries.once(then, self.a))

    def test_refresh_for_each_credential(self) -> None:
        """One credential's refresh does not use up another's: its secret may have expired just the same."""
        tries = Tries(6)
        self.assertTrue(tries.once(Then.REFRESH_ONCE, self.a))
        self.assertTrue(tries.once(Then.REFRESH_ONCE, self.b))
        self.assertTrue(tries.once(Then.RECTIFY_ONCE, self.a))
        self.assertFalse(tries.once(Then.RECTIFY_ONCE, self.b))

    def test_repetitions_count(self) -> None:
        """A repetition is an attempt, and ``max_attempts`` bounds those."""
        self.assertFalse(Tries(1).once(Then.RECTIFY_ONCE, self.a))
        tries = Tries(2)
        self.assertTrue(tries.once(Then.RECTIFY_ONCE, self.a))
        self.assertFalse(tries.once(Then.REPEAT_ONCE, self.a))
        tries.failed(self.a, self.failure())
        self.assertFalse(tries.may_go_on())

    def test_backoff(self) -> None:
        """Full jitter over 100 ms, 200 ms, 400 ms … up to five seconds; none for a fresh credential."""
        tries, dice = Tries(99), Random(7)
        self.assertEqual(tries.backoff(self.a, dice), 0.0)
        for ceiling in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
            tries.failed(self.a, self.failure())
            seen = [tries.backoff(self.a, dice) for _ in range(400)]
            self.assertTrue(0 <= min(seen) < ceiling * 0.1)
            self.assertTrue(ceiling * 0.9 < max(seen) <= ceiling)
        self.assertEqual(tries.backoff(self.b, dice), 0.0)
