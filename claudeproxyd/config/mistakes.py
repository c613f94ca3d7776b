"""What is wrong with a configuration: all of it at once, each with its place and its mend, never with a secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claudeproxyd.config.places import Place

SHOWN = 100
"""Mistakes, and warnings, that are shown one by one."""


@dataclass(frozen=True)
class Mistake:
    """One thing to mend. A warning has the same shape."""

    file: str
    place: str
    """``providers[0].credentials[1].api_key``, counted within its file; '' for the file as a whole."""
    message: str
    mend: str = ""
    line: int = 0
    """0 when unknown."""
    column: int = 0
    """Of a syntax error; else 0."""

    def __str__(self) -> str:
        where = ":".join([self.file, *(str(number) for number in (self.line, self.column) if number)])
        text = " ".join(filter(None, [self.place, self.message]))
        return f"{where}: {text}" + (f" ({self.mend})" if self.mend else "")


class ConfigError(Exception):
    """The configuration cannot be used. Raised by :func:`claudeproxyd.config.loading.load` with every mistake found."""

    def __init__(self, mistakes: Sequence[Mistake], warnings: Sequence[Mistake] = ()) -> None:
        super().__init__(mistakes, warnings)
        self.mistakes = tuple(mistakes)
        self.warnings = tuple(warnings)
        """What was found besides, and may be why: an include that matches nothing."""

    def __str__(self) -> str:
        lines = [f"the configuration has {_counted(self.mistakes, 'mistake')}:", *_shown(self.mistakes)]
        if self.warnings:
            lines += [f"and {_counted(self.warnings, 'warning')}:", *_shown(self.warnings)]
        return "\n".join(lines)


def _counted(found: Sequence[Mistake], what: str) -> str:
    return f"{len(found)} {what}{'s' if len(found) != 1 else ''}"


def _shown(found: Sequence[Mistake]) -> list[str]:
    lines = [f"  {each}" for each in found[:SHOWN]]
    return [*lines, f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else lines


class Findings:
    """Collects mistakes and warnings while a configuration is read and checked."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []
        self._unread: set[tuple[int, tuple[str | int, ...]]] = set()

    def unreadable(self, place: Place, message: str, mend: str = "") -> None:
        """A mistake at a place whose value is unknown because of it: nothing later is said of that place."""
        self.mistake(place, message, mend)
        self._unread.add((id(place.source), place.path))

    def was_read(self, place: Place) -> bool:
        """Whether the values at a place and within it are what the operator wrote."""
        within = len(place.path)
        return not any(source == id(place.source) and path[:within] == place.path for source, path in self._unread)

    def mistake(self, place: Place, message: str, mend: str = "") -> None:
        """A mistake, unless the place or one around it could not be read at all."""
        around = ((id(place.source), place.path[:end]) for end in range(len(place.path) + 1))
        if self._unread.isdisjoint(around):
            self.mistakes.append(Mistake(place.source.name, str(place), message, mend, place.line))

    def warn(self, place: Place, message: str, mend: str = "") -> None:
        """Something that is allowed and probably not meant."""
        self.warnings.append(Mistake(place.source.name, str(place), message, mend, place.line))

    def file(self, name: str, message: str, mend: str = "", line: int = 0, column: int = 0) -> None:
        """A mistake of a whole file: it cannot be read, or is no TOML."""
        self.mistakes.append(Mistake(name, "", message, mend, line, column))

    def settle(self) -> None:
        """Raise :class:`ConfigError` if there was any mistake."""
        if self.mistakes:
            raise ConfigError(sorted(self.mistakes, key=lambda mistake: (mistake.file, mistake.line)), self.warnings)
