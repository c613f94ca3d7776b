"""What operators are to hear of at once: something began that they should look at, or it is over.

Whoever finds out says so here, and logs it himself, but for outages; whoever tells people takes it from here. Pure, but
for its clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex

from claudeproxyd.happenings import Happening

#: States that are remembered at once, so that each is told once.
MAX_LASTING = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One thing that happened."""

    what: Happening
    message: str
    """In a sentence, for people."""
    subject: Mapping[str, str]
    """What it is about: ``model``, or ``provider`` and ``credential`` …"""
    time: float
    """Since the epoch."""
    id: str = field(default_factory=lambda: f"evt_{token_hex(12)}")


class Transitions:
    """Passes on what happens. One in a process."""

    def __init__(self, now: Callable[[], float]) -> None:
        """*now*: since the epoch."""
        self._now = now
        self._observers: list[Callable[[Transition], None]] = []
        self._lasting: set[tuple[Happening, frozenset[tuple[str, str]]]] = set()

    def subscribe(self, observer: Callable[[Transition], None]) -> None:
        """Have *observer* called with all that happens; it may neither block nor raise."""
        self._observers.append(observer)

    def tell(self, what: Happening, message: str, **subject: str) -> None:
        """Pass on what happened; called once for it."""
        transition = Transition(what=what, message=message, subject=subject, time=self._now())
        for observer in self._observers:
            observer(transition)

    def begin(self, what: Happening, message: str, **subject: str) -> None:
        """Pass on that a state has begun, unless it lasts already."""
        state = (what, frozenset(subject.items()))
        if state not in self._lasting and len(self._lasting) < MAX_LASTING:
            self._lasting.add(state)
            self.tell(what, message, **subject)

    def lasts(self, what: Happening, **subject: str) -> None:
        """Note that a state has begun which was told elsewhere."""
        if len(self._lasting) < MAX_LASTING:
            self._lasting.add((what, frozenset(subject.items())))

    def end(self, what: Happening, **subject: str) -> None:
        """Note that a state is over: it is told when it begins again."""
        self._lasting.discard((what, frozenset(subject.items())))
