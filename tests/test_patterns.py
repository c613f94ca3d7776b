"""Operators' patterns: the same as Python's, in bounded time."""

from __future__ import annotations

import re
from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.patterns import Pattern

_atoms = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\d", r"\b", "^", "$", "(?i:A)", r"\n", "é"])


def _wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=2, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda branches: f"({'|'.join(branches)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "+?", "{2}", "{1,3}", "{0,2}?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    )


class Patterns(SynchronousTestCase):
    """What is found."""

    @settings(max_examples=400, deadline=None)
    @given(
        st.recursive(_atoms, _wider, max_leaves=8),
        st.text("abA1\né ", max_size=12),
        st.sampled_from(["", "(?i)", "(?s)", "(?m)", "(?a)"]),
    )
    def test_as_python(self, source: str, text: str, flags: str) -> None:
        """Whatever the pattern and the text, what Python finds is found, and nothing else."""
        self.assertEqual(Pattern(flags + source).found_in(text), re.search(flags + source, text) is not None)

    def test_in_bounded_time(self) -> None:
        """What takes Python seconds, or for ever, takes a moment."""
        for source, text in (
            (".*quota.*exceeded.*", "quota " * 400),
            ("(a+)+$", "a" * 2000 + "b"),
            ("(.*)*(.*)*(.*)*x", "a" * 2000),
            ("(a|a|aa)+c", "a" * 2000),
        ):
            began = process_time()
            self.assertFalse(Pattern(source).found_in(text), source)
            self.assertLess(process_time() - began, 0.5, source)

    def test_refused(self) -> None:
        """What is no pattern, or cannot be followed so, is told at once."""
        for source in (
            "(",
            r"(a)\1",
            "(?=a)",
            "(?<!a)b",
            "(?>a+)",
            "a++",
            "(?:a{50}){50}",
            "x" * 501,
            "(" * 5000,
        ):
            self.assertRaises(ValueError, Pattern, source)
