"""AWS's event streams."""

from __future__ import annotations

import itertools
import struct
from typing import Any
from zlib import crc32

from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.framing.event_stream import DamagedMessage, EventMessage, EventStreamSplitter, HeaderValue, text_of
from claudeproxyd.framing.sse import FrameTooLarge
from tests.framing.event_messages import chunk, event, exception, message

#: The stream of a short answer: events, and an exception at its end.
STREAM = b"".join(
    [
        event("messageStart", {"role": "assistant"}),
        chunk(b'{"type":"ping"}', p="abcdef"),
        chunk(b""),
        exception("throttlingException", "Too many requests"),
    ]
)

header_values: st.SearchStrategy[HeaderValue] = (
    st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.binary(max_size=20) | st.text(max_size=20)
)
messages = st.tuples(st.dictionaries(st.text(max_size=20), header_values, max_size=4), st.binary(max_size=60))


def split(data: bytes, cuts: list[int], limit: int = 1 << 20) -> list[EventMessage]:
    """The messages in *data*, which arrives cut at these places."""
    splitter = EventStreamSplitter(limit)
    points = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [each for a, b in itertools.pairwise(points) for each in splitter.feed(data[a:b])]
    assert splitter.unfinished == 0
    return found


def by_botocore(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """The messages in *data* as AWS's own library reads them."""
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(each.headers, each.payload) for each in buffer]


class EventStreamSplitterTests(SynchronousTestCase):
    """Messages come out whole."""

    def test_every_split(self) -> None:
        """Wherever the network cuts, once or twice, the messages are the same."""
        whole = split(STREAM, [])
        kinds = [text_of(headers, ":event-type") for headers, _ in whole]
        self.assertEqual(kinds, ["messageStart", "chunk", "chunk", ""])
        self.assertEqual(text_of(whole[3][0], ":exception-type"), "throttlingException")
        for cut in range(len(STREAM)):
            self.assertEqual(split(STREAM, [cut]), whole)
            self.assertEqual(split(STREAM, [cut, cut + 13]), whole)

    def test_byte_by_byte(self) -> None:
        """One byte a read."""
        self.assertEqual(split(STREAM, list(range(len(STREAM)))), split(STREAM, []))

    @settings(max_examples=150, deadline=None)
    @given(st.lists(messages, max_size=4), st.lists(st.integers(0, 400)))
    def test_any_messages_as_botocore_reads_them(
        self, written: list[tuple[dict[str, HeaderValue], bytes]], cuts: list[int]
    ) -> None:
        """Whatever the headers and payloads hold, AWS's own parser and ours read what was written."""
        data = b"".join(message(headers, payload) for headers, payload in written)
        found = split(data, cuts)
        self.assertEqual(found, written)
        self.assertEqual(by_botocore(data), written)

    def test_a_moment_and_an_id(self) -> None:
        """Types of headers that Bedrock sends none of are read as well."""
        block = b"\x01t\x08" + struct.pack("!q", 1_700_000_000_000) + b"\x01u\x09" + bytes(range(16))
        lengths = struct.pack("!II", 16 + len(block), len(block))
        whole = lengths + struct.pack("!I", crc32(lengths)) + block
        whole += struct.pack("!I", crc32(whole))
        self.assertEqual(split(whole, []), [({"t": 1_700_000_000_000, "u": bytes(range(16))}, b"")])
        self.assertEqual(by_botocore(whole), [({"t": 1_700_000_000_000, "u": bytes(range(16))}, b"")])

    def test_every_flipped_bit_is_found(self) -> None:
        """No damage of one bit passes for a message: it is an error, or the rest of the message is waited for."""
        whole = message({":event-type": "chunk"}, b"{}")
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            self.assertRaises(DamagedMessage, EventStreamSplitter(1 << 20).feed, bytes(damaged))

    def test_damage_ends_the_stream(self) -> None:
        """Nothing is read behind it, nor what came with it."""
        self.assertRaises(DamagedMessage, EventStreamSplitter(1 << 20).feed, STREAM + b"\0" * 12)

    def test_lengths_that_cannot_be(self) -> None:
        """Headers longer than their message, and a message shorter than any can be."""
        for total, headers in ((20, 5), (15, 0), (0, 0), (1 << 20, 200_000)):
            lengths = struct.pack("!II", total, headers)
            with self.assertRaises(DamagedMessage):
                EventStreamSplitter(1 << 30).feed(lengths + struct.pack("!I", crc32(lengths)))

    def test_headers_that_cannot_be_read(self) -> None:
        """Cut, of an unknown type, twice, or no UTF-8."""
        for block in (
            b"\x05ab",
            b"\x01a",
            b"\x01a\x0a",
            b"\x01a\x07\x00\x05ab",
            b"\x01a\x00\x01a\x00",
            b"\x01\xff\x00",
        ):
            lengths = struct.pack("!II", 16 + len(block), len(block))
            whole = lengths + struct.pack("!I", crc32(lengths)) + block
            whole += struct.pack("!I", crc32(whole))
            self.assertRaises(DamagedMessage, EventStreamSplitter(1 << 20).feed, whole)

    def test_a_large_message(self) -> None:
        """One that would be larger than it may be is refused by its length, before it comes."""
        splitter = EventStreamSplitter(1000)
        self.assertRaises(FrameTooLarge, splitter.feed, message({}, b"x" * 1000)[:12])
        self.assertEqual(splitter.unfinished, 0)

    def test_an_unfinished_one_is_counted(self) -> None:
        """For the account of what is held."""
        splitter = EventStreamSplitter(1000)
        splitter.feed(STREAM[:-1])
        self.assertEqual(splitter.unfinished, len(exception("throttlingException", "Too many requests")) - 1)
