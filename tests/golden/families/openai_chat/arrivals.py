"""The ways in which the same answer can arrive."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from tests.golden.families.family import Json, pieces

DONE = b"data: [DONE]\n\n"


def events(chunks: Sequence[Json]) -> list[bytes]:
    """As OpenAI frames them."""
    return [*(b"data: %b\n\n" % json.dumps(chunk, ensure_ascii=False).encode() for chunk in chunks), DONE]


def arrivals(chunks: Sequence[Json]) -> Iterator[tuple[str, list[bytes]]]:
    """Names of ways, and the reads that they come in."""
    plain = events(chunks)
    yield "event by event", plain
    yield "at once", [b"".join(plain)]
    yield "byte by byte", pieces(b"".join(plain), 1)
    yield "with CRLF, in sevens", pieces(b"".join(plain).replace(b"\n", b"\r\n"), 7)
    yield "without [DONE]", plain[:-1]
    yield "without the last empty line", [b"".join(plain[:-1]).removesuffix(b"\n\n")]
    yield "no blank behind data:", [b"".join(plain).replace(b"data: ", b"data:")]
    yield "with comments", [part for event in plain for part in (b": OPENROUTER PROCESSING\n\n", event)]
    yield "with names and numbers", [b"id: 7\nevent: message\nretry: 5\n" + event for event in plain]
    yield "with a comment in the event", [b": keep-alive\n" + event for event in plain]
