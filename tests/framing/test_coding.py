"""Content codings: what comes out, and what must not."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib
from itertools import pairwise
from time import process_time

import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.framing.coding import (
    BodyDecoder,
    CodingError,
    CodingTooLarge,
    StreamDecoder,
    UnknownCoding,
    decode_whole,
    decoding,
    sniff,
)

TEXT = b'{"model":"claude","messages":[]}' * 50


def raw_deflate(data: bytes) -> bytes:
    """deflate as it should not be, but is."""
    return zlib.compress(data, wbits=-15)


ENCODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "zstd": zstandard.compress,
}


class Whole(SynchronousTestCase):
    """Bodies that are there as a whole."""

    def test_each(self) -> None:
        """Every coding comes off, in whatever case it is named."""
        for name, encode in ENCODERS.items():
            for spelled in (name, name.upper(), f" {name} "):
                self.assertEqual(decode_whole(encode(TEXT), spelled, len(TEXT)), TEXT, spelled)

    def test_identity(self) -> None:
        """No coding is one as well, and has the same limit."""
        for name in ("", "identity", "Identity, identity"):
            self.assertEqual(decode_whole(TEXT, name, len(TEXT)), TEXT)
            with self.assertRaises(CodingTooLarge):
                decode_whole(TEXT, name, len(TEXT) - 1)

    def test_in_a_row(self) -> None:
        """The coding that was applied last is listed last and comes off first."""
        self.assertEqual(decode_whole(zstandard.compress(gzip.compress(TEXT)), "gzip, zstd", 10_000), TEXT)

    def test_unknown(self) -> None:
        """An unknown coding, or a pile of them, says so."""
        for name in ("br", "compress", "gzip, br", "gzip,gzip,gzip,gzip", "gzip;q=1"):
            with self.assertRaises(UnknownCoding):
                decode_whole(TEXT, name, 10_000)

    def test_members(self) -> None:
        """gzip of several members and zstd of several frames are one body."""
        self.assertEqual(decode_whole(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", 2), b"ab")
        self.assertEqual(decode_whole(zstandard.compress(b"a") + zstandard.compress(b"b"), "zstd", 2), b"ab")

    def test_empty(self) -> None:
        """An empty body, compressed, is empty; nothing at all is not an empty compressed body."""
        for name, encode in ENCODERS.items():
            self.assertEqual(decode_whole(encode(b""), name, 0), b"")
            with self.assertRaises(CodingError):
                decode_whole(b"", name, 10)

    def test_truncated(self) -> None:
        """A body that stops short anywhere is never taken for whole."""
        for name, encode in ENCODERS.items():
            data = encode(TEXT)
            for at in range(len(data)):
                with self.assertRaises(CodingError, msg=f"{name} {at}"):
                    decode_whole(data[:at], name, 10_000)

    def test_truncated_in_a_row(self) -> None:
        """The inner coding is checked as well as the outer one."""
        with self.assertRaises(CodingError):
            decode_whole(gzip.compress(zlib.compress(TEXT)[:-3]), "deflate, gzip", 10_000)

    def test_damaged(self) -> None:
        """Neither is one with other bytes in it, or with something behind it."""
        for name, encode in ENCODERS.items():
            data = encode(TEXT)
            for bad in (b"nonsense" + data, data + b"nonsense", data[:2] + b"\xff\xff\xff\xff" + data[6:]):
                with self.assertRaises(CodingError, msg=name):
                    decode_whole(bad, name, 10_000)

    def test_limit(self) -> None:
        """The limit is exact."""
        for name, encode in ENCODERS.items():
            for size in (1, 1000, 200_000):
                data = os.urandom(size // 2) + bytes(size - size // 2)
                self.assertEqual(len(decode_whole(encode(data), name, size)), size)
                with self.assertRaises(CodingTooLarge, msg=name):
                    decode_whole(encode(data), name, size - 1)

    def test_bombs(self) -> None:
        """A bomb goes off in a bounded room, in one coding or in two."""
        zeros = bytes(64_000_000)
        twice = gzip.compress(gzip.compress(zeros))
        bombs = {name: encode(zeros) for name, encode in ENCODERS.items()} | {"gzip, gzip": twice}
        del zeros
        for name, bomb in bombs.items():
            tracemalloc.start()
            with self.assertRaises(CodingTooLarge, msg=name):
                decode_whole(bomb, name, 1_000_000)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            self.assertLess(peak, 2_500_000, name)

    def test_many_empty_members(self) -> None:
        """A body of nothing but empty members is refused before it costs time."""
        for name in ("gzip", "zstd"):
            with self.assertRaises(CodingError):
                decode_whole(ENCODERS[name](b"") * 20_000, name, 100)

    def test_blocks_of_nothing(self) -> None:
        """Blocks that hold nothing cost no more for being many, nor where next to no room is left."""
        nothing = b"\x28\xb5\x2f\xfd\0\x58" + (b"\x02\0\x10" + b"x") * 243 + bytes(3) * 3_000_000 + b"\x01\0\0"
        decoder = BodyDecoder("zstd", 32_000_000)
        began = process_time()
        self.assertLess(len(decoder.feed(nothing)), 34_000_000)
        decoder.finish()
        self.assertLess(process_time() - began, 1.0)

    def test_in_steps(self) -> None:
        """A large body is decoded in steps, none of which makes much."""
        text = os.urandom(1_000_000).hex().encode()
        for name, encode in ENCODERS.items():
            packed = encode(text)
            steps = decoding(packed, name, len(text))
            count = sum(1 for _ in steps)
            self.assertGreaterEqual(count, len(packed) // 65_536, name)
            self.assertEqual(decode_whole(packed, name, len(text)), text)

    def test_out_of_proportion(self) -> None:
        """A few bytes do not stand for megabytes; honest text shrinks to a tenth, and small bodies may be anything."""
        for name, encode in ENCODERS.items():
            with self.assertRaisesRegex(CodingTooLarge, "100 times"):
                decode_whole(encode(bytes(30_000_000)), name, 32_000_000)
            self.assertEqual(len(decode_whole(encode(bytes(4_000_000)), name, 32_000_000)), 4_000_000)
            text = b" ".join(b"line %d" % number for number in range(500_000))
            self.assertEqual(decode_whole(encode(text), name, 32_000_000), text)
        with self.assertRaisesRegex(CodingTooLarge, "100 times"):
            decode_whole(gzip.compress(b"\x28\xb5\x2f\xfd\0\x58" + bytes(30_000_000)), "zstd, gzip", 32_000_000)

    def test_window(self) -> None:
        """A zstd frame that wants a huge window is refused, as HTTP has it."""
        parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
        context = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        with self.assertRaises(CodingError):
            decode_whole(context.compress(TEXT) + context.flush(), "zstd", 10_000)


class Streams(SynchronousTestCase):
    """Bodies that come piece by piece."""

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(sorted(ENCODERS)), st.binary(max_size=400), st.lists(st.integers(0, 500), max_size=8))
    def test_any_split(self, name: str, data: bytes, at: list[int]) -> None:
        """However a body is split, the same comes out."""
        encoded = ENCODERS[name](data)
        bounds = [0, *sorted(min(i, len(encoded)) for i in at), len(encoded)]
        decoder = StreamDecoder(name, 100)
        pieces = [piece for a, b in pairwise(bounds) for piece in decoder.pieces(encoded[a:b])]
        decoder.finish()
        self.assertEqual(b"".join(pieces), data)
        self.assertLessEqual(max(map(len, pieces), default=0), 100)

    def test_at_once(self) -> None:
        """What an upstream flushed comes out with the piece that brought it."""
        gzipped = zlib.compressobj(wbits=31)
        zstd = zstandard.ZstdCompressor().compressobj()
        decoders = StreamDecoder("gzip", 1000), StreamDecoder("zstd", 1000)
        for event in (b"event: one\n\n", b"event: two\n\n"):
            flushed = gzipped.compress(event) + gzipped.flush(zlib.Z_SYNC_FLUSH)
            self.assertEqual(b"".join(decoders[0].pieces(flushed)), event)
            flushed = zstd.compress(event) + zstd.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            self.assertEqual(b"".join(decoders[1].pieces(flushed)), event)

    def test_bombs(self) -> None:
        """Whatever is in a read comes out in small pieces, one at a time: in one coding, in two, and of nothing."""
        zeros = bytes(64_000_000)
        bombs = {name: encode(zeros) for name, encode in ENCODERS.items()}
        bombs["gzip, gzip"] = gzip.compress(gzip.compress(zeros))
        bombs["zstd, gzip"] = gzip.compress(zstandard.compress(b"x") * 1000 + zstandard.compress(zeros))
        for name, bomb in bombs.items():
            decoder = StreamDecoder(name, 200_000)
            tracemalloc.start()
            sizes = [len(piece) for piece in decoder.pieces(bomb)]
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            decoder.finish()
            self.assertEqual(sum(sizes), 64_000_000 + 1000 * (name == "zstd, gzip"), name)
            self.assertLessEqual(max(sizes), 200_000)
            self.assertLess(peak, 6_000_000, name)

    def test_small_steps(self) -> None:
        """No step takes long, nor where nothing comes of it for long: of two codings, of blocks that hold nothing."""
        nothing = b"\x28\xb5\x2f\xfd\0\x58" + bytes(3) * 10_000_000 + b"\x01\0\0"
        pieces = StreamDecoder("zstd, gzip", 200_000).pieces(gzip.compress(nothing))
        self.assertGreater(sum(1 for _ in pieces), 100)

    def test_unfinished(self) -> None:
        """A stream that ends early is told so at its end."""
        for name, encode in ENCODERS.items():
            decoder = StreamDecoder(name, 10_000)
            self.assertTrue(list(decoder.pieces(encode(TEXT)[:-1])))
            with self.assertRaises(CodingError):
                decoder.finish()


class Sniffing(SynchronousTestCase):
    """Codings that show by themselves."""

    def test_sniff(self) -> None:
        """gzip and zstd are known by their first bytes; JSON is neither."""
        self.assertEqual([sniff(gzip.compress(b"")), sniff(zstandard.compress(b""))], ["gzip", "zstd"])
        self.assertEqual([sniff(TEXT), sniff(b""), sniff(b"\x1f\x8b"), sniff(b"\x28\xb5")], ["", "", "", ""])
