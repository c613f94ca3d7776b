"""Stop sequences in pieces of text."""

from __future__ import annotations

from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.stops import StopWatch


def watch(sequences: list[str], pieces: list[str]) -> tuple[str, str | None]:
    watch = StopWatch(sequences)
    shown = "".join(map(watch.feed, pieces))
    return shown + watch.flush(), watch.met


class StopWatchTests(SynchronousTestCase):
    """What is shown, and what is not."""

    def test_across_pieces(self) -> None:
        """A sequence is found though the upstream cuts it into single characters."""
        self.assertEqual(watch(["END"], list("say END now")), ("say ", "END"))

    def test_nothing_after_it(self) -> None:
        """Text behind the sequence is never shown, neither of the same piece nor of a later one."""
        self.assertEqual(watch(["END"], ["a END b", "c END d"]), ("a ", "END"))

    def test_half_a_sequence_is_text(self) -> None:
        """What only looked like the beginning of a sequence comes out in the end."""
        self.assertEqual(watch(["</stop>"], ["a </st", "op"]), ("a </stop", None))

    def test_holds_back_no_more_than_needed(self) -> None:
        """Of a sequence of n characters at most n - 1 are late."""
        watch = StopWatch(["abc", "x"])
        self.assertEqual(watch.feed("hello"), "hel")
        self.assertEqual(watch.feed("!"), "l")

    def test_first_complete_counts(self) -> None:
        """Of overlapping sequences the one that is complete first ends the text; of equal ends, the longest."""
        self.assertEqual(watch(["abcd", "bc"], ["xabcd"]), ("xa", "bc"))
        self.assertEqual(watch(["bc", "abc"], ["xabc"]), ("x", "abc"))

    def test_many_and_long(self) -> None:
        """As many and as long ones as a request may bring cost a piece of text little."""
        sequences = ["x" * 60_000 + "y", *(f"{number}".rjust(20, "x") for number in range(255))]
        watch = StopWatch(sequences)
        watch.feed("x" * 60_000)
        began = process_time()
        for _ in range(1000):
            watch.feed("xx")
        self.assertLess(process_time() - began, 1.0)

    def test_empty_sequences(self) -> None:
        """An empty sequence stops nothing."""
        self.assertEqual(watch(["", "z"], ["abc"]), ("abc", None))

    @settings(deadline=None)
    @given(st.lists(st.text("ab\u00e9", min_size=1, max_size=4), max_size=3), st.lists(st.text("ab\u00e9")))
    def test_pieces_do_not_matter(self, sequences: list[str], pieces: list[str]) -> None:
        """The same text is shown however the upstream cuts it."""
        self.assertEqual(watch(sequences, pieces), watch(sequences, list("".join(pieces))))

    @settings(deadline=None)
    @given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3), st.text("ab"))
    def test_no_sequence_is_shown(self, sequences: list[str], text: str) -> None:
        """What is shown holds no stop sequence, and is a beginning of the text."""
        shown, met = watch(sequences, [text])
        self.assertTrue(text.startswith(shown))
        self.assertFalse(any(sequence in shown for sequence in sequences))
        self.assertEqual(met is None, shown == text)
