"""Usage records as rows of the accounts' database, whichever it is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from claudeproxyd.accounts.prices import DAY, NANO
from claudeproxyd.accounts.schema import ATTEMPTS, BLOCK, FIGURES, SERIES
from claudeproxyd.observe.usage import MESSAGES

if TYPE_CHECKING:
    from claudeproxyd.observe.usage import UsageRecord

QUARTER = 900
"""Seconds. Time zones differ from UTC by quarters of an hour: so each belongs to one window of a budget."""
FILTERS = ("client", "request_id", "session")
"""What attempts can be asked for by."""

GIVEN = "coalesce(input_tokens, 0) + coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, 0)"
"""Of an attempt: all tokens of its input."""

Series = tuple[str, ...]
Row = tuple[object, ...]

_encode = msgspec.json.Encoder(order="sorted").encode


class Question(NamedTuple):
    """Which figures, and by what."""

    since: int
    """The first day, since the epoch (UTC)."""
    until: int
    """The last."""
    by: Sequence[str]
    """``day``, ``client``, ``model``, ``model_served``, ``provider``, ``credential``, ``label.NAME``."""
    limit: int = 0
    """Groups that are wanted, of those that cost most; 0: all."""


def first_id(time: float) -> str:
    """Return what no id of a request that came since *time* is less than; see :meth:`Ids.request`."""
    return f"req_{int(time * 1000):012x}"


def series_of(record: UsageRecord) -> Series:
    """Return what a record has in common with others, in the order of SERIES."""
    return (
        record.client,
        _encode(record.labels).decode(),
        record.model_asked,
        record.model_served,
        record.provider,
        record.credential,
    )


_values = attrgetter(*(name for name in ATTEMPTS if name != "series"))


def row_of(record: UsageRecord, series: int) -> Row:
    """Return a record's row, in the order of ATTEMPTS."""
    return (series, *_values(record))


def day_rows(new: Iterable[tuple[UsageRecord, int]]) -> Iterator[tuple[int, ...]]:
    """Yield what new records, each with its series, add to the totals: block, day, series and figures."""
    days: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for record, series in new:
        if record.operation == MESSAGES and record.attempt:
            days.setdefault((int(record.time // DAY), series), []).append(_figures(record))
    return (
        (day // BLOCK, day, series, *map(sum, zip(*figures, strict=True))) for (day, series), figures in days.items()
    )


def _figures(record: UsageRecord) -> tuple[int, ...]:
    """Return what a record adds to its day, in the order of FIGURES."""
    read, written = record.cache_read_tokens or 0, record.cache_write_tokens or 0
    given, made = record.input_tokens or 0, record.output_tokens or 0
    tokens = given + read + written + made
    return (
        1,
        record.attempt == 1,
        given,
        made,
        read,
        written,
        record.thinking_tokens or 0,
        record.nano_usd or 0,
        tokens if record.nano_usd is None else 0,
        tokens if record.estimated else 0,
    )


_WHOLE = ("day", *(name for name in SERIES if name != "labels"))
"""What figures can be asked by, beside single labels."""


def check_by(by: Sequence[str]) -> None:
    """Raise ValueError where figures cannot be asked by one of these."""
    for name in by:
        is_label = name.startswith("label.") and '"' not in name
        if not is_label and name not in _WHOLE:
            raise ValueError(f"cannot be asked by {name}, but by {', '.join(_WHOLE)} and label.NAME")


def answer_of(by: Sequence[str], row: Sequence[object]) -> dict[str, object]:
    """Return a group's figures by name."""
    answer = dict(zip((*by, *FIGURES), row, strict=True))
    nano = answer.pop("nano_usd")
    assert isinstance(nano, int)
    return {**answer, "usd": nano / NANO}
