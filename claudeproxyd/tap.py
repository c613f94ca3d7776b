"""``twistd claudeproxyd``: its options, and the service that it runs."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.python import usage

from claudeproxyd import hangups
from claudeproxyd.config.diagnostics import ConfigError, Problem
from claudeproxyd.config.files import found_file
from claudeproxyd.config.loading import Loaded, load
from claudeproxyd.config.report import report
from claudeproxyd.config.schema import Config
from claudeproxyd.daemon import Daemon
from claudeproxyd.executors.kinds import makers
from claudeproxyd.plugin_loader import plugin_makers
from claudeproxyd.workers.parent import ParentDaemon
from claudeproxyd.workers.process import WorkerProcess


class Options(usage.Options):
    """The command line. The configuration is read here, so that a mistake in it ends the start before anything else."""

    synopsis = "[options]"
    longdesc = "One Claude-compatible API in front of pools of upstream credentials."
    optParameters: ClassVar = [
        [
            "config",
            "c",
            None,
            "The configuration file; without it $CLAUDEPROXYD_CONFIG, ./claudeproxyd.toml,"
            " ~/.config/claudeproxyd/claudeproxyd.toml, or the environment alone.",
        ],
    ]
    optFlags: ClassVar = [
        ["check", None, "Read the configuration, say what it amounts to or what is wrong with it, and exit."]
    ]

    file: str | None = None
    """What was read at first, whole: a reload reads that one, wherever the daemon is then, or fails."""

    def postOptions(self) -> None:
        """Read the configuration; with ``--check`` that is all."""
        if self["check"]:
            hangups.let_come()
        else:
            hangups.hold()
        if name := found_file(self["config"], os.environ):
            self.file = os.path.abspath(os.path.expanduser(name))
        try:
            self.loaded = self.load(tries_paths=bool(self["check"]))
        except ConfigError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None
        if self["check"]:
            sys.stdout.write(f"{report(self.loaded, self.loaded.makers)}\n")
            raise SystemExit(0)

    def load(self, in_force: Config | None = None, *, tries_paths: bool = False) -> Loaded:
        """Read it, now or again, in the place of *in_force*; blocks for it.

        Raises :class:`~claudeproxyd.config.diagnostics.ConfigError`.
        """
        broken: list[Problem] = []
        return load(
            self.file,
            os.environ,
            makers(broken),
            plugin_makers=plugin_makers(broken),
            warnings=broken,
            tries_paths=tries_paths,
            in_force=in_force,
        )


def makeService(options: Options, reactor: Any = None) -> IService:
    """The daemon. Called by twistd, and by ``claudeproxyd.tac``: then its reactor gets a clock that nobody sets."""
    make = Daemon if options.loaded.config.server.processes == 1 else ParentDaemon
    try:
        return make(reactor or _steady(), options.loaded, options.load, options.parent or {"nodaemon": True})
    except ConfigError as error:  # of plugins, which are made only now
        raise SystemExit(f"claudeproxyd: {error}") from None


def run_worker() -> None:
    """Be one of the daemon's workers, until its parent says that it is over. Called by ``-m claudeproxyd.workers``."""
    broken: list[Problem] = []
    kinds = makers(broken)
    raise SystemExit(
        WorkerProcess(
            _steady(),
            lambda config, files: Loaded(config, [], files, kinds, plugin_makers(broken)),
        ).run()
    )


def _steady() -> Any:
    """Return the reactor with a clock that nobody sets.

    Twisted counts by the wall clock: set forward, every wait would be over; set back, none would ever be.
    """
    from twisted.internet import reactor

    made: Any = reactor
    made.seconds = time.monotonic
    return made
