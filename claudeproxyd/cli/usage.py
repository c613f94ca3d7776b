"""``claudeproxyd usage``."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from twisted.python.usage import UsageError

from claudeproxyd.cli.admin import Admin, AdminCommand
from claudeproxyd.cli.command import DONE
from claudeproxyd.cli.figures import cost, table, tokens

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

_DAYS = re.compile(r"(\d{1,4})d")
LINES = 100
"""Of a table where nobody says how many."""
Row = Mapping[str, int | float | str | None]
"""A group's names and figures."""
_SUMS = (
    *(f"{kind}_tokens" for kind in ("input", "output", "cache_read", "cache_write", "unpriced", "estimated")),
    *("requests", "attempts", "usd"),
)
_FIGURES = ("REQUESTS", "INPUT", "OUTPUT", "CACHE-READ", "CACHE-WRITE", "CACHED", "COST")


class UsageCommand(AdminCommand):
    """Prints who used what, and what it cost: a line for each group, those that cost most first.

    Days are UTC. A model without a price is shown as unpriced: its tokens are in no sum of money.
    """

    optParameters: ClassVar = [
        [
            "from",
            None,
            None,
            "The first day: 2026-12-01, today, yesterday, or 7d for seven days back; else this month.",
        ],
        ["to", None, "today", "The last day, likewise."],
        [
            "by",
            None,
            "client",
            "What a line is for: day, client, model, model_served, provider, credential, label.NAME.",
        ],
        ["limit", None, None, f"Lines at most, of those that cost most; else {LINES}, and of --csv and --json all."],
    ]
    optFlags: ClassVar = [
        ["csv", None, "Print it for a spreadsheet, with exact figures."],
        ["json", None, "Print the daemon's own answer."],
    ]

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """See the base."""
        if self["csv"] and self["json"]:
            raise UsageError("--csv and --json: one of them")
        today = datetime.now(UTC).date()
        since = today.replace(day=1) if self["from"] is None else day_of("from", self["from"], today)
        until = day_of("to", self["to"], today)
        by = self["by"].replace(" ", "")
        query = {"from": str(since), "to": str(until), "by": by, "format": "csv" if self["csv"] else "json"}
        limit = LINES if self["limit"] is None else self.number("limit", int, 1)
        if self["limit"] is not None or not (self["csv"] or self["json"]):
            query["limit"] = f"{limit:.0f}"
        raw = await admin.raw("GET", "/admin/v1/usage", query)
        if self["csv"]:
            sys.stdout.write(raw.decode())
            return DONE
        rows = everything = admin.read(raw, list[Row])
        if len(rows) >= limit and not self["json"]:
            everything = await admin.get("/admin/v1/usage", {**query, "by": ""}, list[Row])
        names = [name for name in by.split(",") if name]
        told = f"{since} to {until}, UTC\n{usage_in_words(rows, names, everything)}"
        if everything is not rows:
            told += f"\nthe {len(rows)} that cost most: --limit shows more of them, --csv all"
        return self.show(raw, told)


def day_of(option: str, text: str, today: date) -> date:
    """Return the day that somebody calls so. Raises UsageError."""
    if text in ("today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    if back := _DAYS.fullmatch(text):
        return today - timedelta(days=int(back[1]))
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--{option} {text}: must be a day such as 2026-12-01, today, yesterday or 7d") from None


def usage_in_words(rows: Sequence[Row], by: Sequence[str], everything: Sequence[Row]) -> str:
    """Return the table of *rows*, and below it the sum of *everything*, of which they may be the first."""
    if not rows:
        return "nothing was used"
    lines = [[*(str(row.get(name) or "-") for name in by), *_figures([row])] for row in rows]
    others = _rest(everything, rows)
    if others["attempts"]:
        lines.append([*_named("others", by), *_figures([others])])
    if len(lines) > 1:
        lines.append([*_named("all", by), *_figures(everything)])
    text = table([*(name.upper() for name in by), *_FIGURES], lines, right=" ".join(_FIGURES))
    if _sum(everything, "estimated_tokens"):
        text += "\n~ in part estimated: the upstream had not counted when the answer ended"
    return text


def _named(word: str, by: Sequence[str]) -> Sequence[str]:
    """Return the names of a line that is for several groups."""
    return [word, *[""] * (len(by) - 1)] if by else []


def _rest(everything: Sequence[Row], rows: Sequence[Row]) -> Row:
    """Return what *everything* has beyond *rows*."""
    return {name: _sum(everything, name) - _sum(rows, name) for name in _SUMS}


def _figures(rows: Sequence[Row]) -> Sequence[str]:
    given, read, written = (_sum(rows, f"{name}_tokens") for name in ("input", "cache_read", "cache_write"))
    estimated = "~" if _sum(rows, "estimated_tokens") else ""
    everything = given + read + written
    return (
        f"{_sum(rows, 'requests'):.0f}",
        tokens(given),
        estimated + tokens(_sum(rows, "output_tokens")),
        tokens(read),
        tokens(written),
        f"{read / everything:.0%}" if everything else "-",
        cost(_sum(rows, "usd"), int(_sum(rows, "unpriced_tokens"))),
    )


def _sum(rows: Sequence[Row], name: str) -> float:
    return sum(value for row in rows if isinstance(value := row.get(name), int | float))
