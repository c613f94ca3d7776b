"""What several processes of one daemon find out at about the same time is told to people once. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claudeproxyd.observe.transitions import Transition

#: Seconds within which another process means the same occasion.
WINDOW = 60.0
#: Occasions that are remembered.
MAX_REMEMBERED = 10_000


class ToldOnce:
    """Remembers what was told of what, when, and by whom."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, frozenset[tuple[str, str]]], tuple[float, object]] = OrderedDict()

    def is_new(self, transition: Transition, teller: object) -> bool:
        """Whether *transition* is to be passed on: nobody but *teller* has told the same within :data:`WINDOW`."""
        key = (transition.what, frozenset(transition.subject.items()))
        when, who = self._told.get(key, (0.0, teller))
        if who is not teller and transition.time - when < WINDOW:
            return False
        self._told[key] = (transition.time, teller)
        self._told.move_to_end(key)
        if len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
        return True
