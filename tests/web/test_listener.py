"""What an operator sees whose daemon cannot listen, how many may wait, what a listener shows, and how it goes."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Port as TCPPort
from twisted.internet.testing import MemoryReactor, MemoryReactorClock
from twisted.internet.unix import Port as UNIXPort
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.endpoints import BACKLOG, with_backlog
from claudeproxyd.web.listener import CannotListen, Listener
from tests.web.support import new_certificate


class TakenReactor(MemoryReactor):
    """Every port is somebody else's."""

    def listenTCP(self, port: int, factory: Factory, backlog: int = 50, interface: str = "") -> Any:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))


class Taken(SynchronousTestCase):
    """A port that cannot be had."""

    def test_ends_the_start(self) -> None:
        """A daemon that cannot listen does not start: it ends with one sentence that names the endpoint."""
        listener = Listener(TakenReactor(), "tcp:8765:interface=127.0.0.1", Factory())
        ending = self.assertRaises(CannotListen, listener.privilegedStartService)
        self.assertIn("tcp:8765:interface=127.0.0.1", str(ending))
        self.assertIn("Address already in use", str(ending))

    def test_no_such_socket(self) -> None:
        """A socket of systemd's that is not there is told as what it is."""
        for which in ("index=0", "name=claudeproxyd"):
            listener = Listener(MemoryReactor(), f"systemd:domain=INET:{which}", Factory())
            ending = self.assertRaises(CannotListen, listener.privilegedStartService)
            self.assertIn("systemd handed over no such socket", str(ending))

    def test_free(self) -> None:
        """Else it listens as soon as it is told to, before twistd gives up privileges."""
        reactor = MemoryReactor()
        Listener(reactor, "tcp:8765:interface=127.0.0.1", Factory()).privilegedStartService()
        self.assertEqual([(port, interface) for port, _, _, interface in reactor.tcpServers], [(8765, "127.0.0.1")])


class Certificates(SynchronousTestCase):
    """What a listener shows, where it speaks TLS."""

    def test_end(self) -> None:
        """When the first of its chain expires, at first and after it was read again."""
        pem = FilePath(self.mktemp())
        reactor = MemoryReactor()
        listener = Listener(reactor, f"ssl:8765:interface=127.0.0.1:privateKey={pem.path}", Factory())
        for days in (30, 90):
            ends = new_certificate(pem, days)
            listener.privilegedStartService() if days == 30 else listener.renew()
            self.assertEqual(listener.certificate_ends, ends)

    def test_none(self) -> None:
        """Without TLS there is none."""
        listener = Listener(MemoryReactor(), "tcp:8765:interface=127.0.0.1", Factory())
        listener.privilegedStartService()
        self.assertIsNone(listener.certificate_ends)


class Backlogs(SynchronousTestCase):
    """How many may wait to be accepted."""

    def test_room_for_a_crowd(self) -> None:
        """More than Twisted's 50, whatever else the endpoint says; one that says how many has its way."""
        for description, backlog in (
            ("tcp:8765", BACKLOG),
            ("tcp:8765:interface=127.0.0.1", BACKLOG),
            ("tcp:interface=\\:\\::port=8765", BACKLOG),
            ("unix:/tmp/a\\:b:lockfile=0", BACKLOG),
            ("tcp:8765:backlog=7", 7),
            ("tcp:8765:backlog=50", 50),
            ("tcp:8765:127.0.0.1:7", 7),
            ("unix:/tmp/a:666:7", 7),
            ("haproxy:tcp:8765", BACKLOG),
        ):
            reactor = MemoryReactor()
            Listener(reactor, description, Factory()).privilegedStartService()
            ((_, _, found, *_),) = reactor.tcpServers + reactor.unixServers
            self.assertEqual(found, backlog, description)

    def test_of_others(self) -> None:
        """Endpoints that know no backlog, and strings that are none, stay as they are."""
        for description in ("systemd:domain=INET:index=0", "nonsense", ""):
            self.assertEqual(with_backlog(description), description)


