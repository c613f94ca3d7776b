"""Checks, without writing, that the daemon could write where its configuration says."""

from __future__ import annotations

import os
import stat
from os import W_OK, X_OK, access

from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.endpoints import listener_of
from claudeproxyd.config.merging import SourceMap
from claudeproxyd.config.schema import Config
from claudeproxyd.config.state import InFile, state_of


def check_writing(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Add to *diagnostics* what this user could not write of *config*, which is valid otherwise.

    For ``--check`` alone: a start tries for itself, and can go on without its state or its captures.
    """
    server, capture, log = config.server, config.capture, config.log
    state = state_of(server.state)
    if isinstance(state, InFile) and (why := _no_file(state.path) or _no_folder(os.path.dirname(state.path))):
        diagnostics.error(source_map.at("server", "state"), why, 'name another file, or "memory:"')
    if capture.when != "never" and (why := _no_folder(os.path.expanduser(capture.directory))):
        diagnostics.error(source_map.at("capture", "directory"), why, "name another folder")
    if log.access not in ("", "off") and (why := _no_log(os.path.expanduser(log.access))):
        diagnostics.error(source_map.at("log", "access"), why, "name another file, or make its folder")
    listeners = [(each, source_map.at("server", "listen", index)) for index, each in enumerate(server.listen)]
    if server.admin:
        listeners.append((server.admin, source_map.at("server", "admin")))
    for description, at in listeners:
        if (path := listener_of(description).path) and (why := _no_socket(path)):
            diagnostics.error(at, why, "name another path, or make its folder")


def _no_file(path: str) -> str:
    """Return why *path* cannot be written as a file, or ''."""
    if os.path.isdir(path):
        return f"{path} is a folder"
    return _unwritable(path, W_OK) if os.path.exists(path) else ""


def _no_log(path: str) -> str:
    return _no_file(path) if os.path.exists(path) else _no_entry(path)


def _no_socket(path: str) -> str:
    if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        return f"{path} is there already, and no socket"
    return _no_entry(path)


def _no_entry(path: str) -> str:
    """Return why nothing can be made at *path*, or ''. Its folder would not be made."""
    folder = os.path.dirname(os.path.abspath(path))
    return _no_folder(folder) if os.path.lexists(folder) else f"{folder} is not there"


def _no_folder(path: str) -> str:
    """Return why *path* cannot be a folder, or ''. It would be made, so the nearest one that exists counts."""
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return _unwritable(path, W_OK | X_OK) if os.path.isdir(path) else f"{path} is no folder"


def _unwritable(path: str, mode: int) -> str:
    return "" if access(path, mode) else f"{path} cannot be written"
