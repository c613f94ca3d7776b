"""Taking top-level members out of a JSON object without touching the rest of its bytes."""

from __future__ import annotations

from collections.abc import Collection

import cffi
import msgspec

_ffi = cffi.FFI()
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def span(raw: msgspec.Raw, body: bytes) -> tuple[int, int]:
    """Where a decoded member's value stands in the body.

    A ``Raw`` is a view into the body, so its place is its address less the body's; the slice is compared to be sure.
    """
    view = memoryview(raw)
    start = int(_ffi.cast("uintptr_t", _ffi.from_buffer(view))) - int(_ffi.cast("uintptr_t", _ffi.from_buffer(body)))
    end = start + len(view)
    if start < 0 or body[start:end] != view:
        raise RuntimeError("msgspec.Raw is no view into the body any more")
    return start, end


def key_span(body: bytes, value_start: int) -> tuple[int, int]:
    """Where the key of the value at *value_start* stands, quotes included; the key holds no escaped quote."""
    end = body.rindex(b'"', 0, body.rindex(b":", 0, value_start)) + 1
    return body.rindex(b'"', 0, end - 1), end


def _members(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _decode_members(body)
    except UnicodeDecodeError:  # a key that is no UTF-8: the upstream will refuse the body
        return {}


def without_members(body: bytes, names: Collection[str]) -> bytes:
    """The object without these members, and with every other byte as it was. *body* is known to be an object."""
    if not any(name.encode() in body for name in names):
        return body
    # A member that is given twice is seen once at a time.
    while spans := sorted(span(raw, body) for name, raw in _members(body).items() if name in names):
        for start, end in reversed(spans):
            key_start, _ = key_span(body, start)
            after = body[end:].lstrip(b" \t\r\n")
            if after.startswith(b","):
                body = body[:key_start] + after[1:].lstrip(b" \t\r\n")
            else:
                before = body[:key_start].rstrip(b" \t\r\n")
                body = before.removesuffix(b",") + body[end:]
    return body
