"""The sockets of several workers."""

from __future__ import annotations

import errno
import os
import select
import shutil
import socket
import struct
import tempfile
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.endpoints import ListenAddress
from claudeproxyd.web.listener import CannotListen
from claudeproxyd.workers.sockets import Acceptor, Inherited, InheritedListener, SharedListener, reused

ANY = ListenAddress(True, "127.0.0.1", 0, backlog=50)


class Reactor(MemoryReactorClock):
    """That takes over connections."""

    def __init__(self) -> None:
        super().__init__()
        self.adopted: list[int] = []
        self.error: Exception | None = None
        """What taking over meets."""

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        os.fstat(descriptor)
        if self.error is not None:
            raise self.error
        self.adopted.append(family)


def waiting(each: socket.socket) -> int:
    """How many connections wait in a socket's queue; they are taken."""
    count = 0
    while select.select([each], [], [], 0)[0]:
        each.accept()[0].close()
        count += 1
    return count


class ParentTests(SynchronousTestCase):
    """What the parent opens."""

    def opened(self, description: str, workers: int = 2) -> SharedListener:
        listener = SharedListener(MemoryReactorClock(), description, Factory(), workers)
        self.addCleanup(listener.stopService)
        listener.privilegedStartService()
        return listener

    def test_tcp(self) -> None:
        """An address has a socket for each worker, and connections are spread; one that is closed takes none along."""
        listener = self.opened("tcp:0:interface=127.0.0.1", 3)
        port = listener.sockets[0].getsockname()[1]
        self.assertEqual([each.getsockname() for each in listener.sockets], [("127.0.0.1", port)] * 3)
        self.assertEqual(listener.place, f"http://127.0.0.1:{port}")
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
        spread = [waiting(each) for each in listener.sockets]
        self.assertEqual(sum(spread), 300)
        self.assertGreater(min(spread), 50, spread)
        for client in clients:
            client.close()

    def test_taken(self) -> None:
        """A port that another process has is refused, though that would share it."""
        listener = self.opened("tcp:0:interface=127.0.0.1")
        port = listener.sockets[0].getsockname()[1]
        with self.assertRaises(CannotListen) as caught:
            self.opened(f"tcp:{port}:interface=127.0.0.1")
        self.assertIn("in use", str(caught.exception))
        self.assertRaises(OSError, reused, ListenAddress(True, "127.0.0.1", port, backlog=1), 1)

    def test_unix_refused(self) -> None:
        """A unix socket that cannot be made ends the start, as an address that is taken does."""
        from twisted.internet import reactor

        listener = SharedListener(reactor, "unix:/no/such/folder/socket", Factory(), 2)
        with self.assertRaises(CannotListen) as caught:
            listener.privilegedStartService()
        self.assertIn("No such file", str(caught.exception))

    def test_ipv6(self) -> None:
        """Of IPv6 likewise."""
        try:
            listener = self.opened("tcp6:0:interface=\\:\\:1")
        except CannotListen as error:
            self.skipTest(str(error))
        self.assertEqual((listener.family, len(listener.sockets)), (socket.AF_INET6, 2))
        self.assertRegex(listener.place, r"http://\[::1\]:\d+")


