"""``claudeproxyd version``."""

from __future__ import annotations

from claudeproxyd.cli.command import DONE, Command, say, versions


class VersionCommand(Command):
    """Prints the versions of this, and of what it stands on."""

    def perform(self) -> int:
        """Print them."""
        say(versions())
        return DONE
