"""Tolerant reading of JSON that is passed on as it is: what can be read of it must not decide whether it arrives."""

from __future__ import annotations

import json
import re
from typing import TypeGuard

import msgspec

from claudeproxyd.json_guards import UNREADABLE

_decode = msgspec.json.Decoder().decode
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

#: Bytes of an object that it takes long to take apart.
LARGE_BYTES = 262_144
#: By how they begin.
_EMPTY: dict[int, object] = {ord("{"): {}, ord("["): []}

#: Escapes that are looked at: each takes a tenth of a microsecond, and a client may send millions …
_MAX_ESCAPES = 500_000
#: … and those of surrogates, which take longer.
_MAX_SURROGATES = 100_000

#: A pair, half of one, or any other escape; and what follows up to the next that may be one of the first two. It begins
#: with a plain backslash, which is found far sooner than one of several beginnings. The group is not possessive: in
#: Python 3.11.2, Debian's, such a one keeps a part of what did not match.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
    rb"(?:[^\\]*+\\(?!u[dD]).)*",
    re.DOTALL,
)
_HALF_CHARS = len(r"\ud83d")


def read_object(data: bytes) -> dict[str, object] | None:
    """Return the JSON object that *data* is, or None. Pure; for answers that are passed on as they are.

    Where msgspec is strict the last word is the standard library's, as clients' parsers are no stricter: a byte order
    mark, NaN, half a surrogate pair. Bytes that are no UTF-8 break nothing but the text that they are in.

    Of a large one those members that are large themselves are empty, since nothing that is looked at is, and NaN breaks
    it: to take it apart would take seconds.
    """
    if len(data) > LARGE_BYTES:
        return _read_large(data)
    try:
        value = _decode(data)
    except UNREADABLE:
        try:
            value = json.loads(data.decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _read_large(data: bytes) -> dict[str, object] | None:
    try:
        members = _split(data)
    except UNREADABLE:
        try:
            members = _split(without_halves(data.decode("utf-8-sig", "replace").encode()))
        except UNREADABLE:
            return None
    return {
        name: _decode(raw) if len(view := memoryview(raw)) <= LARGE_BYTES else _EMPTY.get(view[0], "")
        for name, raw in members.items()
    }


def is_word(value: object) -> TypeGuard[str]:
    """Whether *value* is a name of the API's, known or not: a stop reason, say."""
    return isinstance(value, str) and value.isascii() and value.isprintable()


def without_halves(data: bytes) -> bytes:
    """Return JSON with replacement characters for escaped halves of surrogate pairs, which are no text by themselves.

    Every other byte is where it was: what is found there stands at the same place in *data*. That itself is returned
    where there is none, or more escapes than are looked at.
    """
    if not _may_have_halves(data):
        return data
    found = _ESCAPES.sub(lambda it: it[0] if it[1] is None else rb"\ufffd" + it[0][_HALF_CHARS:], data)
    return data if found == data else found


def with_halves_joined(data: bytes, held: bytes) -> tuple[bytes, bytes]:
    """Return one event's JSON with the characters whole that were cut between two events, as JavaScript cuts them.

    Half of a surrogate pair that ends a text is taken out and returned beside it: it is *held* for the event behind,
    whose text begins with the other half. One whose other half does not come is lost.
    """
    halves = [each for each in _ESCAPES.finditer(data) if each[1] is not None] if _may_have_halves(data) else []
    if not halves:
        return data, b""
    first, last = halves[0].start(), halves[-1].start()
    cut = b""
    if _is_high(halves[-1]) and data.startswith(b'"', end := last + _HALF_CHARS):
        cut = data[last:end]
        data = data[:last] + data[end:]
    if held and not _is_high(halves[0]) and data.startswith(b'"', first - 1):
        data = data[:first] + held + data[first:]
    return data, cut


def _is_high(half: re.Match[bytes]) -> bool:
    """Whether it is the one that comes first."""
    return half[1][2:3] in b"89abAB"


def _may_have_halves(data: bytes) -> bool:
    surrogates = data.count(rb"\ud") + data.count(rb"\uD")
    return 0 < surrogates <= _MAX_SURROGATES and data.count(b"\\") <= _MAX_ESCAPES


def half_in(data: bytes) -> str:
    """Return where *data* has the first of these, in the words that the API refuses it with; '' if there is none."""
    found = _ESCAPES.finditer(data) if _may_have_halves(data) else ()
    half = next((each for each in found if each[1] is not None), None)
    if half is None:
        return ""
    before = data[: half.start()]
    line, column = before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace"))
    what = "no low" if _is_high(half) else "invalid high"
    return (
        f"{what} surrogate in string: line {line} column {column + 1} (char {len(before.decode('utf-8', 'replace'))})"
    )
