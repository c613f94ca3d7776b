"""Reads a configuration as far as it can be read, for questions that need little of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from claudeproxyd.config.config_paths import SourceFile
from claudeproxyd.config.diagnostics import Diagnostics, Problem
from claudeproxyd.config.files import found_file, sources_from
from claudeproxyd.config.merging import merged
from claudeproxyd.config.reading import Reader
from claudeproxyd.config.schema import Config


@dataclass(frozen=True)
class Excerpt:
    """What a configuration says, right or wrong: unchecked, and blank where it could not be read."""

    config: Config
    errors: Sequence[Problem]
    file: str
    """The first of its files; '' for none."""

    def error_at(self, path: str) -> Problem | None:
        """Return why the setting of that path is blank, or None."""
        return next((each for each in self.errors if each.path == path), None)


def excerpt(path: str | None, environ: Mapping[str, str]) -> Excerpt:
    """Return what there is to be read of the file that the daemon would take. Reads files, and blocks for it.

    It knows no kinds of providers, so that their own settings are among the errors. Called by the command, which has
    neither the daemon's secrets nor its rights. Raises :class:`~claudeproxyd.config.diagnostics.ConfigError` where a
    file cannot be read or is no TOML.
    """
    diagnostics = Diagnostics()
    name = found_file(path, environ)
    sources = sources_from(name, diagnostics) if name else [SourceFile("the environment", {})]
    diagnostics.settle()
    config, _ = merged(sources, Reader(diagnostics, environ, {}, {}), diagnostics)
    return Excerpt(config, diagnostics.errors, name or "")
