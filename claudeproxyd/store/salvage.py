"""Finds the credentials that were disabled, in a state file that cannot be used any more."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

#: Bytes of a damaged file that are looked through.
MAX_SEARCHED_BYTES = 64 * 1024 * 1024
#: Credentials that a line of the log names.
MAX_LISTED_NAMES = 20

#: Between these are the keys, in the order of their bytes.
_FIRST_KEY, _LAST_KEY = '["disabled",', '["disabled"-'
_KEY_PATTERN = re.compile(rb'\["disabled","(?:[^"\\\x00]|\\.){1,200}","(?:[^"\\\x00]|\\.){1,200}"\]')


@dataclass(frozen=True)
class Salvaged:
    """The keys of disabled credentials."""

    keys: tuple[str, ...]
    sure: bool
    """The keys were read from an intact table. Otherwise some of the credentials may have been enabled again."""

    def __str__(self) -> str:
        """Return the end of a line of the log, after what happened to the file; '' where no credential was disabled."""
        if not self.keys:
            return "" if self.sure else "; whether credentials were disabled in it cannot be read"
        names = ", ".join(["/".join(msgspec.json.decode(key)[1:]) for key in self.keys[:MAX_LISTED_NAMES]])
        more = f" and {len(self.keys) - MAX_LISTED_NAMES} more" if len(self.keys) > MAX_LISTED_NAMES else ""
        if self.sure:
            return f"; {names}{more} stay disabled"
        return f"; {names}{more} may have been disabled in it: disable again, or set disabled = true, where that holds"


def salvage(path: str) -> Salvaged:
    """Return the keys that can be read from the file at *path*, which is not written to any more. Blocks."""
    keys: list[str] = []
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
            query = "SELECT key FROM state WHERE key >= ? AND key < ?"
            for (key,) in connection.execute(query, (_FIRST_KEY, _LAST_KEY)):
                keys.append(key)
        return Salvaged(_valid_keys(keys), True)
    except (sqlite3.Error, UnicodeDecodeError):  # the latter of damage in the schema
        return Salvaged(_valid_keys([*keys, *_search(path)]), False)


def _search(path: str) -> list[str]:
    """Return everything that looks like such a key anywhere in the file or its write-ahead log."""
    found: list[str] = []
    for name in (path, f"{path}-wal"):
        with suppress(OSError), open(name, "rb") as file:
            found += [match.decode("utf-8", "replace") for match in _KEY_PATTERN.findall(file.read(MAX_SEARCHED_BYTES))]
    return found


def _valid_keys(keys: Iterable[str]) -> tuple[str, ...]:
    """Return those that are keys of disabled credentials, each once."""
    whole: dict[str, None] = {}
    for key in keys:
        with suppress(ValueError):
            match msgspec.json.decode(key):
                case ["disabled", str(), str()]:
                    whole[key] = None
    return tuple(sorted(whole))
