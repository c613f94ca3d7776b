"""The calls of one answer, out of pieces that servers tell apart in ways of their own.

By the protocol each piece has an ``index``, and the first of a call its id and name. But there are servers that leave
the index out, or have 0 for all; that give no id, an empty one, one in every piece, or a late one; that give the name
late. So a piece belongs to the call with its id, else to the one at its index, else to the last, unless it shows that
another begins.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from claudeproxyd.messages.block import is_object
from claudeproxyd.messages.reader import MalformedAnswer

if TYPE_CHECKING:
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.translate.names import ToolNames
    from claudeproxyd.translate.openai_chat.chunks import CallPiece


class _Call:
    __slots__ = ("given", "id", "index", "name", "pieces")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.given = ""
        """The server's id of it."""
        self.name = ""
        self.id = ""
        """The client's id of it, once it has begun."""
        self.pieces: list[str] = []
        """Of its arguments."""


class Calls:
    """Puts the calls together, and passes each piece on as it comes."""

    def __init__(self, machine: BlockMachine, names: ToolNames, taken: Collection[str]) -> None:
        """*taken*: the ids of the conversation's earlier calls, which no new one may have."""
        self._machine = machine
        self._names = names
        self._taken = taken
        self._calls: list[_Call] = []
        self._by_index: dict[int | None, _Call] = {}
        self._by_given: dict[str, _Call] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._calls)

    @property
    def first(self) -> str:
        """The client's id of the first call; '' while it has not begun."""
        return self._calls[0].id if self._calls else ""

    def add(self, piece: CallPiece) -> None:
        """Take one piece."""
        function = piece.function
        call = self._by_index.get(piece.index)
        if call is not None and call.id and function is not None and not (piece.id or function.name):
            self._add_arguments(call, function.arguments)  # nearly always
            return
        name = (function.name if function is not None else None) or ""
        arguments = function.arguments if function is not None else None
        given = (piece.id or "").strip()
        index = piece.index
        if call is None or not (given == call.given or not given) or (name and call.name):
            if not (name or given or arguments or call is not None):
                return
            call = self._belonging(index, given, name)
        if name and not call.name:
            call.name = name
        self._add_arguments(call, arguments)
        if call.name and not call.id:
            self._begin(call)

    def _add_arguments(self, call: _Call, arguments: str | None) -> None:
        if arguments:
            call.pieces.append(arguments)
            if call.id:
                self._machine.tool_input(call.id, arguments)

    def end(self) -> None:
        """Nothing more comes. Raises :class:`MalformedAnswer` for a call that has no name."""
        for call in self._calls:
            if not call.id:
                raise MalformedAnswer("a function call without a name")
            self._machine.tool_end(call.id)

    def _belonging(self, index: int | None, given: str, name: str) -> _Call:
        """Return the call that a piece belongs to, which may be a new one."""
        last = self._calls[-1] if self._calls else None
        at = self._by_index.get(index) if index is not None else last
        if given:
            known = self._by_given.get(given)
            if known is not None and (index is None or known.index in (None, index)):
                return known
            if at is not None and not at.given and not (name and at.name):  # its id comes late
                self._give(at, given)
                return at
            return self._new(index, given)
        if at is None:
            return self._new(index, given)
        begins = bool(name) and bool(at.name) and (index is None or is_object("".join(at.pieces)))
        return self._new(index, given) if begins else at

    def _new(self, index: int | None, given: str) -> _Call:
        call = _Call(index)
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        if given:
            self._give(call, given)
        return call

    def _give(self, call: _Call, given: str) -> None:
        call.given = given
        self._by_given[given] = call

    def _begin(self, call: _Call) -> None:
        id = call.given if call.given and call.given not in self._taken else None
        call.id = self._machine.tool_use(self._names.client(call.name), id)
        for arguments in call.pieces:
            self._machine.tool_input(call.id, arguments)
