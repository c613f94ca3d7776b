"""What several processes of one daemon find out at about the same time is told to people once. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from claudeproxyd.happenings import Happening

if TYPE_CHECKING:
    from claudeproxyd.observe.transitions import Transition

#: Seconds within which another process means the same occasion.
WINDOW = 60.0
#: Occasions that are remembered.
MAX_REMEMBERED = 10_000

_Subject = frozenset[tuple[str, str]]


class ToldOnce:
    """Remembers what was told of what, when, and by whom."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, _Subject], tuple[float, object]] = OrderedDict()
        self._unserved: dict[_Subject, set[object]] = {}
        """Who found out that it began of each outage that was told and not its end."""

    def is_new(self, transition: Transition, teller: object) -> bool:
        """Whether *transition*, of which *teller* tells, is to be passed on.

        Of an outage that is its beginning where none lasts, and its end where one does; of all else what nobody but
        *teller* has told within :data:`WINDOW`.
        """
        subject = frozenset(transition.subject.items())
        if transition.what is Happening.MODEL_UNSERVED:
            return self._begins(subject, teller)
        if transition.what is Happening.MODEL_SERVED:
            return self._unserved.pop(subject, None) is not None
        key = (transition.what, subject)
        when, who = self._told.get(key, (0.0, teller))
        if who is not teller and transition.time - when < WINDOW:
            return False
        self._told[key] = (transition.time, teller)
        self._told.move_to_end(key)
        if len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
        return True

    def gone(self, teller: object) -> None:
        """Forget what only *teller* knew of, which has died: nobody will tell its end."""
        for tellers in self._unserved.values():
            tellers.discard(teller)
        self._unserved = {subject: tellers for subject, tellers in self._unserved.items() if tellers}

    def _begins(self, subject: _Subject, teller: object) -> bool:
        tellers = self._unserved.get(subject)
        if tellers is None or teller in tellers:  # who tells it twice has forgotten the first, and told no end
            self._unserved[subject] = {teller}
            return True
        tellers.add(teller)
        return False
