"""Says where the daemon keeps its own files, as long as the operator does not: state, accounts, captures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from claudeproxyd.config.accounts import waiting_name
from claudeproxyd.config.config_paths import ConfigPath
from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.homes import has_home
from claudeproxyd.config.merging import SourceMap
from claudeproxyd.config.preflight import no_file, no_folder
from claudeproxyd.config.schema import Config

SYSTEM_FOLDER = "/var/lib/claudeproxyd"
"""For a service that has neither a folder of systemd's nor a home directory."""
_USER_FOLDER = "~/.local/state/claudeproxyd"
"""As the schema has it."""
_SQLITE = "sqlite:"


def placed(config: Config, source_map: SourceMap, environ: Mapping[str, str], diagnostics: Diagnostics) -> Config:
    """Return *config* with places for what it gives none.

    The state is in memory and there are no accounts, with a warning, where their files could not be made. Called by the
    loader; looks at folders, and makes none.
    """
    folder = _folder(environ)
    server, accounts, capture = config.server, config.accounts, config.capture
    if not (at := source_map.at("server", "state")).is_given:
        path, meaning = _path(folder, "state.db"), "is in memory, and ends with the daemon"
        server = replace(server, state=_database(path, "memory:", meaning, at, diagnostics))
    if not (at := source_map.at("accounts", "database")).is_given:
        path, meaning = _path(folder, "accounts.db"), "is none, so usage and keys are not kept"
        accounts = replace(accounts, database=_database(path, "", meaning, at, diagnostics))
    if not accounts.waiting and (name := waiting_name(accounts.database)):
        accounts = replace(accounts, waiting=f"{folder}/{name}")
    if not source_map.at("capture", "directory").is_given:
        capture = replace(capture, directory=_path(folder, "captures"))
    return replace(config, server=server, accounts=accounts, capture=capture)


def _folder(environ: Mapping[str, str]) -> str:
    """Return the folder for new files: systemd's, the user's, or the system's."""
    if unit := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return unit
    if not _may_use_home():
        return SYSTEM_FOLDER
    named = environ.get("XDG_STATE_HOME", "")
    return os.path.join(named, "claudeproxyd") if os.path.isabs(named) else _USER_FOLDER


def _may_use_home() -> bool:
    """Whether there is a home directory for this user's files. Containers without a user have ``/`` for one."""
    home = os.path.expanduser("~")
    return has_home() and os.path.isdir(home) and home != "/" and not no_folder(os.path.expanduser(_USER_FOLDER))


def _path(folder: str, name: str) -> str:
    """Return the place of one file: where it is since a version that kept all in the home directory, or in *folder*."""
    path, before = f"{folder}/{name}", f"{_USER_FOLDER}/{name}"
    moved = os.path.exists(os.path.expanduser(path)) or not has_home()
    return path if moved or not os.path.exists(os.path.expanduser(before)) else before


def _database(path: str, instead: str, meaning: str, at: ConfigPath, diagnostics: Diagnostics) -> str:
    """Return the setting of a database in the file *path*.

    It is *instead* where that could not be made, and a warning about the setting *at* says what *meaning* that has.
    """
    if not (why := _cannot_be_made(path)):
        return _SQLITE + path
    hint = f'mount or make a folder that the daemon may write to, name one with sqlite:, or say "{instead}"'
    diagnostics.warn(at, f"{meaning}: {why}", hint)
    return instead


def _cannot_be_made(path: str) -> str:
    """Return why there is no such file and can be none, or ''. One that is there is not given up: it may hold keys."""
    whole = os.path.expanduser(path)
    return "" if os.path.exists(whole) else no_file(whole) or no_folder(os.path.dirname(whole))
