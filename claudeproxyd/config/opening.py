"""That nothing opens by itself: who may call without a key, at a start and after a reload."""

from __future__ import annotations

from collections.abc import Sequence

from claudeproxyd.config.listening import Listener, listener_of
from claudeproxyd.config.merging import Origins
from claudeproxyd.config.mistakes import Findings
from claudeproxyd.config.schema import Config

_MEND = "add [[clients]], or say server.open = true"


def check_access(
    config: Config,
    listeners: Sequence[tuple[int, Listener]],
    admin: Listener | None,
    origins: Origins,
    findings: Findings,
) -> None:
    """Whether somebody may call whom nobody meant. *listeners* are those of ``server.listen``, by their index."""
    server = config.server
    if config.clients and server.open:
        mend = "take it away, or the clients"
        findings.mistake(origins.at("server", "open"), "lets anybody call, and there are [[clients]]", mend)
    if not config.clients and not server.open:
        reachable = [index for index, listener in listeners if not listener.local]
        for index in reachable:
            place = origins.at("server", "listen", index)
            mend = "add clients, or listen on 127.0.0.1"
            findings.mistake(place, "can be reached by others, and there are no [[clients]]", mend)
        if config.include and not reachable:
            # They may have stood in a file that is not there.
            findings.mistake(origins.at("include"), "may be meant to bring [[clients]], and there are none", _MEND)
    if admin is not None and not admin.local and server.admin_key is None:
        findings.mistake(
            origins.at("server", "admin_key"),
            "is missing, and others can reach the admin listener",
            "set it, or let admin listen on 127.0.0.1",
        )


def check_reload(config: Config, in_force: Config, origins: Origins, findings: Findings) -> None:
    """Whether a reload would let in whom the configuration *in_force* does not. Its listeners stay until a restart."""
    server = in_force.server
    if not config.clients:
        gone = "are none any more, and a reload opens nothing" if in_force.clients else ""
        open_to_others = [each for each in server.listen if not listener_of(each).local]
        if open_to_others and not server.open:
            gone = f"are none, and {open_to_others[0]} stays open to others until a restart"
        if gone:
            findings.mistake(origins.at("clients"), gone, "keep one, or restart the daemon")
    if config.server.admin_key is None and server.admin:
        place = origins.at("server", "admin_key")
        if server.admin_key is not None:
            findings.mistake(place, "is there no more, and a reload opens nothing", "keep it, or restart the daemon")
        elif not listener_of(server.admin).local:
            findings.mistake(place, f"is missing, and {server.admin} stays open to others until a restart")
