"""``claudeproxyd``: reads the command line, and runs the subcommand that it names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import ClassVar

from twisted.python import usage

from claudeproxyd.cli.command import DONE, USAGE, CommandFailed, CommandGroup, complain
from claudeproxyd.cli.daemon import CheckCommand, RunCommand
from claudeproxyd.cli.doctor import DoctorCommand
from claudeproxyd.cli.keys import KeysCommand
from claudeproxyd.cli.limits import LimitsCommand
from claudeproxyd.cli.pool import PoolCommand
from claudeproxyd.cli.reload import ReloadCommand
from claudeproxyd.cli.requests import RequestsCommand
from claudeproxyd.cli.settings import SettingsCommand
from claudeproxyd.cli.top import TopCommand
from claudeproxyd.cli.usage import UsageCommand
from claudeproxyd.cli.version import VersionCommand


class Main(CommandGroup):
    """One Claude-compatible API in front of pools of upstream credentials.

    Exit codes: 0 done, 1 refused or wrong, 2 usage, 3 not reachable. claudeproxyd COMMAND --help has a command's own
    options.
    """

    synopsis = "claudeproxyd COMMAND [options]"
    subCommands: ClassVar[Sequence[tuple[str, None, type[usage.Options], str]]] = [
        ("run", None, RunCommand, "Run the daemon in the foreground."),
        ("check", None, CheckCommand, "Check a configuration."),
        ("reload", None, ReloadCommand, "Have the daemon read its configuration again."),
        ("pool", None, PoolCommand, "The credentials, and how they are."),
        ("keys", None, KeysCommand, "Clients' keys: list, mint, rotate, revoke."),
        ("usage", None, UsageCommand, "Who used what, and what it cost."),
        ("limits", None, LimitsCommand, "The limits, and how full they are."),
        ("requests", None, RequestsCommand, "The last requests, and what became of each attempt."),
        ("doctor", None, DoctorCommand, "Ask each credential's provider how it is."),
        ("settings", None, SettingsCommand, "Claude Code's settings for this daemon."),
        ("top", None, TopCommand, "Pool, clients and requests, drawn anew each second."),
        ("version", None, VersionCommand, "The versions of this and what it stands on."),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Names that a terminal of another encoding cannot show are no reason to show nothing.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        options = Main()
        options.parseOptions(sys.argv[1:] if argv is None else argv)
        return options.perform()
    except usage.UsageError as error:
        complain(str(error))
        return USAGE
    except CommandFailed as error:
        complain(str(error))
        return error.code
    except BrokenPipeError:
        # Whoever read it has seen enough; what is left unwritten would be complained about at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
