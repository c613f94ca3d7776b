"""The way in: what the operator says, read, checked and completed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from claudeproxyd.config.checking import check
from claudeproxyd.config.defaults import completed
from claudeproxyd.config.environment import from_environment
from claudeproxyd.config.files import found_file, sources_from
from claudeproxyd.config.merging import merged
from claudeproxyd.config.mistakes import Findings, Mistake
from claudeproxyd.config.preflight import check_names, check_writing
from claudeproxyd.config.reading import Reader
from claudeproxyd.config.schema import Config
from claudeproxyd.interfaces import IExecutorMaker


@dataclass(frozen=True)
class Loaded:
    """A configuration that can be used."""

    config: Config
    warnings: list[Mistake]
    """What is allowed and probably not meant; for the log, and for ``--check``."""
    files: tuple[str, ...]
    """What was read, the first file first; empty where the environment alone spoke."""
    makers: Mapping[str, IExecutorMaker]
    """The provider kinds that it was checked against."""


def load(
    path: str | None,
    environ: Mapping[str, str],
    makers: Mapping[str, IExecutorMaker],
    *,
    tries_paths: bool = False,
    in_force: Config | None = None,
) -> Loaded:
    """The configuration of *path*, or of the first usual file that is there, or of the environment alone.

    *makers* are the provider kinds of this installation, by kind. *tries_paths*: what the daemon could not write is a
    mistake too. *in_force*: what it is to take the place of; to let in whom that one does not is a mistake then.
    Reads files, and blocks for it; called by tap.py at the start and, in a thread, at a reload. Raises
    :class:`~claudeproxyd.config.mistakes.ConfigError` with every mistake there is.
    """
    findings = Findings()
    name = found_file(path, environ)
    if name is None:
        sources = [from_environment(environ, makers, findings)]
    else:
        sources = sources_from(name, findings)
        # What a file that cannot be read would have said is unknown, so nothing more can be said of the others.
        findings.settle()
    draft, origins = merged(sources, Reader(findings, environ, makers), findings)
    config = completed(draft, makers)
    if config.server.state != draft.server.state:
        mend = 'set HOME, name a file with sqlite:, or say "memory:"'
        findings.warn(origins.at("server", "state"), "is in memory: there is no home directory for its file", mend)
    check(config, origins, makers, findings, in_force)
    findings.settle()
    if tries_paths:
        check_writing(config, origins, findings)
        check_names(config, origins, findings)
        findings.settle()
    return Loaded(config, findings.warnings, tuple(source.name for source in sources) if name else (), makers)
