"""Where the program ``claudeproxyd`` begins; it imports next to nothing, so that it begins soon."""

from __future__ import annotations

import sys

from claudeproxyd import hangups


def main() -> int:
    """Do what the command line says; return the exit code."""
    if "run" in sys.argv[1:2]:
        hangups.hold()
    from claudeproxyd.cli.main import main as do_it  # takes half a second, in which a SIGHUP would end a daemon

    return do_it()
