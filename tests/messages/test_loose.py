"""Tests of claudeproxyd.messages.loose: large objects; small ones are in the tests of those who read them."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.loose import LARGE_BYTES, read_object
from claudeproxyd.messages.watch import MalformedEvent, StreamWatch

FILLER = "x" * LARGE_BYTES


class LargeTests(SynchronousTestCase):
    """Objects that it would take seconds to take apart."""

    def test_members(self) -> None:
        """What is small of it is read, what is large is empty, of its own type."""
        large = {"type": "message", "content": [FILLER], "usage": {"a": 1}, "b": FILLER, "c": {"d": FILLER}}
        self.assertEqual(
            read_object(json.dumps(large).encode()),
            {"type": "message", "content": [], "usage": {"a": 1}, "b": "", "c": {}},
        )

    def test_odd(self) -> None:
        """A mark at the start, half a surrogate pair and what is no UTF-8 break it as little as a small one."""
        for content in (b'"%b\\ud83d"', b'"%b\xff"', b'["%b", "\\udc00"]'):
            body = b'{"type": "a", "content": %b}' % (content % FILLER.encode())
            for mark in (b"", b"\xef\xbb\xbf"):
                read = read_object(mark + body)
                self.assertEqual((read or {}).get("type"), "a", content[:4])

    def test_none(self) -> None:
        """What is no object is none; NaN would be one, in less."""
        for body in (b"[%b]", b'{"a": "%b"', b'{"b": NaN, "a": "%b"}'):
            self.assertIsNone(read_object(body.replace(b"%b", FILLER.encode())), body)

    def test_events(self) -> None:
        """A large event of an unknown shape passes; what is no JSON is a broken stream, however large it is."""
        odd = b'event: later\ndata: {"kind": "%b"}' % FILLER.encode()
        self.assertEqual(StreamWatch().batch([odd]).count, 1)
        for data in (b'{"kind": "%b"', b'{"kind": NaN, "a": "%b"}'):
            with self.assertRaises(MalformedEvent):
                StreamWatch().batch([b"event: later\ndata: " + data.replace(b"%b", FILLER.encode())])
