"""The dimensions of an image, from the first bytes of its file; nothing is decoded but these."""

from __future__ import annotations

from binascii import Error, a2b_base64

#: Characters of base64 that are looked at: cameras put previews and profiles ahead of a JPEG's dimensions.
_HEAD = 65_536

_PNG = b"\x89PNG\r\n\x1a\n"
_GIF = (b"GIF87a", b"GIF89a")
#: Markers of a JPEG that begin a frame, and tell its dimensions; those between them are tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers of a JPEG that are gone through: a file made for it has thousands.
_MAX_MARKERS = 200
#: Markers that stand alone, without a length.
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))


def image_size(data: str) -> tuple[int, int] | None:
    """Return width and height in pixels of a PNG, JPEG, GIF or WebP in base64; None where they are not found."""
    try:
        head = a2b_base64(data[:_HEAD])
    except (Error, ValueError):
        return None
    if head.startswith(_PNG):
        size = _big(head, 16, 4), _big(head, 20, 4)
    elif head.startswith(_GIF):
        size = _little(head, 6, 2), _little(head, 8, 2)
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        size = _webp(head)
    elif head.startswith(b"\xff\xd8"):
        size = _jpeg(head)
    else:
        return None
    return size if all(size) else None


def _webp(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        return _little(head, 24, 3) + 1, _little(head, 27, 3) + 1
    if kind == b"VP8L":
        bits = _little(head, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return _little(head, 26, 2) & 0x3FFF, _little(head, 28, 2) & 0x3FFF


def _jpeg(head: bytes) -> tuple[int, int]:
    """Go from marker to marker; (0, 0) where none that tells is in *head*."""
    at = 2
    for _ in range(_MAX_MARKERS):
        if at + 9 > len(head) or head[at] != 0xFF:
            break
        marker = head[at + 1]
        if marker in _FRAMES:
            return _big(head, at + 7, 2), _big(head, at + 5, 2)
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + max(2, _big(head, at + 2, 2))
    return 0, 0


def _big(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
