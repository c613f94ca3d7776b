"""What an operator sees of a listener: that it cannot listen, and when its certificate expires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.python.filepath import FilePath
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


def new_certificate(path: FilePath[str], days: int) -> float:
    """Write a certificate for so many days, and its key. Return its end, in seconds since the epoch."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC).replace(microsecond=0)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    ends = now + timedelta(days=days)
    unsigned = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, ends)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.setContent(unsigned.sign(key, hashes.SHA256()).public_bytes(pem) + secret)
    return ends.timestamp()
