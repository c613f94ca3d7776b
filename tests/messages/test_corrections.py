"""What is learnt of estimates that were off."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.corrections import LESSONS, MAX_MODELS, Corrections


class CorrectionsTests(SynchronousTestCase):
    """The factors by model."""

    def setUp(self) -> None:
        self.corrections = Corrections()

    def test_one_answer_is_enough(self) -> None:
        """After one answer the next request of its kind is estimated well, on that provider and model alone."""
        self.corrections.learn("p", "m", (20_000.0, 0.0), 30_000)
        self.assertLess(abs(self.corrections.corrected("p", "m", (10_000.0, 0.0)) - 15_000), 50)
        for other in (("p", "n"), ("q", "m")):
            self.assertEqual(self.corrections.corrected(*other, (10_000.0, 0.5)), 10_001)

    def test_one_language_does_not_spoil_another(self) -> None:
        """A model that takes three times the tokens for Chinese is estimated right for English too."""
        random = Random(1)
        for _ in range(20):
            plain, foreign = random.choice(((8_000.0, 50.0), (900.0, 6_000.0), (3_000.0, 3_000.0)))
            self.corrections.learn("p", "m", (plain, foreign), round(1.1 * plain + 3.0 * foreign))
        for plain, foreign in ((10_000.0, 0.0), (500.0, 10_000.0), (2_000.0, 2_000.0)):
            wanted = 1.1 * plain + 3.0 * foreign
            self.assertLess(abs(self.corrections.corrected("p", "m", (plain, foreign)) / wanted - 1), 0.08)

    def test_short_requests_teach_little(self) -> None:
        """What a server puts around each prompt is no sign that its words are longer."""
        self.corrections.learn("p", "m", (10.0, 0.0), 60)
        self.assertLess(self.corrections.corrected("p", "m", (10_000.0, 0.0)), 10_100)

    def test_bounds(self) -> None:
        """Absurd counts move the factors no further than a request may be off."""
        for _ in range(100):
            self.corrections.learn("p", "m", (10_000.0, 0.0), 2**31 - 1)
        self.assertEqual(self.corrections.corrected("p", "m", (10_000.0, 0.0)), 50_000)
        for _ in range(100):
            self.corrections.learn("p", "m", (10_000.0, 0.0), 0)
        self.assertEqual(self.corrections.corrected("p", "m", (10_000.0, 0.0)), 2_000)
        self.corrections.learn("p", "m", (0.0, 0.0), 10)
        self.assertEqual(self.corrections.corrected("p", "m", (0.0, 0.0)), 1)

    def test_changes_are_followed(self) -> None:
        """A model behind the same name that counts otherwise is learnt within some answers."""
        for _ in range(50):
            self.corrections.learn("p", "m", (10_000.0, 0.0), 20_000)
        for _ in range(20):
            self.corrections.learn("p", "m", (10_000.0, 0.0), 9_000)
        self.assertLess(abs(self.corrections.corrected("p", "m", (10_000.0, 0.0)) - 9_000), 200)

    def test_lessons_end(self) -> None:
        """A model's first requests are measured; not for ever, should its upstream never say what it has counted."""
        for _ in range(LESSONS):
            self.assertTrue(self.corrections.lesson("p", "m"))
        self.assertFalse(self.corrections.lesson("p", "m"))
        self.assertTrue(self.corrections.lesson("q", "m"))

    def test_bounded(self) -> None:
        """Names that clients make up push out the one that has learnt nothing for the longest time."""
        for number in range(MAX_MODELS + 5):
            self.corrections.learn("p", str(number), (1_000.0, 0.0), 2_000)
            self.corrections.learn("p", "used", (1_000.0, 0.0), 2_000)
            self.corrections.lesson("p", f"asked {number}")
        self.assertEqual(len(self.corrections), MAX_MODELS)
        self.assertGreater(self.corrections.corrected("p", "used", (1_000.0, 0.0)), 1_500)
        self.assertEqual(self.corrections.corrected("p", "0", (1_000.0, 0.0)), 1_000)
