"""What a state file that is of no use still says of the credentials that somebody took out of service."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

LARGEST = 64 * 1024 * 1024
"""Bytes of a damaged file that are looked through."""
SHOWN = 20

_FIRST, _BEYOND = '["disabled",', '["disabled"-'
"""Between these are the keys, in the order of their bytes."""
_MAYBE = re.compile(rb'\["disabled","(?:[^"\\\x00]|\\.){1,200}","(?:[^"\\\x00]|\\.){1,200}"\]')


@dataclass(frozen=True)
class Salvaged:
    """The keys of disabled credentials."""

    keys: tuple[str, ...]
    sure: bool
    """They were read as they should be. Else they may be what is left of some that are enabled again."""

    def __str__(self) -> str:
        """For the log, after what happened to the file; '' where there is nobody to speak of."""
        if not self.keys:
            return "" if self.sure else "; whether credentials were disabled in it cannot be read"
        names = ", ".join(["/".join(msgspec.json.decode(key)[1:]) for key in self.keys[:SHOWN]])
        more = f" and {len(self.keys) - SHOWN} more" if len(self.keys) > SHOWN else ""
        if self.sure:
            return f"; {names}{more} stay disabled"
        return f"; {names}{more} may have been disabled in it: disable again, or set disabled = true, where that holds"


def salvage(path: str) -> Salvaged:
    """Read what can be read at *path*, which nobody writes to any more. Blocks."""
    keys: list[str] = []
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
            query = "SELECT key FROM state WHERE key >= ? AND key < ?"
            for (key,) in connection.execute(query, (_FIRST, _BEYOND)):
                keys.append(key)
        return Salvaged(_whole(keys), True)
    except (sqlite3.Error, UnicodeDecodeError):  # the latter of damage in the schema
        return Salvaged(_whole([*keys, *_scattered(path)]), False)


def _scattered(path: str) -> list[str]:
    """What looks like such a key anywhere in the file, or in the changes that were not yet in it."""
    found: list[str] = []
    for name in (path, f"{path}-wal"):
        with suppress(OSError), open(name, "rb") as file:
            found += [match.decode("utf-8", "replace") for match in _MAYBE.findall(file.read(LARGEST))]
    return found


def _whole(keys: Iterable[str]) -> tuple[str, ...]:
    """Those that are keys, each once."""
    whole: dict[str, None] = {}
    for key in keys:
        with suppress(ValueError):
            match msgspec.json.decode(key):
                case ["disabled", str(), str()]:
                    whole[key] = None
    return tuple(sorted(whole))
