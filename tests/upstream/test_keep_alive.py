"""Connections that serve more than one request, and the clocks that run on them."""

from __future__ import annotations

import gc
import weakref

from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.outcomes.types import AttemptPhase
from claudeproxyd.testing import MemoryConnection
from claudeproxyd.upstream.errors import ConnectTimedOut, Cut, FirstByteTimedOut, IdleTimedOut
from tests.upstream.fakes import Net, Sink
from tests.upstream.responses import CHUNKED, HELLO, OK


class Pool(SynchronousTestCase):
    """Idle connections."""

    def serve(self, net: Net, wire: MemoryConnection | None = None) -> MemoryConnection:
        """One request, answered; over *wire* or over a connection made for it."""
        deferred = net.ask()
        wire = wire or net.accept()
        wire.say(HELLO)
        self.assertEqual(self.successResultOf(self.successResultOf(deferred).read(10)), b"hello")
        return wire

    def pair(self, net: Net) -> tuple[MemoryConnection, MemoryConnection]:
        """Two idle connections, the first of them idle for longer."""
        deferreds = [net.ask(), net.ask()]
        wires = (net.accept(), net.accept())
        for deferred, wire in zip(deferreds, wires, strict=True):
            wire.say(HELLO)
            self.successResultOf(deferred)
            wire.clear()
        return wires

    def test_reuse(self) -> None:
        """A second request goes out on the connection of the first, and its answer says so."""
        net = Net()
        wire = self.serve(net)
        deferred = net.ask()
        self.assertEqual(net.reactor.tcpClients, [])
        wire.say(HELLO)
        self.assertTrue(self.successResultOf(deferred).reused)
        self.assertEqual((net.origin.connections, net.origin.idle), (1, 1))

    def test_youngest_first(self) -> None:
        """The connection that was used last is used next: the others may be closed by now."""
        net = Net()
        old, young = self.pair(net)
        net.ask()
        self.assertEqual((bool(old.taken()), bool(young.taken())), (False, True))

    def test_bounded(self) -> None:
        """No more than max_idle connections are kept."""
        net = Net(max_idle=1)
        self.pair(net)
        net.turn()
        self.assertEqual((net.origin.connections, net.origin.idle), (1, 1))

    def test_rest_is_bounded(self) -> None:
        """An idle connection is closed after idle_timeout, ahead of the upstream."""
        net = Net(idle_timeout=50.0)
        wire = self.serve(net)
        net.reactor.advance(49.0)
        self.assertFalse(wire.disconnecting)
        net.reactor.advance(1.1)
        self.assertTrue(wire.disconnecting)
        net.turn()
        self.assertEqual((net.origin.connections, net.origin.idle), (0, 0))

    def test_farewell_is_bounded(self) -> None:
        """A peer that does not answer the end of TLS is cut off."""

        class Deaf(MemoryConnection):
            def loseConnection(self) -> None:
                self.disconnecting = True

        net = Net()
        deferred, wire = net.ask(), net.accept(Deaf)
        wire.say(HELLO)
        self.successResultOf(deferred)
        net.reactor.advance(50.1)
        self.assertTrue(wire.disconnecting)
        self.assertFalse(wire.aborted)
        net.reactor.advance(5.1)
        self.assertTrue(wire.aborted)

    def test_closed_while_idle(self) -> None:
        """A connection that the upstream closes is not used again."""
        net = Net()
        self.serve(net).end()
        self.assertEqual(net.origin.connections, 0)
        self.serve(net)

    def test_unsolicited(self) -> None:
        """An answer that nobody asked for is never taken for the next one's."""
        for data in (HELLO, b"\r\n", b"x"):
            net = Net()
            wire = self.serve(net)
            wire.say(data)
            self.assertTrue(wire.aborted)
            self.assertEqual(net.origin.idle, 0)

    def test_stale(self) -> None:
        """A kept connection that turns out to be closed costs nothing but a new one, even when others are kept."""
        for reason in (None, ConnectionLost()):
            net = Net()
            _, young = self.pair(net)
            told: list[None] = []
            deferred = net.ask(stale=lambda told=told: told.append(None))
            young.end(reason)
            self.assertNoResult(deferred)
            self.assertEqual(len(told), 1)
            fresh = net.accept()
            self.assertIn(b"POST /v1/messages", fresh.taken())
            fresh.say(HELLO)
            self.assertFalse(self.successResultOf(deferred).reused)
            self.assertEqual(len(told), 1)

    def test_stale_once(self) -> None:
        """It is repeated once, and not if a single byte of an answer had come."""
        net = Net()
        told: list[str] = []
        wire = self.serve(net)
        deferred = net.ask(stale=lambda: told.append("first"))
        wire.end()
        net.accept().end()
        self.assertEqual(self.failureResultOf(deferred, Cut).value.phase, AttemptPhase.HEAD)
        wire = self.serve(net)
        deferred = net.ask(stale=lambda: told.append("second"))
        wire.say(b"H")
        wire.end()
        self.failureResultOf(deferred, Cut)
        self.assertEqual(told, ["first"])

    def test_stale_cancelled(self) -> None:
        """A repeat can be cancelled like the first try."""
        net = Net()
        wire = self.serve(net)
        deferred = net.ask()
        wire.end()
        deferred.cancel()
        self.failureResultOf(deferred)
        self.assertEqual(net.origin.connections, 0)

    def test_limit(self) -> None:
        """At max_connections requests wait, and go out in order as connections become free."""
        net = Net(max_connections=1)
        deferreds = [net.ask(body=body) for body in (b"1", b"2", b"3")]
        self.assertEqual((net.origin.connections, net.origin.waiting), (1, 2))
        wire = net.accept()
        for body, deferred in zip((b"1", b"2"), deferreds, strict=False):
            self.assertTrue(wire.taken().endswith(body))
            wire.say(HELLO)
            self.successResultOf(deferred)
        wire.end(ConnectionLost())  # stale: the third is repeated
        wire = net.accept()
        wire.say(HELLO)
        self.successResultOf(deferreds[2])
        self.assertEqual((net.origin.connections, net.origin.waiting), (1, 0))

    def test_limit_frees(self) -> None:
        """A connection that dies makes room for who waits."""
        net = Net(max_connections=1)
        first, second = net.ask(), net.ask()
        net.accept().end()
        self.failureResultOf(first, Cut)
        net.accept().say(HELLO)
        self.successResultOf(second)

    def test_limit_wait_is_bounded(self) -> None:
        """Nobody waits for a free connection longer than for a new one."""
        net = Net(max_connections=1, connect_timeout=10.0)
        net.ask()
        net.accept()
        deferred = net.ask()
        net.reactor.advance(10.1)
        self.assertIn("busy", str(self.failureResultOf(deferred, ConnectTimedOut).value))
        self.assertEqual(net.origin.waiting, 0)

    def test_close(self) -> None:
        """close() ends the idle connections at once, lets the busy ones finish, and fires when none is left."""
        net = Net()
        idle, busy = self.pair(net)
        deferred = net.ask()  # on the younger
        closed = net.origin.close()
        self.assertTrue(idle.disconnecting)
        net.turn()
        self.assertNoResult(closed)
        busy.say(HELLO)
        self.successResultOf(deferred)
        net.turn()
        self.successResultOf(closed)
        self.successResultOf(net.origin.close())

    def test_after_close(self) -> None:
        """A request that comes late is still served; its connection is not kept."""
        net = Net()
        self.successResultOf(net.origin.close())
        wire = self.serve(net)
        self.assertTrue(wire.disconnecting)

    def test_no_garbage(self) -> None:
        """Parser and protocol hold each other: that ends with the connection, without the collector's help."""
        net = Net()
        wire = self.serve(net)
        protocol = wire.protocol._wrappedProtocol
        ref = weakref.ref(protocol)
        gc.disable()
        self.addCleanup(gc.enable)
        wire.end()
        wire.protocol = None
        del protocol
        self.assertIsNone(ref())


