"""Checks and reads ``[accounts]`` and ``[[prices]]``."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from claudeproxyd.config.homes import expanded
from claudeproxyd.globs import oddity

if TYPE_CHECKING:
    from claudeproxyd.config.diagnostics import Diagnostics
    from claudeproxyd.config.merging import SourceMap
    from claudeproxyd.config.schema import Config

_SQLITE = "sqlite:"
_DAY = 86_400


def check_accounts(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Look at where the ledger is, and at dates and names of prices."""
    try:
        ledger_path(config.accounts.database)
    except ValueError as error:
        diagnostics.error(source_map.at("accounts", "database"), str(error))
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


def ledger_path(database: str) -> str:
    """Return the file of the ledger, in full; '' for none. Raises ValueError, in words for the operator."""
    if not database:
        return ""
    path = database.removeprefix(_SQLITE)
    if path == database or not path or path.endswith("/") or "\0" in path:
        raise ValueError('must be sqlite:PATH, or "" for no ledger')
    return os.path.abspath(expanded(path))


def first_day(since: str) -> int:
    """Return a date as days since the epoch (UTC); 0 for ''. Raises ValueError."""
    if not since:
        return 0
    return int(datetime.strptime(since, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) // _DAY
