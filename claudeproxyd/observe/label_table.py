"""A table of figures by labels, whose size what clients make up cannot blow up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from claudeproxyd.observe.exposition import Labels

if TYPE_CHECKING:
    from collections.abc import Set

OTHER = "other"
#: How many label sets a table has before models are no longer told apart in new ones.
MAX_ROWS = 500
#: Characters of a label that somebody else has chosen.
MAX_LABEL_CHARACTERS = 200

Row = TypeVar("Row")
T = TypeVar("T")


class LabelTable(dict[Labels, Row]):
    """A row of figures for each label set, made on first use. The second label is the model: a full table folds it,
    unless the operator named it."""

    def __init__(self, make: Callable[[], Row], named: Set[str]) -> None:
        super().__init__()
        self._make = make
        self._named = named

    def __missing__(self, key: Labels) -> Row:
        if len(self) >= MAX_ROWS and key[1] not in self._named:
            key = (key[0], OTHER, *key[2:])
        row = self.get(key)
        if row is None:
            row = self[key] = self._make()
        return row

    def each(self, figure: Callable[[Row], T]) -> dict[Labels, T]:
        """Return one value of all rows."""
        return {key: figure(row) for key, row in self.items()}
