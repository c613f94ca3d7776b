"""The mark by which a daemon knows a request that it has sent itself: a ``base_url`` may lead back here. Pure.

Each daemon that a request goes through adds its name to the header. Several in a row are fine; the same one twice is a
circle, and so is a row that no farm has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HEADER = b"x-claudeproxyd-hop"
#: Daemons in a row.
MAX_HOPS = 8

_NAME = re.compile(rb"[0-9a-f]{16}")


def before(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the daemons that a request has been through; anything else that a client wrote there is skipped."""
    hops: list[bytes] = []
    for name, value in headers:
        if name == HEADER:
            hops += _NAME.findall(value)
    return hops


def line(own: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Return the header line for a request that *own*, a daemon's name, sends on; *headers* are those that it came
    with."""
    return b"%b: %b\r\n" % (HEADER, b", ".join([*before(headers), own]))


def goes_round(own: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request has been here before, or will never arrive."""
    hops = before(headers)
    return bool(hops) and (own in hops or len(hops) >= MAX_HOPS)
