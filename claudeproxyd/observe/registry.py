"""What anybody lets be read of itself, and how a scrape reads it.

Everything is read at scrape time: whoever has a queue, cache or map registers a callable that tells its size, and pays
nothing until somebody asks.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from twisted.logger import Logger

from claudeproxyd.observe.exposition import Labels, MetricFamily, Read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Lines of a scrape that are rendered before the reactor runs again.
LINES_AT_ONCE = 500


class MetricRegistry:
    """See :class:`~claudeproxyd.observe.exposition.Registry`. It has the process's own metrics from the beginning."""

    _log = Logger()

    def __init__(self) -> None:
        self._families: dict[str, MetricFamily] = {}
        self._broken: set[str] = set()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        GCCollector(registry=self._process)

    def gauge(self, name: str, help: str, read: Read, labels: Sequence[str] = ()) -> None:
        """Register a value that goes up and down. Raises ValueError when the name is taken.

        *read* is called for each scrape, in the reactor; it gives a number, or a mapping from tuples of values of
        *labels* to numbers, or an iterator over such pairs, which is read over several turns of the reactor. What a
        reload replaces is looked up inside *read*, so that one registration is enough.
        """
        self._add(MetricFamily(name, "gauge", help, tuple(labels), read))

    def counter(self, name: str, help: str, read: Read, labels: Sequence[str] = ()) -> None:
        """Register a value that only grows; its name ends in ``_total``. Otherwise like :meth:`gauge`."""
        self._add(MetricFamily(name, "counter", help, tuple(labels), read))

    def histogram(self, name: str, help: str, read: Read, labels: Sequence[str] = ()) -> None:
        """Register a :class:`~claudeproxyd.observe.exposition.Histogram`. Otherwise like :meth:`gauge`."""
        self._add(MetricFamily(name, "histogram", help, tuple(labels), read))

    def _add(self, family: MetricFamily) -> None:
        if family.name in self._families:
            raise ValueError(f"the metric {family.name} is registered already")
        self._families[family.name] = family

    # -- the scrape

    def pieces(self, *, open_metrics: bool = False) -> Iterator[bytes]:
        """Yield all metrics as text, of ``exposition.CONTENT_TYPE``, in pieces that take a few milliseconds each.

        *open_metrics*: of ``exposition.OPEN_METRICS_TYPE``.

        What cannot be read is left out, and logged the first time.
        """
        for family in self._families.values():
            yield from self.text(family, open_metrics)
        yield (generate_open_metrics if open_metrics else generate_latest)(self._process)

    def text(self, family: MetricFamily, open_metrics: bool) -> Iterator[bytes]:
        """Yield one family's part of :meth:`pieces`."""
        try:
            lines = family.lines(open_metrics=open_metrics)
            while piece := "".join(islice(lines, LINES_AT_ONCE)):
                yield piece.encode()
        except Exception:
            if family.name not in self._broken:
                self._broken.add(family.name)
                self._log.failure("metric {name} cannot be read", name=family.name)

    def families(self) -> Iterator[MetricFamily]:
        """Yield all that is registered, and what is known of the process."""
        yield from self._families.values()
        for of_process in self._process.collect():
            by_name: dict[str, dict[Labels, float]] = {}
            for sample in of_process.samples:
                by_name.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
            names = tuple(of_process.samples[0].labels) if of_process.samples else ()
            for name, values in by_name.items():
                yield MetricFamily(name, of_process.type, of_process.documentation, names, partial(dict, values))

    def render(self) -> bytes:
        """Return all metrics as one text."""
        return b"".join(self.pieces())
