"""An image's dimensions, from the head of its file."""

from __future__ import annotations

import base64
import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.image_size import image_size

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
GIF = b"GIF89a" + struct.pack("<HH", 320, 200) + bytes(10)
EXIF = b"\xff\xe1" + struct.pack(">H", 20_000) + b"\xff\xc0" * 9_999
JPEG = b"\xff\xd8" + EXIF + b"\xff\xff\xc2" + struct.pack(">HBHH", 17, 8, 1080, 1920) + bytes(9)


def riff(kind: bytes, data: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", len(data)) + data


WEBP = riff(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 800, 600))
WEBP_LOSSLESS = riff(b"VP8L", b"\x2f" + struct.pack("<I", (99 << 14) | 149))
WEBP_EXTENDED = riff(b"VP8X", bytes(4) + (1023).to_bytes(3, "little") + (767).to_bytes(3, "little"))


def size_of(file: bytes) -> tuple[int, int] | None:
    return image_size(base64.b64encode(file).decode())


class ImageSizeTests(SynchronousTestCase):
    """What a request's image is as large as."""

    def test_each_format(self) -> None:
        """All formats that the API takes tell their dimensions, a JPEG behind what its camera has put there."""
        for file, size in (
            (PNG, (640, 480)),
            (GIF, (320, 200)),
            (JPEG, (1920, 1080)),
            (WEBP, (800, 600)),
            (WEBP_LOSSLESS, (150, 100)),
            (WEBP_EXTENDED, (1024, 768)),
        ):
            self.assertEqual(size_of(file), size)
            self.assertEqual(size_of(file + bytes(1_000_000)), size)

    def test_no_image(self) -> None:
        """What is no image, or is cut ahead of its dimensions, has none."""
        for file in (b"", b"BM" + bytes(99), PNG[:16], GIF[:6], JPEG[:30], WEBP[:20], PNG[:16] + bytes(8)):
            self.assertIsNone(size_of(file))
        self.assertIsNone(size_of(b"\xff\xd8" + b"\xff\xe1\0\2" * 10_000 + JPEG[2:]))
        self.assertIsNone(image_size("no base64"))
        self.assertIsNone(image_size("\u4f60\u597d"))

    @given(
        st.sampled_from((PNG, GIF, JPEG, WEBP, WEBP_LOSSLESS, WEBP_EXTENDED, b"\xff\xd8")),
        st.binary(),
        st.integers(0, 60),
    )
    def test_anything(self, file: bytes, tail: bytes, cut: int) -> None:
        """No bytes make it raise or go round in circles."""
        size = size_of(file[:cut] + tail)
        self.assertTrue(size is None or min(size) > 0)
