"""The fields of one frame of server-sent events: its ``event`` name and its ``data``."""

from __future__ import annotations


def read_frame(frame: bytes) -> tuple[bytes, bytes]:
    """Return the ``event`` name (b'' if there is none) and the ``data`` of a frame; both b'' where it holds only
    comments."""
    if frame.startswith(b"event: "):
        name, separator, data = frame[7:].partition(b"\ndata: ")
        if separator and b"\n" not in data and b"\n" not in name:
            return name, data
    return _read_lines(frame)


def _read_lines(frame: bytes) -> tuple[bytes, bytes]:
    """Read the general case: fields in any order, several data lines, comments, unknown fields."""
    name = b""
    data = []
    for line in frame.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value
        elif field == b"data":
            data.append(value)
    return name, b"\n".join(data)
