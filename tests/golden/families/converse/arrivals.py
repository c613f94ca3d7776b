"""The ways in which the same answer can arrive: AWS's event streams, encoded here by their specification."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from zlib import crc32

from tests.golden.families.family import Json, pieces


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message: lengths, their CRC, headers (all strings), payload, and the CRC of it all."""
    block = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    message = prelude + struct.pack("!I", crc32(prelude)) + block + payload
    return message + struct.pack("!I", crc32(message))


def event(chunk: Json, *, padded: bool = False) -> bytes:
    """The message of one event or exception, which is the only member of *chunk*."""
    ((name, members),) = chunk.items()
    if name.endswith("Exception"):
        headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    else:
        headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
        members = {**members, **({"p": "abcdefghijklmnopqrstuvwxyzABCDEFG"} if padded else {})}
    return frame(headers, json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode())


def arrivals(chunks: Sequence[Json]) -> Iterator[tuple[str, list[bytes]]]:
    """Names of ways, and the reads that they come in, cut at good places and at bad ones."""
    events = [event(chunk) for chunk in chunks]
    yield "event by event", events
    yield "at once", [b"".join(events)]
    padded = b"".join(event(chunk, padded=True) for chunk in chunks)
    yield "padded, in sevens", pieces(padded, 7)
    yield "byte by byte", pieces(b"".join(events), 1)
