"""Arguments of a function call that come in pieces.

Vertex AI streams them so where it was asked to, each piece with the JSON path (RFC 9535, as far as it names one place)
of the value that it adds to: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling.
"""

from __future__ import annotations

import itertools
import re

import msgspec

from claudeproxyd.messages.block import BlockError

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,9})\]|\['([^'\\]*)'\]|\["([^"\\]*)"\]""")


class _Piece(msgspec.Struct, rename="camel"):
    json_path: str
    string_value: str | None = None
    number_value: int | float | None = None
    bool_value: bool | None = None
    null_value: str | msgspec.UnsetType | None = msgspec.UNSET


_decode = msgspec.json.Decoder(list[_Piece]).decode


class _String:
    """A string that grows."""

    def __init__(self) -> None:
        self.pieces: list[str] = []


_encode = msgspec.json.Encoder(enc_hook=lambda string: "".join(string.pieces)).encode


class PartialCall:
    """One call while its arguments come."""

    def __init__(self, name: str, id: str | None, limit: int) -> None:
        """*limit*: bytes that the pieces may have."""
        self.name = name
        self.id = id
        self.signature: str | None = None
        self._left = limit
        self._root: dict[str, object] = {}

    def add(self, partial_args: msgspec.Raw) -> None:
        """Some more of them. Raises MsgspecError, and BlockError when they fit nowhere or are too many."""
        self._left -= len(memoryview(partial_args))
        if self._left < 0:
            raise BlockError("the arguments of a function call are too long")
        for piece in _decode(partial_args):
            self._place(piece)

    def args(self) -> str:
        """Return all of the arguments, a JSON object."""
        return _encode(self._root).decode()

    def _place(self, piece: _Piece) -> None:
        at: object = self._root
        path = _steps(piece.json_path)
        for step, following in itertools.pairwise(path):
            at = _child(at, step, [] if isinstance(following, int) else {})
        if piece.string_value is not None:
            string = _child(at, path[-1], _String())
            if not isinstance(string, _String):
                raise BlockError("a string among the arguments goes on as another value")
            string.pieces.append(piece.string_value)
        elif piece.number_value is not None:
            _child(at, path[-1], piece.number_value)
        elif piece.bool_value is not None:
            _child(at, path[-1], piece.bool_value)
        elif piece.null_value is not msgspec.UNSET:
            _child(at, path[-1], None)


def _steps(path: str) -> list[str | int]:
    """Return ``$.a[0]['b']`` as its names and indices."""
    steps: list[str | int] = []
    at = 1
    while found := _STEP.match(path, at):
        name, index, *quoted = found.groups()
        steps.append(int(index) if index is not None else next(n for n in (name, *quoted) if n is not None))
        at = found.end()
    if not steps or at < len(path) or not path.startswith("$"):
        raise BlockError("no path to one argument")
    return steps


def _child(parent: object, step: str | int, new: object) -> object:
    """Return what is at that place of *parent*; *new*, put there, where nothing is."""
    if isinstance(parent, dict) and isinstance(step, str):
        return parent.setdefault(step, new)
    if isinstance(parent, list) and isinstance(step, int) and step <= len(parent):
        if step == len(parent):
            parent.append(new)
        return parent[step]
    raise BlockError("no place for an argument")
