"""Checks and reads ``[accounts]``, ``[[prices]]`` and ``[[limits]]``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from claudeproxyd.config.diagnostics import check_unique_names
from claudeproxyd.config.endpoints import is_loopback
from claudeproxyd.config.homes import expanded
from claudeproxyd.config.providers import check_secret
from claudeproxyd.globs import oddity

if TYPE_CHECKING:
    from claudeproxyd.config.config_paths import ConfigPath
    from claudeproxyd.config.diagnostics import Diagnostics
    from claudeproxyd.config.merging import SourceMap
    from claudeproxyd.config.schema import Accounts, Config, LimitSection, PriceSection

MEASURES = ("usd", "tokens", "input_tokens", "output_tokens", "requests")
"""What a limit can be of."""

_SQLITE = "sqlite:"
_POSTGRESQL = ("postgresql://", "postgres://")
_DAY = 86_400
_LABEL = re.compile(r"label\..+", re.DOTALL)
_MATCHES = "client, label.NAME, model and provider are"


def check_accounts(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Look at where the ledger is, at keys that cannot be minted, and at dates and names of prices."""
    database = source_map.at("accounts", "database")
    try:
        place_of(config.accounts)
    except ValueError as error:
        diagnostics.error(database, str(error))
    if missing := missing_for_accounts(config.accounts.database):
        hint = "pip install 'claudeproxyd[postgresql]'"
        diagnostics.error(database, f"needs the package {missing}, which is not installed", hint)
    elif _may_be_anybody(config.accounts.database):
        what = "is told the password whoever it is: whoever stands before it can pass for it"
        diagnostics.warn(database, what, "?sslmode=verify-full&sslrootcert=FILE, or sslrootcert=system")
    check_secret(config.accounts.password, source_map.at("accounts", "password"), diagnostics)
    if config.accounts.require_keys and not config.accounts.database and not config.clients:
        what = "is true, and no key could ever be minted: there is no accounts.database"
        diagnostics.error(source_map.at("accounts", "require_keys"), what, "name one, or add [[clients]]")
    check_unique_names(
        ((limit.name, source_map.at("limits", index)) for index, limit in enumerate(config.limits)), diagnostics
    )
    for index, limit in enumerate(config.limits):
        _check_limit(limit, source_map.at("limits", index), diagnostics)
    for index, price in enumerate(config.prices):
        at = source_map.at("prices", index)
        if not price.model:
            diagnostics.error(at / "model", "must not be empty", 'such as "claude-opus-*"')
        for name, glob in (("model", price.model), ("provider", price.provider)):
            if why := oddity(glob):
                diagnostics.warn(at / name, why)
        try:
            first_day(price.since)
        except ValueError:
            diagnostics.error(at / "since", "is no day", 'such as "2026-12-01"')


def _check_limit(section: LimitSection, at: ConfigPath, diagnostics: Diagnostics) -> None:
    given = [measure for measure in MEASURES if getattr(section, measure)]
    if len(given) != 1:
        diagnostics.error(at, f"must have one of {', '.join(MEASURES)}, and has {' and '.join(given) or 'none'}")
    for name in matches_of(section):
        if name not in ("client", "model", "provider") and not _LABEL.fullmatch(name):
            diagnostics.error(at / "match" / name, "is nothing that a request has", _MATCHES)
    if section.each not in ("", "client", "model") and not _LABEL.fullmatch(section.each):
        diagnostics.error(at / "each", "is nothing that there can be a counter for", "client, model or label.NAME")
    try:
        zone_of(section.zone)
    except ValueError as error:
        diagnostics.error(at / "zone", str(error), 'such as "Europe/Berlin"')


def matches_of(section: LimitSection) -> dict[str, str]:
    """Return its globs by name; ``label.team`` is a table within a table where no quotes are around it."""
    flat: dict[str, str] = {}
    for name, glob in section.match.items():
        if isinstance(glob, str):
            flat[name] = glob
        else:
            flat.update({f"{name}.{inner}": each for inner, each in glob.items()})
    return flat


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name. Raises ValueError, in words for the operator."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone that this machine knows") from None


