"""What of the daemon outlives it, as one: each part is known by the first word of its keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

_first_word = re.compile(r'\["([a-z]+)"').match


class Part(Protocol):
    """A part of the daemon that remembers. Keys are JSON lists, values are plain; None stands for what is no more."""

    changed: Callable[[Mapping[str, Any]], None] | None
    """Told of every change."""

    def export_state(self) -> Mapping[str, Any]:
        """Everything at once."""

    def import_state(self, saved: Mapping[str, Any]) -> None:
        """Take over what was saved; *changed* is told to delete what makes no sense."""

    def learn(self, changes: Mapping[str, Any]) -> None:
        """Take over what another daemon's *changed* was told, and tell nobody."""


class Parts:
    """Several parts in the place of one."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        """*parts* by the first words of their keys."""
        self._parts = parts
        self._changed: Callable[[Mapping[str, Any]], None] | None = None

    @property
    def changed(self) -> Callable[[Mapping[str, Any]], None] | None:
        """See :class:`Part`: told of every part's changes."""
        return self._changed

    @changed.setter
    def changed(self, changed: Callable[[Mapping[str, Any]], None] | None) -> None:
        self._changed = changed
        for part in self._parts.values():
            part.changed = changed

    def export_state(self) -> Mapping[str, Any]:
        """See :class:`Part`."""
        parts = dict.fromkeys(self._parts.values())
        return {key: value for part in parts for key, value in part.export_state().items()}

    def import_state(self, saved: Mapping[str, Any]) -> None:
        """See :class:`Part`. A key that is nobody's makes no sense."""
        for part, shares in self._shares(saved).items():
            if part is not None:
                part.import_state(shares)
            elif self._changed is not None:
                self._changed(dict.fromkeys(shares))

    def learn(self, changes: Mapping[str, Any]) -> None:
        """See :class:`Part`."""
        for part, shares in self._shares(changes).items():
            if part is not None:
                part.learn(shares)

    def _shares(self, changes: Mapping[str, Any]) -> dict[Part | None, dict[str, Any]]:
        shares: dict[Part | None, dict[str, Any]] = {}
        for key, value in changes.items():
            word = _first_word(key)
            part = self._parts.get(word[1]) if word else None
            shares.setdefault(part, {})[key] = value
        return shares
