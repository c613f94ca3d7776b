"""What goes out on the wire, and how a request is taken back."""

from __future__ import annotations

import errno
import os

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectBindError, ConnectError, ConnectionRefusedError
from twisted.internet.interfaces import IHostnameResolver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from claudeproxyd.outcomes.types import AttemptPhase
from claudeproxyd.slices import SLICE
from claudeproxyd.sockets import NEXT_TURN
from claudeproxyd.upstream.client import Origin
from claudeproxyd.upstream.errors import ConnectFailed, ConnectTimedOut, Cut, Lacking, NameNotFound
from tests.upstream.fakes import FullConnection, Net, Sink
from tests.upstream.responses import HELLO


@implementer(IHostnameResolver)
class Nothing:
    """Finds no name."""

    def resolveHostName(self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"):  # type: ignore[no-untyped-def]
        receiver.resolutionBegan(None)
        receiver.resolutionComplete()
        return None


class Requests(SynchronousTestCase):
    """The bytes of a request."""

    def test_post(self) -> None:
        """Head and body go out in one piece, with the length and the host that HTTP wants."""
        net = Net()
        net.ask(body=b'{"a":1}')
        wire = net.accept()
        self.assertEqual(
            wire.taken(),
            b'POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 7\r\nx: y\r\n\r\n{"a":1}',
        )
        self.assertEqual(wire.options, ("nodelay", "keepalive"))

    def test_without_a_body(self) -> None:
        """GET and HEAD claim no body; an empty POST says that it is empty."""
        for method, length in ((b"GET", False), (b"HEAD", False), (b"POST", True)):
            net = Net()
            net.ask(method, b"")
            self.assertEqual(b"Content-Length: 0\r\n" in net.accept().taken(), length, method)

    def test_base_url(self) -> None:
        """The path of the base URL is for callers; the usual port is not in Host; IPv6 is bracketed; names are IDNA."""
        for url, path, host in (
            ("http://127.0.0.1", b"", b"127.0.0.1"),
            ("http://127.0.0.1:80/a/b/", b"/a/b", b"127.0.0.1"),
            ("http://[::1]:8080/", b"", b"[::1]:8080"),
            ("http://b\u00fccher.example/v1", b"/v1", b"xn--bcher-kva.example"),
        ):
            net = Net(url)
            self.assertEqual(net.origin.base_path, path)
            net.ask()
            self.assertIn(b"\r\nHost: " + host + b"\r\n", net.accept().taken())

    def test_no_base_url(self) -> None:
        """What cannot be a base URL is refused when the origin is made, without repeating a password."""
        for url in (
            "ftp://x",
            "x",
            "http://",
            "http://h/?q=1",
            "http://user:secret@h/",
            "http://a b/",
            "http://h/a b",
            "http://h:x/",
        ):
            with self.assertRaises(ValueError) as caught:
                Net(url)
            self.assertNotIn("secret", str(caught.exception))

    def test_smuggling(self) -> None:
        """A target cannot bring a header line or a second request with it."""
        origin = Net().origin
        for target in (b"/a b", b"/a\r\nX: y", b"/a\n", b"/\0", b"/\x7f", b"/\xe9"):
            with self.assertRaises(ValueError):
                origin.request(b"GET", target, b"", b"", first_byte=1, idle=1)

    def test_large_body(self) -> None:
        """A large body goes out as fast as the socket takes it, and whole."""
        net = Net()
        body = bytes(range(256)) * 1024
        net.ask(body=body)
        wire = net.accept()
        sent = wire.taken()
        self.assertEqual(sent.partition(b"\r\n\r\n")[2], body)
        self.assertIsNone(wire.producer)

    def test_large_body_waits(self) -> None:
        """While the socket is full nothing is put on top; the wait for the answer begins when all is out."""
        net = Net()
        body = b"z" * 300_000
        deferred = net.ask(body=body, first_byte=10.0)
        wire = net.accept(FullConnection)
        sent = wire.taken().partition(b"\r\n\r\n")[2]
        self.assertEqual(len(sent), 65_536)
        while len(sent) < len(body):
            net.reactor.advance(9.0)
            wire.producer.resumeProducing()
            sent += wire.taken()
        self.assertEqual(sent, body)
        self.assertNoResult(deferred)
        wire.say(HELLO)
        self.successResultOf(deferred)

    def test_answer_before_the_body_is_out(self) -> None:
        """An early answer is delivered, and the connection, on which half a request is stuck, is not used again."""
        net = Net()
        deferred = net.ask(body=b"z" * 300_000)
        wire = net.accept(FullConnection)
        wire.say(HELLO)
        self.assertEqual(self.successResultOf(self.successResultOf(deferred).read(10)), b"hello")
        net.turn()
        self.assertEqual(net.origin.connections, 0)


class Cancelling(SynchronousTestCase):
    """A request that nobody wants any more."""

    def test_while_connecting(self) -> None:
        """The attempt to connect is given up."""
        net = Net()
        deferred = net.ask()
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.assertEqual(net.origin.connections, 0)

    def test_while_waiting_for_the_head(self) -> None:
        """The socket is aborted at once."""
        net = Net()
        told: list[None] = []
        deferred, wire = net.ask(stale=lambda: told.append(None)), net.accept()
        wire.say(b"HTTP/1.1 200")
        deferred.cancel()
        self.assertTrue(wire.aborted)
        self.failureResultOf(deferred, CancelledError)
        net.turn()
        self.assertEqual(net.origin.connections, 0)
        self.assertEqual(told, [])

    def test_while_waiting_for_a_connection(self) -> None:
        """Its place in the queue is given up."""
        net = Net(max_connections=1)
        net.ask()
        deferred = net.ask()
        self.assertEqual(net.origin.waiting, 1)
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.assertEqual(net.origin.waiting, 0)

    def test_in_the_body(self) -> None:
        """stopProducing aborts the socket, and the consumer hears no more, not even of the end."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO[:-2])
        response, sink = self.successResultOf(deferred), Sink()
        response.deliver(sink)
        response.stopProducing()
        self.assertTrue(wire.aborted)
        net.turn()
        self.assertEqual((sink.reads, sink.end), ([b"hel"], None))
        response.stopProducing()

    def test_from_within_data(self) -> None:
        """A consumer may stop the upstream while it is being called."""

        class Sated(Sink):
            def data(self, chunk: bytes) -> None:
                super().data(chunk)
                response.stopProducing()

        for data in (HELLO, HELLO[:-1]):
            net = Net()
            deferred, wire = net.ask(), net.accept()
            wire.say(data)
            response = self.successResultOf(deferred)
            sink = Sated()
            response.deliver(sink)
            self.assertEqual((len(sink.reads), sink.end), (1, None))

    def test_read(self) -> None:
        """Cancelling read() aborts the socket."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO[:-2])
        body = self.successResultOf(deferred).read(100)
        body.cancel()
        self.assertTrue(wire.aborted)
        self.failureResultOf(body, CancelledError)

    def test_a_whole_answer(self) -> None:
        """Once the body is whole there is nothing to stop, and the connection lives on."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO)
        self.successResultOf(deferred).stopProducing()
        self.assertFalse(wire.aborted)
        self.assertEqual(net.origin.idle, 1)


class Connecting(SynchronousTestCase):
    """No connection comes about."""

    def test_refused(self) -> None:
        """A refusal says so; nothing was sent."""
        net = Net()
        deferred = net.ask()
        net.refuse(ConnectionRefusedError("nobody there"))
        error = self.failureResultOf(deferred, ConnectFailed).value
        self.assertEqual((error.phase, error.failure), (AttemptPhase.CONNECT, "connect"))
        self.assertIn("127.0.0.1:8080", str(error))
        self.assertEqual(net.origin.connections, 0)

    def test_unreachable(self) -> None:
        """So does whatever else the network says."""
        net = Net()
        deferred = net.ask()
        net.refuse(ConnectError("no route"))
        self.failureResultOf(deferred, ConnectFailed)

    def test_nothing_left_here(self) -> None:
        """A lack of descriptors or ports is told from an upstream that cannot be reached, also where it is a name that
        is not found for it."""
        for reason in (
            ConnectBindError(errno.EMFILE, "Too many open files"),
            ConnectBindError(errno.ENFILE, "Too many open files in system"),
            ConnectError(errno.EADDRNOTAVAIL, "Cannot assign requested address"),
        ):
            net = Net()
            deferred = net.ask()
            net.refuse(reason)
            error = self.failureResultOf(deferred, Lacking).value
            self.assertEqual((error.phase, error.failure), (AttemptPhase.CONNECT, "internal"))
            self.assertEqual(net.origin.connections, 0)
        net = Net("http://somewhere.example")
        net.reactor.installNameResolver(Nothing())
        self.patch(os, "open", self.no_more)
        self.failureResultOf(net.ask(), Lacking)

    def no_more(self, *args: object) -> int:
        """Instead of a descriptor."""
        raise OSError(errno.EMFILE, "Too many open files")

    def test_many_too_slow(self) -> None:
        """Of many that cannot connect, or get no connection, no more are told in a turn than there is time for."""
        for limit in (0, 1):
            net = Net(connect_timeout=3.0, max_connections=limit)
            told: list[object] = []

            def slow(failure: Failure, net: Net = net, told: list[object] = told) -> None:
                failure.trap(ConnectTimedOut)
                net.reactor.rightNow += 0.001
                told.append(failure)

            for _ in range(50):
                net.ask().addErrback(slow)
            net.reactor.advance(3.0)
            self.assertLessEqual(len(told), SLICE / 0.001 + 1)
            for _ in range(8):
                before = len(told)
                net.reactor.advance(NEXT_TURN)
                self.assertLessEqual(len(told) - before, SLICE / 0.001 + 1)
            self.assertEqual(len(told), 50 - limit)  # the place of the one that gives up is another's

    def test_too_slow(self) -> None:
        """The wait for a connection ends."""
        net = Net(connect_timeout=3.0)
        deferred = net.ask()
        net.reactor.advance(2.9)
        self.assertNoResult(deferred)
        net.reactor.advance(0.2)
        error = self.failureResultOf(deferred, ConnectTimedOut).value
        self.assertEqual(error.failure, "connect_timeout")
        self.assertEqual(net.origin.connections, 0)

    def test_no_such_name(self) -> None:
        """A name without an address is told from a host that does not answer."""
        net = Net("http://nowhere.example")
        net.reactor.installNameResolver(Nothing())
        error = self.failureResultOf(net.ask(), NameNotFound).value
        self.assertEqual(error.failure, "dns")

    def test_nothing_left_behind(self) -> None:
        """A finished request leaves no timer and no connection."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO)
        self.successResultOf(deferred)
        wire.end()
        self.assertEqual(net.reactor.getDelayedCalls(), [])

    def test_fresh_connection_cut(self) -> None:
        """A fresh connection that closes without an answer may have been heard: that is told, not repeated."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.end()
        self.assertEqual(self.failureResultOf(deferred, Cut).value.phase, AttemptPhase.HEAD)
        self.assertEqual(net.reactor.tcpClients, [])

    def test_origin_is_made_with_the_system_authorities(self) -> None:
        """An https origin needs no further settings."""
        net = Net("https://127.0.0.1")
        self.assertIsInstance(net.origin, Origin)
