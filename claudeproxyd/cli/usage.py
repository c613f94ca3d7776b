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
        raw = await admin.raw("GET", "/admin/v1/usage", query)
        if self["csv"]:
            sys.stdout.write(raw.decode())
            return DONE
        rows = admin.read(raw, list[dict[str, int | float | str | None]])
        names = [name for name in by.split(",") if name]
        return self.show(raw, f"{since} to {until}, UTC\n{usage_in_words(rows, names)}")


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


def usage_in_words(rows: Sequence[Mapping[str, int | float | str | None]], by: Sequence[str]) -> str:
    """Return the table of *rows*, and below it their sum."""
    if not rows:
        return "nothing was used"
    lines = [[*(str(row.get(name) or "-") for name in by), *_figures([row])] for row in rows]
    if len(rows) > 1:
        lines.append([*("all" if column == 0 else "" for column in range(len(by))), *_figures(rows)])
    text = table([*(name.upper() for name in by), *_FIGURES], lines, right=" ".join(_FIGURES))
    if any(_sum([row], "estimated_tokens") for row in rows):
        text += "\n~ in part estimated: the upstream had not counted when the answer ended"
    return text


def _figures(rows: Sequence[Mapping[str, int | float | str | None]]) -> Sequence[str]:
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


def _sum(rows: Sequence[Mapping[str, int | float | str | None]], name: str) -> float:
    return sum(value for row in rows if isinstance(value := row.get(name), int | float))
