"""The ways in which the same answer can arrive."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tests.golden.families.family import pieces


def arrivals(chunks: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[bytes]]]:
    """Names of ways, and the reads that they come in: as SSE and as an array, cut at good places and at bad ones."""
    texts = [json.dumps(chunk, ensure_ascii=False).encode() for chunk in chunks]
    events = [b"data: %b\n\n" % text for text in texts]
    yield "event by event", events
    yield "SSE at once", [b"".join(events)]
    crlf = b"".join(b"data: %b\r\n\r\n" % text for text in texts)
    yield "SSE with CRLF, in sevens", pieces(crlf, 7)
    yield "SSE byte by byte", pieces(b"".join(events), 1)
    pretty = [json.dumps(chunk, indent=2, ensure_ascii=False).encode() for chunk in chunks]
    array = b"[" + b"\n,\r\n".join(pretty) + b"\n]"
    yield "array at once", [array]
    yield "array in thirteens", pieces(array, 13)
    yield "array byte by byte", pieces(array, 1)
