"""One hub between sockets and reactor: what comes is read, what is written goes out, whatever ends, and on any reactor.

All of it with real sockets, for what Twisted calls a transport's own and what the kernel does decide together.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IReadDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from claudeproxyd.sockets import MOST_AT_ONCE, Hub, has_hung_up, is_readable, unsent
from tests.calls import calls_of


class Recorder(Protocol):
    """Keeps what it was told, and does in its turn what a test wants."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.ended: list[type[BaseException] | None] = []
        """Why; once, if all is well."""
        self.on_data: Callable[[], object] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        assert not self.ended
        self.received += data
        self.on_data()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008  # Twisted's has one
        self.ended.append(reason.type)


@implementer(IHalfCloseableProtocol)
class Half(Recorder):
    """Goes on where only one direction has ended."""

    halves = ""

    def readConnectionLost(self) -> None:
        self.halves += "read "

    def writeConnectionLost(self) -> None:
        self.halves += "write "


class Producer:
    """Writes down what it is told."""

    told = ""

    def pauseProducing(self) -> None:
        self.told += "pause "

    def resumeProducing(self) -> None:
        self.told += "resume "

    def stopProducing(self) -> None:
        self.told += "stop "


def received(theirs: socket.socket) -> bytes:
    """What the other side can read now."""
    got = b""
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        while piece := theirs.recv(1_000_000):
            got += piece
    return got


