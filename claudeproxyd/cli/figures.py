"""Figures as people read them, and tables of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
#: Units of time and their seconds, each with the one below.
_UNITS = ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s"))


def plain(text: object) -> str:
    """Return *text* in one line that does nothing to a terminal: clients and upstreams choose names and words."""
    return "".join(character if character.isprintable() else "·" for character in str(text))


def plain_lines(text: str) -> str:
    """Return *text* line by line as :func:`plain` has it."""
    return "\n".join(map(plain, text.split("\n")))


def plain_json(text: str) -> str:
    """Return JSON that says the same as *text*, and does nothing to a terminal."""
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def counted(count: int, what: str) -> str:
    """Return so many of something, by its name for one."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def tokens(count: float) -> str:
    """Return a count in three digits, such as ``1.24M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # What would round up to a thousand belongs to the next unit.
        if count >= size * 0.9995:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def dollars(usd: float) -> str:
    """Return an amount of money; of less than a cent two digits that are not 0."""
    if 0 < usd < 0.01:
        return f"${usd:.2g}" if usd >= 0.0001 else "<$0.0001"
    return f"${usd:,.2f}"


def cost(usd: float, unpriced: int) -> str:
    """Return what something cost; *unpriced* tokens, whose price nobody knows, are no part of it and never free."""
    if not unpriced:
        return dollars(usd)
    return f"{dollars(usd)} + {tokens(unpriced)} unpriced" if usd else "unpriced"


def span(seconds: float) -> str:
    """Return a time in its two largest units."""
    whole = round(seconds)
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95 and seconds != whole:
        return f"{seconds:.1f} s"
    for size, unit, below, smaller in _UNITS:
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit} {rest:02} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def moment(since_epoch: float) -> str:
    """Return a moment in local time."""
    return datetime.fromtimestamp(since_epoch).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Return rows below *headings*; the columns that *right* names, with blanks between, are set to the right."""
    lines = [list(headings), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    at_right = [heading in right.split() for heading in headings]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, at_right, strict=True)
        ).rstrip()
        for line in lines
    )
