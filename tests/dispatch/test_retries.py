"""When another try is worth it, and when it must be paid for."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.dispatch.retries import RetryBudget, RetryState, costs_budget
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Outcome, Then
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
        """A share of 0, the default, turns it off."""
        budget = RetryBudget(0.0)
        self.assertTrue(all(budget.take(0.0) for _ in range(500)))

    def test_what_costs(self) -> None:
        """Failures of an upstream cost; what is a credential's own trouble does not."""
        costly = {kind for kind in Kind if costs_budget(Outcome(kind))}
        self.assertLessEqual({Kind.TRANSIENT, Kind.OVERLOADED, Kind.BROKEN_STREAM}, costly)
        free = {Kind.QUOTA, Kind.AUTH, Kind.BILLING, Kind.PERMISSION, Kind.MODEL_UNAVAILABLE}
        self.assertEqual(costly & free, set())


class TriesOfOneRequest(SynchronousTestCase):
    """``max_attempts``, requests that fail wherever they go, repetitions, pauses."""

    def setUp(self) -> None:
        self.a, self.b = credential("a"), credential("b")

    def failure(self, kind: Kind = Kind.TRANSIENT, repeatable: bool = True) -> AttemptFailed:
        """One attempt's end."""
        return AttemptFailed(Outcome(kind, repeatable=repeatable))

    def test_max_attempts(self) -> None:
        """As many as configured, over all credentials."""
        tries = RetryState(2)
        tries.failed(self.a, self.failure())
        self.assertTrue(tries.may_go_on(1.0))
        tries.failed(self.b, self.failure())
        self.assertFalse(tries.may_go_on(1.0))

    def test_paid(self) -> None:
        """What was answered, and brought nothing, is asked for twice more at most: it is paid for each time."""
        tries = RetryState(99)
        for may in (True, True, False):
            tries.paid += 1
            self.assertEqual((tries.may_go_on(1.0), tries.once(Then.REFRESH_ONCE, credential("c"))), (may, may))

    def test_the_request_itself(self) -> None:
        """What fails where hardly anything does is given up from the third failure on: it is the request."""
        tries = RetryState(9)
        for expected in (True, True, False):
            tries.failed(self.a, self.failure())
            self.assertEqual(tries.may_go_on(1e-5), expected)
        self.assertTrue(tries.may_go_on(0.2**4))

    def test_the_same_again(self) -> None:
        """A candidate that fails in a way that passes is never given up."""
        tries = RetryState(20)
        for _ in range(10):
            tries.failed(self.a, self.failure())
        self.assertEqual(tries.excluded, set())

    def test_not_again(self) -> None:
        """What is not repeatable is given up at once: quota, a first-byte time-out, x-should-retry: false."""
        tries = RetryState(9)
        tries.failed(self.a, self.failure(repeatable=False))
        self.assertEqual(tries.excluded, {self.a})

    def test_repetitions(self) -> None:
        """Each kind of repetition is had once; what is none, never."""
        tries = RetryState(6)
        for then in (Then.REPEAT_ONCE, Then.RECTIFY_ONCE, Then.REFRESH_ONCE):
            self.assertTrue(tries.may_repeat(then, self.a))
            self.assertTrue(tries.once(then, self.a))
            self.assertFalse(tries.may_repeat(then, self.a))
            self.assertFalse(tries.once(then, self.a))
        for then in (Then.ANSWER, Then.NEXT, Then.NEXT_ROUTE, Then.NEXT_PROVIDER, Then.DONE):
            self.assertFalse(tries.once(then, self.a))

    def test_refresh_for_each_credential(self) -> None:
        """One credential's refresh does not use up another's: its secret may have expired just the same."""
        tries = RetryState(6)
        self.assertTrue(tries.once(Then.REFRESH_ONCE, self.a))
        self.assertTrue(tries.once(Then.REFRESH_ONCE, self.b))
        self.assertTrue(tries.once(Then.RECTIFY_ONCE, self.a))
        self.assertFalse(tries.once(Then.RECTIFY_ONCE, self.b))

    def test_repetitions_count(self) -> None:
        """A repetition is an attempt, and ``max_attempts`` bounds those."""
        self.assertFalse(RetryState(1).once(Then.RECTIFY_ONCE, self.a))
        tries = RetryState(2)
        self.assertTrue(tries.once(Then.RECTIFY_ONCE, self.a))
        self.assertFalse(tries.once(Then.REPEAT_ONCE, self.a))
        tries.failed(self.a, self.failure())
        self.assertFalse(tries.may_go_on(1.0))

    def test_pause(self) -> None:
        """The same candidate is tried again some milliseconds later, a fresh one at once."""
        tries, dice = RetryState(99), Random(7)
        self.assertEqual(tries.pause(self.a, dice), 0.0)
        for _ in range(5):
            tries.failed(self.a, self.failure())
        pauses = [tries.pause(self.a, dice) for _ in range(400)]
        self.assertTrue(0 <= min(pauses) < 0.002)
        self.assertTrue(0.018 < max(pauses) <= 0.02)
        self.assertEqual(tries.pause(self.b, dice), 0.0)
