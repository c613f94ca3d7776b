"""A queue of requests that wait for a credential: clients take turns, and each is served in order of arrival.

Requests that want the same are interchangeable as far as readiness goes, so they stand in one *line*: when the first
of a line cannot be served, none of it can. A client has one turn over all lines: when it is served in one, it goes to
the end in every line where it waits.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

W = TypeVar("W")


class Line(Generic[W]):
    """The waiting requests for the same routes."""

    __slots__ = ("by_client",)

    def __init__(self) -> None:
        self.by_client: OrderedDict[str, OrderedDict[W, None]] = OrderedDict()

    def first(self) -> W:
        """Return the request whose turn it is."""
        return next(iter(next(iter(self.by_client.values()))))

    def __iter__(self) -> Iterator[W]:
        return (one for waiting in self.by_client.values() for one in waiting)


class Queue(Generic[W]):
    """All lines. The bound is the caller's to keep, with ``len`` and :meth:`to_evict`."""

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, Line[W]] = OrderedDict()
        self._of_client: dict[str, Counter[Hashable]] = {}
        """The lines that each client waits in, and how often."""
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, key: Hashable) -> bool:
        """Return whether a request waits in the line of *key*."""
        return key in self._lines

    def lines(self) -> list[tuple[Hashable, Line[W]]]:
        """Return all lines, the least recently served first."""
        return list(self._lines.items())

    def join(self, key: Hashable, client: str, one: W) -> None:
        """Enqueue *one*."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line()
        line.by_client.setdefault(client, OrderedDict())[one] = None
        self._of_client.setdefault(client, Counter())[key] += 1
        self._length += 1

    def to_evict(self, client: str) -> W | None:
        """Return the request to remove from a full queue, so that *client* may join.

        This is the last one of the client with the most; None where that has no more than *client* would have.
        """
        waiting = {each: lines.total() for each, lines in self._of_client.items()}
        greediest = max(waiting, key=waiting.__getitem__, default=client)
        if waiting.get(greediest, 0) <= waiting.get(client, 0) + 1:
            return None
        lines = self._of_client[greediest]
        return next(reversed(self._lines[max(lines, key=lines.__getitem__)].by_client[greediest]))

    def leave(self, key: Hashable, client: str, one: W) -> None:
        """Dequeue *one*, and leave its client's turn as it is."""
        line = self._lines[key]
        waiting = line.by_client[client]
        del waiting[one]
        self._length -= 1
        lines = self._of_client[client]
        lines[key] -= 1
        if waiting:
            return
        del line.by_client[client]
        del lines[key]
        if not lines:
            del self._of_client[client]
        if not line.by_client:
            del self._lines[key]

    def turn(self, key: Hashable, client: str) -> None:
        """Move *client* to the end of all its lines, and the line of *key* to the end of the lines."""
        for other in self._of_client[client]:
            self._lines[other].by_client.move_to_end(client)
        self._lines.move_to_end(key)
