"""State that outlives the daemon, from several places as one: the first word of a key says whose it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from zope.interface import implementer

from claudeproxyd.interfaces import IPersistent

_first_word = re.compile(r'\["([a-z]+)"').match


@implementer(IPersistent)
class PersistentState:
    """Several parts as one."""

    def __init__(self, parts: Mapping[str, IPersistent], changed: Callable[[Mapping[str, object]], None]) -> None:
        """*parts* by the first words of their keys, the pool first. *changed* is what they were given too."""
        self._parts = parts
        self._changed = changed

    def export_state(self) -> Iterator[Mapping[str, object]]:
        """See :class:`~claudeproxyd.interfaces.IPersistent`."""
        for part in dict.fromkeys(self._parts.values()):
            yield from part.export_state()

    def import_state(self, saved: Mapping[str, object]) -> None:
        """See :class:`~claudeproxyd.interfaces.IPersistent`. A key that is nobody's makes no sense."""
        for part, shares in self._shares(saved).items():
            if part is not None:
                part.import_state(shares)
            else:
                self._changed(dict.fromkeys(shares))

    def merge(self, changes: Mapping[str, object]) -> None:
        """See :class:`~claudeproxyd.interfaces.IPersistent`."""
        for part, shares in self._shares(changes).items():
            if part is not None:
                part.merge(shares)

    def _shares(self, changes: Mapping[str, object]) -> dict[IPersistent | None, dict[str, object]]:
        shares: dict[IPersistent | None, dict[str, object]] = {}
        for key, value in changes.items():
            word = _first_word(key)
            part = self._parts.get(word[1]) if word else None
            shares.setdefault(part, {})[key] = value
        return shares
