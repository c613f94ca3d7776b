"""A listening socket as a service: its endpoint string, its site, and its URL for people."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import Port
from twisted.internet.testing import MemoryReactor
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from claudeproxyd.config.endpoints import listener_of, with_backlog

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint


#: Reads of a queue at the most, of a hundred connections and more each: one that is filled as fast has no end.
ACCEPTS = 100


class CannotListen(SystemExit):
    """The address is taken, or not ours. Ends the start with one sentence."""


class Listener(Service):
    """One endpoint of ``server.listen``, or ``server.admin``. Made by the daemon.

    It listens before twistd gives up privileges, so that low ports work.
    """

    def __init__(self, reactor: Any, description: str, site: IProtocolFactory) -> None:
        self._reactor = reactor
        self._description = description
        self._site = site
        self._port: Any = None
        self.certificate_ends: float | None = None
        """When the first of the certificates that it shows expires, in seconds since the epoch; None: it has none."""

    def privilegedStartService(self) -> None:
        """Listen. Raises :class:`CannotListen`."""
        super().privilegedStartService()
        failures: list[Failure] = []
        self._listen().addErrback(failures.append)
        # Not raised in the errback: the Deferred would keep it to itself, and the daemon would run and serve nobody.
        for failure in failures:
            why = failure.getErrorMessage()
            if failure.check(LookupError) and self._description.startswith("systemd:"):
                why = "systemd handed over no such socket: start it by its socket unit, or name it under Sockets="
            raise CannotListen(f"claudeproxyd: cannot listen on {self._description}: {why}")

    def stopService(self) -> Deferred[None]:
        """Accept whoever waits, then stop accepting; open connections stay open."""
        super().stopService()
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        if not isinstance(port, Port):
            return maybeDeferred(port.stopListening).addCallback(lambda _: None)
        if self._description.startswith("systemd:"):
            _let_go(port)
        else:
            close_when_empty(port)
        return succeed(None)

    def renew(self) -> None:
        """Read the certificate again, where there is one, for new connections; on SIGHUP.

        The socket stays: whoever is in its queue is served, and a low port could not be had again. Raises what the
        endpoint does where the certificate cannot be read, and the one before stays.
        """
        if self._port is not None and self._description.startswith("ssl:"):
            self._port.factory = self.made_by()

    def made_by(self) -> IProtocolFactory:
        """Return what makes connections: the site, or what puts the endpoint's TLS around it, read anew.

        Raises what the endpoint does where its certificate cannot be read.
        """
        if not self._description.startswith("ssl:"):
            return self._site
        return TLSMemoryBIOFactory(self._read_certificate(), False, self._site, self._reactor)

    def _read_certificate(self) -> Any:
        """Return the endpoint's TLS context, read anew, and note when its certificate ends."""
        listener_of(self._description)  # raises for what would be read for ever
        # An endpoint does not show its TLS context, but hands it to the reactor it listens on: here one in memory.
        memory: Any = MemoryReactor()
        serverFromString(memory, self._description).listen(self._site)
        ((_, _, context, *_),) = memory.sslServers
        chain = [context.certificate, *context.extraCertChain]
        self.certificate_ends = min(each.to_cryptography().not_valid_after_utc.timestamp() for each in chain)
        return context

    @property
    def place(self) -> str:
        """The URL at which clients reach it, or the endpoint string of what has none."""
        host = self._port.getHost() if self._port is not None else None
        if not isinstance(host, (IPv4Address, IPv6Address)):
            return self._description
        return self.url(host.host, host.port)

    def url(self, host: str, port: int) -> str:
        """Return the URL of an address that it listens on."""
        scheme = "https" if self._description.startswith(("ssl:", "tls:")) else "http"
        name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  # not bound, but named
        if ":" in name and not name.startswith("["):
            name = f"[{name}]"
        return f"{scheme}://{name}:{port}"

    def _listen(self) -> Deferred[None]:
        def listen() -> Deferred[IListeningPort]:
            endpoint: IStreamServerEndpoint = serverFromString(self._reactor, with_backlog(self._description))
            return endpoint.listen(self._site)

        return maybeDeferred(listen).addCallback(self._listening)

    def _listening(self, port: IListeningPort) -> None:
        self._port = port
        if self._description.startswith("ssl:"):
            self._read_certificate()


def close_when_empty(port: Port) -> None:
    """Close a socket of our own. Who waits in its queue is connected, and would be reset: so they are accepted first.

    All in one turn: Twisted itself would close in the next, with more of them in the queue.
    """
    waiting = select.poll()
    waiting.register(port.fileno(), select.POLLIN)
    for _ in range(ACCEPTS):
        if not waiting.poll(0):
            break
        port.doRead()
    port.stopReading()
    port.connectionLost(Failure(CONNECTION_DONE))


def _let_go(port: Port) -> None:
    """Leave a socket that systemd has opened to those who share it, the next daemon among them, with its queue.

    Twisted would shut a unix socket down for all of them, and remove its path.
    """
    port.stopReading()
    port.connected = False
    port.socket.close()
