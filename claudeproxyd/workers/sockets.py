"""The listening sockets of a daemon with workers: the parent opens them, each worker accepts on what it inherits.

An address of TCP has one socket for each worker (``SO_REUSEPORT``), among which the kernel spreads connections evenly.
Of a unix socket, and of one that systemd has opened, there is one for all: whoever wakes first takes a connection at a
time from it.

The parent keeps every socket open as long as it lives, so that the death of a worker resets nothing that waits in its
queue; and each worker has all of them, so that another can take what comes meanwhile. Low ports are opened before
privileges are given up.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOTCONN
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from claudeproxyd.config.endpoints import BACKLOG, ListenAddress, listener_of, with_backlog
from claudeproxyd.web.listener import CannotListen, Listener, close_when_empty

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProtocolFactory

#: Seconds in which nothing is accepted on a shared socket after no descriptor was left for a connection.
LACK_PAUSE = 1.0


@dataclass(frozen=True)
class Inherited:
    """The sockets of one endpoint, as a worker has them."""

    description: str
    family: int
    """Of addresses: ``socket.AF_INET`` …"""
    descriptors: Sequence[int]
    """One for each worker; or a single one, for all."""


class SharedListener(Listener):
    """One endpoint of ``server.listen`` at the parent: open, and accepting nothing. Made by the parent's daemon."""

    def __init__(self, reactor: Any, description: str, site: IProtocolFactory, workers: int) -> None:
        super().__init__(reactor, description, site)
        self._workers = workers
        self.sockets: list[socket.socket] = []
        """One for each worker; or a single one, for all."""
        self.family = 0
        self._path: str | bytes = ""

    def let_go(self) -> None:
        """Close the sockets here. Workers that have them go on with them."""
        sockets, self.sockets = self.sockets, []
        for each in sockets:
            each.close()
        if self._port is not None:
            # Twisted would shut it down for all who share it.
            self._port.connected = False
            self._port.socket.close()

    def stopService(self) -> Deferred[None]:
        """Remove the path of a unix socket: nobody is to find it any more."""
        Service.stopService(self)
        self.let_go()
        port, self._port = self._port, None
        if port is not None and self.family == socket.AF_UNIX and not self._description.startswith("systemd:"):
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            if port.lockFile is not None:
                port.lockFile.unlock()
        return succeed(None)

    def renew(self) -> None:
        """See :meth:`Listener.renew`: nothing is accepted here, and so there is no certificate."""

    @property
    def place(self) -> str:
        """See :meth:`Listener.place`."""
        if self._port is not None or not self.sockets:
            return super().place
        return self.url(*self.sockets[0].getsockname()[:2])

    def _listen(self) -> Deferred[None]:
        return maybeDeferred(self._open)

    def _open(self) -> Deferred[None]:
        address = listener_of(with_backlog(self._description))
        if address.backlog:
            self.sockets = reused(address, self._workers)
            self.family = self.sockets[0].family
            return succeed(None)
        endpoint = serverFromString(self._reactor, with_backlog(self._description))
        opened: Deferred[IListeningPort] = endpoint.listen(self._site)
        return opened.addCallback(self._share)

    def _share(self, port: IListeningPort) -> None:
        assert isinstance(port, Port)
        port.stopReading()
        self._port = port
        self.sockets = [socket.socket(fileno=socket.dup(port.fileno()))]
        self.family = self.sockets[0].family
        self._path = self.sockets[0].getsockname() if self.family == socket.AF_UNIX else ""


def reused(where: ListenAddress, count: int) -> list[socket.socket]:
    """Return so many listening sockets of one address. Raises OSError where another process has it.

    The first is bound before it lets others share: with one that does, which may be another daemon's, it would share.
    """
    family = socket.AF_INET6 if isIPv6Address(where.interface) else socket.AF_INET
    address: tuple[object, ...] = (where.interface, where.port)
    if family == socket.AF_INET6:
        kind, numeric = socket.SOCK_STREAM, socket.AI_NUMERICHOST
        address = socket.getaddrinfo(where.interface, where.port, family, kind, 0, numeric)[0][4]
    opened: list[socket.socket] = []
    try:
        for number in range(count):
            each = socket.socket(family)
            opened.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(number > 0))
            each.bind(address)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            address = each.getsockname()
        for each in opened:
            each.listen(where.backlog)
            each.setblocking(False)
    except OSError:
        for each in opened:
            each.close()
        raise
    return opened


