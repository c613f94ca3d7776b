"""A heap of deadlines whose items may be withdrawn without a search."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

#: Entries up to which withdrawn ones are not worth a clean-up.
MIN_CLEANED_ENTRIES = 64


class DeadlineHeap(Generic[T]):
    """Items by the moment at which they fall due, on whatever clock the caller uses.

    Nothing is ever taken out of the middle: an item that was moved or withdrawn is passed over when it comes up, which
    *stands* tells from the entry's moment and item. Now and then all such are dropped at once, so that the heap stays
    within about twice the size of what truly stands.
    """

    def __init__(self, stands: Callable[[float, T], bool]) -> None:
        self._stands = stands
        self._heap: list[tuple[float, int, T]] = []
        self._serial = count()
        self._clean_at = MIN_CLEANED_ENTRIES

    def __len__(self) -> int:
        """Return the number of entries, withdrawn ones included: the cost in memory."""
        return len(self._heap)

    def put(self, when: float, item: T) -> None:
        """Add *item*, due at *when*."""
        if len(self._heap) >= self._clean_at:
            self._heap = [entry for entry in self._heap if self._stands(entry[0], entry[2])]
            heapify(self._heap)
            self._clean_at = max(MIN_CLEANED_ENTRIES, 2 * len(self._heap))
        heappush(self._heap, (when, next(self._serial), item))

    def next(self) -> float | None:
        """Return when the first item falls due; None when there is none."""
        heap = self._heap
        while heap and not self._stands(heap[0][0], heap[0][2]):
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float, most: int) -> list[T]:
        """Remove up to *most* items that are due, and return them in order."""
        items: list[T] = []
        while len(items) < most and (when := self.next()) is not None and when <= now:
            items.append(heappop(self._heap)[2])
        return items
