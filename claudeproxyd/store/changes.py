"""The way of changes from what keeps state to the store of the moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class StateChanges:
    """Takes every change of state; made before all that has any. Passes it on while a store is open."""

    def __init__(self) -> None:
        self._save: Callable[[Mapping[str, object]], None] | None = None

    def __call__(self, changes: Mapping[str, object]) -> None:
        """Have *changes*, keys to values, stored; forget them while no store is open."""
        if self._save is not None:
            self._save(changes)

    def open(self, save: Callable[[Mapping[str, object]], None]) -> None:
        """Pass changes on to *save*, which neither blocks nor raises."""
        self._save = save

    def close(self) -> None:
        """Pass nothing on any more."""
        self._save = None
