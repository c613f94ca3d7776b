"""How people ask the sandbox to misbehave."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.executors.sandbox.faults import FAULTS, UnknownWish, Wishes, read_wishes


class WishesTests(SynchronousTestCase):
    """From a model's name and a text to wishes."""

    def test_same_by_model_and_by_mark(self) -> None:
        """Each wish can be said in the model's name as well as in the text."""
        for model, mark, wishes in [
            ("status-429", "status=429", Wishes(status=429)),
            ("status-429+retry-after-7", "status=429 retry-after=7", Wishes(status=429, retry_after=7)),
            ("cut-after-3", "cut=after-3", Wishes(fault="cut", after=3)),
            ("cut", "cut", Wishes(fault="cut")),
            ("error-api_error-after-2", "error=api_error-after-2", Wishes(fault="error", error="api_error", after=2)),
            ("error", "error", Wishes(fault="error")),
            ("slow-first-byte-0.5", "slow-first-byte=0.5", Wishes(slow_first_byte=0.5)),
            ("fail-first-2", "fail-first=2", Wishes(fail_first=2)),
            ("words-10+pace-0+burst-5", "words=10, pace=0,burst=5", Wishes(words=10, pace=0, burst=5)),
        ]:
            self.assertEqual(read_wishes("sandbox-" + model, "hello"), wishes, model)
            self.assertEqual(read_wishes("m", f"hello [sandbox:{mark}]"), wishes, mark)

    def test_every_fault(self) -> None:
        """All the faults have names that can be wished for."""
        for fault in FAULTS:
            self.assertEqual(read_wishes("sandbox-" + fault, "").fault, fault)

    def test_text_goes_before_model(self) -> None:
        """A mark in the text changes what the model's name says."""
        self.assertEqual(read_wishes("sandbox-words-5", "[sandbox:words=7]").words, 7)

    def test_any_model_name_is_served(self) -> None:
        """A name that only looks like a wish is a name."""
        for model in ("sandbox", "sandbox-mini", "sandbox-status-999", "claude-status-429", "sandbox-"):
            self.assertEqual(read_wishes(model, "hi"), Wishes(), model)

    def test_mistakes_in_a_mark_are_told(self) -> None:
        """A misspelt wish is refused by its name, and does not silently do nothing."""
        for mark in (
            "statsu=429",
            "status=200",
            "status=abc",
            "words=-1",
            "pace=nan",
            "cut=3",
            "cut=x-after-3",
            "",
            "burst=0",
        ):
            with self.assertRaises(UnknownWish, msg=mark):
                read_wishes("m", f"[sandbox:{mark}]")

    @settings(deadline=None)
    @given(st.text())
    def test_garbage(self, text: str) -> None:
        """No text brings anything but wishes or a refusal."""
        read_wishes("sandbox-" + text, "")
        try:
            read_wishes("m", f"[sandbox:{text}]")
        except UnknownWish:
            return
