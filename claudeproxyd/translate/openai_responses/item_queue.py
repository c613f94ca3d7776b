"""The items of one answer, one after another.

Events of several items may mix. An item is *live* when all before it are whole: then what comes for it goes out at
once. What comes for another one waits in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.reader import MalformedAnswer
from claudeproxyd.translate.openai_responses.events import OutputPart, read

if TYPE_CHECKING:
    import msgspec

    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.translate.openai_responses.events import Item
    from claudeproxyd.translate.openai_responses.requests import ResponsesRequest
    from claudeproxyd.translate.openai_responses.sources import WebSources

#: Characters of what waits for other items to be whole, and of all pieces that are kept to be compared with the whole;
#: and items. No model's answers have as many.
MAX_WAITING = 8_388_608
MAX_KEPT = 33_554_432
MAX_ITEMS = 10_000


class AnswerItems:
    """What the items of one answer share."""

    def __init__(
        self,
        machine: BlockMachine,
        request: ResponsesRequest,
        sources: WebSources,
        note: Callable[[str], None],
    ) -> None:
        """*note* takes what is out of order, in words for a log."""
        self.machine = machine
        self.names = request.names
        self.call_ids = request.call_ids
        self.thinks = request.thinks
        self.shows = request.thinks and request.shows
        self.open_reasoning = request.open_reasoning
        self.sources = sources
        self.refused = ""
        """The model's own words where it refuses."""
        self.note = note
        self.waiting = 0
        """Characters of what waits."""
        self.kept = 0
        """Characters of pieces."""

    def parts(self, raws: list[msgspec.Raw] | None) -> list[OutputPart]:
        """Return the parts of an item's member; one that is no object is empty."""
        found = []
        for raw in raws or ():
            try:
                part, odd = read(raw, OutputPart)
            except UNREADABLE:
                part, odd = OutputPart(), "a part that is no object"
            if odd:
                self.note(odd)
            found.append(part)
        return found


class OutputItem(ABC):
    """One item: fed by events, and completed by the whole of it, as often as that is told."""

    kind: str

    def __init__(self, answer: AnswerItems) -> None:
        self.answer = answer
        self._part = -1
        """The part that is open, of a server that does not number them."""
        self.whole = False
        """Nothing more comes for it."""
        self._live = False
        self._waiting: list[str] = []

    @property
    def hollow(self) -> bool:
        """Whether it has nothing of what it should: that may still come with the whole answer."""
        return False

    @abstractmethod
    def complete(self, item: Item, raw: msgspec.Raw) -> None:
        """Add what the whole item has beyond what has come in pieces."""

    @abstractmethod
    def show(self, text: str) -> None:
        """Put a piece into the message; the item is live."""

    def next_part(self) -> None:
        """Begin another part that has no number."""
        self._part += 1

    def index(self, told: int | None) -> int:
        """Return the number of the part that an event is about."""
        return max(0, self._part) if told is None else told

    def begin(self) -> None:  # noqa: B027  # most have nothing to begin
        """Begin in the message, as far as that shows."""

    def end(self) -> None:  # noqa: B027
        """End in the message: the item is live, and whole."""

    def go_live(self) -> None:
        """All before it are whole."""
        self._live = True
        self.begin()
        waiting, self._waiting = self._waiting, []
        for text in waiting:
            self.answer.waiting -= len(text)
            self.show(text)

    def say(self, text: str) -> None:
        """Show a piece, or keep it."""
        if self._live:
            self.show(text)
            return
        self._waiting.append(text)
        self.answer.waiting += len(text)
        if self.answer.waiting > MAX_WAITING:
            raise MalformedAnswer(f"more than {MAX_WAITING} characters of items that wait for others")

    def rest(self, had: list[str], whole: str) -> str:
        """Return what *whole* has beyond the pieces *had*, which are joined."""
        before = "".join(had)
        had[:] = [whole]
        if whole.startswith(before):
            return whole[len(before) :]
        had[:] = [before]
        self.answer.note(f"a {self.kind} that is not what its pieces were")
        return ""


class ItemQueue:
    """The items of one answer, in the order in which they began."""

    def __init__(self) -> None:
        self.all: list[OutputItem] = []
        self._waiting: deque[OutputItem] = deque()

    def append(self, item: OutputItem) -> None:
        """Let an item follow."""
        if len(self.all) >= MAX_ITEMS:
            raise MalformedAnswer(f"more than {MAX_ITEMS} items")
        self.all.append(item)
        self._waiting.append(item)
        if len(self._waiting) == 1:
            item.go_live()

    def ended(self, item: OutputItem) -> None:
        """Nothing more comes for *item*: if it is the live one, the next goes live."""
        item.whole = True
        waiting = self._waiting
        while waiting and waiting[0].whole:
            waiting.popleft().end()
            if waiting:
                waiting[0].go_live()

    def end_all(self) -> None:
        """Nothing more comes for any of them."""
        for item in self.all:
            item.whole = True
        if self._waiting:
            self.ended(self._waiting[0])