class Reactor(MemoryReactorClock):
    """Listens on real sockets, and reads none by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Any] = []

    def listenTCP(self, port: int, factory: Factory, backlog: int = 50, interface: str = "") -> Any:
        return self.listening(TCPPort(port, factory, backlog, interface, self))

    def listenUNIX(self, address: str, factory: Factory, backlog: int = 50, mode: int = 0o666, wantPID: int = 0) -> Any:
        return self.listening(UNIXPort(address, factory, backlog, mode, self, wantPID))

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Factory) -> Any:
        kind, family = (UNIXPort, ()) if addressFamily == socket.AF_UNIX else (TCPPort, (addressFamily,))
        return self.listening(kind._fromListeningDescriptor(self, fileDescriptor, *family, factory))

    def listening(self, port: Any) -> Any:
        port.startListening()
        self.ports.append(port)
        return port


class Going(SynchronousTestCase):
    """A listener that stops."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.factory = Factory.forProtocol(Protocol)
        self.accepted: list[Any] = []
        self.patch(Protocol, "connectionMade", lambda protocol: self.accepted.append(protocol))
        self.addCleanup(lambda: [each.transport.socket.close() for each in self.accepted])

    def listen(self, description: str) -> Listener:
        """One that listens, and whose queue nobody has looked at."""
        listener = Listener(self.reactor, description, self.factory)
        listener.privilegedStartService()
        listener.startService()
        return listener

    def client(self, family: int, address: Any) -> socket.socket:
        """Somebody whom the system has connected."""
        client = socket.socket(family)
        self.addCleanup(client.close)
        client.settimeout(5)
        client.connect(address)
        return client

    def test_accepts_whoever_waits(self) -> None:
        """Connections in the queue would be reset: they are accepted, and nobody after them."""
        path = os.path.join(tempfile.mkdtemp(), "s")
        for description, family, address in (
            ("tcp:0:interface=127.0.0.1", socket.AF_INET, lambda: self.reactor.ports[-1].socket.getsockname()),
            (f"unix:{path}", socket.AF_UNIX, lambda: path),
        ):
            self.accepted.clear()
            listener = self.listen(description)
            where = address()
            clients = [self.client(family, where) for _ in range(300)]
            self.successResultOf(listener.stopService())
            self.assertEqual(len(self.accepted), len(clients), description)
            self.assertRaises(OSError, self.client, family, where)
            for each in self.accepted:
                each.transport.socket.close()
        self.assertFalse(os.path.exists(path))

    def adopt(self, held: socket.socket) -> Listener:
        """One on a socket that somebody else holds, as systemd does."""
        ours = held.dup()
        ours.setblocking(False)
        self.addCleanup(ours.close)
        listener = Listener(self.reactor, "systemd:domain=INET:index=0", self.factory)
        listener._listening(self.reactor.adoptStreamPort(ours.fileno(), held.family, self.factory))
        listener.startService()
        return listener

    def test_leaves_what_is_shared(self) -> None:
        """A socket that systemd opened is left to the next daemon with its queue: TCP or unix, its path too."""
        path = os.path.join(tempfile.mkdtemp(), "s")
        for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, path)):
            held = socket.socket(family)
            self.addCleanup(held.close)
            held.bind(address)
            held.listen(8)
            self.accepted.clear()
            before = self.adopt(held)
            self.adopt(held)
            after = self.reactor.ports[-1]
            self.client(family, held.getsockname())
            self.successResultOf(before.stopService())
            self.client(family, held.getsockname())
            self.assertEqual(self.accepted, [])
            after.doRead()
            self.assertEqual(len(self.accepted), 2)
            after.stopReading()
            after.socket.close()
            for each in self.accepted:
                each.transport.socket.close()
        self.assertTrue(os.path.exists(path))
