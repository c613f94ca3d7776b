"""What several processes find out is told once."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.happenings import Happening
from claudeproxyd.observe.transitions import Transition
from claudeproxyd.workers.told_once import WINDOW, ToldOnce


class ToldOnceTests(SynchronousTestCase):
    """Two workers and the parent."""

    def test_window(self) -> None:
        """Another one that tells the same soon is not heard; the same one is, and so is what comes later."""

        def told(at: float, model: str = "m", what: Happening = Happening.MODEL_UNSERVED) -> Transition:
            return Transition(what=what, message="", subject={"model": model}, time=1e9 + at)

        once = ToldOnce()
        self.assertTrue(once.is_new(told(0), "first"))
        self.assertFalse(once.is_new(told(1), "second"))
        self.assertFalse(once.is_new(told(WINDOW - 1), None))
        self.assertTrue(once.is_new(told(2, "n"), "second"))
        self.assertTrue(once.is_new(told(3, what=Happening.MODEL_SERVED), "second"))
        self.assertTrue(once.is_new(told(4), "first"))
        self.assertTrue(once.is_new(told(4 + WINDOW), "second"))
