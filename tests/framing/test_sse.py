"""Server-sent events are cut into the same frames, however the bytes happen to arrive."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.framing.sse import FrameSplitter, FrameTooLarge

LIMIT = 1_000_000
BOM = b"\xef\xbb\xbf"

streams = st.lists(
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"data: x", b"event: y", b":", b"\xf0\x9f", b"\x00", BOM, b"data: z\r\n\r\n"]
    ),
    max_size=30,
).map(b"".join)


def frames(data: bytes, *cuts: int) -> list[bytes]:
    """What a splitter makes of *data* that comes in reads which end at *cuts*."""
    splitter = FrameSplitter(LIMIT)
    found = []
    for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        found += splitter.feed(data[start:end])
    return found


class Frames(SynchronousTestCase):
    """What stands between two empty lines."""

    def test_line_ends(self) -> None:
        """LF, CRLF and CR all end lines, also mixed in one stream."""
        for end in (b"\n", b"\r\n", b"\r"):
            data = b"event: a" + end + b"data: 1" + end * 2 + b"data: 2" + end * 2
            self.assertEqual(frames(data), [b"event: a\ndata: 1", b"data: 2"])
        self.assertEqual(frames(b"data: 1\r\n\ndata: 2\n\rdata: 3\r\r\n"), [b"data: 1", b"data: 2", b"data: 3"])

    def test_bytes_stay(self) -> None:
        """A frame is the upstream's own bytes, odd ones included."""
        frame = b"event:a\ndata: \xff\x00 \t{}\n: why\nid: 7"
        self.assertEqual(frames(frame + b"\n\n"), [frame])

    def test_frames_of_one_line_with_crlf(self) -> None:
        """Frames as Google sends them are the same with a frame a read as in one."""
        data = b"".join(b"data: %d\r\n\r\n" % number for number in range(4))
        self.assertEqual(frames(data, 11, 33), [b"data: 0", b"data: 1", b"data: 2", b"data: 3"])
        self.assertEqual(frames(data + b"data: 4\r\nid: 5\r\n\r\n", 11)[-1], b"data: 4\nid: 5")

    def test_nothing_between(self) -> None:
        """Empty lines in a row are no frames."""
        self.assertEqual(frames(b"\n\n\n\n\n"), [])

    def test_unfinished(self) -> None:
        """A frame whose empty line never came is not handed on, and is known to be there."""
        splitter = FrameSplitter(LIMIT)
        self.assertEqual(splitter.feed(b"data: 1\n"), [])
        self.assertEqual(splitter.unfinished, 8)

    def test_mark_at_the_start(self) -> None:
        """A byte order mark is no part of the first field's name, wherever the read ends; later it is text."""
        data = BOM + b"data: 1\n\n" + BOM + b"data: 2\n\n"
        for cut in range(len(data)):
            self.assertEqual(frames(data, cut), [b"data: 1", BOM + b"data: 2"], cut)

    def test_bound(self) -> None:
        """An event without an end is given up when it passes the bound, not when memory does."""
        splitter = FrameSplitter(10)
        splitter.feed(b"data: 4567")
        self.assertRaises(FrameTooLarge, splitter.feed, b"8")

    def test_any_split(self) -> None:
        """Where reads end makes no difference."""

        @settings(deadline=None, max_examples=300)
        @given(st.data())
        def hold(data: st.DataObject) -> None:
            stream = data.draw(streams)
            cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
            self.assertEqual(frames(stream, *cuts), frames(stream))

        hold()

    def test_split_behind_three_line_ends(self) -> None:
        """A read that ends in three line ends keeps the last: it belongs to the next frame."""
        stream = b"data: 1\r\n\r\ndata: 2\r\n\r\n\r\ndata: 3\r\n\r\n"
        for cut in range(len(stream)):
            self.assertEqual(frames(stream, 11, max(cut, 11)), frames(stream), cut)

    def test_any_line_end(self) -> None:
        """Which of the three ends a line has makes no difference."""

        @settings(deadline=None, max_examples=200)
        @given(st.lists(st.tuples(st.sampled_from([b"data: 1", b"event: e", b""]), st.sampled_from([b"\r\n", b"\r"]))))
        def hold(lines: list[tuple[bytes, bytes]]) -> None:
            ends = [end for _, end in lines]
            # A CR before a line that is empty and ends in LF would be one end and not two; these ends have no bare LF.
            mixed = b"".join(line + end for (line, _), end in zip(lines, ends, strict=True))
            self.assertEqual(frames(mixed), frames(b"".join(line + b"\n" for line, _ in lines)))

        hold()
