"""Model names and the globs that stand for several: the one reading that holds wherever an operator writes them.

``*``, ``?`` and ``[…]`` as in a shell. A name that is equal always matches, and a size of context window at the end, as
in ``claude-opus-4-8[1m]``, stands for itself: clients send such names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase, translate
from functools import lru_cache

#: At the end of a name that Claude Code asks for: the context window that it wants.
_WINDOW = re.compile(r"\[(?=\d+[km]\]\Z)", re.IGNORECASE)
_WILD = re.compile(r"[*?]|\[[^\]]+\]")
_WORD = re.compile(r"\[(?=[^\]]*[A-Za-z])[^\]!-][^\]-]{2,}\]")
#: Of one glob. A few thousand take so long to read that everybody else notices.
MAX_WILDCARDS = 10
_STRANGE = re.compile(r"[^\w.:/@+*?\[\]!~-]")


def is_glob(name: str) -> bool:
    """Whether *name* may stand for another name than itself."""
    return _WILD.search(_WINDOW.sub("", name)) is not None


def matches(model: str, globs: Sequence[str]) -> bool:
    """Whether one of *globs* stands for *model*."""
    return compiled(tuple(globs)).match(model) is not None


@lru_cache(4096)
def compiled(globs: tuple[str, ...]) -> re.Pattern[str]:
    """What matches, from its beginning, each model that one of *globs* stands for."""
    return re.compile("|".join(map(_expression, globs)) or r"(?!)")


def _expression(glob: str) -> str:
    itself = re.escape(glob) + r"\Z"
    return f"{itself}|{translate(_WINDOW.sub('[[]', glob))}" if is_glob(glob) else itself


def covers(one: str, other: str) -> bool:
    """Whether *other*, a name or a glob, can match nothing that *one* does not. Unsure is False.

    A glob whose only wildcard is ``*`` covers what it matches read as text: its stars take in the other's wildcards.
    """
    if one == other or one == "*":
        return True
    if not is_glob(other):
        return matches(other, (one,))
    return not set("?[") & set(one + other) and fnmatchcase(other, one)


def is_costly(glob: str) -> bool:
    """Whether a hundred such globs would take long to read: they are not to come from outside."""
    return sum(map(glob.count, "*?[")) > MAX_WILDCARDS


def oddity(glob: str) -> str:
    """Why *glob* can hardly match what it seems to mean, or ''."""
    if is_costly(glob):
        return f"holds more than {MAX_WILDCARDS} wildcards"
    if strange := _STRANGE.search(glob):
        return f"holds {strange[0]!r}, which stands in no model's name"
    if word := _WORD.search(_WINDOW.sub("", glob)):
        return f"holds {word[0]}, which stands for one character of these"
    return ""