class InheritedListener(Listener):
    """One endpoint of ``server.listen`` at a worker. Made by the worker's daemon."""

    def __init__(self, reactor: Any, inherited: Inherited, site: IProtocolFactory, slot: int) -> None:
        super().__init__(reactor, inherited.description, site)
        self._inherited = inherited
        self._slot = slot
        self._held = set(inherited.descriptors)
        self._ports: dict[int, Port | Acceptor] = {}
        """What is accepted on, by the slot whose socket it is."""

    def cover(self, slot: int) -> None:
        """Accept on the socket of another worker too, which is gone; where all have one this does nothing."""
        descriptors = self._inherited.descriptors
        if self.running and len(descriptors) > 1 and slot not in self._ports and descriptors[slot] in self._held:
            self._ports[slot] = self._accept(descriptors[slot])

    def uncover(self, slot: int) -> None:
        """Leave that to the one that is in its place."""
        if slot != self._slot and slot in self._ports:
            port = self._ports.pop(slot)
            assert isinstance(port, Port)
            port.stopReading()
            port.connectionLost(Failure(CONNECTION_DONE))

    def renew(self) -> None:
        """See :meth:`Listener.renew`."""
        if self._ports and self._description.startswith("ssl:"):
            factory = self.made_by()
            for port in self._ports.values():
                port.factory = factory

    @property
    def place(self) -> str:
        """See :meth:`Listener.place`."""
        port = self._ports.get(self._slot)
        host = port.getHost() if isinstance(port, Port) else None
        return super().place if host is None else self.url(host.host, host.port)

    def leave(self) -> None:
        """Close here what others accept on, so that each is the last to close its own."""
        for slot, descriptor in enumerate(self._inherited.descriptors):
            if descriptor in self._held and slot not in self._ports:
                self._held.discard(descriptor)
                socket.close(descriptor)

    def stopService(self) -> Deferred[None]:
        """Accept whoever waits, then stop accepting; open connections stay open."""
        Service.stopService(self)
        ports, self._ports = self._ports, {}
        held, self._held = self._held, set()
        for descriptor in held:
            socket.close(descriptor)
        for port in ports.values():
            port.stop() if isinstance(port, Acceptor) else close_when_empty(port)
        return succeed(None)

    def _listen(self) -> Deferred[None]:
        descriptors = self._inherited.descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        own = descriptors[self._slot] if len(descriptors) > 1 else descriptors[0]
        try:
            self._ports[self._slot] = self._accept(own)
        except Exception as error:  # what a certificate that is gone meanwhile raises
            raise CannotListen(f"claudeproxyd: {self._description}: {error}") from None
        return succeed(None)

    def _accept(self, descriptor: int) -> Port | Acceptor:
        inherited = self._inherited
        factory = self.made_by()
        if len(inherited.descriptors) > 1:
            port: Port = self._reactor.adoptStreamPort(descriptor, inherited.family, factory)
            return port
        return Acceptor(self._reactor, descriptor, inherited.family, factory)


@implementer(IReadDescriptor)
class Acceptor:
    """Accepts on a socket that all workers share, one connection in a turn of the reactor.

    A port of Twisted's takes up to a hundred in a row, which leaves the other workers none; and it would set the mode
    of a unix socket's file, and delete it, which is for the parent to do.
    """

    _log = Logger()

    def __init__(self, reactor: Any, descriptor: int, family: int, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._socket = socket.fromfd(descriptor, family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self.factory = factory
        """Which makes the connections."""
        self._pause: IDelayedCall | None = None
        reactor.addReader(self)

    def fileno(self) -> int:
        """See :class:`~twisted.internet.interfaces.IFileDescriptor`."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """The same."""
        return "workers"

    def doRead(self) -> None:
        """Accept one, if another worker was not faster. Raises nothing: the reactor would ask no more."""
        try:
            accepted, _ = self._socket.accept()
            with accepted:
                accepted.setblocking(False)
                self._reactor.adoptStreamConnection(accepted.fileno(), accepted.family, self.factory)
        except OSError as error:
            if not isinstance(error, BlockingIOError | ConnectionAbortedError) and error.errno != ENOTCONN:
                self._rest(error)
        except Exception:
            self._log.failure("a connection was not accepted for a fault of ours")

    def _rest(self, error: OSError) -> None:
        """Accept nothing for a while: no descriptor is left."""
        self._log.warn("no connection can be accepted for {pause:g} s: {error}", pause=LACK_PAUSE, error=error)
        self._reactor.removeReader(self)
        self._pause = self._reactor.callLater(LACK_PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Accept whoever waits, and then no more. A queue that is filled as fast has no end."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        for _ in range(BACKLOG):
            if self._pause is not None or not waiting.poll(0):
                break
            self.doRead()
        self._reactor.removeReader(self)
        if self._pause is not None:
            self._pause.cancel()
        self._socket.close()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""
