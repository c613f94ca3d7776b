"""One request and what becomes of it, on a reactor in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.reporting.posting import KEPT, MAX_RESPONSE_BYTES, TIMEOUT, NoReply, Poster, Reply


class PosterTests(SynchronousTestCase):
    """One way out."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.poster = Poster(self.reactor)

    def accept(self) -> StringTransport:
        """A server takes the connection that is being made."""
        factory = self.reactor.tcpClients.pop(0)[2]
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        transport.protocol = protocol  # type: ignore[attr-defined]
        return transport

    def post(self) -> Any:
        """Begin one."""
        posted = self.poster("http://127.0.0.1:9/way?x=1", {"x-key": "k"}, b"")
        self.reactor.advance(0)
        return posted

    def test_reply(self) -> None:
        """Status, as much of the body as is of use, and when to come back; the connection is kept for a moment."""
        posted = self.post()
        wire: Any = self.accept()
        self.assertIn(b"POST /way?x=1 HTTP/1.1\r\n", wire.value())
        self.assertIn(b"X-Key: k\r\n", wire.value())
        size = MAX_RESPONSE_BYTES
        head = b"HTTP/1.1 503 No\r\nretry-after: 7\r\ncontent-length: %d\r\n\r\n" % size
        wire.protocol.dataReceived(head + b"x" * size)
        self.assertEqual(self.successResultOf(posted), Reply(503, b"x" * MAX_RESPONSE_BYTES, 7.0))
        self.assertFalse(wire.disconnecting)
        self.reactor.advance(KEPT)
        self.assertTrue(wire.disconnecting)

    def test_endless_reply(self) -> None:
        """What is said first is what counts, whatever length, coding or cookies there are; nothing more is kept."""
        for length in (b"", b"content-length: 999999999\r\n"):
            posted = self.post()
            wire: Any = self.accept()
            self.assertIn(b"Accept-Encoding: identity\r\n", wire.value())
            head = b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-encoding: gzip\r\n%b\r\n" % length
            wire.protocol.dataReceived(head + b"x" * MAX_RESPONSE_BYTES)
            self.assertNoResult(posted)
            wire.protocol.dataReceived(b"x" * 1_000_000)
            self.assertTrue(wire.disconnecting)
            wire.protocol.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(self.successResultOf(posted), Reply(200, b"x" * MAX_RESPONSE_BYTES))
        self.assertNotIn(b"Cookie", wire.value())

    def test_nobody_there(self) -> None:
        """The reason is said, and no line is logged of the connection."""
        posted = self.post()
        factory = self.reactor.tcpClients.pop(0)[2]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.reactor.advance(1)
        self.assertIn("Connection was refused", str(self.failureResultOf(posted, NoReply).value))

    def test_no_end(self) -> None:
        """A response that begins and has no end is given up, with its connection."""
        posted = self.post()
        wire: Any = self.accept()
        wire.protocol.dataReceived(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        self.reactor.advance(TIMEOUT)
        self.assertEqual(str(self.failureResultOf(posted, NoReply).value), f"did not answer within {TIMEOUT:g} s")
        self.assertTrue(wire.disconnecting)

    def test_cut(self) -> None:
        """A connection that is lost is said in its own words."""
        posted = self.post()
        wire: Any = self.accept()
        wire.protocol.connectionLost(Failure(ConnectionLost()))
        told = str(self.failureResultOf(posted, NoReply).value)
        self.assertEqual(told, "cannot be reached: Connection to the other side was lost in a non-clean fashion.")

    def test_given_up(self) -> None:
        """What ends a request has a name, where it has no words."""
        posted = self.post()
        self.accept()
        posted.cancel()
        self.assertEqual(str(self.failureResultOf(posted, NoReply).value), "cannot be reached: CancelledError")

    def test_too_late(self) -> None:
        """A server that takes and never answers is let go."""
        posted = self.post()
        wire = self.accept()
        self.reactor.advance(TIMEOUT)
        self.assertEqual(str(self.failureResultOf(posted, NoReply).value), f"did not answer within {TIMEOUT:g} s")
        self.assertTrue(wire.disconnected or wire.disconnecting)
