"""Writing to a socket past Twisted's buffers, without ever getting ahead of them."""

from __future__ import annotations

import socket

from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.sockets import is_plain_tcp, unsent, write_at_once


class Sockets(SynchronousTestCase):
    """A pair of real sockets, and Twisted's transport on one of them."""

    def setUp(self) -> None:
        ours, self.theirs = socket.socketpair()
        for each in (ours, self.theirs):
            each.setblocking(False)
            self.addCleanup(each.close)
        self.transport = Connection(ours, Protocol(), MemoryReactor())
        self.transport.connected = True

    def arrived(self) -> bytes:
        """What the other side can read now."""
        try:
            return self.theirs.recv(1_000_000)
        except BlockingIOError:
            return b""

    def test_at_once(self) -> None:
        """With nothing before it a piece is in the socket before the reactor turns."""
        write_at_once(self.transport, b"event")
        self.assertEqual(self.arrived(), b"event")

    def test_order(self) -> None:
        """What was written Twisted's way goes out first: it waits in a private attribute that Twisted must keep."""
        self.transport.write(b"head ")
        self.assertEqual(self.transport._tempDataBuffer, [b"head "])
        write_at_once(self.transport, b"event")
        self.assertEqual(self.arrived(), b"")
        self.transport.doWrite()
        self.assertEqual(self.arrived(), b"head event")

    def test_what_does_not_fit(self) -> None:
        """A full socket takes what it can; the rest waits with Twisted, and no byte is lost or doubled."""
        pieces = [bytes([number]) * 60_000 for number in range(20)]
        for piece in pieces:
            write_at_once(self.transport, piece)
        got = b""
        while piece := self.arrived():
            got += piece
            self.transport.doWrite()
        self.assertLess(0, len(got))
        self.assertEqual(got, b"".join(pieces))

    def test_unsent(self) -> None:
        """What waits for the socket is counted, half sent or not, below whatever wraps the transport."""
        self.assertEqual(unsent(self.transport), 0)
        size = 0
        while not unsent(self.transport):
            write_at_once(self.transport, b"x" * 60_000)
            size += 60_000
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

    def test_what_is_plain(self) -> None:
        """Only a TCP socket of our own is written to so."""
        self.assertTrue(is_plain_tcp(self.transport))
        self.assertFalse(is_plain_tcp(StringTransport()))
        self.transport.TLS = True
        self.assertFalse(is_plain_tcp(self.transport))
