"""One hub reads all that has come to its sockets, and then sends all that was written meanwhile.

A reactor of Twisted's makes some fourteen calls around each read: it looks up the transport, sets up a context for log
lines, checks the descriptor. And a transport asks it for a writable socket with each write, and sends in the next turn;
to send within ``write`` would spare that, but each piece would wake the other side while there is more to do here.

So a :class:`Hub` takes the reactor's place for those questions of a transport's that come with every read and write.
To the reactor it is one more reader, whose descriptor is an epoll of its own. What it does with a transport is what a
reactor does: it calls ``doRead`` and ``doWrite``, and acts on what they return.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

#: Seconds until everybody else was heard: what is to be done after none is done in the same turn.
NEXT_TURN = 0.001
#: Sockets that are seen to in one turn of the reactor, between which nothing is sent or accepted, and no timer fires:
#: answers to so many take some milliseconds. The kernel names the others first in the next turn.
MOST_AT_ONCE = 16


@implementer(IReadDescriptor)
class Hub:
    """The reactor, as some sockets' transports see it; to the reactor, one reader in the place of them all.

    There should be one for a process, so that what a client has sent goes to its upstream in the same turn. Without
    sockets to watch it is no reader of the reactor's.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll: select.epoll | None = None
        """Made with the first socket: not before the process has forked to become a daemon."""
        self._watched: dict[int, Connection] = {}
        """Those in it, by descriptor."""
        self._readers: set[Connection] = set()
        self._writers: set[Connection] = set()
        """Who has something to send: each is in ``_asked`` or in ``_full`` as well, but while all are let send."""
        self._asked: dict[Connection, None] = {}
        """Who is let send when the turn is over, unless it is no writer by then."""
        self._full: set[Connection] = set()
        """Writers whose sockets took no more."""
        self._first: list[Callable[[], None]] = []
        """What is done before anybody is."""
        self._in_turn = False
        """All are let send when this is over."""
        self._has_epoll = hasattr(select, "epoll")

    def adopt(self, transport: object) -> None:
        """Read and send for *transport*, or for the socket below it, from now on. It must be reading.

        What is no such socket keeps its reactor, and so do all where there is no epoll.
        """
        below = innermost(transport)
        if self._has_epoll and isinstance(below, Connection):
            below.reactor.removeReader(below)
            below.reactor.removeWriter(below)
            below.reactor = cast(IReactorFDSet, self)
            self.addReader(below)
            if unsent(below):
                self.addWriter(below)

    # -- IReactorFDSet, for the transports

    def addReader(self, reader: Connection) -> None:
        """See :class:`~twisted.internet.interfaces.IReactorFDSet`."""
        if reader not in self._readers:
            self._readers.add(reader)
            self._watch(reader)

    def removeReader(self, reader: Connection) -> None:
        """The same."""
        if reader in self._readers:
            self._readers.discard(reader)
            self._watch(reader)

    def addWriter(self, writer: Connection) -> None:
        """The same, but it is let send when the turn is over, and waited for only if its socket does not take all.

        One that is lost asks, too, where its other half is closed.
        """
        if writer not in self._writers and writer.connected:
            if not (self._in_turn or self._asked or self._first):
                self._reactor.callLater(0, self._send)
            self._writers.add(writer)
            self._asked[writer] = None

    def removeWriter(self, writer: Connection) -> None:
        """The same. Called for each that has sent all."""
        if writer in self._writers:
            self._writers.discard(writer)
            if writer in self._full:
                self._full.discard(writer)
                self._watch(writer)

    def __getattr__(self, name: str) -> object:
        return getattr(self._reactor, name)

    # -- for others

    def before_sending(self, work: Callable[[], None]) -> None:
        """Call *work*, once, before any socket of the hub's sends what is written from now on. It must not write.

        Those of a turn are called together. Where there is no epoll, others send: it is called at once.
        """
        if not self._has_epoll:
            work()
            return
        if not (self._in_turn or self._asked or self._first):
            self._reactor.callLater(0, self._send)
        self._first.append(work)

    # -- the poll

    def _watch(self, each: Connection) -> None:
        """Have the poll tell what *each* waits for now."""
        number = each.fileno()
        if number < 0:  # closed by somebody else: the kernel watches it no more
            self._watched = {known: other for known, other in self._watched.items() if other is not each}
            return
        events = select.EPOLLIN * (each in self._readers) | select.EPOLLOUT * (each in self._full)
        if self._epoll is None:
            self._epoll = select.epoll()
        if number not in self._watched:
            self._epoll.register(number, events)
            self._watched[number] = each
            if len(self._watched) == 1:
                self._reactor.addReader(self)
        elif events:
            self._epoll.modify(number, events)
        else:
            self._epoll.unregister(number)
            del self._watched[number]
            if not self._watched:
                self._reactor.removeReader(self)

    # -- IReadDescriptor, for the reactor

    def fileno(self) -> int:
        """See :class:`~twisted.internet.interfaces.IReadDescriptor`."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        """The same."""
        return "hub"

    def doRead(self) -> None:
        """Read what has come, and then send what was written.

        What the poll tells are hints. Who waits for nothing any more is passed over; whose descriptor was another's
        when the turn began finds that nothing has come.
        """
        assert self._epoll is not None
        ready = self._epoll.poll(0, MOST_AT_ONCE)
        self._in_turn = True
        for number, events in ready:
            each = self._watched.get(number)
            if each is not None:
                self._see_to(each, events)
        self._in_turn = False
        self._send()

    def connectionLost(self, reason: Failure) -> None:
        """Lose all connections that read or write. Called by the reactor when it ends."""
        for each in self._readers | self._writers:
            self._end(each, reason.value or CONNECTION_LOST)

    # -- the turn

    def _see_to(self, each: Connection, events: int) -> None:
        """Let *each* read and send. An error or a hang-up is found by trying, after all that had come before it."""
        why, at_end = None, False
        try:
            if events & ~select.EPOLLOUT and each in self._readers:
                why = each.doRead()
                at_end = why is CONNECTION_DONE
            if why is None and events & ~select.EPOLLIN and each in self._full:
                if self._first:
                    self._do_first()
                why = each.doWrite()  # type: ignore[no-untyped-call]  # Twisted gives no types here
        except BaseException as fault:
            self._fail(each, fault)
        else:
            if why is not None:
                self._end(each, why, at_end)

    def _send(self) -> None:
        """Let all send who asked, and watch whose socket does not take all of it.

        So is one that failed: what has come before is read first, and may be the upstream's answer.
        """
        if self._first:
            self._do_first()
        asked, self._asked = self._asked, {}
        for writer in asked:
            if writer not in self._writers:
                continue
            if self._first:  # whoever was let send has heard of it, and may have written to this one
                self._do_first()
            try:
                why = self._write(writer)
            except BaseException as fault:
                self._fail(writer, fault)
                continue
            if writer not in self._writers:
                if why is not None:
                    self._end(writer, why)
            elif writer not in self._asked:
                self._full.add(writer)
                self._watch(writer)

    def _do_first(self) -> None:
        first, self._first = self._first, []
        for work in first:
            try:
                work()
            except Exception:
                self._log.failure("What was to be done before sending failed for a fault of ours")

    def _write(self, writer: Connection) -> Exception | None:
        """Let *writer* send what it has written, and return why it is over, if it is.

        That is its ``doWrite``, and nearly always these few lines of it, which take a third of the time: nothing is
        left from before, the socket takes all, and neither is the connection to be closed then nor its producer
        resumed. Descriptors, which unix sockets can pass, nobody sends here. tests/test_sockets.py holds the private
        names.
        """
        if (
            writer.dataBuffer
            or writer.disconnecting
            or writer._writeDisconnecting
            or writer.producerPaused
            or not (writer.producer is None or writer.streamingProducer)
        ):
            return writer.doWrite()  # type: ignore[no-untyped-call, no-any-return]  # Twisted gives no types here
        data = b"".join(writer._tempDataBuffer)
        try:
            sent = writer.socket.send(data)
        except OSError:
            return writer.doWrite()  # type: ignore[no-untyped-call, no-any-return]  # it knows what that means
        writer._tempDataBuffer = []
        writer._tempDataLen = 0
        if sent == len(data):
            self._writers.discard(writer)
        else:
            writer.dataBuffer, writer.offset = data, sent
        return None

    def _fail(self, each: Connection, fault: BaseException) -> None:
        """End a connection for a fault of ours. Were it raised, the reactor would end the hub, and so all of them."""
        self._log.failure("A connection failed for a fault of ours")
        self._end(each, fault)

    def _end(self, each: Connection, why: BaseException, at_end: bool = False) -> None:
        """Have *each* end. *at_end* of what comes, its protocol may go on writing, as Twisted has it."""
        reason = Failure(why)  # type: ignore[no-untyped-call]  # Twisted gives no types here
        try:
            self.removeReader(each)
            if at_end:
                each.readConnectionLost(reason)
            else:
                self.removeWriter(each)
                each.connectionLost(reason)
        except BaseException:
            self._log.failure("A connection failed at its end for a fault of ours")


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
