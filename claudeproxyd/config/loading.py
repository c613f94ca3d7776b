"""Loads a configuration: reads, merges, completes and checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from claudeproxyd.config.checking import check
from claudeproxyd.config.config_paths import ConfigPath
from claudeproxyd.config.default_paths import placed
from claudeproxyd.config.defaults import completed
from claudeproxyd.config.diagnostics import Diagnostics, Problem
from claudeproxyd.config.environment import from_environment
from claudeproxyd.config.files import found_file, sources_from
from claudeproxyd.config.merging import merged
from claudeproxyd.config.plugins import check_plugins
from claudeproxyd.config.preflight import check_keeping, check_names, check_writing
from claudeproxyd.config.reading import Reader
from claudeproxyd.config.schema import Config
from claudeproxyd.interfaces import IExecutorMaker, IPluginMaker


@dataclass(frozen=True)
class Loaded:
    """A configuration that can be used."""

    config: Config
    warnings: list[Problem]
    """For the log, and for ``--check``."""
    files: tuple[str, ...]
    """The files that were read, the first one first; empty for the environment alone."""
    makers: Mapping[str, IExecutorMaker]
    """The provider kinds that it was checked against."""
    plugin_makers: Mapping[str, IPluginMaker] = field(default_factory=dict)
    """The kinds of plugins, likewise."""
    plugin_paths: Sequence[ConfigPath] = ()
    """Where each of ``config.plugins`` stands."""


def load(
    path: str | None,
    environ: Mapping[str, str],
    makers: Mapping[str, IExecutorMaker],
    *,
    plugin_makers: Mapping[str, IPluginMaker] | None = None,
    warnings: Sequence[Problem] = (),
    tries_paths: bool = False,
    in_force: Config | None = None,
) -> Loaded:
    """Return the configuration of *path*, or of the first usual file that exists, or of the environment alone.

    *makers* are the provider kinds of this installation, *plugin_makers* its kinds of plugins, both by kind;
    *warnings* is what there is to be told of these. *tries_paths*: what the daemon could not write is an error too.
    *in_force*: the configuration that it replaces; to let in whom that one does not is an error then. Reads files, and
    blocks for it; called by tap.py at the start and, in a thread, at a reload. Raises
    :class:`~claudeproxyd.config.diagnostics.ConfigError` with every error there is.
    """
    diagnostics = Diagnostics()
    diagnostics.warnings += warnings
    plugin_makers = plugin_makers or {}
    name = found_file(path, environ)
    if name is None:
        sources = [from_environment(environ, makers, diagnostics)]
    else:
        sources = sources_from(name, diagnostics)
        # The rest cannot be judged without a file that cannot be read.
        diagnostics.settle()
    draft, source_map = merged(sources, Reader(diagnostics, environ, makers, plugin_makers), diagnostics)
    config = placed(completed(draft, makers), source_map, environ, diagnostics)
    check(config, source_map, makers, diagnostics, in_force)
    check_plugins(config, source_map, plugin_makers, diagnostics)
    diagnostics.settle()
    if tries_paths:
        check_writing(config, source_map, diagnostics)
        check_names(config, source_map, diagnostics)
        diagnostics.settle()
    else:
        check_keeping(config, source_map, diagnostics.warn)
    return Loaded(
        config,
        diagnostics.warnings,
        tuple(source.name for source in sources) if name else (),
        makers,
        plugin_makers,
        [source_map.at("plugins", index) for index in range(len(config.plugins))],
    )
