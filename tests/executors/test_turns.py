"""Tests of claudeproxyd.executors.turns."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.executors.turns import SLICE, Turns
from claudeproxyd.sockets import NEXT_TURN
from claudeproxyd.steps import Steps, at_once


class TurnsTests(SynchronousTestCase):
    """Work that gives others a turn."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.done = 0

    def work(self, count: int, seconds: float) -> Steps[str]:
        """So many steps that take so long each."""
        for _ in range(count):
            self.done += 1
            self.clock.rightNow += seconds
            yield
        return "made"

    def begin(self, steps: Steps[str]) -> Deferred[str]:
        return Deferred.fromCoroutine(self.turns.run(steps))

    def test_short(self) -> None:
        """What is through within a slice is done at once: most requests are."""
        self.assertEqual(self.successResultOf(self.begin(self.work(9, SLICE / 10))), "made")

    def test_long(self) -> None:
        """After each slice the reactor has its turn."""
        made = self.begin(self.work(25, SLICE / 10))
        for done in (10, 20):
            self.assertNoResult(made)
            self.assertLess(abs(self.done - done), 2)
            self.clock.advance(NEXT_TURN)
        self.assertEqual(self.successResultOf(made), "made")

    def test_many(self) -> None:
        """All who have long work share one slice, in turns of their own; who comes later does not go first."""
        made = [self.begin(self.work(30, SLICE / 10)) for _ in range(5)]
        made.append(self.begin(self.work(1, SLICE / 10)))
        for _ in range(15):
            began, done = self.clock.seconds(), self.done
            self.clock.advance(NEXT_TURN)
            self.assertLess(self.clock.seconds() - began, 1.5 * SLICE)
            self.assertGreater(self.done, done)
        self.assertEqual([self.successResultOf(each) for each in made], ["made"] * 6)

    def test_fails(self) -> None:
        """What a step raises is raised."""

        def failing() -> Steps[str]:
            yield from self.work(2, SLICE)
            raise ValueError("no")

        made = self.begin(failing())
        self.clock.pump([NEXT_TURN] * 2)
        self.failureResultOf(made, ValueError)

    def test_cancelled(self) -> None:
        """Nothing is done any more when nobody wants it."""
        made = self.begin(self.work(9, SLICE))
        made.cancel()
        self.failureResultOf(made, CancelledError)
        self.clock.advance(1)
        self.assertEqual(self.done, 1)

    def test_at_once(self) -> None:
        """Who need not care about others does not."""
        self.assertEqual(at_once(self.work(9, SLICE)), "made")
