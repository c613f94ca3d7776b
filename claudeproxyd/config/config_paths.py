"""Where a setting is: its path in the tree, its file, and its line in that file."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Steps = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""+|\'\'\'.*?\'\'\'+|"(?:[^"\\]|\\.)*"|'[^']*'|[^,\]}#\n]+''',
    re.DOTALL,
)


@dataclass(frozen=True)
class SourceFile:
    """One file that was read, or the environment in its place."""

    name: str
    """As the operator knows it."""
    tree: Mapping[str, Any]
    directory: str = ""
    """The folder that relative paths in it start from."""
    lines: Mapping[Steps, int] = field(default_factory=dict)
    seen_by_all: bool = False
    """Everyone on this machine may read it."""


@dataclass(frozen=True)
class ConfigPath:
    """A setting in one source, given there or not. ``path / "key"`` and ``path / 3`` go deeper."""

    source: SourceFile
    path: Steps = ()

    def __truediv__(self, step: str | int) -> ConfigPath:
        return ConfigPath(self.source, (*self.path, step))

    def below(self, member: str) -> ConfigPath:
        """Return the path of a setting below this one, which is written as in ``credentials[0].project``."""
        found = self
        for index, name in _STEP.findall(member):
            found = found / (int(index) if index else name)
        return found

    @property
    def is_given(self) -> bool:
        """Whether the setting stands in the source; nothing below an array is looked for."""
        found: Any = self.source.tree
        for step in self.path:
            if not isinstance(found, Mapping) or step not in found:
                return False
            found = found[step]
        return True

    @property
    def line(self) -> int:
        """The line of the setting, or else of the nearest table around it; 0 when unknown."""
        for end in range(len(self.path), 0, -1):
            if line := self.source.lines.get(self.path[:end]):
                return line
        return 0

    def __str__(self) -> str:
        text = ""
        for step in self.path:
            if isinstance(step, int):
                text += f"[{step}]"
            else:
                quoted = step if _BARE_KEY.fullmatch(step) else json.dumps(step)
                text += f".{quoted}" if text else quoted
        return text


def lines_of(text: str) -> dict[Steps, int]:
    """Return the line of every key and array element of a TOML text that :mod:`tomllib` accepts.

    A table has the line of its header.
    """
    return _Scanner(text).scan()


class _Scanner:
    """Walks over valid TOML and records the line of everything; it trusts the parser that went before it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = 0
        self._line = 1
        self._lines: dict[Steps, int] = {}
        self._arrays: dict[Steps, int] = {}
        """The last index of each array of tables."""

    def scan(self) -> dict[Steps, int]:
        table: Steps = ()
        while self._peek():
            if self._text.startswith("[[", self._at):
                self._at += 2
                *above, last = self._key()
                array = (*self._resolve((), above), last)
                self._arrays[array] = self._arrays.get(array, -1) + 1
                self._note(array)
                table = (*array, self._arrays[array])
                self._note(table)
                self._skip("]]")
            elif self._text[self._at] == "[":
                self._at += 1
                table = self._resolve((), self._key())
                self._note(table)
                self._skip("]")
            else:
                self._pair(table)
        return self._lines

    def _resolve(self, table: Steps, keys: list[str]) -> Steps:
        """Follow *keys*; an array of tables among them means its last one."""
        for key in keys:
            table = (*table, key)
            self._note(table)
            if table in self._arrays:
                table = (*table, self._arrays[table])
        return table

    def _pair(self, table: Steps) -> None:
        path = self._resolve(table, self._key())
        self._skip("=")
        self._value(path)

    def _value(self, path: Steps) -> None:
        opening = self._peek()
        self._note(path)
        if opening == "[":
            self._at += 1
            index = 0
            while self._peek() != "]":
                self._value((*path, index))
                index += 1
                self._comma()
            self._at += 1
        elif opening == "{":
            self._at += 1
            while self._peek() != "}":
                self._pair(path)
                self._comma()
            self._at += 1
        else:
            self._at = _match(_SCALAR, self._text, self._at).end()

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._peek()
            found = _match(_KEY, self._text, self._at)
            self._at = found.end()
            keys.append(_decoded(found[0]))
            if self._peek() != ".":
                return keys
            self._at += 1

    def _peek(self) -> str:
        """Return the next character that is neither blank nor comment; '' at the end."""
        self._at = _match(_BLANK, self._text, self._at).end()
        return self._text[self._at : self._at + 1]

    def _skip(self, what: str) -> None:
        self._peek()
        self._at += len(what)

    def _comma(self) -> None:
        if self._peek() == ",":
            self._at += 1

    def _note(self, path: Steps) -> None:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        self._lines.setdefault(path, self._line)


def _match(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise ValueError(f"no TOML at offset {at}")
    return found


def _decoded(key: str) -> str:
    """Return a key without its quotes and escapes."""
    if key[0] not in "\"'":
        return key
    (name,) = tomllib.loads(f"{key} = 0")
    return name
