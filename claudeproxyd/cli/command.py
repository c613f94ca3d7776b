"""What all subcommands have in common: options, exit codes, and how they end."""

from __future__ import annotations

import inspect
import platform
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import twisted
from OpenSSL import SSL
from twisted.internet import task
from twisted.python import usage

from claudeproxyd import __version__
from claudeproxyd.cli.figures import plain_lines

DONE = 0
REFUSED = 1
"""Refused, or something is wrong."""
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

CONFIG = [
    "config",
    "c",
    None,
    "The configuration file; without it $CLAUDEPROXYD_CONFIG, ./claudeproxyd.toml,"
    " ~/.config/claudeproxyd/claudeproxyd.toml, or the environment alone.",
]


class CommandFailed(Exception):
    """It could not be done. The text is for the operator: what is wrong, where, and what mends it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Command(usage.Options, ABC):
    """The base of the command and its subcommands. A docstring is what ``--help`` says."""

    @property
    def longdesc(self) -> str:
        """Return what it does."""
        return inspect.getdoc(type(self)) or ""

    def opt_version(self) -> None:
        """Print the versions, and exit."""
        say(versions())
        raise SystemExit(DONE)

    @abstractmethod
    def perform(self) -> int:
        """Do it; return the exit code. Blocks. May raise :class:`CommandFailed`."""

    def number(self, name: str, kind: Callable[[str], float], least: float) -> float:
        """Return an option that is to be a number. Raises UsageError."""
        try:
            value = kind(self[name])
        except ValueError:
            value = least - 1
        if not value >= least:
            raise usage.UsageError(f"--{name} {self[name]}: must be a number from {least:g} up")
        return value


class CommandGroup(Command):
    """The base of a command that is nothing without one of its ``subCommands``."""

    subCommands: ClassVar[Sequence[tuple[str, None, type[usage.Options], str]]]
    asking = ""
    """What stands before the question for one."""

    def postOptions(self) -> None:
        """Refuse a line without a command."""
        if self.subCommand is None:
            names = ", ".join(each[0] for each in self.subCommands)
            raise usage.UsageError(f"{self.asking}which command? One of {names}")

    def perform(self) -> int:
        """Do what the subcommand does."""
        command: Command = self.subOptions
        return command.perform()


class ConfiguredCommand(Command):
    """The base of a subcommand that goes by a configuration."""

    optParameters: ClassVar = [CONFIG]


def versions() -> str:
    """Return the versions of this, and of what it stands on."""
    openssl = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode("ascii").split(" ")[1]
    return (
        f"claudeproxyd {__version__} (Twisted {twisted.__version__}, Python {platform.python_version()},"
        f" OpenSSL {openssl})"
    )


def say(text: str) -> None:
    """Print *text* and a line's end, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def complain(words: str) -> None:
    """Print *words*, which may quote what others have written, beside what is printed."""
    sys.stderr.write(f"claudeproxyd: {plain_lines(words)}\n")


def on_reactor(do: Callable[[Any], Awaitable[int]], interrupted: int = INTERRUPTED) -> int:
    """Run the reactor until *do*, which gets it, is done; return the exit code, *interrupted* where a signal ended it.

    Raises what *do* raises.
    """
    ended: list[int | Exception] = []
    stopped: list[None] = []

    async def main(reactor: Any) -> None:
        reactor.addSystemEventTrigger("before", "shutdown", stopped.append, None)
        try:
            ended.append(await do(reactor))
        except Exception as error:
            # Connections are lost at the end, which is no failure of theirs.
            ended.append(interrupted if stopped else error)

    with suppress(SystemExit):  # which is how it returns
        task.react(main)
    result = ended[0] if ended else interrupted
    if isinstance(result, Exception):
        raise result
    return result
