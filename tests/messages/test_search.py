"""Words in large bodies, found as Python finds them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.search import find, holds


class SearchTests(SynchronousTestCase):
    """Compared with ``bytes.find``."""

    @given(
        st.lists(st.sampled_from([b"a", b"ab", b"\0", b"aab", b"x" * 3000]), max_size=12).map(b"".join),
        st.sampled_from([b"a", b"ab", b"aab", b"b\0", b"\0", b"xa", b"aa"]),
        st.integers(0, 12_000),
    )
    def test_as_python(self, data: bytes, word: bytes, start: int) -> None:
        """At any place, from any place on, in small data and in large."""
        self.assertEqual(find(data, word, start), data.find(word, start))
        self.assertEqual(holds(data, word), word in data)

    def test_ends(self) -> None:
        """The first and the last bytes are searched, and none behind them."""
        data = b"begin" + b" " * 10_000 + b"end"
        self.assertEqual((find(data, b"begin"), find(data, b"end")), (0, 10_005))
        self.assertEqual((find(data, b"begin", 1), find(data, b"ends"), find(data, b"end", 20_000)), (-1, -1, -1))
