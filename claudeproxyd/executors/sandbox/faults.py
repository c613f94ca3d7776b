"""How people ask the sandbox to misbehave: by the model's name, or by a mark in what the user says last.

``sandbox-status-429+retry-after-7`` and ``[sandbox:status=429 retry-after=7]`` say the same. ``docs/sandbox.md`` lists
the wishes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

#: What can go wrong with an answer that has a status of 200.
FAULTS = ("cut", "stall", "malformed", "error", "pings-only", "empty", "html")

#: Of whatever is counted: words, attempts, seconds.
MOST = 100_000

_MARK = re.compile(r"\[sandbox:([^\]]*)\]")
_WISH = re.compile(
    r"(status|retry-after|slow-first-byte|fail-first|burst|words|pace|" + "|".join(FAULTS) + r")(?:[=-](.+))?",
    re.DOTALL,
)
_STRIKE = re.compile(r"([a-z_]*?)-?(?:after-(\d{1,6}))?")


class UnknownWish(Exception):
    """A mark that the sandbox does not understand; its text is for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a request asks for. Durations are seconds."""

    status: int = 0
    """Refuse with this status; 0: answer."""
    retry_after: float | None = None
    """Goes with the refusal."""
    fail_first: int = 0
    """How many attempts of the same words fail before one works."""
    slow_first_byte: float = 0.0
    """To the head of the answer."""
    pace: float | None = None
    """Between two words, in place of the usual."""
    burst: int = 1
    """Words at once."""
    words: int = 0
    """How many, in place of the usual answer."""
    fault: str = ""
    """One of :data:`FAULTS`, or ''."""
    after: int = 0
    """Words before the fault strikes."""
    error: str = "overloaded_error"
    """The type of an ``error`` fault."""


def read_wishes(model: str, said: str) -> Wishes:
    """The wishes of a request; those in the text go before those of the model.

    A model's name that merely looks like a wish asks for nothing, as any name is served. Raises :class:`UnknownWish`
    for a mark in the text.
    """
    wishes = Wishes()
    if model.startswith("sandbox-"):
        for wish in model.removeprefix("sandbox-").split("+"):
            wishes = _grant(wishes, wish) or wishes
    for mark in _MARK.finditer(said):
        for wish in re.split(r"[\s,]+", mark[1].strip()):
            granted = _grant(wishes, wish)
            if granted is None:
                raise UnknownWish(
                    f"the sandbox does not know the wish {wish!r}, or not with that value; see docs/sandbox.md"
                )
            wishes = granted
    return wishes


def _grant(wishes: Wishes, wish: str) -> Wishes | None:
    """With one more wish; None where it is none."""
    match = _WISH.fullmatch(wish)
    if match is None:
        return None
    name, value = match[1], match[2] or ""
    changes = _fault(name, value) if name in FAULTS else _number(name, value)
    return None if changes is None else replace(wishes, **changes)


def _fault(name: str, value: str) -> dict[str, object] | None:
    match = _STRIKE.fullmatch(value)
    if match is None or (match[1] and name != "error"):
        return None
    changes: dict[str, object] = {"fault": name, "after": int(match[2] or 0)}
    if match[1]:
        changes["error"] = match[1]
    return changes


def _number(name: str, value: str) -> dict[str, Any] | None:
    try:
        number = float(value)
    except ValueError:
        return None
    if not 0 <= number <= MOST:
        return None
    if name in ("slow-first-byte", "pace", "retry-after"):
        return {name.replace("-", "_"): number}
    whole = int(number)
    if name == "status" and not 400 <= whole <= 599:
        return None
    if name == "burst" and whole == 0:
        return None
    return {name.replace("-", "_"): whole}
