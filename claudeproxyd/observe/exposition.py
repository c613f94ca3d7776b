"""Metric families, in Prometheus' text format and in OpenMetrics', pure.

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
OPEN_METRICS_TYPE = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
_OPEN_METRICS = "application/openmetrics-text"
_TEXT = ("text/plain", "text/*", "*/*")

#: The values of a family's labels, in their order.
Labels = tuple[str, ...]


class Exemplar(NamedTuple):
    """One of the values in a bucket, and where to read more of it."""

    trace_id: str
    value: float
    time: float
    """Since the epoch."""


class Histogram:
    """Counts values by size."""

    __slots__ = ("bounds", "buckets", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        """Upper limits, ascending, inclusive; one more bucket takes the rest."""
        self.buckets = [0] * (len(bounds) + 1)
        self.total: float = 0
        self.exemplars: dict[int, Exemplar] | None = None
        """The latest of each bucket, by its place; None until there is one."""

    def observe(self, value: float) -> None:
        """Count *value*."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value

    def note(self, exemplar: Exemplar) -> None:
        """Remember a value that was observed, in the place of the one before in its bucket."""
        if self.exemplars is None:
            self.exemplars = {}
        self.exemplars[bisect_left(self.bounds, exemplar.value)] = exemplar

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

    def lines(self, *, open_metrics: bool = False) -> Iterator[str]:
        """Yield the family as text; each piece is one or more whole lines. Raises whatever ``read`` does.

        *open_metrics*: in that format, where a counter's family has no ``_total``, and with exemplars.
        """
        help = self.help.replace("\\", "\\\\").replace("\n", "\\n")
        family = self.name.removesuffix("_total") if open_metrics and self.kind == "counter" else self.name
        yield f"# HELP {family} {help}\n# TYPE {family} {self.kind}\n"
        for key, value in self.rows():
            labels = ",".join([f'{name}="{_escape(text)}"' for name, text in zip(self.labels, key, strict=True)])
            if isinstance(value, Histogram):
                yield _histogram(self.name, labels, value, open_metrics)
            else:
                yield f"{self.name}{{{labels}}} {float(value)}\n"


def _histogram(name: str, labels: str, histogram: Histogram, open_metrics: bool) -> str:
    comma = "," if labels else ""
    lines = []
    count = 0
    exemplars = (histogram.exemplars or {}) if open_metrics else {}
    bounds = map(float, histogram.bounds) if open_metrics else histogram.bounds
    for place, (bound, bucket) in enumerate(zip((*bounds, "+Inf"), histogram.buckets, strict=True)):
        count += bucket
        more = _exemplar(exemplars[place]) if place in exemplars else ""
        lines.append(f'{name}_bucket{{{labels}{comma}le="{bound}"}} {count}{more}\n')
    lines.append(f"{name}_sum{{{labels}}} {histogram.total}\n{name}_count{{{labels}}} {count}\n")
    return "".join(lines)


def _exemplar(exemplar: Exemplar) -> str:
    return f' # {{trace_id="{exemplar.trace_id}"}} {float(exemplar.value)} {exemplar.time:.3f}'


def wants_open_metrics(accept: str) -> bool:
    """Whether a scraper's ``Accept`` prefers OpenMetrics to the text format."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        weight = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            weights[kind] = max(weights.get(kind, 0.0), float(weight))
        except ValueError:
            continue
    wanted = weights.get(_OPEN_METRICS, 0.0)
    return wanted > 0 and wanted >= max(weights.get(kind, 0.0) for kind in _TEXT)


def _escape(text: str) -> str:
    """Return a label's value in quotes. What could move a terminal's cursor, or is no text, is shown as its escape."""
    if not text.isprintable():
        text = "".join([c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text])
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
