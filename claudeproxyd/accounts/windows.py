"""The windows of budgets: days, weeks and months as a calendar has them, in a time zone. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

WINDOWS = ("day", "week", "month")
"""A week begins on Monday."""


class Window(NamedTuple):
    """From *start* until before *end*, in seconds since the epoch."""

    start: float
    end: float


def window_of(per: str, zone: tzinfo, time: float) -> Window:
    """Return the day, week or month that *time*, since the epoch, is in."""
    midnight = datetime.fromtimestamp(time, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if per == "day":
        first = midnight
        after = midnight + timedelta(1)
    elif per == "week":
        first = midnight - timedelta(midnight.weekday())
        after = first + timedelta(7)
    else:
        first = midnight.replace(day=1)
        after = (first + timedelta(32)).replace(day=1)
    return Window(first.timestamp(), after.timestamp())
