"""The metrics of all workers as those of one daemon. Pure but for what is read.

A worker writes its families down as plain values, in parts of some rows; the parent adds them to its own. Counters and
histograms are summed, and stay in the sum when their worker is gone. Gauges are summed too, unless :data:`RULES` says
otherwise: all workers know of the same cooldowns, for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from operator import add
from typing import TYPE_CHECKING, cast

from claudeproxyd.observe.exposition import Exemplar, Histogram, Labels, MetricFamily, Value

if TYPE_CHECKING:
    from claudeproxyd.observe.metrics import Metrics

#: Rows of one part.
ROWS_AT_ONCE = 200

Part = tuple[str, str, str, list[str], list[float], list[tuple[list[str], object]]]
"""Name, kind, help, names of labels, bounds of a histogram's buckets; and rows: values of labels, and a number, or a
histogram's buckets and total."""
_Written = tuple[list[int], float, list[tuple[int, tuple[str, float, float]]]]
"""A histogram: buckets, total, and exemplars by their place."""
Combine = Callable[[float, float], float]


def _parents(parent: float, worker: float) -> float:
    """What the parent alone knows."""
    return parent


#: How a gauge's values are put together, where they are not summed.
RULES: Mapping[str, Combine] = {
    **dict.fromkeys(
        (
            "claudeproxyd_pool_cooldowns",
            "claudeproxyd_pool_disabled_credentials",
            "claudeproxyd_pool_affinities",
            "claudeproxyd_pool_models",
            "claudeproxyd_pool_unknown_models",
            "claudeproxyd_pool_gates",
            "claudeproxyd_credential_cooldown_seconds",
            "claudeproxyd_credential_held_back_seconds",
            "claudeproxyd_credential_level",
            "claudeproxyd_gate_failing",
            "claudeproxyd_signatures",
            "claudeproxyd_signature_bytes",
            "claudeproxyd_estimate_corrections",
        ),
        max,
    ),
    **dict.fromkeys(
        (
            "process_start_time_seconds",
            "process_max_fds",
            "claudeproxyd_model_ready",
            "claudeproxyd_issuer_keys",
            "claudeproxyd_ledger_connected",
            "claudeproxyd_certificate_expiry_timestamp_seconds",
        ),
        min,
    ),
    **dict.fromkeys(
        (
            "claudeproxyd_build_info",
            "claudeproxyd_config_last_reload_successful",
            "claudeproxyd_config_last_reload_timestamp_seconds",
            "claudeproxyd_state_connected",
            "python_info",
        ),
        _parents,
    ),
}
#: Of ``claudeproxyd_pool``, by its label: the sizes that are summed.
SUMMED_SIZES = ("in_flight", "waiting", "deadlines")
STATES = "claudeproxyd_credential_state"
#: From that which counts more to that which counts less; but one that can serve counts more than one that is full.
STATES_BY_WEIGHT = ("disabled", "cooling", "trial", "down", "ready", "busy")


def combined_state(states: Iterable[str]) -> str:
    """Return the state of a credential that is in these at one worker each."""
    return min(states, key=STATES_BY_WEIGHT.index)


def written(metrics: Metrics, kinds: Iterable[str] | None = None) -> Iterator[Part]:
    """Yield what another process adds to its own. What cannot be read is left out, and was logged."""
    for family in metrics.families():
        if kinds is not None and family.kind not in kinds:
            continue
        head = (family.name, family.kind, family.help, list(family.labels))
        rows = iter(family.rows())
        for first in rows:
            bounds = list(first[1].bounds) if isinstance(first[1], Histogram) else []
            some = chain((first,), islice(rows, ROWS_AT_ONCE - 1))
            yield *head, bounds, [_row(*each) for each in some]


