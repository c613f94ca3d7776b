"""What an operator sees whose daemon cannot listen."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.web.listener import CannotListen, Listener


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

    def test_free(self) -> None:
        """Else it listens as soon as it is told to, before twistd gives up privileges."""
        reactor = MemoryReactor()
        Listener(reactor, "tcp:8765:interface=127.0.0.1", Factory()).privilegedStartService()
        self.assertEqual([(port, interface) for port, _, _, interface in reactor.tcpServers], [(8765, "127.0.0.1")])
