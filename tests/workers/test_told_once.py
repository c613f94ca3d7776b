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
        once = ToldOnce()
        self.assertTrue(once.is_new(told(0), "first"))
        self.assertFalse(once.is_new(told(1), "second"))
        self.assertFalse(once.is_new(told(WINDOW - 1), None))
        self.assertTrue(once.is_new(told(2, name="n"), "second"))
        self.assertTrue(once.is_new(told(3, Happening.RELOAD_FAILED), "second"))
        self.assertTrue(once.is_new(told(4), "first"))
        self.assertTrue(once.is_new(told(4 + WINDOW), "second"))

    def test_outages(self) -> None:
        """Of an outage the first beginning and the first end are told, however soon the next one begins at another."""
        begins, ends = Happening.MODEL_UNSERVED, Happening.MODEL_SERVED
        once = ToldOnce()
        said = [
            once.is_new(told(at, what), teller)
            for at, what, teller in (
                (0, begins, "first"),
                (1, begins, "second"),
                (200, begins, None),
                (205, ends, "first"),
                (206, ends, "second"),
                (207, begins, "second"),
                (280, ends, None),
                (290, begins, "second"),
                (300, begins, "second"),
            )
        ]
        self.assertEqual(said, [True, False, False, True, False, True, True, True, True])

    def test_death(self) -> None:
        """An outage that only a worker knew of that has died is told again; one that others know of lasts."""
        begins = Happening.MODEL_UNSERVED
        once = ToldOnce()
        self.assertTrue(once.is_new(told(0, begins), "first"))
        self.assertTrue(once.is_new(told(0, begins, "n"), "first"))
        self.assertFalse(once.is_new(told(1, begins, "n"), "second"))
        once.gone("first")
        self.assertTrue(once.is_new(told(100, begins), "third"))
        self.assertFalse(once.is_new(told(100, begins, "n"), "third"))


def told(at: float, what: Happening = Happening.CREDENTIAL_REFUSED, name: str = "m") -> Transition:
    """What was found out so many seconds later."""
    return Transition(what=what, message="", subject={"of": name}, time=1e9 + at)
