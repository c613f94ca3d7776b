"""Errors and warnings about a configuration: all at once, each with its path and a hint, never with a secret."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from claudeproxyd.config.config_paths import ConfigPath

#: How many errors, and how many warnings, are shown one by one.
SHOWN = 100


@dataclass(frozen=True)
class Problem:
    """An error or a warning."""

    file: str
    path: str
    """``providers[0].credentials[1].api_key``, counted within its file; '' for the file as a whole."""
    message: str
    hint: str = ""
    line: int = 0
    """0 when unknown."""
    column: int = 0
    """Given for syntax errors; 0 otherwise."""

    def __str__(self) -> str:
        where = ":".join([self.file, *(str(number) for number in (self.line, self.column) if number)])
        text = " ".join(filter(None, [self.path, self.message]))
        return f"{where}: {text}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(Exception):
    """The configuration cannot be used. Raised by :func:`claudeproxyd.config.loading.load` with every error."""

    def __init__(self, errors: Sequence[Problem], warnings: Sequence[Problem] = ()) -> None:
        super().__init__(errors, warnings)
        self.errors = tuple(errors)
        self.warnings = tuple(warnings)
        """Possible reasons, such as an include that matches nothing."""

    def __str__(self) -> str:
        lines = [f"the configuration has {_counted(self.errors, 'error')}:", *_shown(self.errors)]
        if self.warnings:
            lines += [f"and {_counted(self.warnings, 'warning')}:", *_shown(self.warnings)]
        return "\n".join(lines)


def _counted(found: Sequence[Problem], what: str) -> str:
    return f"{len(found)} {what}{'s' if len(found) != 1 else ''}"


def _shown(found: Sequence[Problem]) -> list[str]:
    lines = [f"  {each}" for each in found[:SHOWN]]
    return [*lines, f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else lines


class Diagnostics:
    """Collects errors and warnings while a configuration is read and checked."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self._unread: set[tuple[int, tuple[str | int, ...]]] = set()

    def unreadable(self, at: ConfigPath, message: str, hint: str = "") -> None:
        """Add an error that leaves the value unknown: later errors and warnings about it are left out."""
        self.error(at, message, hint)
        self._unread.add((id(at.source), at.path))

    def was_read(self, at: ConfigPath) -> bool:
        """Whether the values there and below are what the operator wrote."""
        within = len(at.path)
        return not any(source == id(at.source) and path[:within] == at.path for source, path in self._unread)

    def error(self, at: ConfigPath, message: str, hint: str = "") -> None:
        """Add an error, unless that setting or a table around it was :meth:`unreadable`."""
        if self._is_known(at):
            self.errors.append(Problem(at.source.name, str(at), message, hint, at.line))

    def warn(self, at: ConfigPath, message: str, hint: str = "") -> None:
        """Add a warning about something that is allowed and probably not meant, but for what was unreadable."""
        if self._is_known(at):
            self.warnings.append(Problem(at.source.name, str(at), message, hint, at.line))

    def _is_known(self, at: ConfigPath) -> bool:
        return self._unread.isdisjoint((id(at.source), at.path[:end]) for end in range(len(at.path) + 1))

    def file(self, name: str, message: str, hint: str = "", line: int = 0, column: int = 0) -> None:
        """Add an error about a whole file: it cannot be read, or is no TOML."""
        self.errors.append(Problem(name, "", message, hint, line, column))

    def settle(self) -> None:
        """Raise :class:`ConfigError` if there was an error."""
        if self.errors:
            raise ConfigError(sorted(self.errors, key=lambda problem: (problem.file, problem.line)), self.warnings)


def check_unique_names(named: Iterable[tuple[str, ConfigPath]], diagnostics: Diagnostics) -> None:
    """Check names, which go into logs, metrics and headers, and must be unique."""
    seen = set()
    for name, at in named:
        if not name or not name.isprintable() or name != name.strip():
            diagnostics.error(at / "name", "must be printable, not empty, and without blanks at its ends")
        elif name in seen:
            diagnostics.error(at / "name", f'"{name}" is taken already', "names are unique")
        seen.add(name)