@dataclass(frozen=True)
class AccountsPlace:
    """Where the accounts are."""

    where: str
    """For people, and for what tells one database from another: the SQLite file in full, or a URL without secrets."""
    waiting: str
    """The folder of records on their way."""
    dsn: str = field(default="", repr=False)
    """PostgreSQL's; '': the database is the file."""


def place_of(accounts: Accounts) -> AccountsPlace | None:
    """Return where the accounts are; None: nowhere. Raises ValueError, in words for the operator, without secrets."""
    database, waiting = accounts.database, accounts.waiting and os.path.abspath(expanded(accounts.waiting))
    if not database:
        return None
    if database.startswith(_POSTGRESQL):
        return AccountsPlace(_without_secrets(database), waiting or os.path.abspath(waiting_name(database)), database)
    path = database.removeprefix(_SQLITE)
    if path == database or not path or path.endswith("/") or "\0" in path:
        raise ValueError('must be sqlite:PATH, postgresql://user@host/name, or "" for no ledger')
    path = os.path.abspath(expanded(path))
    return AccountsPlace(path, waiting or f"{path}.waiting")


def waiting_name(database: str) -> str:
    """Return what the folder of records is called that wait for a PostgreSQL; '' for other databases."""
    if not database.startswith(_POSTGRESQL):
        return ""
    try:
        where = _without_secrets(database)
    except ValueError:  # told by the check
        return ""
    return f"postgresql-{sha256(where.encode()).hexdigest()[:12]}.waiting"


def accounts_in_words(accounts: Accounts) -> str:
    """Return where the accounts are, for people."""
    place = place_of(accounts)
    return "none" if place is None else place.where


def prices_in_words(own: Sequence[PriceSection]) -> str:
    """Return whose prices hold, for people."""
    listed = "the published ones" if find_spec("genai_prices") is not None else ""
    return ", then ".join(filter(None, (f"{len(own)} of the configuration" if own else "", listed))) or "none"


def _without_secrets(dsn: str) -> str:
    """Return a PostgreSQL URL without its user, password and options. Raises ValueError."""
    try:
        url = urlsplit(dsn)
        if find_spec("psycopg") is not None:
            from psycopg.conninfo import conninfo_to_dict

            conninfo_to_dict(dsn)
    except Exception:  # ValueError, or psycopg's, whose words have the URL
        raise ValueError("is no URL of a PostgreSQL database: postgresql://user@host:5432/name?sslmode=…") from None
    hosts = url.netloc.rpartition("@")[2] or ",".join(parse_qs(url.query).get("host", ()))
    return f"postgresql://{hosts}{url.path}"


def _may_be_anybody(dsn: str) -> bool:
    """Whether a PostgreSQL elsewhere need not prove its name, as it need not if nothing is said of it."""
    if not dsn.startswith(_POSTGRESQL):
        return False
    try:
        url = urlsplit(dsn)
        options = parse_qs(url.query)
        hosts = [*url.netloc.rpartition("@")[2].split(","), *",".join(options.get("host", ())).split(",")]
        names = [urlsplit(f"//{host}").hostname for host in hosts if not host.startswith("/")]
    except ValueError:  # which is told already
        return False
    return options.get("sslmode") != ["verify-full"] and any(name and not is_loopback(name) for name in names)


def passwords_of(accounts: Accounts) -> Iterator[str]:
    """Yield what is secret in the URL of the database, in each form that it may be written in."""
    if accounts.database.startswith(_POSTGRESQL):
        url = urlsplit(accounts.database)
        written = url.netloc.rpartition("@")[0].partition(":")[2]
        options = parse_qs(url.query)
        for each in (written, unquote(written), *options.get("password", ()), *options.get("sslpassword", ())):
            if each:
                yield each


def missing_for_accounts(database: str) -> str:
    """Return the package that this kind of database needs and that is not installed, or ''."""
    return "psycopg" if database.startswith(_POSTGRESQL) and find_spec("psycopg") is None else ""


def first_day(since: str) -> int:
    """Return a date as days since the epoch (UTC); 0 for ''. Raises ValueError."""
    if not since:
        return 0
    return int(datetime.strptime(since, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) // _DAY
