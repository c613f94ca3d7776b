"""``claudeproxyd top``."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from twisted.internet.task import deferLater

from claudeproxyd.cli.admin import Admin, AdminCommand
from claudeproxyd.cli.command import DONE, UNREACHABLE, CommandFailed, say
from claudeproxyd.cli.figures import moment, plain_lines
from claudeproxyd.cli.pool import ToldPool, pool_in_words
from claudeproxyd.cli.requests import ToldRequest, requests_in_words
from claudeproxyd.cli.usage import Row, usage_in_words

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: To a terminal: begin at its upper left corner, and clear what is below.
_CLEAR = "\x1b[H\x1b[J"
#: Lines of a picture that go to no terminal.
_LINES = 50


class TopCommand(AdminCommand):
    """Shows the pool, what clients used today, and the last requests, anew each second until it is interrupted."""

    optParameters: ClassVar = [
        ["every", None, "1", "Seconds between two pictures."],
        ["count", None, "0", "Pictures, after which it ends; 0: until it is interrupted."],
    ]
    interrupted_code = DONE

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """Draw until it is interrupted. A daemon that goes away is waited for, if it was there at first."""
        every, count = self.number("every", float, 0.1), int(self.number("count", int, 0))
        drawn = 0
        while True:
            try:
                picture = await _picture(admin, _height())
            except CommandFailed as error:
                if not drawn or error.code != UNREACHABLE:
                    raise
                picture = [str(error)]
            _draw([f"claudeproxyd  {moment(time.time())}", *picture])
            drawn += 1
            if drawn == count:
                return DONE
            await deferLater(clock, every)


async def _picture(admin: Admin, height: int) -> Sequence[str]:
    """Return the lines of one picture; each part gets a share of the height."""
    pool = await admin.get("/admin/v1/pool", {"limit": str(height)}, ToldPool)
    lines = ["\n".join(pool_in_words(pool, most=max(3, height // 3))), ""]
    try:
        today = str(datetime.now(UTC).date())
        query = {"from": today, "to": today, "limit": str(max(3, height // 4))}
        clients = await admin.get("/admin/v1/usage", {**query, "by": "client"}, list[Row])
        everything = await admin.get("/admin/v1/usage", query, list[Row])
        requests = await admin.get("/admin/v1/requests", {"limit": str(max(3, height // 3))}, list[ToldRequest])
    except CommandFailed as error:
        if error.code == UNREACHABLE:
            raise
        lines.append(str(error))  # without a ledger there is the pool
    else:
        lines += [
            "Today (UTC)",
            usage_in_words(clients, ["client"], everything),
            "",
            requests_in_words(requests),
        ]
    return plain_lines("\n".join(lines)).split("\n")


def _height() -> int:
    return shutil.get_terminal_size().lines if sys.stdout.isatty() else _LINES


def _draw(lines: Sequence[str]) -> None:
    if not sys.stdout.isatty():
        say("\n".join([*lines, ""]))
        return
    size = shutil.get_terminal_size()
    sys.stdout.write(_CLEAR + "\n".join(line[: size.columns] for line in lines[: size.lines - 1]))
    sys.stdout.flush()
