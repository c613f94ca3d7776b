"""A frame's name and data, however its lines stand."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.frame import read_frame


class Fields(SynchronousTestCase):
    """As the format's own rules have it."""

    def test_lines(self) -> None:
        """Order, blanks, comments, unknown fields and several data lines make no difference to what is read."""
        for frame, read in (
            (b"event: ping\ndata: {}", (b"ping", b"{}")),
            (b"event:ping\ndata:{}", (b"ping", b"{}")),
            (b"data: {}\nevent: ping", (b"ping", b"{}")),
            (b": hello\nevent: ping\nid: 1\ndata: {}\nretry: 5", (b"ping", b"{}")),
            (b'event: e\ndata: {"a":\ndata: 1}', (b"e", b'{"a":\n1}')),
            (b"\nevent: e\ndata: 1", (b"e", b"1")),
            (b"event: a\nevent: b\ndata: 1", (b"b", b"1")),
            (b"data: 1", (b"", b"1")),
            (b"data:  1", (b"", b" 1")),
            (b"event: ping", (b"ping", b"")),
            (b"event: e\nid: 1\ndata: 2", (b"e", b"2")),
            (b": only a comment", (b"", b"")),
            (b"", (b"", b"")),
        ):
            self.assertEqual(read_frame(frame), read, frame)