class Clocks(SynchronousTestCase):
    """Every wait has its end."""

    def test_first_byte(self) -> None:
        """An upstream that takes a request and says nothing is given up; an unfinished head is nothing."""
        for said in (b"", b"HTTP/1.1 200 OK\r\nA: "):
            net = Net()
            deferred, wire = net.ask(first_byte=120.0), net.accept()
            if said:
                wire.say(said)
            net.reactor.advance(119.0)
            self.assertNoResult(deferred)
            net.reactor.advance(1.1)
            error = self.failureResultOf(deferred, FirstByteTimedOut).value
            self.assertEqual((error.failure, error.phase), ("first_byte_timeout", AttemptPhase.HEAD))
            self.assertTrue(wire.aborted)

    def test_reused(self) -> None:
        """The clock of a request on a kept connection is its own."""
        net = Net()
        deferred, wire = net.ask(first_byte=500.0), net.accept()
        wire.say(HELLO)
        self.successResultOf(deferred)
        net.reactor.advance(10.0)
        told: list[None] = []
        deferred = net.ask(first_byte=5.0, stale=lambda: told.append(None))
        net.reactor.advance(4.9)
        self.assertNoResult(deferred)
        net.reactor.advance(0.2)
        self.failureResultOf(deferred, FirstByteTimedOut)
        net.turn()
        self.assertEqual(told, [])

    def test_idle(self) -> None:
        """Each byte starts the idle clock anew."""
        net = Net()
        deferred, wire = net.ask(first_byte=5.0, idle=30.0), net.accept()
        wire.say(CHUNKED)
        sink = Sink()
        self.successResultOf(deferred).deliver(sink)
        for piece in (b"1\r\nx\r\n", b"5", b"\r\nhello\r\n"):
            net.reactor.advance(29.0)
            wire.say(piece)
        net.reactor.advance(29.0)
        self.assertIsNone(sink.end)
        net.reactor.advance(1.1)
        self.assertIsInstance(sink.end, IdleTimedOut)
        self.assertTrue(wire.aborted)

    def test_no_bound(self) -> None:
        """0 means that there is none."""
        net = Net()
        deferred = net.ask(first_byte=0, idle=0)
        wire = net.accept()
        net.reactor.advance(1e6)
        wire.say(OK + b"\r\n")
        sink = Sink()
        self.successResultOf(deferred).deliver(sink)
        net.reactor.advance(1e6)
        self.assertIsNone(sink.end)

    def test_paused(self) -> None:
        """While we have paused the upstream its silence is ours; the clock starts anew at resume."""
        net = Net()
        deferred, wire = net.ask(idle=30.0), net.accept()
        wire.say(CHUNKED)
        response, sink = self.successResultOf(deferred), Sink()
        response.deliver(sink)
        net.reactor.advance(29.0)
        response.pauseProducing()
        net.reactor.advance(1000.0)
        self.assertIsNone(sink.end)
        response.resumeProducing()
        net.reactor.advance(29.0)
        self.assertIsNone(sink.end)
        net.reactor.advance(1.1)
        self.assertIsInstance(sink.end, IdleTimedOut)

    def test_one_timer(self) -> None:
        """A connection has one timer, whatever goes on, and a request leaves it alone."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO)
        self.successResultOf(deferred)
        (timer,) = net.reactor.getDelayedCalls()
        at = timer.getTime()
        for _ in range(5):
            net.reactor.advance(1.0)
            deferred = net.ask()
            wire.say(HELLO)
            self.successResultOf(deferred)
            self.assertEqual([(t, t.getTime()) for t in net.reactor.getDelayedCalls()], [(timer, at)])


class Backpressure(SynchronousTestCase):
    """A consumer that is slower than the upstream."""

    def test_until_deliver(self) -> None:
        """Before there is a consumer one read is held and the socket paused."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO[:-2])
        self.assertEqual(wire.producerState, "paused")
        response, sink = self.successResultOf(deferred), Sink()
        response.deliver(sink)
        self.assertEqual((sink.reads, wire.producerState), ([b"hel"], "producing"))
        wire.say(HELLO[-2:])
        self.assertEqual((sink.body, sink.end), (b"hello", "whole"))

    def test_deliver_at_once(self) -> None:
        """A consumer that is there when the head comes costs no pause."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        paused: list[str] = []
        wire.pauseProducing = lambda: paused.append("paused")
        deferred.addCallback(lambda response: response.deliver(Sink()))
        wire.say(HELLO[:-2])
        self.assertEqual(paused, [])

    def test_pause_and_resume(self) -> None:
        """Pausing reaches the socket, and what one read still brings is delivered."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(CHUNKED)
        response, sink = self.successResultOf(deferred), Sink()
        response.deliver(sink)
        response.pauseProducing()
        response.pauseProducing()
        self.assertEqual(wire.producerState, "paused")
        wire.say(b"1\r\nx\r\n")
        self.assertEqual(sink.reads, [b"x"])
        response.resumeProducing()
        self.assertEqual(wire.producerState, "producing")

    def test_paused_before_deliver(self) -> None:
        """A client that is slow already keeps the socket paused."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO[:-2])
        response, sink = self.successResultOf(deferred), Sink()
        response.pauseProducing()
        response.deliver(sink)
        self.assertEqual((sink.reads, wire.producerState), ([b"hel"], "paused"))
        response.resumeProducing()
        self.assertEqual(wire.producerState, "producing")

    def test_resume_before_deliver(self) -> None:
        """Nobody can take anything before there is a consumer, resumed or not."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO[:-2])
        response = self.successResultOf(deferred)
        response.pauseProducing()
        response.resumeProducing()
        self.assertEqual(wire.producerState, "paused")
        response.deliver(Sink())
        self.assertEqual(wire.producerState, "producing")

    def test_ends_while_paused(self) -> None:
        """A connection whose answer ended while paused reads again, so that its close is noticed."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO[:-2])
        response, sink = self.successResultOf(deferred), Sink()
        response.deliver(sink)
        response.pauseProducing()
        wire.say(HELLO[-2:])
        self.assertEqual((sink.end, wire.producerState, net.origin.idle), ("whole", "producing", 1))
        response.pauseProducing()
        self.assertEqual(wire.producerState, "producing")

    def test_cut_before_deliver(self) -> None:
        """What went wrong before there was a consumer is told to it."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO[:-2])
        wire.end()
        sink = Sink()
        self.successResultOf(deferred).deliver(sink)
        self.assertEqual(sink.reads, [b"hel"])
        self.assertIsInstance(sink.end, Cut)
