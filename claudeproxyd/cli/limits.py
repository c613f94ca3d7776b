"""``claudeproxyd limits``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, ClassVar

import msgspec

from claudeproxyd.cli.admin import Admin, AdminCommand
from claudeproxyd.cli.figures import dollars, span, table, tokens

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Of the bar that shows how full one is.
_WIDTH = 10


class ToldCounter(msgspec.Struct):
    """One counter of a limit."""

    name: str
    value: str
    measure: str
    per: str
    limit: float
    used: float
    reserved: float
    resets_at: float

    @property
    def share(self) -> float:
        """How full it is, with what is reserved; 1.0 is full."""
        return (self.used + self.reserved) / self.limit if self.limit else 1.0


class LimitsCommand(AdminCommand):
    """Prints each counter of [[limits]] that has counted anything, the fullest first."""

    optFlags: ClassVar = [["json", None, "Print the daemon's own answer."]]

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """See the base."""
        raw = await admin.raw("GET", "/admin/v1/limits", {})
        return self.show(raw, limits_in_words(admin.read(raw, list[ToldCounter]), time.time()))


def limits_in_words(counters: Sequence[ToldCounter], now: float) -> str:
    """Return their table; *now* in seconds since the epoch."""
    if not counters:
        return "no limit has counted anything"
    fullest = sorted(counters, key=lambda counter: -counter.share)
    rows = [_row(counter, now) for counter in fullest]
    headings = ["LIMIT", "FOR", "FULL", "", "USED", "RESERVED", "OF", "PER", "ANEW-IN"]
    return table(headings, rows, right="FULL USED RESERVED OF ANEW-IN")


def _row(counter: ToldCounter, now: float) -> Sequence[str]:
    amount = dollars if counter.measure == "usd" else tokens
    unit = "" if counter.measure == "usd" else f" {counter.measure.replace('_', ' ')}"
    filled = min(_WIDTH, int(counter.share * _WIDTH))
    return (
        counter.name,
        counter.value or "all",
        f"{counter.share:.0%}",
        "#" * filled + "." * (_WIDTH - filled),
        amount(counter.used),
        amount(counter.reserved),
        amount(counter.limit) + unit,
        counter.per,
        _until(counter.resets_at - now),
    )


def _until(seconds: float) -> str:
    """Return a time until something, in whole seconds, or that it is there."""
    return span(ceil(seconds)) if seconds > 0 else "now"
