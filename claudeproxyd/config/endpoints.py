"""Finds out what an endpoint string would listen on, without listening."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from OpenSSL import crypto
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor

from claudeproxyd.config.regular_files import LARGEST_SECRET, NotRegular, read_regular

#: Connections that may wait to be accepted: a second's worth of a crowd, or all clients of a daemon that is back. Of
#: more than there is room for the system takes no notice, and they knock again after a second, or three.
BACKLOG = 1024
_HOST = re.compile(r"(?![0-9]+\Z)[a-z0-9._-]+|(?=.*:)[0-9a-f:.]+(%.+)?")
#: Options of an endpoint string that name files.
_FILES = ("privateKey", "certKey", "extraCertChain", "dhParameters")


@dataclass(frozen=True)
class ListenAddress:
    """Where one endpoint string listens."""

    local: bool
    """Only this machine can reach it. False if unknown: systemd's sockets, endpoints of plugins."""
    interface: str = ""
    port: int = 0
    """0 where there is none, or the system picks one."""
    path: str = ""
    """The path of a unix socket, or ''."""
    backlog: int = 0
    """Connections that may wait; above 0 where there is an address and a port, with TLS or without."""


def listener_of(description: str) -> ListenAddress:
    """Return where *description* listens. Raises ValueError with the reason if it is no endpoint."""
    if description.startswith("systemd:"):
        # Its sockets exist only in the process that systemd started, and not where --check runs.
        return ListenAddress(local=False)
    _check_files(description)
    reactor = MemoryReactor()  # type: ignore[no-untyped-call]  # Twisted gives no types here
    try:
        endpoint = serverFromString(reactor, description)  # type: ignore[no-untyped-call]  # as above
    except crypto.Error:
        raise ValueError("privateKey and certKey must name PEM files with a key and its certificate") from None
    except Exception as error:  # the parsers, some of them plugins, raise what they like
        raise ValueError(str(error)) from error
    if not isinstance(endpoint, (TCP4ServerEndpoint, TCP6ServerEndpoint, SSL4ServerEndpoint, UNIXServerEndpoint)):
        return ListenAddress(local=False)
    # An endpoint does not expose its address; a reactor in memory records it.
    endpoint.listen(Factory())  # type: ignore[no-untyped-call]  # as above
    if isinstance(endpoint, UNIXServerEndpoint):
        return ListenAddress(local=True, path=reactor.unixServers[0][0])
    ((port, *_, backlog, interface),) = reactor.tcpServers or reactor.sslServers
    if not 0 <= port <= 65535:
        raise ValueError(f"there is no port {port}")
    return ListenAddress(is_loopback(interface), interface, port, backlog=backlog)


def with_backlog(description: str) -> str:
    """Return *description* with room for :data:`BACKLOG` connections, unless it says itself for how many."""
    kind, _, rest = description.partition(":")
    roomy = f"{kind}:backlog={BACKLOG}:{rest}"  # one that it names comes after this one, and holds
    try:
        serverFromString(MemoryReactor(), roomy)  # type: ignore[no-untyped-call]  # Twisted gives no types here
    except Exception:  # the parsers, some of them plugins, raise what they like
        return description  # says it by its place, or is of a kind that knows no such thing
    return roomy


def is_host(text: str) -> bool:
    """Whether *text*, in small letters, is a name or an address; a number alone is one that no certificate is for."""
    return _HOST.fullmatch(text) is not None


def _check_files(description: str) -> None:
    """Raise ValueError where a key or a certificate is named that the parser of endpoints would read for ever."""
    for setting in re.split(r"(?<!\\):", description)[1:]:
        name, _, path = setting.partition("=")
        if name in _FILES:
            try:
                read_regular(re.sub(r"\\(.)", r"\1", path), LARGEST_SECRET)
            except NotRegular as error:
                raise ValueError(f"{name} {error}") from None
            except OSError:
                pass  # the parser's own message is better


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine for sure: ``localhost`` or a loopback address."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Python knows from 3.13 on that ::ffff:127.0.0.1 is one.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
