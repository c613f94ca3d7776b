"""What falls due when: a heap whose items may be withdrawn without a search."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class DeadlineHeap(Generic[T]):
    """Items by the moment they fall due, on whatever clock the caller uses.

    Nothing is ever taken out of the middle: an item that was moved or withdrawn is passed over when it comes up, which
    *stands* tells from the entry's moment and item. Now and then all such are dropped at once, so that the agenda stays
    within about twice the size of what is truly on it.
    """

    def __init__(self, stands: Callable[[float, T], bool]) -> None:
        self._stands = stands
        self._heap: list[tuple[float, int, T]] = []
        self._serial = count()
        self._clean_at = 64

    def __len__(self) -> int:
        """Entries, withdrawn ones included: what it costs in memory."""
        return len(self._heap)

    def put(self, when: float, item: T) -> None:
        """*item* falls due at *when*."""
        if len(self._heap) >= self._clean_at:
            self._heap = [entry for entry in self._heap if self._stands(entry[0], entry[2])]
            heapify(self._heap)
            self._clean_at = max(64, 2 * len(self._heap))
        heappush(self._heap, (when, next(self._serial), item))

    def next(self) -> float | None:
        """When the first item falls due; None when there is none."""
        heap = self._heap
        while heap and not self._stands(heap[0][0], heap[0][2]):
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float, most: int) -> list[T]:
        """Take off, in order, up to *most* items that are due."""
        items: list[T] = []
        while len(items) < most and (when := self.next()) is not None and when <= now:
            items.append(heappop(self._heap)[2])
        return items
