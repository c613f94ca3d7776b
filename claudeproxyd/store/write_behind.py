"""Changes of state that are still to be written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from twisted.logger import Logger

#: Keys at once; a change of another key is dropped then. There are fewer unless nothing can be written for long.
MAX_PENDING_KEYS = 100_000
#: How the keys begin whose change is due at once: a token that a server gave in the place of one it takes no more.
_PRESSING = '["grant",'


class WriteBehind:
    """Holds the last value of each changed key, and when it was set, until they are taken to be written. Bounded."""

    _log = Logger()

    def __init__(self, due: Callable[[], None], wall_clock: Callable[[], float] = time.time) -> None:
        """*due* is called when the first change has come, and again when the first pressing one has."""
        self._due = due
        self._wall_clock = wall_clock
        self._changes: dict[str, tuple[float, object]] = {}
        self.pressing = False
        """Something waits that should be written at once."""
        self.dropped = 0
        """Changes lost because too much was waiting."""

    def __len__(self) -> int:
        return len(self._changes)

    def __contains__(self, key: str) -> bool:
        return key in self._changes

    def get(self, key: str) -> tuple[float, object] | None:
        """Return when *key* changed, in wall-clock seconds, and its value."""
        return self._changes.get(key)

    def add(self, changes: Mapping[str, object]) -> None:
        """Add *changes*, stamped with the time, in the place of earlier ones of these keys."""
        waiting = self._changes
        due = not waiting
        now = self._wall_clock()
        for key, value in changes.items():
            if len(waiting) >= MAX_PENDING_KEYS and key not in waiting:
                self._drop()
                continue
            waiting[key] = (now, value)
            if not self.pressing and key.startswith(_PRESSING):
                due = self.pressing = True
        if due:
            self._due()

    def take(self, most: int) -> dict[str, tuple[float, object]]:
        """Remove and return up to *most* changes, the longest waiting first."""
        if len(self._changes) <= most:
            taken, self._changes = self._changes, {}
            self.pressing = False
            return taken
        keys = [key for key, _ in zip(self._changes, range(most), strict=False)]
        return {key: self._changes.pop(key) for key in keys}

    def put_back(self, taken: Mapping[str, tuple[float, object]]) -> None:
        """Add changes that could not be written, except where the key has changed since."""
        self._changes = {**taken, **self._changes}

    def _drop(self) -> None:
        if not self.dropped:
            self._log.warn(
                "more than {bound} changes of state wait to be written: others are dropped", bound=MAX_PENDING_KEYS
            )
        self.dropped += 1
