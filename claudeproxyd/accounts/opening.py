"""Opens the database that ``accounts.database`` names, for the ledger and for keys made at run time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from claudeproxyd.accounts.database import LedgerFile
from claudeproxyd.accounts.keys import RuntimeKeys
from claudeproxyd.accounts.ledger import Ledger
from claudeproxyd.config.accounts import place_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.accounts.key_file import KeyConnection
    from claudeproxyd.config.accounts import AccountsPlace
    from claudeproxyd.config.schema import Accounts
    from claudeproxyd.interfaces import ILedgerDatabase
    from claudeproxyd.threads import InThread


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


def ledger_of(
    accounts: Accounts,
    reactor: IReactorTime,
    new_thread: Callable[[str], InThread],
    before_sending: Callable[[Callable[[], None]], None],
) -> Ledger | None:
    """Return the ledger, where there is one. *new_thread* makes a thread, by its name; for the last see the ledger."""
    place = place_of(accounts)
    if place is None:
        return None
    enter_in, answer_in = (new_thread(name) for name in ("ledger", "questions to the ledger"))
    database = openers_of(place, _password(accounts)).ledger
    return Ledger(
        place.where,
        accounts.keep,
        reactor,
        time.time,
        enter_in,
        answer_in,
        database=database,
        waiting=place.waiting,
        before_sending=before_sending,
    )


def keys_of(accounts: Accounts, reactor: IReactorTime, new_thread: Callable[[str], InThread]) -> RuntimeKeys | None:
    """Return the keys, where there is a database for them. *new_thread* makes a thread, by its name."""
    place = place_of(accounts)
    if place is None:
        return None
    connect = openers_of(place, _password(accounts)).keys
    return RuntimeKeys(place.where, reactor, time.time, new_thread("keys"), connect)


def _password(accounts: Accounts) -> str:
    """Return that of the database's user, where it is beside the URL; or ''."""
    return "" if accounts.password is None else accounts.password.reveal()
