"""Sending at the end of the reactor's turn, through Twisted's own buffers and never ahead of them."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.sockets import Outbox, has_hung_up, is_readable, unsent


class _Producer:
    """Writes down what it is told."""

    told = ""

    def pauseProducing(self) -> None:
        self.told += "pause "

    def resumeProducing(self) -> None:
        self.told += "resume "

    def stopProducing(self) -> None:
        self.told += "stop "


class Sockets(SynchronousTestCase):
    """Pairs of real sockets, and Twisted's transports on one of each."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.outbox = Outbox(self.reactor)
        self.transport, self.theirs = self.pair()

    def pair(self) -> tuple[Any, socket.socket]:
        """A connection that the outbox sends for, and the socket of the other side."""
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
            self.addCleanup(each.close)
        transport = Connection(ours, Protocol(), self.reactor)
        transport.connected = True
        self.outbox.adopt(transport)
        return transport, theirs

    def arrived(self, theirs: socket.socket | None = None) -> bytes:
        """What the other side can read now."""
        try:
            return (theirs or self.theirs).recv(1_000_000)
        except BlockingIOError:
            return b""

    def fill(self) -> int:
        """Write until the socket takes no more; how much that was."""
        size = 0
        while not self.reactor.getWriters():
            self.transport.write(b"x" * 60_000)
            self.reactor.advance(0)
            size += 60_000
        return size

    def test_end_of_turn(self) -> None:
        """What was written in one turn is sent at its end, in order and for all sockets, and epoll is never asked."""
        other, others = self.pair()
        self.transport.write(b"head ")
        other.write(b"ping")
        self.transport.writeSequence((b"event", b" event"))
        self.assertEqual(self.arrived(), b"")
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(0)
        self.assertEqual((self.arrived(), self.arrived(others)), (b"head event event", b"ping"))
        self.assertEqual((self.reactor.getWriters(), self.reactor.getDelayedCalls()), ([], []))
        self.transport.write(b"next")
        self.reactor.advance(0)
        self.assertEqual(self.arrived(), b"next")

    def test_asked_before(self) -> None:
        """What waited for the reactor before the socket was adopted is sent, and asked for no more."""
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
            self.addCleanup(each.close)
        transport = Connection(ours, Protocol(), self.reactor)
        transport.connected = True
        transport.write(b"hello")
        self.outbox.adopt(transport)
        self.assertEqual(self.reactor.getWriters(), [transport])
        transport.doWrite()
        self.assertEqual((self.reactor.getWriters(), self.arrived(theirs)), ([], b"hello"))

    def test_forgets(self) -> None:
        """Nothing is kept of a socket that has sent all, or is lost."""
        self.fill()
        self.assertEqual(self.outbox._full, {self.transport})
        self.transport.connectionLost(Failure(CONNECTION_DONE))
        self.assertEqual(self.outbox._full, set())
        other, _ = self.pair()
        other.write(b"ping")
        self.reactor.advance(0)
        self.assertEqual(self.outbox._full, set())

    def test_what_does_not_fit(self) -> None:
        """A full socket takes what it can; the reactor sends the rest, and no byte is lost or doubled."""
        pieces = [bytes([number]) * 60_000 for number in range(20)]
        for piece in pieces:
            self.transport.write(piece)
            self.reactor.advance(0)
        self.assertEqual(self.reactor.getWriters(), [self.transport])
        got = b""
        while piece := self.arrived():
            got += piece
            self.transport.doWrite()
        self.assertEqual(got, b"".join(pieces))
        self.assertEqual(self.reactor.getWriters(), [])

    def test_paused_producer(self) -> None:
        """A producer is paused where it was and resumed by the reactor, which knows what to do when that fails."""
        producer = _Producer()
        self.transport.registerProducer(producer, True)
        self.transport.write(b"x" * 70_000)
        self.reactor.advance(0)
        self.assertEqual((producer.told, self.reactor.getWriters()), ("pause ", [self.transport]))
        while unsent(self.transport):
            self.transport.doWrite()
            self.arrived()
        self.assertEqual(producer.told, "pause resume ")

    def test_closing(self) -> None:
        """A connection that is closed in the turn of its last write gets that out; the reactor closes it."""
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.reactor.advance(0)
        self.assertEqual(self.arrived(), b"bye")
        self.assertEqual(self.reactor.getWriters(), [self.transport])
        self.assertIs(self.transport.doWrite(), CONNECTION_DONE)

    def test_broken(self) -> None:
        """What cannot be sent is for the reactor to end, and the others' bytes go out all the same."""
        other, others = self.pair()
        self.theirs.close()
        self.transport.write(b"to nobody")
        other.write(b"ping")
        self.reactor.advance(0)
        self.assertEqual((self.reactor.getWriters(), self.arrived(others)), ([self.transport], b"ping"))

    def test_fault(self) -> None:
        """A fault in one connection is for the reactor, which ends that one; the others' bytes go out all the same."""
        other, others = self.pair()

        def faulty() -> None:
            raise ZeroDivisionError

        self.patch(self.transport, "doWrite", faulty)
        self.transport.write(b"never")
        other.write(b"ping")
        self.reactor.advance(0)
        self.assertEqual((self.reactor.getWriters(), self.arrived(others)), ([self.transport], b"ping"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_lost(self) -> None:
        """A connection that is lost before the turn's end is left alone."""
        other, others = self.pair()
        self.transport.write(b"too late")
        other.write(b"ping")
        self.transport.connectionLost(Failure(CONNECTION_DONE))
        self.reactor.advance(0)
        self.assertEqual((self.reactor.getWriters(), self.arrived(others)), ([], b"ping"))

    def test_below_wrappers(self) -> None:
        """The socket below TLS is sent for, too; what is no socket is left as it is."""
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
            self.addCleanup(each.close)
        below: Any = Connection(ours, Protocol(), self.reactor)
        below.connected = True
        wrapper = ProtocolWrapper(WrappingFactory(None), Protocol())  # type: ignore[arg-type]  # none is needed here
        wrapper.makeConnection(below)
        self.outbox.adopt(wrapper)
        wrapper.write(b"through")
        self.assertEqual(self.reactor.getWriters(), [])
        self.reactor.advance(0)
        self.assertEqual(self.arrived(theirs), b"through")
        self.outbox.adopt(StringTransport())

    def test_unsent(self) -> None:
        """What waits for the socket is counted, half sent or not, below whatever wraps the transport."""
        self.assertEqual(unsent(self.transport), 0)
        size = self.fill()
        before = unsent(self.transport)
        taken = len(self.arrived())
        self.transport.doWrite()
        self.assertLess(unsent(self.transport), before)
        self.transport.write(b"y" * 7)
        while piece := self.arrived():
            taken += len(piece)
            self.transport.doWrite()
        self.assertEqual((unsent(self.transport), taken), (0, size + 7))
        self.assertEqual(unsent(StringTransport()), 0)

    def test_is_readable(self) -> None:
        """Bytes that came count, below TLS too; nothing, an end, a socket that is closed, and what is none do not."""
        wrapped: Any = ProtocolWrapper(WrappingFactory(None), Protocol())  # type: ignore[arg-type]  # none is needed
        wrapped.transport = self.transport
        self.assertEqual([is_readable(each) for each in (self.transport, wrapped)], [False, False])
        self.theirs.send(b"G")
        self.assertEqual([is_readable(each) for each in (self.transport, wrapped)], [True, True])
        self.assertEqual(self.transport.getHandle().recv(9), b"G")
        self.theirs.close()
        self.assertFalse(is_readable(self.transport))
        self.transport.getHandle().close()
        self.assertFalse(is_readable(self.transport))
        self.assertFalse(is_readable(StringTransport()))

    def test_has_hung_up(self) -> None:
        """Whoever has closed, or reset, or closed its half alone, whatever waits to be read ahead of that."""
        wrapped: Any = ProtocolWrapper(WrappingFactory(None), Protocol())  # type: ignore[arg-type]  # none is needed
        wrapped.transport = self.transport
        self.theirs.send(b"G")
        self.assertEqual([has_hung_up(each) for each in (self.transport, wrapped)], [False, False])
        self.theirs.shutdown(socket.SHUT_WR)
        self.assertEqual([has_hung_up(each) for each in (self.transport, wrapped)], [True, True])
        transport, theirs = self.pair()
        theirs.send(b"G")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        self.assertTrue(has_hung_up(transport))
        transport.getHandle().close()
        self.assertFalse(has_hung_up(transport))
        self.assertFalse(has_hung_up(StringTransport()))
