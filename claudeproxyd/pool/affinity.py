"""Session affinity: which credential a session's prompt cache is at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

C = TypeVar("C")


class Affinity(Generic[C]):
    """The credential that one session is kept on, for one model."""

    __slots__ = ("reported", "target", "used")

    def __init__(self, target: C, now: float) -> None:
        self.target = target
        self.used = now
        """The time at which the target last served the session."""
        self.reported = now
        """The time at which a use was last passed to *changed*."""


class SessionAffinities(Generic[C]):
    """A bounded map from (session, model) to credential.

    The least recently used entry goes first, and each ends *ttl* seconds after its last use.
    """

    def __init__(self, ttl: float, bound: int, changed: Callable[[str, str, Affinity[C] | None], None]) -> None:
        """Begin without entries. *changed* is called with a session, a model and its new affinity; None: it ended."""
        self.ttl = ttl
        self._bound = bound
        self._changed = changed
        self._entries: OrderedDict[tuple[str, str], Affinity[C]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[tuple[str, str], Affinity[C]]]:
        """Yield all entries, the least recently used first."""
        return iter(self._entries.items())

    def is_current(self, session: str, model: str, affinity: Affinity[C]) -> bool:
        """Return whether that is what there is of *session* for *model*."""
        return self._entries.get((session, model)) is affinity

    def find(self, session: str, model: str, now: float) -> Affinity[C] | None:
        """Return the affinity of *session* for *model*, or None."""
        affinity = self._entries.get((session, model))
        if affinity is not None and now - affinity.used > self.ttl:
            self._forget((session, model))
            return None
        return affinity

    def bind(self, session: str, model: str, target: C, now: float) -> None:
        """Note that *target* served *session* just now. Uses are reported once in a quarter of the *ttl*."""
        key = (session, model)
        entries = self._entries
        affinity = entries.get(key)
        if affinity is not None and affinity.target is target and now - affinity.reported <= self.ttl / 4:
            affinity.used = now
            entries.move_to_end(key)
            return
        entries[key] = affinity = Affinity(target, now)
        entries.move_to_end(key)
        self._changed(session, model, affinity)
        oldest = next(iter(entries))
        if len(entries) > self._bound or now - entries[oldest].used > self.ttl:
            self._forget(oldest)

    def _forget(self, key: tuple[str, str]) -> None:
        del self._entries[key]
        self._changed(*key, None)
