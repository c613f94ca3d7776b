"""Tests of claudeproxyd.messages.loose: large objects; small ones are in the tests of those who read them."""

from __future__ import annotations

import itertools
import json
from time import process_time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.loose import LARGE_BYTES, half_in, read_object, with_halves_joined, without_halves
from claudeproxyd.messages.watch import MalformedEvent, StreamWatch
from tests.speed import slowness

HALF = r"\ud83d"
ESCAPES = (HALF, r"\udc00", r"\uD83D\uDE00", r"\n", "\\\\", r"\"", r"\u00e9", "ud83d", "x", r"\ud7a3")
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


class HalvesTests(SynchronousTestCase):
    """Halves of surrogate pairs, which are no text."""

    @given(st.lists(st.sampled_from(ESCAPES), max_size=12))
    def test_any(self, parts: list[str]) -> None:
        """The halves become marks of the same length, whole pairs and all else stay."""
        text = f'"{"".join(parts)}"'.encode()
        mended = without_halves(text)
        self.assertEqual(len(mended), len(text))
        expected = json.loads(text).encode("utf-8", "replace").decode().replace("?", "\ufffd")
        self.assertEqual(json.loads(mended), expected)
        self.assertEqual(half_in(text) != "", mended != text)

    @given(st.text(st.sampled_from('a\\"\u00e9\U0001f600\U00010000'), max_size=8), st.data())
    def test_put_together(self, text: str, data: st.DataObject) -> None:
        """A text that was cut anywhere, as JavaScript cuts it, comes together again."""
        units = text.encode("utf-16-le", "surrogatepass")
        cuts = data.draw(st.lists(st.integers(0, len(units) // 2), max_size=3))
        places = [0, *(2 * cut for cut in sorted(cuts)), len(units)]
        pieces = [units[start:end].decode("utf-16-le", "surrogatepass") for start, end in itertools.pairwise(places)]
        held, heard = b"", ""
        for piece in pieces:
            if not piece:
                continue
            whole, held = with_halves_joined(json.dumps({"text": piece}).encode(), held)
            heard += json.loads(whole)["text"]
        self.assertEqual((heard, held), (text, b""))

    def test_none(self) -> None:
        """Where there is none, nothing is copied."""
        for text in (b"x", b'"\\n"', b'"\\ud83d\\ude00"'):
            self.assertIs(without_halves(text), text)

    def test_quick(self) -> None:
        """It takes no time to speak of, whatever a large body is made of."""
        for part in (b"\0", b"word ", b"word word word word word word word wor\\n", b"\\", b"\\u00e9", HALF.encode()):
            body = part * (10_000_000 // len(part))
            self.assertLess(min(self.seconds(body) for _ in range(3)), 0.2 * slowness(), part)

    def seconds(self, body: bytes) -> float:
        """What it takes of the processor: the least of several is the work, and the rest is the machine's."""
        began = process_time()
        half_in(without_halves(body))
        return process_time() - began
