"""Opens the database that ``accounts.database`` names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from claudeproxyd.accounts.database import LedgerFile

if TYPE_CHECKING:
    from claudeproxyd.accounts.key_file import KeyConnection
    from claudeproxyd.config.accounts import AccountsPlace
    from claudeproxyd.interfaces import ILedgerDatabase


class Openers(NamedTuple):
    """What opens it, for each thread that uses it. Neither touches anything yet."""

    ledger: Callable[[], ILedgerDatabase]
    keys: Callable[[], KeyConnection] | None
    """None: keys are in the file."""


def openers_of(place: AccountsPlace, password: str) -> Openers:
    """Return what opens the database at *place*; *password*: of its user, or ''."""
    if not place.dsn:
        return Openers(partial(LedgerFile, place.where), None)
    # Its driver is an extra, which is there where this is configured.
    from claudeproxyd.accounts.postgresql import PostgresKeys, PostgresLedger, open_database

    more = {"password": password} if password else {}
    connect = partial(open_database, place.dsn, place.where, **more)
    return Openers(partial(PostgresLedger, place.where, connect), partial(PostgresKeys, connect))
