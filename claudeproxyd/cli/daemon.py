"""``claudeproxyd run`` and ``check``: what ``twistd claudeproxyd`` does, by shorter names."""

from __future__ import annotations

import sys

from twisted.scripts import twistd

from claudeproxyd.cli.command import DONE, ConfiguredCommand


class RunCommand(ConfiguredCommand):
    """Runs the daemon in the foreground, as twistd -n claudeproxyd does; twistd itself has more options."""

    def perform(self) -> int:
        """Become twistd; return when the daemon has ended."""
        config = ["--config", self["config"]] if self["config"] else []
        # twistd reads the command line of the process, and nothing else.
        sys.argv = ["claudeproxyd", "--nodaemon", "--pidfile=", "claudeproxyd", *config]
        twistd.run()
        return DONE


class CheckCommand(ConfiguredCommand):
    """Reads a configuration; says what it amounts to, or every mistake with its place and the mend."""

    def perform(self) -> int:
        """Read it and print what comes of it; exits with 0 or 1."""
        from claudeproxyd.tap import Options  # takes half a second, which others need not wait for

        Options().parseOptions(["--check", *(["--config", self["config"]] if self["config"] else [])])
        return DONE
