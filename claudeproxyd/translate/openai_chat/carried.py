"""What travels with a thinking block of a model behind chat completions: whose reasoning it is, and what is not shown.

Inside the minted signature, as a JSON array: its first member tells it from what other backends of the family carry.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from claudeproxyd.json_guards import UNREADABLE

#: Whose maker's model the reasoning comes from, and how it came.
_TAG = "chat"


class Carried(msgspec.Struct, array_like=True, tag=_TAG, gc=False):
    """One stretch of reasoning."""

    maker: str
    form: str
    """The member that it came in: it goes back in the same one, where a server does not insist on another."""
    text: str = ""
    """Where the client is not shown it; else it is the block's own."""
    details: list[Raw] = []
    """Of ``reasoning_details``, which are to go back as they came."""


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Carried).decode


def read_carried(payload: bytes) -> Carried | None:
    """Return what a signature of the family carries; None where another backend has minted it."""
    try:
        return _decode(payload)
    except UNREADABLE:
        return None