def in_batches(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Yield parts together that have some rows in sum: each batch is a turn of the reactor, and most families small."""
    batch: list[Part] = []
    rows = 0
    for part in parts:
        batch.append(part)
        rows += len(part[-1])
        if rows >= ROWS_AT_ONCE:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _row(labels: Labels, value: Value) -> tuple[list[str], object]:
    if isinstance(value, Histogram):
        return list(labels), [value.buckets, value.total, list((value.exemplars or {}).items())]
    return list(labels), value


class Figures:
    """Metrics of several processes, added up."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, Labels]] = {}
        self._rows: dict[str, dict[Labels, Value]] = {}

    def add_written(self, parts: Iterable[Part], *, lasting: bool = False) -> None:
        """Add what a worker has written; *lasting*: only what goes on when it is gone."""
        for name, kind, help, labels, bounds, rows in parts:
            if lasting and kind == "gauge":
                continue
            self._add(name, kind, help, tuple(labels), ((tuple(key), _value(value, bounds)) for key, value in rows))

    def add(self, other: Figures) -> None:
        """Add all of *other*."""
        for name, (kind, help, labels) in other._families.items():
            self._add(name, kind, help, labels, other._rows[name].items())

    def with_own(self, family: MetricFamily) -> MetricFamily:
        """Return a family of this process with what was added here."""
        theirs = self._rows.get(family.name)
        if theirs is None or RULES.get(family.name) is _parents:
            return family
        mine = {} if family.name == STATES else dict(family.rows())
        rows = _merged(family.name, mine, theirs.items())
        read = partial(_one_state_each if family.name == STATES else _rows_of, rows)
        return MetricFamily(family.name, family.kind, family.help, family.labels, read)

    def others(self, names: Iterable[str]) -> Iterator[MetricFamily]:
        """Yield the families that are not among *names*."""
        known = set(names)
        for name, (kind, help, labels) in self._families.items():
            if name not in known:
                yield MetricFamily(name, kind, help, labels, partial(_rows_of, self._rows[name]))

    def value(self, name: str, labels: Labels = ()) -> float:
        """Return one number; 0 where there is none."""
        found = self._rows.get(name, {}).get(labels, 0.0)
        return found if isinstance(found, int | float) else 0.0

    def _add(self, name: str, kind: str, help: str, labels: Labels, rows: Iterable[tuple[Labels, Value]]) -> None:
        self._families.setdefault(name, (kind, help, labels))
        self._rows[name] = _merged(name, self._rows.get(name, {}), rows)


def _rows_of(rows: Mapping[Labels, Value]) -> Iterator[tuple[Labels, Value]]:
    return iter(rows.items())


def _merged(name: str, mine: dict[Labels, Value], theirs: Iterable[tuple[Labels, Value]]) -> dict[Labels, Value]:
    """Put *theirs* into *mine*, and return it."""
    for key, value in theirs:
        here = mine.get(key)
        if here is None:
            mine[key] = value
        elif isinstance(here, Histogram) and isinstance(value, Histogram):
            mine[key] = _sum_of(here, value)
        elif not isinstance(here, Histogram) and not isinstance(value, Histogram):
            mine[key] = _rule(name, key)(here, value)
    return mine


def _rule(name: str, labels: Labels) -> Combine:
    if name == "claudeproxyd_pool":
        return add if labels[0] in SUMMED_SIZES else max
    return RULES.get(name, add)


def _sum_of(one: Histogram, other: Histogram) -> Histogram:
    total = Histogram(one.bounds)
    total.buckets = [a + b for a, b in zip(one.buckets, other.buckets, strict=True)]
    total.total = one.total + other.total
    for place, exemplar in (pair for each in (one, other) for pair in (each.exemplars or {}).items()):
        known = None if total.exemplars is None else total.exemplars.get(place)
        if known is None or known.time < exemplar.time:
            total.note(exemplar)
    return total


def _value(value: object, bounds: list[float]) -> Value:
    if isinstance(value, int | float):
        return value
    histogram = Histogram(bounds)
    histogram.buckets, histogram.total, exemplars = cast("_Written", value)
    histogram.exemplars = {place: Exemplar(*exemplar) for place, exemplar in exemplars} or None
    return histogram


def _one_state_each(rows: Mapping[Labels, Value]) -> Iterator[tuple[Labels, float]]:
    """Yield one state for each credential: a worker that is full says busy, while another does not."""
    states: dict[Labels, list[str]] = {}
    for *credential, state in rows:
        states.setdefault(tuple(credential), []).append(state)
    for key, found in states.items():
        yield (*key, combined_state(found)), 1
