"""Requests that come all at once are let in a slice of time in each turn of the reactor."""

from __future__ import annotations

import gzip
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import _ChunkedTransferDecoder

from claudeproxyd.framing.coding import BodyDecoder
from claudeproxyd.slices import SLICE
from claudeproxyd.sockets import NEXT_TURN
from claudeproxyd.turnstile import WINDOW, Turnstile
from claudeproxyd.web import channel
from claudeproxyd.web.channel import CHUNKED_BYTES
from tests.web.support import BODY, Connection, Listener, post, replies

MOST = SLICE / 0.001 + 1
"""Requests in a turn, each of which takes a millisecond to begin."""


class TurnstileTests(SynchronousTestCase):
    """A site whose dispatcher takes a millisecond for each request."""

    def setUp(self) -> None:
        self.listener = Listener()
        self.listener.clock.advance(1.0)
        self.takes = 0.001
        serve = self.listener.dispatcher.serve

        def slow(*asked: Any) -> Any:
            self.listener.clock.rightNow += self.takes
            return serve(*asked)

        self.listener.dispatcher.serve = slow  # type: ignore[method-assign]

    def connect(self, number: int) -> list[Connection]:
        """So many connections, each of which has sent a request."""
        connections = [self.listener.connect() for _ in range(number)]
        for connection in connections:
            connection.send(post())
        return connections

    def answered(self, connections: list[Connection]) -> list[bool]:
        return [bool(connection.transport.value()) for connection in connections]

    def test_slices(self) -> None:
        """As many as there is time for in each turn, in their order; of the others no more is read."""
        connections = self.connect(60)
        before = 0
        while not all(answered := self.answered(connections)):
            self.assertLessEqual(sum(answered) - before, MOST)
            self.assertEqual(answered, sorted(answered, reverse=True))
            states = [connection.transport.producerState for connection in connections]
            self.assertEqual([state == "producing" for state in states], answered)
            before = sum(answered)
            self.listener.clock.advance(NEXT_TURN)
        self.assertEqual([reply.status for each in connections for reply in replies(each.take())], [200] * 60)
        self.assertEqual({each.transport.producerState for each in connections}, {"producing"})

    def test_nobody_overtakes(self) -> None:
        """Who comes while others wait comes after them."""
        early = self.connect(20)
        self.listener.clock.rightNow += 1.0
        (late,) = self.connect(1)
        self.assertFalse(late.transport.value())
        self.listener.clock.advance(NEXT_TURN)
        self.listener.clock.advance(NEXT_TURN)
        self.assertEqual(self.answered([*early, late]), [True] * 21)

    def test_apart(self) -> None:
        """Where they come one by one nobody waits, and there is no timer."""
        connection = self.listener.connect()
        for _ in range(50):
            self.assertEqual(connection.ask(post()).status, 200)
            self.listener.clock.rightNow += WINDOW / 10

    def test_last_bytes(self) -> None:
        """A body whose head is in is read at once, and answered in its turn, where many end at once too."""
        connections = [self.listener.connect() for _ in range(60)]
        for connection in connections:
            connection.send(post()[:-1])
        self.listener.clock.pump([NEXT_TURN] * 10 + [WINDOW])
        for connection in connections:
            connection.send(post()[-1:])
            self.assertEqual(connection.transport.producerState, "producing")
        before = 0
        while not all(answered := self.answered(connections)):
            self.assertLessEqual(sum(answered) - before, MOST)
            before = sum(answered)
            self.listener.clock.advance(NEXT_TURN)
        self.assertGreater(before, 40)

    def test_gone(self) -> None:
        """A client that goes while it waits, or that is sent away, is served no more."""
        connections = self.connect(14)
        connections[-1].lose()
        connections[-2].channel.shut_down()
        for _ in range(3):
            self.listener.clock.advance(NEXT_TURN)
        self.assertEqual(len(self.listener.dispatcher.running), 12)
        self.assertEqual([reply.status for reply in replies(connections[-2].take())], [529])

    def test_sent_ahead(self) -> None:
        """Requests that one client sends ahead are let in no faster, though one read brings them all."""
        connection = self.listener.connect()
        connection.send(post() * 60)
        answered = 0
        while answered < 60:
            some = len(replies(connection.take()))
            self.assertLessEqual(some, MOST)
            answered += some
            self.listener.clock.advance(NEXT_TURN)
        self.assertEqual(connection.transport.producerState, "producing")
        self.assertEqual(connection.ask(post()).status, 200)

    def test_hung_up_meanwhile(self) -> None:
        """A client that has closed its connection by its turn has its request dropped unread: of a crowd that gives up
        nobody has to wait for each. Who did not have to wait is not looked at."""
        gone: list[object] = []
        self.patch(channel, "has_hung_up", lambda transport: transport in gone)
        connections = self.connect(60)
        served = sum(self.answered(connections))
        self.assertGreater(served, 5)
        gone += [connection.transport for connection in connections[:-1]]
        self.listener.clock.advance(NEXT_TURN)
        self.assertEqual(self.answered(connections).count(True), served + 1)
        self.assertEqual(len(self.listener.dispatcher.running), served + 1)
        self.assertTrue(all(connection.closing for connection in connections[served:-1]))
        self.assertFalse(connections[-1].closing)

    def test_large_bodies(self) -> None:
        """Of large ones, each of which takes longer than a slice, one is read in each turn."""
        self.takes = 3 * SLICE
        connections = [self.listener.connect() for _ in range(5)]
        large = b'{"model":"m","max_tokens":9,"messages":[],"x":"%b"}' % (b"x" * 1_100_000)
        for connection in connections:
            connection.send(post(body=large))
        for answered in range(5):
            self.assertEqual(sum(self.answered(connections)), answered)
            self.listener.clock.advance(NEXT_TURN)
        self.assertEqual([replies(each.take())[0].status for each in connections], [200] * 5)

    def test_large_body_of_one_who_left(self) -> None:
        """Nobody answers a client that is gone, and nothing waits for it."""
        connection = self.listener.connect()
        connection.send(post(body=b'{"model":"m","max_tokens":9,"messages":[],"x":"%b"}' % (b"x" * 1_100_000)))
        connection.lose()
        self.listener.clock.advance(NEXT_TURN)
        self.assertEqual(self.listener.dispatcher.running, [])
        self.assertEqual(self.listener.clock.getDelayedCalls(), [])

    def test_compressed_bodies(self) -> None:
        """So are pieces of compressed ones: a few bytes of each are megabytes."""
        feed = BodyDecoder.feed

        def slow(decoder: BodyDecoder, data: bytes) -> bytes:
            self.listener.clock.rightNow += 3 * SLICE
            return feed(decoder, data)

        self.patch(BodyDecoder, "feed", slow)
        connections = [self.listener.connect() for _ in range(5)]
        whole = post("/v1/messages", gzip.compress(BODY), "Content-Encoding: gzip")
        for connection in connections:
            connection.send(whole[:-5])
        self.listener.clock.pump([NEXT_TURN] * 5 + [WINDOW])
        for rest in (whole[-5:-1], whole[-1:]):
            began = self.listener.clock.seconds()
            for connection in connections:
                connection.send(rest)
            self.assertLess(self.listener.clock.seconds() - began, 4 * SLICE)
            for _ in range(5):
                began = self.listener.clock.seconds()
                self.listener.clock.advance(NEXT_TURN)
                self.assertLess(self.listener.clock.seconds() - began, 4 * SLICE)
        self.assertEqual([replies(each.take())[0].status for each in connections], [200] * 5)

    def test_bodies_in_chunks(self) -> None:
        """So are pieces of bodies in chunks: a read may bring ten thousand of a byte each, which take some 40 ms."""
        read = _ChunkedTransferDecoder.dataReceived

        def slow(decoder: _ChunkedTransferDecoder, data: bytes) -> None:
            self.listener.clock.rightNow += 3 * SLICE
            read(decoder, data)

        self.patch(_ChunkedTransferDecoder, "dataReceived", slow)
        connections = [self.listener.connect() for _ in range(5)]
        head = post(body=b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        for connection in connections:
            connection.send(head)
        self.listener.clock.pump([NEXT_TURN] * 5 + [WINDOW])
        for data in (b"%x\r\n%b\r\n" % (len(BODY), BODY), b"0\r\n\r\n" + post()):
            began = self.listener.clock.seconds()
            for connection in connections:
                connection.send(data)
            self.assertLess(self.listener.clock.seconds() - began, 4 * SLICE)
            for _ in range(5):
                began = self.listener.clock.seconds()
                self.listener.clock.advance(NEXT_TURN)
                self.assertLess(self.listener.clock.seconds() - began, 4 * SLICE)
        self.assertEqual([[reply.status for reply in replies(each.take())] for each in connections], [[200, 200]] * 5)

    def test_many_small_chunks(self) -> None:
        """Of what one read brings of a body in chunks some is read in each turn, and all of it in the end."""
        read = _ChunkedTransferDecoder.dataReceived
        most = 0

        def slow(decoder: _ChunkedTransferDecoder, data: bytes) -> None:
            nonlocal most
            most = max(most, len(data))
            self.listener.clock.rightNow += SLICE
            read(decoder, data)

        self.patch(_ChunkedTransferDecoder, "dataReceived", slow)
        connection = self.listener.connect()
        padded = BODY.ljust(10_000)
        connection.send(post(body=b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        connection.send(b"".join(b"1\r\n%c\r\n" % each for each in padded) + b"0\r\n\r\n" + post())
        turns = 0
        while not connection.transport.value():
            began = self.listener.clock.seconds()
            self.listener.clock.advance(NEXT_TURN)
            self.assertLess(self.listener.clock.seconds() - began, 2 * SLICE)
            turns += 1
        self.listener.clock.advance(NEXT_TURN)
        self.assertEqual([reply.status for reply in replies(connection.take())], [200, 200])
        self.assertEqual(self.listener.dispatcher.bodies, [padded, BODY])
        self.assertEqual((most, turns), (CHUNKED_BYTES, 3))


class FaultTests(SynchronousTestCase):
    """One visitor fails by a fault of ours."""

    def test_others_go_on(self) -> None:
        """Those who wait behind it have their turn."""

        class Visitor:
            def __init__(self, enter: Any) -> None:
                self.enter = enter

        def fail() -> None:
            raise ValueError("a fault")

        clock = Clock()
        turnstile = Turnstile(clock)
        entered: list[int] = []
        turnstile.wait(Visitor(fail))
        turnstile.wait(Visitor(lambda: entered.append(1)))
        self.assertRaises(ValueError, clock.advance, NEXT_TURN)
        clock.advance(NEXT_TURN)
        self.assertEqual(entered, [1])
