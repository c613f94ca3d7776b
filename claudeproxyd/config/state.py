"""Parses ``server.state``: where the pool's state is kept."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from urllib.parse import parse_qs, quote, unquote, urlsplit

from claudeproxyd.config.endpoints import is_host
from claudeproxyd.config.homes import expanded

PREFIX = "claudeproxyd:"
#: In every state file's header, so that nobody else's database is taken for one: "cpxd".
APPLICATION = 0x63707864
_FORMS = 'must be "memory:", sqlite:PATH or redis://host:port/0'


@dataclass(frozen=True, slots=True)
class InMemory:
    """In memory: it is lost when the daemon ends."""


@dataclass(frozen=True, slots=True)
class InFile:
    """In an SQLite file."""

    path: str
    """Absolute."""


@dataclass(frozen=True, slots=True)
class InRedis:
    """In a Redis that several daemons may share."""

    host: str
    port: int = 6379
    database: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    prefix: str = PREFIX
    """Before each key and channel, so that several farms may share one Redis."""


def state_of(text: str) -> InMemory | InFile | InRedis:
    """Return what *text* says. Raises ValueError, whose message does not quote it: it may hold a password."""
    if text == "memory:":
        return InMemory()
    if text.startswith("sqlite:"):
        path = text.removeprefix("sqlite:")
        if not path or path.endswith("/") or "\0" in path:
            raise ValueError("must name a file after sqlite:")
        return InFile(os.path.abspath(expanded(path)))
    if text.startswith(("redis://", "rediss://")):
        return _redis(text)
    raise ValueError(_FORMS)


def place_in_words(text: str) -> str:
    """Return what operators are told of where the state is. Raises ValueError."""
    place = state_of(text)
    if isinstance(place, InRedis):
        return f"Redis at {place.host}:{place.port}, database {place.database}, under {place.prefix}"
    return place.path if isinstance(place, InFile) else "in memory"


def _redis(text: str) -> InRedis:
    try:
        url = urlsplit(text)
        port = url.port or 6379
    except ValueError:
        raise ValueError(_FORMS) from None
    database = url.path.strip("/") or "0"
    options = parse_qs(url.query, keep_blank_values=True)
    if (
        not url.hostname
        or not is_host(url.hostname)
        or url.fragment
        or not (database.isascii() and database.isdecimal())
    ):
        raise ValueError(_FORMS)
    if options.keys() - {"prefix"} or len(options.get("prefix", [])) > 1:
        raise ValueError("may have no option but one ?prefix=")
    return InRedis(
        url.hostname,
        port,
        int(database),
        unquote(url.username or ""),
        unquote(url.password or ""),
        url.scheme == "rediss",
        options.get("prefix", [PREFIX])[0],
    )


def missing_for(text: str) -> str:
    """Return the package that this kind of state needs and that is not installed, or ''."""
    return "hiredis" if text.startswith("redis") and find_spec("hiredis") is None else ""


def is_foreign(path: str) -> bool:
    """Whether *path* is a database of another program for sure: one that is damaged or cannot be read is not.

    Reads the file alone, as it lies there: no lock is waited for, and nothing is left beside it.
    """
    if not os.path.isfile(path):
        return False
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True)) as connection:
            ((application,),) = connection.execute("PRAGMA application_id")
            ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
    except (sqlite3.Error, UnicodeDecodeError):  # the latter of damage in the schema
        return False
    return bool(application != APPLICATION and (application or tables))
