"""Taking top-level members out of a JSON object without touching the rest of its bytes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import cffi
import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.loose import without_halves

_BLANKS = re.compile(rb"[ \t\r\n]*")
_COMMA = ord(",")


class _Name:
    """A key. No two are equal: of a member that is given twice both are seen."""

    __slots__ = ("name",)

    def __init__(self, _: object, name: str) -> None:
        self.name = name


_ffi = cffi.FFI()
_decode_members = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=_Name).decode


def span(raw: msgspec.Raw, body: bytes) -> tuple[int, int]:
    """Return where a decoded member's value stands in the body."""
    return spans((raw,), body)[0]


def spans(values: Iterable[msgspec.Raw], body: bytes) -> list[tuple[int, int]]:
    """Return where decoded values stand in the body.

    A ``Raw`` is a view into the body, so its place is its address less the body's.
    """
    begin = _ffi.from_buffer(body) + 0  # no array but a pointer, which can be subtracted
    places = []
    for value in values:
        view = _ffi.from_buffer(value)
        start = view + 0 - begin
        end = start + len(view)
        if start < 0 or end > len(body):
            raise RuntimeError("msgspec.Raw is no view into the body any more")
        places.append((start, end))
    return places


def between(values: Iterable[msgspec.Raw], body: bytes) -> list[tuple[int, int]]:
    """Return where the body is in none of these decoded members' values."""
    places = []
    at = 0
    for start, end in sorted(spans(values, body)):
        places.append((at, start))
        at = end
    places.append((at, len(body)))
    return places


def outside(values: Iterable[msgspec.Raw], body: bytes) -> bytes:
    """Return the body without these decoded members' values: what is found in the rest is in none of them."""
    return b"".join([body[start:end] for start, end in between(values, body)])


def key_span(body: bytes, value_start: int) -> tuple[int, int]:
    """Return where the key of the value at *value_start* stands, quotes included; the key holds no escaped quote."""
    end = body.rindex(b'"', 0, body.rindex(b":", 0, value_start)) + 1
    return body.rindex(b'"', 0, end - 1), end


def without_members(body: bytes, names: Collection[str]) -> bytes:
    """Return the object without these members, and with every other byte as it was. *body* is known to be an object."""
    if not any(name.encode() in body for name in names):
        return body
    read = body
    try:
        try:
            members = _decode_members(body)
        except msgspec.DecodeError:
            read = without_halves(body)
            members = _decode_members(read)
    except UNREADABLE:  # a key that is no UTF-8: the upstream will refuse the body
        return body
    places = sorted(spans((raw for key, raw in members.items() if key.name in names), read))
    kept: list[bytes] = []
    at = 0
    for start, end in places:
        kept.append(body[at : key_span(body, start)[0]])
        after = _after_blanks(body, end)
        if body[after] != _COMMA:
            return b"".join(kept).rstrip(b" \t\r\n").removesuffix(b",") + body[end:]
        at = _after_blanks(body, after + 1)
    kept.append(body[at:])
    return b"".join(kept)


def _after_blanks(body: bytes, at: int) -> int:
    blanks = _BLANKS.match(body, at)
    assert blanks is not None
    return blanks.end()
