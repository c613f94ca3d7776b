"""Sending what one turn of the reactor wrote at that turn's end.

A transport of Twisted's asks epoll for a writable socket with each write, and sends in the next turn. Sending within
``write`` would spare that, but each piece would wake the other side while there is more to do here. So an
:class:`Outbox` takes the reactor's place for that one question, and lets all sockets send together, once everything
that was read is dealt with.
"""

from __future__ import annotations

import select
import socket
from typing import Any, cast

from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper

#: Seconds until everybody else was heard: what is to be done after none is done in the same turn.
NEXT_TURN = 0.001


class Outbox:
    """The reactor, as some sockets' transports see it: whoever wants to write may, when the turn is over."""

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: dict[Any, None] = {}
        self._full: set[object] = set()
        """Writers that the reactor may have: their sockets took no more."""

    def adopt(self, transport: object) -> None:
        """Send for *transport*, or for the socket below it, from now on."""
        below = innermost(transport)
        if isinstance(below, Connection):
            below.reactor = cast(IReactorFDSet, self)
            self._full.add(below)  # it may have written before

    def addWriter(self, writer: object) -> None:
        """See :class:`~twisted.internet.interfaces.IReactorFDSet`."""
        if not self._waiting:
            self._reactor.callLater(0, self._send)
        self._waiting[writer] = None

    def removeWriter(self, writer: object) -> None:
        """The same. Called for each that has written all; hardly any of them is one that the reactor has."""
        if writer in self._full:
            self._full.discard(writer)
            self._reactor.removeWriter(writer)

    def __getattr__(self, name: str) -> object:
        return getattr(self._reactor, name)

    def _send(self) -> None:
        """What a socket does not take, and whatever else is to be done with it, is for the reactor as ever."""
        waiting, self._waiting = self._waiting, {}
        for writer in waiting:
            if not writer.connected:
                continue
            try:
                has_more = writer.producerPaused or writer.doWrite() is not None or writer.dataBuffer
            except Exception:
                self._log.failure("A connection failed to write")
                has_more = True
            if has_more:
                self._full.add(writer)
                self._reactor.addWriter(writer)


def innermost(transport: object) -> object:
    """The transport below what wraps *transport*: TLS is such a wrapper."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def is_readable(transport: object) -> bool:
    """Whether something waits in the socket below *transport*, TLS or not, to be read; its end does not count."""
    below = innermost(transport)
    if not isinstance(below, Connection):
        return False
    try:
        return bool(below.getHandle().recv(1, socket.MSG_PEEK))
    except OSError:
        return False


def has_hung_up(transport: object) -> bool:
    """Whether the other side has closed the socket below *transport*, TLS or not, or its half of it."""
    below = innermost(transport)
    descriptor = below.fileno() if isinstance(below, Connection) else -1
    if descriptor < 0:
        return False
    looking = select.poll()
    looking.register(descriptor, select.POLLRDHUP)
    return bool(looking.poll(0))


def unsent(transport: object) -> int:
    """Bytes that wait in Twisted for the socket below *transport*, TLS or not; 0 where there is no such socket.

    ``_tempDataLen`` is private; tests/test_sockets.py pins it.
    """
    below = innermost(transport)
    if not isinstance(below, Connection):
        return 0
    return len(below.dataBuffer) - below.offset + below._tempDataLen
