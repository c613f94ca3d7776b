"""Changing the blocks of a request's conversation, with every other byte of the body as it was. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.members import spans, without_members

#: Where it begins, where it ends, and what comes in its place.
Splice = tuple[int, int, bytes]

_CLEARS_THINKING = "clear_thinking_"


class _Request(msgspec.Struct):
    messages: list[msgspec.Raw]


class _Turn(msgspec.Struct):
    content: msgspec.Raw


class _Edit(msgspec.Struct):
    type: str = ""


class _Edits(msgspec.Struct):
    edits: list[msgspec.Raw] = []


class _Edited(msgspec.Struct):
    context_management: _Edits | None = None


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_turn = msgspec.json.Decoder(_Turn).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_edit = msgspec.json.Decoder(_Edit).decode
_decode_edited = msgspec.json.Decoder(_Edited).decode

#: The blocks that hold thoughts.
THINKING = ("thinking", "redacted_thinking")


def spliced(body: bytes, splices: Sequence[Splice]) -> bytes:
    """Return *body* with *splices* made; they are in order, and none reaches into the next."""
    pieces: list[bytes] = []
    at = 0
    for start, end, instead in splices:
        pieces += (body[at:start], instead)
        at = end
    pieces.append(body[at:])
    return b"".join(pieces)


def without_elements(elements: Sequence[tuple[int, int]], gone: Collection[int]) -> list[Splice]:
    """Return the splices that take these elements out of an array, each with one comma."""
    splices: list[Splice] = []
    kept = False
    for index, (start, end) in enumerate(elements):
        if index not in gone:
            kept = True
        elif kept:
            splices.append((elements[index - 1][1], end, b""))
        else:
            splices.append((start, elements[index + 1][0] if index + 1 < len(elements) else end, b""))
    return splices


def with_blocks(body: bytes, judge: Callable[[bytes], bytes | None], mark: bytes = b"") -> bytes:
    """Return *body* with other blocks in its messages: *judge* gives what takes a block's place, b'' for nothing, None
    for
    the block itself. It is asked of blocks that hold *mark* alone. A message that was left without any goes too.
    """
    try:
        turns = _decode_request(body).messages
    except UNREADABLE:
        return body
    places = spans(turns, body)
    empty = set()
    splices: list[Splice] = []
    for index, (start, end) in enumerate(places):
        if body.find(mark, start, end) < 0:
            continue
        made = _of_turn(body, turns[index], judge, mark)
        if made is None:
            empty.add(index)
        else:
            splices += made
    return spliced(body, sorted(splices + without_elements(places, empty)))


def _of_turn(
    body: bytes, turn: msgspec.Raw, judge: Callable[[bytes], bytes | None], mark: bytes
) -> list[Splice] | None:
    """Return the splices of one message; None if no block of it is left."""
    try:
        blocks = _decode_array(_decode_turn(turn).content)
    except UNREADABLE:  # a plain text, or what the API will refuse
        return []
    places = spans(blocks, body)
    gone = set()
    splices: list[Splice] = []
    for index, (start, end) in enumerate(places):
        instead = judge(body[start:end]) if body.find(mark, start, end) >= 0 else None
        if instead:
            splices.append((start, end, instead))
        elif instead is not None:
            gone.add(index)
    if gone and len(gone) == len(blocks):
        return None
    return splices + without_elements(places, gone)


def with_thinking_off(body: bytes) -> bytes:
    """Return the request with thinking off, and without the edits of its context that the API takes with thinking
    alone."""
    body = without_members(body, ("thinking",))
    try:
        edited = _decode_edited(body).context_management
        if edited is None:
            return body
        gone = {index for index, edit in enumerate(edited.edits) if _clears_thinking(edit)}
    except UNREADABLE:
        return body
    return spliced(body, without_elements(spans(edited.edits, body), gone))


def _clears_thinking(edit: msgspec.Raw) -> bool:
    return _decode_edit(edit).type.startswith(_CLEARS_THINKING)