class WorkerTests(SynchronousTestCase):
    """What a worker accepts on."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.made: list[Protocol] = []
        self.factory = Factory.forProtocol(Protocol)
        self.factory.buildProtocol = self.build  # type: ignore[method-assign,assignment]

    def build(self, address: object) -> Protocol:
        self.made.append(Protocol())
        return self.made[-1]

    def inherited(self, sockets: list[socket.socket]) -> Inherited:
        return Inherited("tcp:0", sockets[0].family, [os.dup(each.fileno()) for each in sockets])

    def test_queue_outlives(self) -> None:
        """Whoever waits when a worker ends is taken before; on another's socket nobody is disturbed."""
        sockets = reused(ANY, 2)
        for each in sockets:
            self.addCleanup(each.close)
        address = sockets[0].getsockname()
        listener = InheritedListener(self.reactor, self.inherited(sockets), self.factory, 0)
        listener.privilegedStartService()
        listener.startService()
        listener.cover(1)
        listener.uncover(1)
        clients = [socket.create_connection(address) for _ in range(40)]
        self.successResultOf(listener.stopService())
        self.assertEqual(len(self.made) + waiting(sockets[1]), 40)
        self.successResultOf(listener.stopService())
        for client in clients:
            client.close()
        for protocol in self.made:
            protocol.transport.abortConnection()  # type: ignore[union-attr]

    def test_leaving(self) -> None:
        """A worker that leaves lets go of others' sockets, and not of its own, nor of what it accepts on for them."""
        sockets = reused(ANY, 3)
        for each in sockets:
            self.addCleanup(each.close)
        inherited = self.inherited(sockets)
        listener = InheritedListener(self.reactor, inherited, self.factory, 0)
        listener.privilegedStartService()
        listener.startService()
        listener.cover(1)
        listener.leave()
        os.fstat(inherited.descriptors[0])
        os.fstat(inherited.descriptors[1])
        self.assertRaises(OSError, os.fstat, inherited.descriptors[2])
        listener.cover(2)  # told before the parent knew
        self.successResultOf(listener.stopService())
        for descriptor in inherited.descriptors:
            self.assertRaises(OSError, os.fstat, descriptor)

    def test_shared(self) -> None:
        """A socket of all is accepted from once in a turn, and to the end when the worker ends; its file is let be."""
        folder = tempfile.mkdtemp()  # the test's own is too deep for a socket
        self.addCleanup(shutil.rmtree, folder)
        path = os.path.join(folder, "s")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            os.chmod(path, 0o600)
            listening.listen(10)
            clients = []
            for _ in range(5):
                clients.append(socket.socket(socket.AF_UNIX))
                clients[-1].connect(path)
            reactor = Reactor()
            acceptor = Acceptor(reactor, listening.fileno(), socket.AF_UNIX, self.factory)
            self.assertEqual(reactor.readers, {acceptor})
            acceptor.doRead()
            self.assertEqual(reactor.adopted, [socket.AF_UNIX])
            acceptor.stop()
            self.assertEqual((len(reactor.adopted), reactor.readers), (5, set()))
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            for client in clients:
                client.close()

    def test_who_left_meanwhile(self) -> None:
        """A connection that cannot be taken over ends nobody else's; where no descriptor is left it waits."""
        reactor = Reactor()
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            acceptor = Acceptor(reactor, listening.fileno(), socket.AF_INET, self.factory)
            for error, waits in (
                (OSError(errno.ENOTCONN, "left"), False),
                (OSError(errno.EMFILE, "none left"), True),
                (ValueError("a fault"), False),
            ):
                reactor.error = error
                with socket.create_connection(listening.getsockname()):
                    acceptor.doRead()
                self.assertEqual(acceptor not in reactor.readers, waits)
                reactor.advance(1.0)
                self.assertEqual(reactor.readers, {acceptor})
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
            acceptor.stop()

    def test_lack(self) -> None:
        """Without a descriptor for a connection it waits, and then goes on."""
        reactor = Reactor()
        with socket.socket(socket.AF_UNIX) as listening:
            acceptor = Acceptor(reactor, listening.fileno(), socket.AF_UNIX, self.factory)
            acceptor.doRead()  # a socket that does not listen
            self.assertEqual(reactor.readers, set())
            reactor.advance(1.0)
            self.assertEqual(reactor.readers, {acceptor})
            acceptor.doRead()
            acceptor.stop()
            self.assertEqual(reactor.getDelayedCalls(), [])

    def test_left_before(self) -> None:
        """A client that has reset its connection before it was accepted costs nobody else theirs."""
        (listening,) = reused(ANY, 1)
        self.addCleanup(listening.close)
        acceptor = Acceptor(self.reactor, listening.fileno(), socket.AF_INET, self.factory)
        self.addCleanup(acceptor.stop)
        gone = socket.create_connection(listening.getsockname())
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        acceptor.doRead()
        self.assertEqual(self.made, [])
        with socket.create_connection(listening.getsockname()):
            acceptor.doRead()
            (protocol,) = self.made
            protocol.transport.abortConnection()  # type: ignore[union-attr]
        self.assertIn(acceptor, self.reactor.getReaders())

    def test_lack_of_the_second(self) -> None:
        """A connection takes two descriptors for a moment: without the second it is lost, no other."""
        reactor = Reactor()
        reactor.adoptStreamConnection = _lacking  # type: ignore[method-assign]
        (listening,) = reused(ANY, 1)
        self.addCleanup(listening.close)
        acceptor = Acceptor(reactor, listening.fileno(), socket.AF_INET, self.factory)
        with socket.create_connection(listening.getsockname()):
            acceptor.doRead()
        self.assertEqual(reactor.readers, set())
        reactor.advance(1.0)
        self.assertEqual(reactor.readers, {acceptor})
        acceptor.stop()


def _lacking(descriptor: int, family: int, factory: object) -> None:
    raise OSError(errno.EMFILE, "Too many open files")
