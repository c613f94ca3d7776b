"""JSON arrays in pieces."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.framing.elements import ElementSplitter
from claudeproxyd.framing.sse import FrameTooLarge

values = st.recursive(
    st.none() | st.integers() | st.text('"\\{}[],\n é', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\{}a', max_size=4), inner, max_size=3),
    max_leaves=8,
)


def split(data: bytes, cuts: list[int], limit: int = 1 << 20) -> list[Any]:
    splitter = ElementSplitter(limit)
    points = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    elements = [e for a, b in itertools.pairwise(points) for e in splitter.feed(data[a:b])]
    assert splitter.unfinished == 0
    return [json.loads(element) for element in elements]


class ElementSplitterTests(SynchronousTestCase):
    """Elements come out whole."""

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=4), st.lists(st.integers(0, 400))
    )
    def test_any_array_in_any_pieces(self, array: list[Any], cuts: list[int]) -> None:
        """Whatever the strings hold and wherever the network cuts, the objects are those of the array."""
        self.assertEqual(split(json.dumps(array, indent=1).encode(), cuts), array)

    def test_a_lone_object(self) -> None:
        """An error that Google sends bare is read like one in an array."""
        self.assertEqual(split(b'{"error": {"code": 500}}', []), [{"error": {"code": 500}}])

    def test_byte_by_byte(self) -> None:
        """An escape that is cut in two does not end its string."""
        data = rb'[{"a": "\\\"}{", "b": {}},{"c": "\u007d"}]'
        self.assertEqual(split(data, list(range(len(data)))), json.loads(data))

    def test_a_large_element(self) -> None:
        """An element that does not end cannot fill the memory."""
        splitter = ElementSplitter(100)
        splitter.feed(b'[{"a": "')
        self.assertEqual(splitter.unfinished, 7)
        self.assertRaises(FrameTooLarge, splitter.feed, b"x" * 100)

    def test_nothing_between(self) -> None:
        """What stands between objects takes no memory."""
        splitter = ElementSplitter(10)
        self.assertEqual(splitter.feed(b" " * 1000 + b']],"[}' * 100), [])
        self.assertEqual(splitter.unfinished, 0)
