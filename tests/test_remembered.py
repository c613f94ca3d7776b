"""What is remembered of words, and that it stays within its bound."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.remembered import MAX_WORD_LENGTH, MAX_WORDS, Remembered


class RememberedTests(SynchronousTestCase):
    """Words that come again, and words that somebody makes up."""

    def setUp(self) -> None:
        self.asked: list[bytes] = []

    def lower(self, word: bytes) -> bytes:
        self.asked.append(word)
        return word.lower()

    def test_asks_once(self) -> None:
        """The function is asked the first time alone."""
        words = Remembered(self.lower)
        self.assertEqual([words[b"Host"], words[b"Host"]], [b"host", b"host"])
        self.assertEqual(self.asked, [b"Host"])

    def test_bounded(self) -> None:
        """Whoever makes up words does not fill our memory, and gets right answers all the same."""
        words = Remembered(self.lower)
        for number in range(3 * MAX_WORDS):
            self.assertEqual(words[b"X-%d" % number], b"x-%d" % number)
            self.assertLessEqual(len(words), MAX_WORDS)

    def test_long_words(self) -> None:
        """A long word is not remembered."""
        words = Remembered(self.lower)
        for length in (MAX_WORD_LENGTH, MAX_WORD_LENGTH + 1):
            self.assertEqual(words[b"X" * length], b"x" * length)
        self.assertEqual(list(words), [b"X" * MAX_WORD_LENGTH])

    def test_failures(self) -> None:
        """What the function raises is raised each time, and not remembered."""

        def fail(word: bytes) -> bytes:
            raise ValueError(word)

        words = Remembered(fail)
        for _ in range(2):
            self.assertRaises(ValueError, words.__getitem__, b"x")
        self.assertEqual(len(words), 0)
