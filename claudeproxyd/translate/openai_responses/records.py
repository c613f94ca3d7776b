"""What travels with a client from one turn to the next, since OpenAI keeps nothing: reasoning, and searches.

Sealed reasoning is in the signature of its thinking block, the item of a search in the input of its
``server_tool_use``; both minted, so that no other family is shown them.
"""

from __future__ import annotations

import msgspec

from claudeproxyd.json_guards import UNREADABLE

#: Whose minted signatures these are. Chat completions have another form of reasoning, and so another word.
SIGNATURES = "responses"
#: Bytes of one search's record; clients send them again with every request.
MAX_RECORD_BYTES = 256 * 1024

_SEARCH_MEMBERS = {"id", "type", "status", "action"}


class SealedReasoning(msgspec.Struct, omit_defaults=True):
    """A reasoning item, but for what of it can be read."""

    id: str
    encrypted_content: str = ""
    """'' where the reasoning came as text alone."""


encode_reasoning = msgspec.json.Encoder().encode
_decode_reasoning = msgspec.json.Decoder(SealedReasoning).decode
_decode_items = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def read_reasoning(payload: bytes) -> SealedReasoning | None:
    """Return what was sealed; None where clients have brought something else."""
    try:
        return _decode_reasoning(payload)
    except UNREADABLE:
        return None


def search_record(item: msgspec.Raw) -> bytes:
    """Return the record of a ``web_search_call``, for :func:`read_searches`; b'' if it is too long to travel."""
    raw = bytes(msgspec.json.format(item, indent=-1))
    return b"[%b]" % raw if len(raw) <= MAX_RECORD_BYTES else b""


def read_searches(record: bytes) -> list[dict[str, msgspec.Raw]] | None:
    """Return the items as they came; None where clients have brought something else."""
    try:
        items = _decode_items(record)
    except UNREADABLE:
        return None
    if all(item.keys() <= _SEARCH_MEMBERS and bytes(item.get("type", b"")) == b'"web_search_call"' for item in items):
        return items
    return None
