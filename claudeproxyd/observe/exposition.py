"""Metric families and Prometheus' text format, pure.

Written here rather than by prometheus_client, since a scrape is served by the reactor: ten thousand rows take some
15 ms this way and more than 50 ms that way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

#: The values of a family's labels, in their order.
Labels = tuple[str, ...]


class Histogram:
    """Counts values by size."""

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        """Upper limits, ascending, inclusive; one more bucket takes the rest."""
        self.buckets = [0] * (len(bounds) + 1)
        self.total: float = 0

    def observe(self, value: float) -> None:
        """Count *value*."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """Return how many values were observed."""
        return sum(self.buckets)


Value = float | Histogram
Read = Callable[[], Value | Mapping[Labels, float] | Mapping[Labels, Histogram] | Iterator[tuple[Labels, Value]]]


class Registry(Protocol):
    """Where parts of the daemon register what is read from them when metrics are asked for."""

    def gauge(self, name: str, help: str, read: Read, labels: Sequence[str] = ()) -> None:
        """Add a gauge, or several by *labels*."""

    def counter(self, name: str, help: str, read: Read, labels: Sequence[str] = ()) -> None:
        """Add a counter, or several by *labels*."""

    def histogram(self, name: str, help: str, read: Read, labels: Sequence[str] = ()) -> None:
        """Add a histogram, or several by *labels*."""


class MetricFamily(NamedTuple):
    """One metric: its name, what it says, and where its values come from when they are asked for."""

    name: str
    kind: str
    """gauge, counter or histogram."""
    help: str
    labels: Labels
    """Their names."""
    read: Read

    def rows(self) -> Iterable[tuple[Labels, Value]]:
        """Return the values by their labels, as they are now. Raises whatever ``read`` does."""
        read = self.read()
        return read.items() if isinstance(read, Mapping) else read if isinstance(read, Iterator) else [((), read)]

    def lines(self) -> Iterator[str]:
        """Yield the family as text; each piece is one or more whole lines. Raises whatever ``read`` does."""
        help = self.help.replace("\\", "\\\\").replace("\n", "\\n")
        yield f"# HELP {self.name} {help}\n# TYPE {self.name} {self.kind}\n"
        for key, value in self.rows():
            labels = ",".join([f'{name}="{_escape(text)}"' for name, text in zip(self.labels, key, strict=True)])
            if isinstance(value, Histogram):
                yield _histogram(self.name, labels, value)
            else:
                yield f"{self.name}{{{labels}}} {float(value)}\n"


def _histogram(name: str, labels: str, histogram: Histogram) -> str:
    comma = "," if labels else ""
    lines = []
    count = 0
    for bound, bucket in zip((*histogram.bounds, "+Inf"), histogram.buckets, strict=True):
        count += bucket
        lines.append(f'{name}_bucket{{{labels}{comma}le="{bound}"}} {count}\n')
    lines.append(f"{name}_sum{{{labels}}} {histogram.total}\n{name}_count{{{labels}}} {count}\n")
    return "".join(lines)


def _escape(text: str) -> str:
    """Return a label's value in quotes. What could move a terminal's cursor, or is no text, is shown as its escape."""
    if not text.isprintable():
        text = "".join([c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text])
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
