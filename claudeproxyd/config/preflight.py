"""What ``--check`` tries beside reading: whether the daemon could write where its configuration says, without writing,
and whether a provider's name leads back to the daemon."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from os import W_OK, X_OK, access
from urllib.parse import urlsplit

from claudeproxyd.config.accounts import place_of
from claudeproxyd.config.config_paths import ConfigPath
from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.endpoints import listener_of
from claudeproxyd.config.merging import SourceMap
from claudeproxyd.config.schema import Config
from claudeproxyd.config.state import InFile, state_of

#: Seconds for the addresses of all names together: without a network nobody answers.
PATIENCE = 2.0


def check_writing(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Add to *diagnostics* what this user could not write of *config*, which is valid otherwise.

    For ``--check``: a start tries for itself, and can go on without the half that :func:`check_keeping` looks at.
    """
    check_keeping(config, source_map, diagnostics.error)
    log = config.log
    for name, path in (("access", log.access), ("audit", log.audit)):
        if path and not (name == "access" and path == "off") and (why := _no_log(os.path.expanduser(path))):
            diagnostics.error(source_map.at("log", name), why, "name another file, or make its folder")
    server = config.server
    listeners = [(each, source_map.at("server", "listen", index)) for index, each in enumerate(server.listen)]
    if server.admin:
        listeners.append((server.admin, source_map.at("server", "admin")))
    for description, at in listeners:
        if (path := listener_of(description).path) and (why := _no_socket(path)):
            diagnostics.error(at, why, "name another path, or make its folder")


def check_keeping(config: Config, source_map: SourceMap, tell: Callable[[ConfigPath, str, str], None]) -> None:
    """Tell what this user could not write of what the daemon keeps, and could serve without."""
    state, accounts, capture = state_of(config.server.state), place_of(config.accounts), config.capture
    if isinstance(state, InFile) and (why := no_file(state.path) or no_folder(os.path.dirname(state.path))):
        tell(source_map.at("server", "state"), why, 'name another file, or "memory:"')
    if accounts is not None:
        ledger = accounts.where
        if not accounts.dsn and (why := no_file(ledger) or no_folder(os.path.dirname(ledger))):
            tell(source_map.at("accounts", "database"), why, 'name another file, or ""')
        elif why := no_folder(accounts.waiting):
            tell(source_map.at("accounts", "waiting"), why, "name another folder")
    if capture.when != "never" and (why := no_folder(os.path.expanduser(capture.directory))):
        tell(source_map.at("capture", "directory"), why, "name another folder")


def check_names(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Add to *diagnostics* what names of providers lead to this machine, at a port where the daemon listens itself.

    For ``--check`` alone, as it asks the resolver. A name that it does not know in time is left to the start.
    """
    server = config.server
    own = {listener_of(each).port for each in (*server.listen, *([server.admin] if server.admin else ()))}
    asked: list[tuple[int, threading.Thread, list[str]]] = []
    for index, provider in enumerate(config.providers):
        url = urlsplit(provider.base_url)
        port = url.port or (443 if url.scheme == "https" else 80)
        if url.hostname and port in own:
            addresses: list[str] = []
            thread = threading.Thread(target=_resolve, args=(url.hostname, addresses), daemon=True)
            thread.start()
            asked.append((index, thread, addresses))
    left = PATIENCE / max(1, len(asked))
    for index, thread, addresses in asked:
        thread.join(left)
        if any(map(_is_own, addresses)):
            at = source_map.at("providers", index, "base_url")
            diagnostics.error(at, "leads to this daemon itself", "name the upstream; only clients are pointed here")


def _resolve(name: str, addresses: list[str]) -> None:
    """Add the addresses of *name*, if it has any. In a thread, as the resolver takes as long as it likes."""
    with suppress(OSError, UnicodeError):
        addresses += [str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


def _is_own(address: str) -> bool:
    """Whether this machine has that address: only then something may be bound to it."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def no_file(path: str) -> str:
    """Return why *path* cannot be written as a file, or ''."""
    if os.path.isdir(path):
        return f"{path} is a folder"
    return _unwritable(path, W_OK) if os.path.exists(path) else ""


def _no_log(path: str) -> str:
    return no_file(path) if os.path.exists(path) else _no_entry(path)


def _no_socket(path: str) -> str:
    if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        return f"{path} is there already, and no socket"
    return _no_entry(path)


def _no_entry(path: str) -> str:
    """Return why nothing can be made at *path*, or ''. Its folder would not be made."""
    folder = os.path.dirname(os.path.abspath(path))
    return no_folder(folder) if os.path.lexists(folder) else f"{folder} is not there"


def no_folder(path: str) -> str:
    """Return why *path* cannot be a folder, or ''. It would be made, so the nearest one that exists counts."""
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return _unwritable(path, W_OK | X_OK) if os.path.isdir(path) else f"{path} is no folder"


def _unwritable(path: str, mode: int) -> str:
    return "" if access(path, mode) else f"{path} cannot be written"
