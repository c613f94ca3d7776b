"""Google's record of its own searches, which it wants back with every later turn.

Beside functions a search comes in parts of its own, ``toolCall`` and ``toolResponse``. All of them go back as they
came, signatures and all (https://ai.google.dev/gemini-api/docs/tool-combination): a ``toolCall`` without its own
``thoughtSignature`` is refused. Through the client they travel with the search's ``server_tool_use``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.translate.gemini.responses import is_there

if TYPE_CHECKING:
    from claudeproxyd.translate.gemini.responses import AnswerPart

#: Bytes of one search's record. Google's have some KB; clients send them again with every request.
MAX_RECORD_BYTES = 256 * 1024

_MEMBERS = {"toolCall", "toolResponse", "thoughtSignature"}


class _Args(msgspec.Struct):
    queries: list[str] | None = None


class _Call(msgspec.Struct):
    args: _Args | None = None


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_parts = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_encode = msgspec.json.Encoder().encode


class Search:
    """One search, or several that run at a time, until all of them are answered."""

    def __init__(self) -> None:
        self._parts: list[dict[str, object]] = []
        self._queries: list[str] = []
        self._size = 0
        self._unanswered = 0

    def add(self, part: AnswerPart) -> bool:
        """Add a ``toolCall`` or ``toolResponse``. Return whether the search is whole with it."""
        name, said = ("toolCall", part.tool_call) if is_there(part.tool_call) else ("toolResponse", part.tool_response)
        self._unanswered += 1 if name == "toolCall" else -1
        self._size += len(bytes(said)) + len(part.thought_signature or "")
        if self._size <= MAX_RECORD_BYTES:
            record: dict[str, object] = {name: msgspec.Raw(msgspec.json.format(said, indent=-1))}
            if part.thought_signature:
                record["thoughtSignature"] = part.thought_signature
            self._parts.append(record)
            if name == "toolCall":
                self._queries += _queries(said)
        return self._unanswered <= 0

    @property
    def queries(self) -> list[str]:
        """Return the queries of the search; at least one, '' where Google does not say."""
        return self._queries or [""]

    @property
    def record(self) -> bytes:
        """For :func:`read_record`; b'' if it is too long to travel."""
        return _encode(self._parts) if self._size <= MAX_RECORD_BYTES else b""


def read_record(record: bytes) -> list[dict[str, msgspec.Raw]] | None:
    """Return the parts as they came; None where clients have brought something else."""
    try:
        parts = _decode_parts(record)
    except UNREADABLE:
        return None
    return parts if all(part.keys() <= _MEMBERS for part in parts) else None


def _queries(call: msgspec.Raw) -> list[str]:
    try:
        args = _decode_call(call).args
    except msgspec.ValidationError:  # of another tool, or of another shape
        return []
    return (args.queries if args is not None else None) or []
