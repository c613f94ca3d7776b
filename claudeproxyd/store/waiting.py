"""Changes that are not yet where they are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

#: Keys at once; a change of another key is dropped then. There are fewer unless much happens while nothing
#: can be written.
BOUND = 100_000
#: How the keys begin whose change waits for no fellows: what a server gave in the place of what it takes no more.
_PRESSING = '["grant",'


class Waiting:
    """The last value of each key, and when it was said. Bounded; adding costs well under a microsecond."""

    _log = Logger()

    def __init__(self, due: Callable[[], None], wall_clock: Callable[[], float] = time.time) -> None:
        """*due* is called when the first change comes to wait, and again when the first does that is pressing."""
        self._due = due
        self._wall_clock = wall_clock
        self._changes: dict[str, tuple[float, Any]] = {}
        self.pressing = False
        """Something waits that should be written at once."""
        self.dropped = 0
        """Changes lost because too much was waiting."""

    def __len__(self) -> int:
        return len(self._changes)

    def __contains__(self, key: str) -> bool:
        return key in self._changes

    def get(self, key: str) -> tuple[float, Any] | None:
        """When *key* changed, in wall-clock seconds, and its value."""
        return self._changes.get(key)

    def add(self, changes: Mapping[str, Any]) -> None:
        """What *changes* says holds from now on."""
        waiting = self._changes
        due = not waiting
        now = self._wall_clock()
        for key, value in changes.items():
            if len(waiting) >= BOUND and key not in waiting:
                self._drop()
                continue
            waiting[key] = (now, value)
            if not self.pressing and key.startswith(_PRESSING):
                due = self.pressing = True
        if due:
            self._due()

    def take(self, most: int) -> dict[str, tuple[float, Any]]:
        """Up to *most* of them, the longest waiting first; they wait no more."""
        if len(self._changes) <= most:
            taken, self._changes = self._changes, {}
            self.pressing = False
            return taken
        keys = [key for key, _ in zip(self._changes, range(most), strict=False)]
        return {key: self._changes.pop(key) for key in keys}

    def put_back(self, taken: Mapping[str, tuple[float, Any]]) -> None:
        """They could not be written: those that did not change since wait on."""
        self._changes = {**taken, **self._changes}

    def _drop(self) -> None:
        if not self.dropped:
            self._log.warn("more than {bound} changes of state wait to be written: others are dropped", bound=BOUND)
        self.dropped += 1
