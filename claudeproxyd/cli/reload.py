"""``claudeproxyd reload``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.cli.admin import Admin, AdminCommand
from claudeproxyd.cli.command import DONE, say

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class Reloaded(msgspec.Struct):
    """A reload that came into force."""

    changes: str


class ReloadCommand(AdminCommand):
    """Has the daemon read its configuration again, and prints what changed.

    With a mistake in it nothing changes: it prints the mistake with its file and line, and exits with 1.
    """

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """See the base."""
        told = await admin.post("/admin/v1/reload", {}, Reloaded)
        say(f"reloaded: {told.changes}")
        return DONE