class HubTestCase(SynchronousTestCase):
    """Pairs of sockets, with Twisted's transports on one of each, and the reactor's turns in the test's hands."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.hub = Hub(self.reactor)

    def pair(self, protocol: Recorder | None = None) -> tuple[Recorder, socket.socket]:
        """A protocol whose connection the hub has, and the socket of the other side."""
        ours, theirs = self.sockets()
        return self.made(ours, protocol or Recorder()), theirs

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """A pair of them."""
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
            self.addCleanup(each.close)
        return ours, theirs

    def made(self, ours: socket.socket, protocol: Recorder) -> Recorder:
        """A connection on that socket."""
        transport = Connection(ours, protocol, self.reactor)
        transport.connected = True
        protocol.makeConnection(transport)  # type: ignore[arg-type]  # no peer is asked for
        self.hub.adopt(transport)
        return protocol

    def turn(self) -> None:
        """What one turn of a reactor does: its timers, and then its readers."""
        self.reactor.advance(0)
        for each in self.reactor.getReaders():
            assert each.doRead() is None  # type: ignore[func-returns-value]

    def turns(self) -> None:
        """As many as it takes until nothing is left to do."""
        for _ in range(5):
            self.turn()


class SendingTests(HubTestCase):
    """What was written goes out at the end of the turn."""

    def setUp(self) -> None:
        super().setUp()
        self.protocol, self.theirs = self.pair()
        self.transport = self.protocol.transport

    def fill(self) -> int:
        """Write until the socket takes no more; how much that was."""
        size = 0
        while not unsent(self.transport):
            self.transport.write(b"x" * 60_000)
            self.reactor.advance(0)
            size += 60_000
        return size

    def test_end_of_turn(self) -> None:
        """What was written in one turn is sent at its end, in order and for all sockets, and no reactor is asked."""
        other, others = self.pair()
        self.transport.write(b"head ")
        other.transport.write(b"ping")
        self.transport.writeSequence((b"event", b" event"))
        self.assertEqual(received(self.theirs), b"")
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(0)
        self.assertEqual((received(self.theirs), received(others)), (b"head event event", b"ping"))
        self.assertEqual((self.reactor.getWriters(), self.reactor.getDelayedCalls()), ([], []))
        self.transport.write(b"next")
        self.reactor.advance(0)
        self.assertEqual(received(self.theirs), b"next")

    def test_before_sending(self) -> None:
        """What is to be done first is, once, be it asked for before or after what is sent, or by itself."""
        seen: list[bytes] = []

        def look() -> None:
            seen.append(received(self.theirs))

        self.hub.before_sending(look)
        self.transport.write(b"one")
        self.reactor.advance(0)
        self.transport.write(b"two")
        self.hub.before_sending(look)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(0)
        self.assertEqual((seen, received(self.theirs)), ([b"", b"one"], b"two"))
        self.hub.before_sending(look)
        self.reactor.advance(0)
        self.assertEqual((len(seen), self.reactor.getDelayedCalls()), (3, []))

    def test_before_sending_amid(self) -> None:
        """What is written when another's sending is over waits for it too, where there is something to send already."""
        seen: list[bytes] = []
        other, theirs = self.pair()
        producer: Any = Producer()
        self.transport.registerProducer(producer, False)

        def resume() -> None:
            self.transport.unregisterProducer()
            self.hub.before_sending(lambda: seen.append(received(theirs)))
            other.transport.write(b"then")

        producer.resumeProducing = resume
        self.transport.write(b"one")
        other.transport.write(b"first, ")
        self.turns()
        self.assertEqual((seen, received(theirs)), ([b""], b"first, then"))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_before_sending_full(self) -> None:
        """So does what is written to a socket that was full."""
        seen: list[bytes] = []
        other, theirs = self.pair()

        def act() -> None:
            self.hub.before_sending(lambda: seen.append(received(self.theirs)))
            self.transport.write(b"the end")

        other.on_data = act
        self.fill()
        theirs.send(b"question")
        received(self.theirs)
        self.turns()
        self.assertEqual((seen, received(self.theirs)[-7:]), ([b""], b"the end"))

    def test_before_sending_fails(self) -> None:
        """Which keeps nothing from being sent, nor what else is to be done from it."""
        done: list[int] = []
        self.hub.before_sending(lambda: 1 // 0)  # type: ignore[arg-type,return-value]
        self.hub.before_sending(lambda: done.append(1))
        self.transport.write(b"one")
        self.reactor.advance(0)
        self.assertEqual((received(self.theirs), done), (b"one", [1]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_plain(self) -> None:
        """What is plainly to be sent is, and nothing of it is left to Twisted; whatever else is to be done, is its."""
        asked: list[int] = []
        do_write = self.transport.doWrite
        self.transport.doWrite = lambda: (asked.append(unsent(self.transport)), do_write())[1]
        self.transport.writeSequence([b"one ", b"two "])
        self.reactor.advance(0)
        self.transport.registerProducer(Producer(), True)
        self.transport.write(b"three")
        self.reactor.advance(0)
        self.assertEqual((received(self.theirs), asked, unsent(self.transport)), (b"one two three", [], 0))
        self.transport.write(b"x" * 70_000)
        self.reactor.advance(0)
        self.assertEqual(asked, [70_000])
        self.transport.unregisterProducer()
        self.transport.write(b"x" * 10)
        self.transport.loseWriteConnection()
        self.reactor.advance(0)
        self.assertEqual(asked, [70_000, 10])
        self.transport.loseConnection()
        self.turns()
        self.assertEqual((len(received(self.theirs)), self.protocol.ended), (70_010, [ConnectionDone]))
        self.assertLess({"_tempDataBuffer", "_tempDataLen"}, vars(self.transport).keys())
        self.assertIs(Connection._writeDisconnecting, False)

    def test_asked_before(self) -> None:
        """What waited for the reactor before the hub had the socket is sent."""
        ours, theirs = self.sockets()
        transport: Any = Connection(ours, Recorder(), self.reactor)
        transport.connected = True
        transport.startReading()
        transport.write(b"hello")
        self.hub.adopt(transport)
        self.assertEqual((self.reactor.getReaders(), self.reactor.getWriters()), ([self.hub], []))
        self.reactor.advance(0)
        self.assertEqual(received(theirs), b"hello")

    def test_what_does_not_fit(self) -> None:
        """A full socket takes what it can and the rest as soon as it may; no byte is lost or doubled."""
        pieces = [bytes([number]) * 60_000 for number in range(20)]
        for piece in pieces:
            self.transport.write(piece)
            self.reactor.advance(0)
        self.assertTrue(unsent(self.transport))
        got = b""
        while piece := received(self.theirs):
            got += piece
            self.turn()
        self.assertEqual(got, b"".join(pieces))
        self.assertEqual(unsent(self.transport), 0)

    def test_producer(self) -> None:
        """A producer is paused where it was, and resumed once all is sent; what it writes then goes out, too."""
        producer = Producer()
        self.transport.registerProducer(producer, True)
        self.transport.write(b"x" * 70_000)
        self.assertEqual(producer.told, "pause ")
        self.reactor.advance(0)
        size = 70_000 + self.fill()
        taken = 0
        while piece := received(self.theirs):
            taken += len(piece)
            self.turn()
        self.assertEqual((producer.told.split()[-1], taken), ("resume", size))
        self.transport.write(b"more")
        self.turn()
        self.assertEqual(received(self.theirs), b"more")

    def test_closing(self) -> None:
        """A connection that is closed in the turn of its last write gets that out, and ends then."""
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.reactor.advance(0)
        self.assertEqual(self.theirs.recv(9), b"bye")
        self.assertEqual(self.theirs.recv(9), b"")
        self.assertEqual((self.protocol.ended, self.reactor.getReaders()), ([ConnectionDone], []))

    def test_closing_full(self) -> None:
        """One that is closed while its socket is full ends once all is sent."""
        size = self.fill()
        self.transport.loseConnection()
        self.turns()
        self.assertEqual(self.protocol.ended, [])
        got = 0
        while piece := received(self.theirs):
            got += len(piece)
            self.turn()
        self.assertEqual((got, self.protocol.ended, self.reactor.getReaders()), (size, [ConnectionDone], []))

    def test_half_closing(self) -> None:
        """The end of what we send goes out after all of it; what comes is read on."""
        self.transport.write(b"bye")
        self.transport.loseWriteConnection()
        self.reactor.advance(0)
        self.assertEqual((self.theirs.recv(9), self.theirs.recv(9)), (b"bye", b""))
        self.theirs.send(b"still here")
        self.turn()
        self.assertEqual((self.protocol.received, self.protocol.ended), (b"still here", []))

    def test_aborting(self) -> None:
        """A connection that is aborted sends nothing, reads nothing and ends in the next turn."""
        self.theirs.send(b"unread")
        self.transport.write(b"unsent")
        self.transport.abortConnection()
        self.assertEqual(self.reactor.getReaders(), [])
        self.turns()
        self.assertEqual((received(self.theirs), self.protocol.received, len(self.protocol.ended)), (b"", b"", 1))

    def test_aborting_full(self) -> None:
        """So does one whose socket is full."""
        self.fill()
        self.transport.abortConnection()
        self.assertEqual(self.reactor.getReaders(), [])
        self.turns()
        self.assertEqual(len(self.protocol.ended), 1)

    def test_broken(self) -> None:
        """What cannot be sent ends its connection, and the others' bytes go out all the same."""
        other, others = self.pair()
        self.transport.pauseProducing()
        self.theirs.close()
        self.transport.write(b"to nobody")
        other.transport.write(b"ping")
        self.reactor.advance(0)
        self.assertEqual(received(others), b"ping")
        self.turn()
        self.assertEqual(self.protocol.ended, [ConnectionLost])

    def test_answered_and_broken(self) -> None:
        """What came before the other side went away is read, although we were still writing to it."""
        self.theirs.send(b"413, go away")
        self.theirs.close()
        self.transport.write(b"a large body")
        self.turns()
        self.assertEqual((self.protocol.received, len(self.protocol.ended)), (b"413, go away", 1))

    def test_fault(self) -> None:
        """A fault of a producer ends its connection; the others' bytes go out all the same."""
        other, others = self.pair()
        producer = Producer()
        self.patch(producer, "resumeProducing", lambda: 1 / 0)
        self.transport.registerProducer(producer, True)
        self.transport.write(b"x" * 70_000)
        other.transport.write(b"ping")
        self.reactor.advance(0)
        self.assertEqual((len(received(self.theirs)), received(others)), (70_000, b"ping"))
        self.assertEqual(self.protocol.ended, [ZeroDivisionError])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_lost(self) -> None:
        """A connection that is lost before the turn's end is left alone."""
        other, others = self.pair()
        self.transport.write(b"too late")
        other.transport.write(b"ping")
        self.transport.connectionLost(Failure(CONNECTION_LOST))
        self.reactor.advance(0)
        self.assertEqual((received(self.theirs), received(others)), (b"", b"ping"))

    def test_below_wrappers(self) -> None:
        """The socket below TLS is sent for, too; what is no socket is left as it is."""
        ours, theirs = self.sockets()
        below: Any = Connection(ours, Recorder(), self.reactor)
        below.connected = True
        wrapper = ProtocolWrapper(WrappingFactory(None), Recorder())  # type: ignore[arg-type]  # none is needed here
        wrapper.makeConnection(below)
        self.hub.adopt(wrapper)
        wrapper.write(b"through")
        self.assertEqual(self.reactor.getWriters(), [])
        self.reactor.advance(0)
        self.assertEqual(received(theirs), b"through")
        self.hub.adopt(StringTransport())

    def test_unsent(self) -> None:
        """What waits for the socket is counted, half sent or not, below whatever wraps the transport."""
        self.assertEqual(unsent(self.transport), 0)
        size = self.fill()
        before = unsent(self.transport)
        taken = len(received(self.theirs))
        self.turn()
        self.assertLess(unsent(self.transport), before)
        self.transport.write(b"y" * 7)
        self.turn()
        while piece := received(self.theirs):
            taken += len(piece)
            self.turn()
        self.assertEqual((unsent(self.transport), taken), (0, size + 7))
        self.assertEqual(unsent(StringTransport()), 0)

    def test_is_readable(self) -> None:
        """Bytes that came count, below TLS too; nothing, an end, a socket that is closed, and what is none do not."""
        wrapped: Any = ProtocolWrapper(WrappingFactory(None), Recorder())  # type: ignore[arg-type]  # none is needed
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
        wrapped: Any = ProtocolWrapper(WrappingFactory(None), Recorder())  # type: ignore[arg-type]  # none is needed
        wrapped.transport = self.transport
        self.theirs.send(b"G")
        self.assertEqual([has_hung_up(each) for each in (self.transport, wrapped)], [False, False])
        self.theirs.shutdown(socket.SHUT_WR)
        self.assertEqual([has_hung_up(each) for each in (self.transport, wrapped)], [True, True])
        other, theirs = self.pair()
        theirs.send(b"G")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        self.assertTrue(has_hung_up(other.transport))
        other.transport.getHandle().close()
        self.assertFalse(has_hung_up(other.transport))
        self.assertFalse(has_hung_up(StringTransport()))


class ReadingTests(HubTestCase):
    """What has come to all sockets is read in one go."""

    def test_interface(self) -> None:
        """The hub is a reader like others."""
        self.pair()
        verifyObject(IReadDescriptor, self.hub)

    def test_all_before_sending(self) -> None:
        """All is read before the first byte goes out, and then all goes out within the same turn."""
        pairs = [self.pair() for _ in range(3)]
        seen = []

        def answer(one: Recorder) -> Callable[[], None]:
            def act() -> None:
                seen.append([received(theirs) for _, theirs in pairs])
                one.transport.write(b"answer")

            return act

        for protocol, theirs in pairs:
            protocol.on_data = answer(protocol)
            theirs.send(b"question")
        self.turn()
        self.assertEqual(seen, [[b"", b"", b""]] * 3)
        self.assertEqual([received(theirs) for _, theirs in pairs], [b"answer"] * 3)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_before_sending(self) -> None:
        """What is to be done first is done when all is read, within the turn."""
        pairs = [self.pair() for _ in range(3)]
        seen: list[list[bytes]] = []

        def ask() -> None:
            self.hub.before_sending(lambda: seen.append([received(theirs) for _, theirs in pairs]))

        for protocol, theirs in pairs:
            protocol.on_data = ask
            protocol.transport.write(b"written")
            theirs.send(b"question")
        self.hub.doRead()
        self.assertEqual(seen, [[b"", b"", b""]] * 3)
        self.assertEqual([received(theirs) for _, theirs in pairs], [b"written"] * 3)
        self.reactor.advance(0)
        self.assertEqual((len(seen), self.reactor.getDelayedCalls()), (3, []))

    def test_fair(self) -> None:
        """So many are seen to in a turn, and the others first in the next, though more has come to the former."""
        pairs = [self.pair() for _ in range(MOST_AT_ONCE + 10)]
        for _, theirs in pairs:
            theirs.send(b"1")
        self.turn()
        self.assertEqual(sum(len(protocol.received) for protocol, _ in pairs), MOST_AT_ONCE)
        for protocol, theirs in pairs:
            if protocol.received:
                theirs.send(b"2")
        self.turn()
        self.assertEqual({protocol.received[:1] for protocol, _ in pairs}, {b"1"})
        self.turns()
        self.assertEqual(sum(len(protocol.received) for protocol, _ in pairs), 2 * MOST_AT_ONCE + 10)

    def test_large(self) -> None:
        """Of one connection there is one read a turn."""
        protocol, theirs = self.pair()
        sent = theirs.send(b"x" * 150_000)
        self.turn()
        self.assertLess(len(protocol.received), sent)
        self.turns()
        self.assertEqual(len(protocol.received), sent)

    def test_paused(self) -> None:
        """Who is paused is not read from, and goes on where it was."""
        protocol, theirs = self.pair()
        protocol.on_data = lambda: protocol.transport.pauseProducing()
        theirs.send(b"one ")
        self.turn()
        theirs.send(b"two ")
        self.turns()
        self.assertEqual((protocol.received, self.reactor.getReaders()), (b"one ", []))
        protocol.transport.resumeProducing()
        self.turn()
        self.assertEqual(protocol.received, b"one two ")

    def test_paused_by_another(self) -> None:
        """Who is paused by what another has read in the same turn is not read from in it, though something came."""
        pairs = [self.pair() for _ in range(3)]
        for protocol, theirs in pairs:
            others = [other for other, _ in pairs if other is not protocol]
            protocol.on_data = lambda others=others: [other.transport.pauseProducing() for other in others]
            theirs.send(b"x")
        self.turn()
        self.assertEqual(sorted(protocol.received for protocol, _ in pairs), [b"", b"", b"x"])

    def test_paused_and_resumed(self) -> None:
        """Who is paused and resumed within a turn loses nothing."""
        protocol, theirs = self.pair()
        other, others = self.pair()

        def act() -> None:
            for each in (protocol, other):
                each.transport.pauseProducing()
                each.transport.resumeProducing()

        protocol.on_data = other.on_data = act
        theirs.send(b"one")
        others.send(b"two")
        self.turns()
        self.assertEqual((protocol.received, other.received), (b"one", b"two"))

    def test_ended_by_another(self) -> None:
        """Who is ended by what another has read in the same turn is heard no more, however it is ended."""
        for end in (Connection.abortConnection, Connection.loseConnection):
            self.check_ended_by_another(end)

    def check_ended_by_another(self, end: Callable[[Connection], object]) -> None:
        """Of three that end each other, one is heard."""
        pairs = [self.pair() for _ in range(3)]
        for protocol, theirs in pairs:
            others = [other for other, _ in pairs if other is not protocol]
            protocol.on_data = lambda others=others: [end(other.transport) for other in others]
            theirs.send(b"x")
        self.turns()
        self.assertEqual(sorted(protocol.received for protocol, _ in pairs), [b"", b"", b"x"])
        self.assertEqual(sorted(len(protocol.ended) for protocol, _ in pairs), [0, 1, 1])
        (alive,) = (protocol for protocol, _ in pairs if not protocol.ended)
        self.assertEqual(self.reactor.getReaders(), [self.hub])
        alive.transport.abortConnection()
        self.turns()
        self.assertEqual(self.reactor.getReaders(), [])

    def test_descriptor_anew(self) -> None:
        """A new connection with the descriptor of one that was lost in the same turn hears nothing of what that had."""
        protocol, theirs = self.pair()
        other, others = self.pair()
        made: list[Recorder] = []

        def act(gone: Recorder) -> Callable[[], None]:
            def change() -> None:
                number = gone.transport.fileno()
                gone.transport.connectionLost(Failure(CONNECTION_LOST))
                ours, new = self.sockets()
                made.append(self.made(ours, Recorder()))
                self.assertIn(number, (ours.fileno(), new.fileno()))

            return change

        protocol.on_data, other.on_data = act(other), act(protocol)
        theirs.send(b"x")
        others.send(b"x")
        self.turns()
        self.assertEqual(sorted((protocol.received, other.received)), [b"", b"x"])
        self.assertEqual([(each.received, each.ended) for each in made], [(b"", [])])

    def test_end(self) -> None:
        """The end of what comes ends a connection, after all that came before it."""
        protocol, theirs = self.pair()
        theirs.send(b"bye")
        theirs.close()
        self.turns()
        self.assertEqual((protocol.received, protocol.ended), (b"bye", [ConnectionDone]))
        self.assertEqual(self.reactor.getReaders(), [])

    def test_half_end(self) -> None:
        """A protocol that can goes on writing after that."""
        half = Half()
        _, theirs = self.pair(half)
        theirs.send(b"question")
        theirs.shutdown(socket.SHUT_WR)
        self.turns()
        self.assertEqual((half.received, half.halves, half.ended), (b"question", "read ", []))
        half.transport.write(b"answer")
        self.turn()
        self.assertEqual(received(theirs), b"answer")
        half.transport.loseConnection()
        self.turns()
        self.assertEqual((half.ended, self.reactor.getReaders()), ([ConnectionDone], []))

    def test_reset(self) -> None:
        """A connection that the other side resets is lost, and not done."""
        protocol, theirs = self.pair()
        protocol.transport.write(b"unread")
        self.turn()
        theirs.close()
        self.turns()
        self.assertEqual((protocol.ended, self.reactor.getReaders()), ([ConnectionLost], []))

    def test_fault(self) -> None:
        """A fault in a protocol ends its connection, and is logged; the others are heard all the same."""
        pairs = [self.pair() for _ in range(3)]
        pairs[1][0].on_data = lambda: 1 / 0
        for _, theirs in pairs:
            theirs.send(b"x")
        self.turn()
        self.assertEqual([protocol.received for protocol, _ in pairs], [b"x"] * 3)
        self.assertEqual([protocol.ended for protocol, _ in pairs], [[], [ZeroDivisionError], []])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_fault_at_the_end(self) -> None:
        """So is a fault in what a protocol does at its end."""
        broken, theirs = self.pair()
        other, others = self.pair()
        self.patch(broken, "connectionLost", lambda reason: 1 / 0)
        theirs.close()
        others.send(b"x")
        self.turn()
        self.assertEqual(other.received, b"x")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_no_epoll(self) -> None:
        """Where there is none, sockets are the reactor's as ever."""
        self.patch(select, "epoll", None)
        del select.epoll
        self.hub = Hub(self.reactor)
        ours, _ = self.sockets()
        transport: Any = Connection(ours, Recorder(), self.reactor)
        transport.connected = True
        transport.startReading()
        self.hub.adopt(transport)
        transport.write(b"x")
        self.assertEqual((self.reactor.getReaders(), self.reactor.getWriters()), ([transport], [transport]))
        done: list[int] = []
        self.hub.before_sending(lambda: done.append(1))
        self.assertEqual(done, [1], "nobody says when they send")

    def test_closed_by_others(self) -> None:
        """A socket that somebody else has closed harms nobody; another with its descriptor is read from."""
        broken, _ = self.pair()
        other, others = self.pair()
        number = broken.transport.fileno()
        broken.transport.getHandle().close()
        broken.transport.abortConnection()
        ours, theirs = self.sockets()
        self.assertIn(number, (ours.fileno(), theirs.fileno()))
        new = self.made(ours, Recorder())
        theirs.send(b"new")
        others.send(b"x")
        self.turns()
        self.assertEqual((new.received, other.received, len(broken.ended)), (b"new", b"x", 1))

    def test_shutdown(self) -> None:
        """When the reactor ends, all connections are lost: those that read, and those that only write."""
        reading, _ = self.pair()
        writing, _ = self.pair()
        writing.transport.write(b"x" * 1_000_000)
        self.turn()
        writing.transport.pauseProducing()
        asking, _ = self.pair()
        asking.transport.pauseProducing()
        asking.transport.write(b"x")
        self.reactor.removeReader(self.hub)
        self.hub.connectionLost(Failure(CONNECTION_LOST))
        self.assertEqual([each.ended for each in (reading, writing, asking)], [[ConnectionLost]] * 3)
        self.assertEqual(self.reactor.getReaders(), [])
        self.turns()


class Serving(ClientFactory):
    """Makes connections of a hub, which send back what they get if they *echo*."""

    noisy = False

    def __init__(self, hub: Hub, echo: bool) -> None:
        self.hub = hub
        self.echo = echo
        self.made: list[Recorder] = []

    def buildProtocol(self, addr: object) -> Recorder:
        factory = self

        class Adopted(Recorder):
            def connectionMade(self) -> None:
                factory.hub.adopt(self.transport)
                factory.made.append(self)

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                if factory.echo:
                    self.transport.write(data)

        return Adopted()


class ReactorTests(SynchronousTestCase):
    """The same on reactors of Twisted's, over TCP and UNIX sockets."""

    def reactors(self) -> Sequence[Any]:
        """One of each kind."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        made = [EPollReactor(), SelectReactor(), AsyncioSelectorReactor(loop)]
        for each in made:
            self.addCleanup(self.release, each)
        return made

    def release(self, reactor: Any) -> None:
        """Close what a reactor keeps open for itself."""
        reactor.removeReader(reactor.waker)
        reactor.waker.connectionLost(None)

    def connected(self, reactor: Any, kind: str) -> tuple[Hub, Recorder, Recorder, Any]:
        """A hub with both sides of a connection, the client's first, and the port."""
        hub = Hub(reactor)
        server, client = Serving(hub, True), Serving(hub, False)
        if kind == "tcp":
            port = reactor.listenTCP(0, server, interface="127.0.0.1")
            reactor.connectTCP("127.0.0.1", port.getHost().port, client)
        else:
            path = self.mktemp()[-80:]
            port = reactor.listenUNIX(path, server)
            reactor.connectUNIX(path, client)
        self.until(reactor, lambda: server.made and client.made)
        return hub, client.made[0], server.made[0], port

    def test_echo(self) -> None:
        """Bytes go both ways, more than fit at once, and the end is told on both sides."""
        for reactor in self.reactors():
            for kind in ("tcp", "unix"):
                self.check_echo(reactor, kind)

    def check_echo(self, reactor: Any, kind: str) -> None:
        """One connection from beginning to end."""
        hub, client, server, port = self.connected(reactor, kind)
        client.transport.write(b"x" * 1_000_000)
        self.until(reactor, lambda: len(client.received) == 1_000_000)
        client.transport.loseConnection()
        self.until(reactor, lambda: client.ended and server.ended)
        self.assertEqual((client.ended, server.ended), ([ConnectionDone], [ConnectionDone]))
        self.assertNotIn(hub, reactor.getReaders())
        port.stopListening()
        self.until(reactor, lambda: not port.connected)

    def test_end_of_reactor(self) -> None:
        """A reactor that ends tells all connections of the hub's."""
        for reactor in self.reactors():
            _, client, server, _ = self.connected(reactor, "tcp")
            reactor.disconnectAll()
            self.assertEqual((client.ended, server.ended), ([ConnectionLost], [ConnectionLost]))
            self.assertEqual(reactor.getReaders(), [reactor.waker])

    def test_pull_producer(self) -> None:
        """A producer that writes each time it is asked is asked once a turn: others have theirs."""
        for reactor in self.reactors()[:2]:  # one turn of asyncio's takes as many as there is time for
            ours, theirs = socket.socketpair()
            self.addCleanup(theirs.close)
            transport: Any = Connection(ours, Recorder(), reactor)
            transport.connected = True
            asked = []

            class Endless(Producer):
                def resumeProducing(self) -> None:
                    asked.append(0)  # noqa: B023
                    transport.write(b"x")  # noqa: B023

            Hub(reactor).adopt(transport)
            transport.registerProducer(Endless(), False)
            for count in range(1, 5):
                self.assertEqual(len(asked), count)
                reactor.iterate(0)
            transport.connectionLost(Failure(CONNECTION_LOST))
            reactor.iterate(0)

    def test_calls(self) -> None:
        """So many calls of functions make a read and the write that answers it, where many connections have some."""
        reactor = EPollReactor()
        self.addCleanup(self.release, reactor)
        hub = Hub(reactor)
        theirs = [self.echo(reactor, hub) for _ in range(MOST_AT_ONCE)]
        reactor.iterate(0)
        for each in theirs:
            each.send(b"x")
        count = calls_of(lambda: reactor.iterate(0))
        self.assertEqual([each.recv(9) for each in theirs], [b"x"] * MOST_AT_ONCE)
        self.assertLess(count / MOST_AT_ONCE, 24)
        reactor.disconnectAll()

    def echo(self, reactor: Any, hub: Hub) -> socket.socket:
        """The far side of a connection that sends back what it gets."""
        ours, theirs = socket.socketpair()
        theirs.settimeout(5.0)
        self.addCleanup(theirs.close)
        protocol = Recorder()
        transport: Any = Connection(ours, protocol, reactor)
        transport.connected = True
        protocol.makeConnection(transport)
        protocol.on_data = lambda: transport.write(protocol.received)
        hub.adopt(transport)
        return theirs

    def until(self, reactor: Any, condition: Callable[[], object]) -> None:
        """Let the reactor take turns until that is so."""
        for _ in range(5000):
            if condition():
                return
            reactor.iterate(0.01)
        self.fail("it never happened")


SAID = st.tuples(st.just("say"), st.integers(0, 2), st.sampled_from((1, 100_000)))
DONE = st.tuples(
    st.sampled_from(("write", "pause", "resume", "abort", "lose", "half")),
    st.integers(0, 2),
    st.sampled_from((1, 70_000, 400_000)),
)
LEFT = st.tuples(st.sampled_from(("take", "close", "shut")), st.integers(0, 2), st.just(0))
TURN = st.lists(SAID | DONE | LEFT, max_size=5), st.none() | st.integers(0, 2), st.lists(DONE, max_size=5)


class _One:
    """One connection of a sequence: both its ends, and what was done there."""

    def __init__(self, case: HubTestCase) -> None:
        self.ours, self.theirs = case.pair()
        self.transport = self.ours.transport
        self.said = b""
        self.written = b""
        self.taken = b""
        self.gone = ""
        """What was done to end it, in order; an upper-case letter is the other side's doing."""

    def say(self, size: int) -> None:
        """The other side sends as much of it as goes in."""
        if set("CS").isdisjoint(self.gone):
            data = bytes([65 + len(self.said) % 26]) * size
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                self.said += data[: self.theirs.send(data)]

    def write(self, size: int) -> None:
        """We write."""
        if not self.gone:
            self.written += (data := bytes([97 + len(self.written) % 26]) * size)
            self.transport.write(data)

    def pause(self, _: int) -> None:
        """Read no more."""
        self.transport.pauseProducing()

    def resume(self, _: int) -> None:
        """Read on."""
        self.transport.resumeProducing()

    def abort(self, _: int) -> None:
        """End it at once."""
        self.gone += "a"
        self.transport.abortConnection()

    def lose(self, _: int) -> None:
        """End it once all is sent."""
        self.gone += "l"
        self.transport.loseConnection()

    def half(self, _: int) -> None:
        """End what we send."""
        if not self.gone:
            self.gone += "h"
            self.transport.loseWriteConnection()

    def take(self, _: int) -> None:
        """The other side reads."""
        if "C" not in self.gone:
            self.taken += received(self.theirs)

    def close(self, _: int) -> None:
        """The other side is gone."""
        if "C" not in self.gone:
            self.gone += "C"
            self.theirs.close()

    def shut(self, _: int) -> None:
        """The other side sends no more."""
        if set("CS").isdisjoint(self.gone):
            self.gone += "S"
            with contextlib.suppress(OSError):
                self.theirs.shutdown(socket.SHUT_WR)


class SequencesTests(HubTestCase):
    """Whatever happens to three connections, in turns and within what one of them hears."""

    @given(st.lists(st.tuples(*TURN), max_size=6))
    @settings(
        max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")), suppress_health_check=list(HealthCheck), deadline=None
    )
    def test_any(self, turns: list[tuple[Sequence[Any], int | None, Sequence[Any]]]) -> None:
        """No byte is lost, doubled or out of order, each end is told once, and nothing is kept of who has ended."""
        self.setUp()
        all_three = [_One(self) for _ in range(3)]

        def act(what: Sequence[Any]) -> None:
            for name, number, size in what:
                getattr(all_three[number], name)(size)

        for outside, who, within in turns:
            if who is not None:
                all_three[who].ours.on_data = lambda within=within: act(within)  # type: ignore[misc]
                all_three[who].say(1)
            act(outside)
            self.turn()
            for each in all_three:
                each.ours.on_data = lambda: None
        for each in all_three:
            if not each.ours.ended:
                each.transport.resumeProducing()
        for _ in range(20):
            self.turn()
            for each in all_three:
                each.take(0)
        for each in all_three:
            self.assertTrue(each.said.startswith(each.ours.received))
            self.assertTrue(each.written.startswith(each.taken))
            if set("aSC").isdisjoint(each.gone):
                self.assertEqual(len(each.taken), len(each.written))
            if set("alC").isdisjoint(each.gone):
                self.assertEqual(len(each.ours.received), len(each.said))
            self.assertEqual(len(each.ours.ended), not set("alSC").isdisjoint(each.gone))
        for each in all_three:
            each.abort(0)
        self.turns()
        self.assertEqual((self.reactor.getReaders(), self.reactor.getWriters()), ([], []))
        self.assertEqual([len(each.ours.ended) for each in all_three], [1, 1, 1])
        self.assertEqual((self.hub._readers, self.hub._writers, self.hub._full), (set(), set(), set()))
        self.assertEqual((self.hub._watched, self.hub._asked), ({}, {}))
        self.doCleanups()
