"""Nothing that is secret is said before a name is proven: forged certificates, shown to all who connect by TLS."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cryptography.x509 import GeneralName
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI
from zope.interface import implementer

from claudeproxyd.cli.admin import AdminEndpoints
from claudeproxyd.cli.place import AdminPlace
from claudeproxyd.config.state import InRedis
from claudeproxyd.reporting.posting import NoReply, Poster
from claudeproxyd.secrets.endpoint import EndpointFactory, http_client
from claudeproxyd.store.redis_link import endpoint_of
from claudeproxyd.upstream.client import Origin
from claudeproxyd.upstream.errors import TLSFailed
from claudeproxyd.upstream.tls import TLSSettings, connection_creator
from tests.upstream.certificates import Authority, Shown, dns, ip, mail, uri

SECRET = b"sk-ant-secret"

AUTHORITY = Authority()
STRANGER = Authority("stranger")


class Case(NamedTuple):
    """A certificate, and whom it was shown to."""

    asked: str
    """The host that was wanted."""
    server: Callable[[], Shown]


def of(*names: GeneralName, authority: Authority = AUTHORITY, **more: Any) -> Callable[[], Shown]:
    """A certificate of the authority that is trusted."""
    return lambda: authority.server(list(names), **more)


HOST = "api.anthropic.com"

#: What proves nothing. Each was signed by the authority that is trusted, unless it says otherwise.
FORGED: dict[str, Case] = {
    "no alternative names": Case(HOST, lambda: AUTHORITY.server(None)),
    "no alternative names, a common name": Case(HOST, lambda: AUTHORITY.server(None, common_name=HOST)),
    "an empty list of names": Case(HOST, lambda: AUTHORITY.server(b"\x30\x00")),
    "names that are no ASN.1": Case(HOST, lambda: AUTHORITY.server(b"\xff\xff\xff")),
    "names that break off": Case(HOST, lambda: AUTHORITY.server(b"\x30\x20\x82\x11api.anthropic.com")),
    "an address of five bytes": Case(HOST, lambda: AUTHORITY.server(b"\x30\x07\x87\x05\x7f\x00\x00\x01\x00")),
    "a kind of name that nobody reads": Case(HOST, lambda: AUTHORITY.server(b"\x30\x04\xa3\x02\x30\x00")),
    "a mail address": Case(HOST, of(mail("mallory@evil.example"))),
    "a mail address at the host": Case(HOST, of(mail(f"api@{HOST}"))),
    "a mail address that is the host": Case(HOST, of(mail(HOST))),
    "another name": Case(HOST, of(dns("evil.example"))),
    "a name above": Case(HOST, of(dns("anthropic.com"))),
    "a name below": Case(HOST, of(dns(f"x.{HOST}"))),
    "a name that begins alike": Case(HOST, of(dns(f"{HOST}.evil.example"))),
    "a name that ends alike": Case(HOST, of(dns(f"evil{HOST}"))),
    "any name": Case(HOST, of(dns("*"))),
    "any name, after one that is fine": Case(HOST, of(dns("evil.example"), dns("*"))),
    "any name below a top level": Case(HOST, of(dns("*.com"))),
    "any name of two labels": Case(HOST, of(dns("*.*.com"))),
    "two stars in a label": Case(HOST, of(dns("a*i*.anthropic.com"))),
    "a star in a label": Case(HOST, of(dns("a*.anthropic.com"))),
    "a star that is not at the left": Case(HOST, of(dns("api.*.com"))),
    "a star and an empty label": Case(HOST, of(dns("*..com"))),
    "a star for two labels": Case("a.b.anthropic.com", of(dns("*.anthropic.com"))),
    "a star for no label": Case("anthropic.com", of(dns("*.anthropic.com"))),
    "a star for a label in another script": Case("xn--pi-via.anthropic.com", of(dns("*.anthropic.com"))),
    "an empty name": Case(HOST, of(dns(""))),
    "an empty name, and another": Case(HOST, of(dns(""), dns("evil.example"))),
    "a dot": Case(HOST, of(dns("."))),
    "a dot before the name": Case(HOST, of(dns(f".{HOST}"))),
    "a NUL within the name": Case(HOST, of(dns(f"{HOST}\0.evil.example"))),
    "a NUL after the name": Case(HOST, of(dns(f"{HOST}\0"))),
    "blanks around the name": Case(HOST, of(dns(f" {HOST} "))),
    "a line end after the name": Case(HOST, of(dns(f"{HOST}\n"))),
    "two names in one": Case(HOST, of(dns(f"{HOST},evil.example"))),
    "an address as a name, for a name": Case(HOST, of(dns("127.0.0.1"))),
    "a number as a name": Case(HOST, of(dns("1"))),
    "a URI of the host": Case(HOST, of(uri(f"https://{HOST}"))),
    "a URI with a port": Case(HOST, of(uri(f"https://{HOST}:443/"))),
    "a URI that is the host": Case(HOST, of(uri(HOST))),
    "an address, for a name": Case(HOST, of(ip("127.0.0.1"))),
    "an address as a name, for that address": Case("127.0.0.1", of(dns("127.0.0.1"))),
    "any address as a name": Case("127.0.0.1", of(dns("*.0.0.1"))),
    "another address": Case("127.0.0.1", of(ip("127.0.0.2"))),
    "the same address in the other family": Case("127.0.0.1", of(ip("::ffff:127.0.0.1"))),
    "another address, IPv6": Case("::1", of(ip("::2"))),
    "an IPv6 address as a name": Case("::1", of(dns("::1"))),
    "a name, for an address": Case("127.0.0.1", of(dns("localhost"))),
    "nothing, for an address": Case("127.0.0.1", lambda: AUTHORITY.server(None, common_name="127.0.0.1")),
    "any name, for localhost": Case("localhost", of(dns("*"))),
    "expired": Case(HOST, of(dns(HOST), days=(-30, -1))),
    "not yet valid": Case(HOST, of(dns(HOST), days=(1, 30))),
    "an authority that nobody trusts": Case(HOST, of(dns(HOST), authority=STRANGER)),
    "an authority of the same name": Case(HOST, of(dns(HOST), authority=Authority())),
    "a client's certificate": Case(HOST, of(dns(HOST), usage=ExtendedKeyUsageOID.CLIENT_AUTH)),
    "a mail certificate": Case(HOST, of(dns(HOST), mail("a@b.example"), usage=ExtendedKeyUsageOID.EMAIL_PROTECTION)),
}

#: What proves the name. That something else stands beside it takes nothing from it.
GOOD: dict[str, Case] = {
    "the name": Case(HOST, of(dns(HOST))),
    "the name, in capitals": Case(HOST, of(dns(HOST.upper()))),
    "among others": Case(HOST, of(dns("evil.example"), dns(HOST), dns("www.example.com"))),
    "by a star": Case(HOST, of(dns("*.anthropic.com"))),
    "beside an address as a name": Case(HOST, of(dns("10.0.0.1"), dns(HOST))),
    "beside a star that is too wide": Case(HOST, of(dns("*"), dns(HOST))),
    "beside a mail address and URIs": Case(HOST, of(mail("a@b.example"), uri("https://x:8443/"), dns(HOST))),
    "localhost": Case("localhost", of(dns("localhost"))),
    "an address": Case("127.0.0.1", of(ip("127.0.0.1"))),
    "an address, beside itself as a name": Case("127.0.0.1", of(dns("127.0.0.1"), ip("127.0.0.1"))),
    "an IPv6 address": Case("::1", of(ip("::1"))),
    "a name in another script": Case("xn--bcher-kva.example", of(dns("xn--bcher-kva.example"))),
}


@implementer(IHostnameResolver)
class Loopback:
    """Every name leads here."""

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """See the interface."""
        from twisted.internet.address import IPv4Address

        resolutionReceiver.resolutionBegan(None)
        resolutionReceiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        resolutionReceiver.resolutionComplete()


class Impostor(Protocol):
    """Gathers what it is told."""

    def __init__(self) -> None:
        self.heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


class Talker(Protocol):
    """Says a password at once, as every client of Redis does."""

    def __init__(self) -> None:
        self.end: Failure | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"AUTH default " + SECRET)

    def connectionLost(self, reason: Any = None) -> None:
        self.end = reason


def bracketed(host: str) -> str:
    """As it stands in a URL."""
    return f"[{host}]" if ":" in host else host


class Proof(SynchronousTestCase):
    """How each of those who connect by TLS fares with each certificate."""

    def setUp(self) -> None:
        """A reactor in memory, and an authority that is trusted: by a file, and as the system's."""
        self.reactor = MemoryReactorClock()
        self.reactor.installNameResolver(Loopback())
        self.authorities = self.mktemp()
        with open(self.authorities, "wb") as file:
            file.write(AUTHORITY.pem)
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = self.authorities
        self.addCleanup(self._restore, before)

    def _restore(self, before: str | None) -> None:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before

    def told(self, server: Shown) -> bytes:
        """What a server with that certificate is told by whoever is connecting; all that has happened by then."""
        self.reactor.advance(0)
        factory = self.reactor.tcpClients.pop()[2]
        impostor = Impostor()
        wrapped = TLSMemoryBIOFactory(server, False, Factory.forProtocol(lambda: impostor)).buildProtocol(None)
        client: IProtocol = factory.buildProtocol(None)
        ends = FakeTransport(client, False), FakeTransport(wrapped, True)
        for end in ends:
            end.setTcpNoDelay = end.setTcpKeepAlive = lambda enabled: None
        client.makeConnection(ends[0])
        wrapped.makeConnection(ends[1])
        pump = IOPump(client, wrapped, *ends, False)
        for _ in range(20):
            pump.flush()
            self.reactor.advance(0)
        return impostor.heard

    def hold(self, connect: Callable[[str], Any], *, by_treq: bool = False) -> None:
        """*connect* says the secret to whoever has proven to be the host, and to nobody else.

        *by_treq*: which takes no URL with an IPv6 address.
        """
        forged, good = (
            {what: case for what, case in cases.items() if not (by_treq and ":" in case.asked)}
            for cases in (FORGED, GOOD)
        )
        fooled = [what for what, case in forged.items() if self.hears(connect, case)]
        self.assertEqual(fooled, [])
        refused = [what for what, case in good.items() if not self.hears(connect, case)]
        self.assertEqual(refused, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def hears(self, connect: Callable[[str], Any], case: Case) -> bool:
        """Whether the secret gets to who shows that certificate."""
        connect(case.asked)
        return SECRET in self.told(case.server())

    def test_upstreams(self) -> None:
        """An upstream that does not prove its name gets no API key."""

        def connect(host: str) -> None:
            self.ask(host).addErrback(lambda failure: self.assertIsInstance(failure.value, TLSFailed))

        self.hold(connect)

    def test_token_endpoints(self) -> None:
        """A token endpoint that does not prove its name gets no refresh token."""

        def connect(host: str) -> None:
            way = EndpointFactory(self.reactor).endpointForURI(
                URI.fromBytes(f"https://{bracketed(host)}/token".encode())
            )
            way.connect(Factory.forProtocol(Talker)).addErrback(lambda failure: None)

        self.hold(connect)

    def test_redis(self) -> None:
        """A Redis that does not prove its name gets no password."""

        def connect(host: str) -> None:
            endpoint = endpoint_of(self.reactor, InRedis(host, tls=True))
            endpoint.connect(Factory.forProtocol(Talker)).addErrback(lambda failure: None)

        self.hold(connect)

    def test_reports(self) -> None:
        """A collector, or a receiver of webhooks, that does not prove its name gets neither a token nor an event."""

        def connect(host: str) -> None:
            sent = Poster(self.reactor)(f"https://{bracketed(host)}/hook", {"x-token": SECRET.decode()}, SECRET)
            sent.addErrback(lambda failure: failure.trap(NoReply))

        self.hold(connect, by_treq=True)

    def test_issuers_and_clouds(self) -> None:
        """An issuer that does not prove its name says nobody's keys; and so STS and its like, which learn of tokens."""
        for ca_file in ("", self.authorities):

            def connect(host: str, ca_file: str = ca_file) -> None:
                http = http_client(self.reactor, ca_file=ca_file)
                asked = http.get(f"https://{bracketed(host)}/", headers={"authorization": SECRET.decode()})
                asked.addErrback(lambda failure: None)

            self.hold(connect, by_treq=True)

    def test_commands(self) -> None:
        """An admin listener that does not prove its name gets no operator's key."""

        def connect(host: str) -> None:
            url = f"https://{bracketed(host)}"
            way = AdminEndpoints(self.reactor, AdminPlace(url, "key")).endpointForURI(URI.fromBytes(url.encode()))
            way.connect(Factory.forProtocol(Talker)).addErrback(lambda failure: None)

        self.hold(connect)

    def test_what_is_said(self) -> None:
        """The failure is one of TLS, names the host, and quotes nothing that the impostor wrote."""
        for names, words in (
            ([dns("evil.example")], f"the certificate of {HOST} is for another name"),
            ([dns("*"), mail("mallory@evil.example")], f"the certificate of {HOST} is for another name"),
        ):
            asked = self.ask(HOST)
            self.told(AUTHORITY.server(names))
            self.assertEqual(str(self.failureResultOf(asked, TLSFailed).value), words)
        asked = self.ask(HOST)
        self.told(AUTHORITY.server(None))
        self.assertEqual(
            str(self.failureResultOf(asked, TLSFailed).value),
            f"the certificate of {HOST} names nobody that can be read",
        )
        asked = self.ask(HOST)
        self.told(AUTHORITY.server([dns(HOST)], days=(-30, -1)))
        self.assertEqual(
            str(self.failureResultOf(asked, TLSFailed).value), f"TLS with {HOST} failed: certificate verify failed"
        )

    def test_unchecked(self) -> None:
        """``verify = false`` takes whatever is shown."""
        tls = TLSSettings(verify=False)
        for what, case in FORGED.items():
            self.ask(case.asked, tls).addErrback(lambda failure: None)
            self.assertIn(SECRET, self.told(case.server()), what)

    def test_fault_of_ours(self) -> None:
        """Whatever goes wrong while a certificate is looked at, nobody is let through."""
        import claudeproxyd.upstream.tls as tls

        def fault(*args: Any) -> Any:
            raise MemoryError

        self.patch(tls, "_readable_names", fault)
        asked = self.ask(HOST)
        self.assertEqual(self.told(AUTHORITY.server([dns(HOST)])), b"")
        self.failureResultOf(asked, TLSFailed)

    def test_authorities_of_a_file_alone(self) -> None:
        """Where a file of authorities is given, those of the system count for nothing."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(STRANGER.pem)
        asked = self.ask(HOST, TLSSettings(ca_file=path))
        self.assertEqual(self.told(AUTHORITY.server([dns(HOST)])), b"")
        self.failureResultOf(asked, TLSFailed)
        self.ask(HOST, TLSSettings(ca_file=path))
        self.assertIn(SECRET, self.told(STRANGER.server([dns(HOST)])))

    def test_hosts_that_no_certificate_is_for(self) -> None:
        """A host that is neither a name nor an address is found out when the client is made."""
        for host in ("123", "a b", "a*b.example", ""):
            with self.assertRaises(ValueError):
                connection_creator(host)

    def ask(self, host: str, tls: TLSSettings | None = None) -> Deferred[Any]:
        """One request with the key, to that host."""
        origin = Origin(
            self.reactor,
            f"https://{bracketed(host)}",
            connect_timeout=10.0,
            tls=tls or TLSSettings(ca_file=self.authorities),
        )
        return origin.request(b"POST", b"/", b"x-api-key: " + SECRET + b"\r\n", b"", first_byte=10, idle=10)
