"""The deadline that moves with every read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.slices import SLICE
from claudeproxyd.sockets import NEXT_TURN
from claudeproxyd.turnstile import Turnstile
from claudeproxyd.upstream.deadline import MAX_TIMER_DELAY, Deadline


class Deadlines(SynchronousTestCase):
    """When it calls back, and how seldom it moves its timer."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.expired: list[float] = []
        self.turnstile = Turnstile(self.clock)
        self.deadline = self.make(lambda: self.expired.append(self.clock.seconds()))

    def make(self, expired: Callable[[], object]) -> Deadline:
        return Deadline(self.clock, expired, self.turnstile)

    def test_expires_once(self) -> None:
        """It calls back when its time has come, and then not again."""
        self.deadline.set(5.0)
        self.clock.pump([4.9, 0.1, 100.0])
        self.assertEqual(self.expired, [5.0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_moves(self) -> None:
        """It may be moved back and forth; the last one counts."""
        for steps, at in (([5.0, 8.0], 8.0), ([8.0, 5.0], 5.0), ([100.0, 1.0, 50.0], 50.0)):
            self.setUp()
            for seconds in steps:
                self.deadline.set(seconds)
            self.clock.pump([0.5] * 250)
            self.assertEqual(self.expired, [at])

    def test_moving_back_leaves_the_timer_alone(self) -> None:
        """A deadline that moves back with each read costs the reactor nothing."""
        self.deadline.set(10.0)
        (timer,) = self.clock.getDelayedCalls()
        for _ in range(5):
            self.clock.advance(1.0)
            self.deadline.set(10.0)
        self.assertEqual((self.clock.getDelayedCalls(), timer.getTime()), ([timer], 10.0))

    def test_moving_forward_searches_no_timers(self) -> None:
        """It takes another timer: to move one forward, the reactor looks for its place among all."""
        self.deadline.set(8.0)
        (first,) = self.clock.getDelayedCalls()
        self.deadline.set(5.0)
        (second,) = self.clock.getDelayedCalls()
        self.assertTrue(first.cancelled)
        self.assertIsNot(first, second)

    def test_sleeps_for_a_bounded_time(self) -> None:
        """The timer of a late deadline is not so late that the next one would have to move it forward."""
        self.deadline.set(1000.0)
        (timer,) = self.clock.getDelayedCalls()
        self.assertEqual(timer.getTime(), MAX_TIMER_DELAY)
        self.deadline.set(MAX_TIMER_DELAY + 1.0)
        self.assertEqual(timer.getTime(), MAX_TIMER_DELAY)

    def test_none(self) -> None:
        """Without a deadline nothing is called, and the timer does not go on; it can be set again."""
        self.deadline.set(5.0)
        self.deadline.clear()
        self.clock.advance(10.0)
        self.deadline.set(inf)
        self.clock.pump([MAX_TIMER_DELAY] * 3)
        self.deadline.clear()
        self.clock.pump([MAX_TIMER_DELAY] * 3)
        self.assertEqual((self.expired, self.clock.getDelayedCalls()), ([], []))
        self.deadline.set(1.0)
        self.clock.advance(1.0)
        self.assertEqual(len(self.expired), 1)

    def test_many(self) -> None:
        """Of many that pass at one moment no more are acted on in a turn than there is time for."""
        acted: list[Deadline] = []

        def slow(number: int) -> None:
            self.clock.rightNow += 0.001
            acted.append(deadlines[number])

        deadlines = [self.make(partial(slow, number)) for number in range(50)]
        for deadline in deadlines:
            deadline.set(5.0)
        self.clock.advance(5.0)
        self.assertLessEqual(len(acted), SLICE / 0.001 + 1)
        stopped, moved, cleared, *_ = waiting = [each for each in deadlines if each not in acted]
        stopped.stop()
        moved.set(2.0)
        cleared.clear()
        for _ in range(5):
            before = len(acted)
            self.clock.advance(NEXT_TURN)
            self.assertLessEqual(len(acted) - before, SLICE / 0.001 + 1)
        self.assertEqual(acted[-len(waiting) + 3 :], waiting[3:])
        self.clock.pump([1.0, 1.0])
        self.assertEqual(acted[-1], moved)
        self.assertEqual((len(acted), self.clock.getDelayedCalls()), (48, []))

    def test_stop(self) -> None:
        """Stopped, it leaves no timer behind; that may be said more than once."""
        self.deadline.set(5.0)
        self.deadline.stop()
        self.deadline.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
