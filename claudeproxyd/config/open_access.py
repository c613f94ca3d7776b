"""Checks that nothing opens by itself: who may call without a key, at a start and after a reload."""

from __future__ import annotations

from collections.abc import Sequence

from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.endpoints import ListenAddress, listener_of
from claudeproxyd.config.merging import SourceMap
from claudeproxyd.config.schema import Config

_HINT = "add [[clients]] or [[issuers]], or say server.open = true, or accounts.require_keys = true"


def check_access(
    config: Config,
    listeners: Sequence[tuple[int, ListenAddress]],
    admin: ListenAddress | None,
    source_map: SourceMap,
    diagnostics: Diagnostics,
) -> None:
    """Check that callers without a key are let in on purpose. *listeners* are those of ``server.listen``, by index."""
    server = config.server
    if config.is_keyed and server.open:
        who, hint = "there are [[clients]]", "remove it, or the clients"
        if config.accounts.require_keys:
            who, hint = "accounts.require_keys is true", "remove one of the two"
        elif not config.clients and config.issuers:
            who, hint = "there are [[issuers]]", "remove it, or the issuers"
        elif not config.clients:
            who, hint = "there is a plugin that asks who calls", "remove it, or the plugin"
        diagnostics.error(source_map.at("server", "open"), f"lets anybody call, and {who}", hint)
    if not config.is_keyed and not server.open:
        reachable = [index for index, listener in listeners if not listener.local]
        for index in reachable:
            at = source_map.at("server", "listen", index)
            hint = "add clients or issuers, or say accounts.require_keys = true to mint keys, or listen on 127.0.0.1"
            diagnostics.error(at, "can be reached by others, and there are no [[clients]]", hint)
        if config.include and not reachable:
            # They may have been in a file that is gone.
            diagnostics.error(source_map.at("include"), "may be meant to bring [[clients]], but there are none", _HINT)
    if admin is not None and not admin.local and not config.asks_operators:
        diagnostics.error(
            source_map.at("server", "admin_key"),
            "is missing, and others can reach the admin listener",
            "set it, or add [[operators]], or let admin listen on 127.0.0.1",
        )


def check_reload(config: Config, in_force: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Check that a reload lets in nobody whom *in_force* does not. Its listeners stay until a restart."""
    server = in_force.server
    if not config.is_keyed:
        gone = "are all gone, and a reload opens nothing" if in_force.is_keyed else ""
        open_to_others = [each for each in server.listen if not listener_of(each).local]
        if open_to_others and not server.open:
            gone = f"are none, and {open_to_others[0]} stays open to others until a restart"
        if gone and in_force.accounts.require_keys and not in_force.clients:
            at = source_map.at("accounts", "require_keys")
            diagnostics.error(at, "is gone, and a reload opens nothing", "keep it, or restart the daemon")
        elif gone and in_force.issuers and not in_force.clients:
            diagnostics.error(source_map.at("issuers"), gone, "keep one, or restart the daemon")
        elif gone and in_force.is_keyed and not in_force.clients:
            what = "have none left that asks who calls, and a reload opens nothing"
            diagnostics.error(source_map.at("plugins"), what, "keep it, or restart the daemon")
        elif gone:
            diagnostics.error(source_map.at("clients"), gone, "keep one, or restart the daemon")
    if not config.asks_operators and server.admin:
        at = source_map.at("server", "admin_key")
        if server.admin_key is not None:
            diagnostics.error(at, "is gone, and a reload opens nothing", "keep it, or restart the daemon")
        elif in_force.operators:
            what = "are all gone, and a reload opens nothing"
            diagnostics.error(source_map.at("operators"), what, "keep one, or restart the daemon")
        elif not listener_of(server.admin).local:
            diagnostics.error(at, f"is missing, and {server.admin} stays open to others until a restart")
