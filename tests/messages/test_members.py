"""Members are taken out of an object, and every other byte stays."""

from __future__ import annotations

import json
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.members import without_members

blanks = st.text(" \t\r\n", max_size=2)
values = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "k"]), inner, max_size=2),
    max_leaves=5,
)


class WithoutMembers(SynchronousTestCase):
    """``drop_fields``."""

    def test_places(self) -> None:
        """First, middle, last, only one, all of them; blanks are of no account."""
        for data, left in (
            (b'{"x":1,"b":2}', b'{"b":2}'),
            (b'{"a":1,"x":[1,{"x":2}],"b":2}', b'{"a":1,"b":2}'),
            (b'{"a":1,"x":"}"}', b'{"a":1}'),
            (b'{ "x" : null }', b"{ }"),
            (b'{"x":1,"y":2}', b"{}"),
            (b'{"x":1, "b":2, "y":3}', b'{"b":2}'),
            (b'{"a":1}', b'{"a":1}'),
        ):
            self.assertEqual(without_members(data, ("x", "y")), left)

    def test_nested_and_strings_stay(self) -> None:
        """Only the top level is meant."""
        data = b'{"a":{"x":1},"b":"\\"x\\":1","c":["x"]}'
        self.assertEqual(without_members(data, ("x",)), data)

    def test_given_twice(self) -> None:
        """A member that comes twice goes twice: an upstream that takes it not at all refuses either."""
        self.assertEqual(without_members(b'{"x":1,"a":2,"x":3,"x":4}', ("x",)), b'{"a":2}')
        self.assertEqual(without_members(b'{"a":2, "x":3 ,\n"x":4 }', ("x",)), b'{"a":2 }')

    def test_given_without_end(self) -> None:
        """A body that is one member a hundred thousand times costs one pass, not one for each: it must not stop us."""
        started = time.process_time()
        self.assertEqual(without_members(b'{"a":2%b}' % (b',"x":1' * 100_000), ("x",)), b'{"a":2}')
        self.assertLess(time.process_time() - started, 10)

    def test_no_utf8(self) -> None:
        """A body that no upstream can read goes up as it came, to be refused there and not to fail here."""
        self.assertEqual(without_members(b'{"x":1,"\xff":2}', ("x",)), b'{"x":1,"\xff":2}')

    def test_half_a_character(self) -> None:
        """What else is no JSON to some loses the members all the same, and no other byte."""
        self.assertEqual(
            without_members(b'{"a":"\\ud83d","x":["\\ude00"],"b\\udbff":1}', ("x",)), b'{"a":"\\ud83d","b\\udbff":1}'
        )

    def test_any_object(self) -> None:
        """What is left is valid JSON of the other members, each value byte for byte as it was."""

        @settings(deadline=None, max_examples=300)
        @given(st.data())
        def hold(data: st.DataObject) -> None:
            keys = data.draw(st.lists(st.sampled_from(["a", "b", "c", "x", "y", '\u00e4\\" x']), unique=True))
            written = {key: json.dumps(data.draw(values), ensure_ascii=data.draw(st.booleans())) for key in keys}
            text = ""
            for number, (key, value) in enumerate(written.items()):
                text += "," * bool(number) + data.draw(blanks) + json.dumps(key) + data.draw(blanks) + ":"
                text += data.draw(blanks) + value + data.draw(blanks)
            left = without_members(b"{%b}" % text.encode(), ("x", "y")).decode()
            kept = {key: value for key, value in written.items() if key not in ("x", "y")}
            self.assertEqual(json.loads(left), {key: json.loads(value) for key, value in kept.items()})
            for value in kept.values():
                self.assertIn(value, left)
            if len(kept) == len(written):
                self.assertEqual(left, "{" + text + "}")

        hold()
