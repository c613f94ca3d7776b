"""The way through an HTTP proxy."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.outcomes.types import AttemptPhase
from claudeproxyd.testing import MemoryConnection
from claudeproxyd.upstream.errors import ConnectFailed, ConnectTimedOut, Malformed, ProxyRefused
from claudeproxyd.upstream.proxy import Proxy, proxy_for, proxy_secrets
from tests.upstream.fakes import Net
from tests.upstream.responses import HELLO

PROXY = "http://user:p%40ss@proxy.example:3128"
BASIC = b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n"


class Choosing(SynchronousTestCase):
    """Which proxy an origin goes through."""

    def test_written_out(self) -> None:
        """A proxy is a host, a port and perhaps a name and a password, which is never shown."""
        proxy = proxy_for(PROXY, "https", "api.example", 443, {})
        self.assertEqual(proxy, Proxy("proxy.example", 3128, BASIC))
        self.assertNotIn("dXN", repr(proxy))
        self.assertIsNone(proxy_for("", "https", "api.example", 443, {"https_proxy": PROXY}))
        self.assertEqual(proxy_for("http://p", "http", "h", 80, {}), Proxy("p", 80))

    def test_unusable(self) -> None:
        """Other kinds of proxy are refused, without repeating the password."""
        for setting in ("socks5://u:secret@h:1", "https://u:secret@h", "u:secret@h:1", "http://", "http://h/secret"):
            with self.assertRaises(ValueError) as caught:
                proxy_for(setting, "https", "api.example", 443, {})
            self.assertNotIn("secret", str(caught.exception))

    def test_secrets(self) -> None:
        """What is to be masked of one: its password, as it is and as it goes up, wherever it is written down."""
        known = ["p@ss", "dXNlcjpwQHNz"]
        self.assertEqual(list(proxy_secrets(PROXY, {})), known)
        for variable in ("https_proxy", "HTTPS_PROXY", "http_proxy"):
            self.assertEqual(list(proxy_secrets("env", {variable: PROXY})), known)
            self.assertEqual(list(proxy_secrets("env", {variable: PROXY.removeprefix("http://")})), known)
        for setting in ("", "http://p:1", "http://[::1", "socks5://h:1"):
            self.assertEqual(list(proxy_secrets(setting, {"https_proxy": PROXY})), [])
            self.assertEqual(list(proxy_secrets("env", {"https_proxy": setting})), [])

    def test_environment(self) -> None:
        """``env`` reads the variables that curl reads, each for its own scheme."""
        environ = {"https_proxy": "http://s:1", "http_proxy": "p:2", "HTTP_PROXY": "http://evil:1"}
        self.assertEqual(proxy_for("env", "https", "api.example", 443, environ), Proxy("s", 1))
        self.assertEqual(proxy_for("env", "http", "api.example", 80, environ), Proxy("p", 2))
        self.assertEqual(proxy_for("env", "https", "api.example", 443, {"HTTPS_PROXY": "http://S:1"}), Proxy("s", 1))
        self.assertIsNone(proxy_for("env", "http", "api.example", 80, {"HTTP_PROXY": "http://evil:1"}))
        self.assertIsNone(proxy_for("env", "https", "api.example", 443, {}))

    def test_exempt(self) -> None:
        """``no_proxy`` names hosts, domains, networks and ports that are reached directly."""
        for no_proxy, host, port, exempt in (
            ("api.example", "api.example", 443, True),
            ("x, .Example", "api.example", 443, True),
            ("*.example", "api.example", 443, True),
            ("example", "api.example", 443, True),
            ("pi.example", "api.example", 443, False),
            ("api.example:8443", "api.example", 443, False),
            ("api.example:443", "api.example", 443, True),
            ("*", "api.example", 443, True),
            ("10.0.0.0/8", "10.1.2.3", 443, True),
            ("10.0.0.0/8", "11.1.2.3", 443, False),
            ("::1", "::1", 443, True),
            ("[::1]:443", "::1", 443, True),
            ("[::1]:80", "::1", 443, False),
            ("", "api.example", 443, False),
        ):
            environ = {"https_proxy": "http://s:1", "no_proxy": no_proxy}
            found = proxy_for("env", "https", host, port, environ)
            self.assertEqual(found is None, exempt, (no_proxy, host, port))


class Plain(SynchronousTestCase):
    """http origins: the proxy is asked in absolute form."""

    def test_absolute_form(self) -> None:
        """The proxy gets the whole URL and its password, and answers as the origin would."""
        net = Net("http://api.example:8080", proxy=PROXY)
        net.reactor.installNameResolver(net.reactor.nameResolver)
        deferred = net.ask()
        wire = net.accept()
        sent = wire.taken()
        self.assertTrue(
            sent.startswith(b"POST http://api.example:8080/v1/messages HTTP/1.1\r\nHost: api.example:8080\r\n")
        )
        self.assertIn(BASIC, sent)
        wire.say(HELLO)
        self.assertEqual(self.successResultOf(deferred).status, 200)

    def test_407(self) -> None:
        """The proxy's own 407 is no answer of the provider's."""
        net = Net("http://api.example", proxy=PROXY)
        deferred = net.ask()
        net.accept().say(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n")
        error = self.failureResultOf(deferred, ProxyRefused).value
        self.assertEqual((error.failure, error.phase), ("proxy_auth", AttemptPhase.PROXY))

    def test_407_of_an_origin(self) -> None:
        """Without a proxy a 407 is an answer like any other."""
        net = Net()
        deferred = net.ask()
        net.accept().say(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.successResultOf(deferred).status, 407)


class Tunnels(SynchronousTestCase):
    """https origins: CONNECT."""

    def connect(self) -> tuple[Net, MemoryConnection, object]:
        """A request whose proxy has been reached."""
        net = Net("https://api.example", proxy=PROXY)
        deferred = net.ask()
        return net, net.accept(), deferred

    def test_established(self) -> None:
        """Once the proxy agrees, TLS begins through it, wherever its answer was split."""
        for pieces in (
            [b"HTTP/1.1 200 Connection established\r\n\r\n"],
            [b"HTTP/1.0 20", b"0 OK\r\nVia: x\r\n\r", b"\n"],
            [b"HTTP/1.1 200\r\n\r\n"],
        ):
            _, wire, deferred = self.connect()
            self.assertEqual(
                wire.taken(), b"CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n" + BASIC + b"\r\n"
            )
            for piece in pieces:
                self.assertEqual(wire.taken(), b"")
                wire.say(piece)
            self.assertEqual(wire.taken()[:2], b"\x16\x03", "a ClientHello")
            self.assertNoResult(deferred)

    def test_refused(self) -> None:
        """407 is a matter of the proxy's credentials, other refusals are like an upstream out of reach."""
        for status, failure in ((407, "proxy_auth"), (403, "connect"), (502, "connect"), (300, "connect")):
            net, wire, deferred = self.connect()
            wire.say(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
            error = self.failureResultOf(deferred, ProxyRefused).value
            self.assertEqual((error.failure, error.phase), (failure, AttemptPhase.PROXY))
            self.assertTrue(wire.aborted)
            net.turn()
            self.assertEqual(net.origin.connections, 0)

    def test_nonsense(self) -> None:
        """A proxy that does not speak HTTP, or without end, is dropped."""
        for pieces in (
            [b"SSH-2.0\r\n\r\n"],
            [b"HTTP/2 200\r\n\r\n"],
            [b"HTTP/1.1 200 OK\r\n"] + [b"A: b\r\n" * 1000] * 4,
        ):
            _, wire, deferred = self.connect()
            for piece in pieces:
                wire.say(piece)
            self.failureResultOf(deferred, Malformed)
            self.assertTrue(wire.aborted)

    def test_closed(self) -> None:
        """A proxy that hangs up, before it answers or in the TLS handshake, is an upstream out of reach."""
        for said in (b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\n\r\n"):
            net, wire, deferred = self.connect()
            if said:
                wire.say(said)
            wire.end()
            self.failureResultOf(deferred, ConnectFailed)
            self.assertEqual(net.origin.connections, 0)

    def test_silent(self) -> None:
        """The tunnel and the handshake share the time that there is to connect."""
        for said in (b"", b"HTTP/1.1 200 OK\r\n\r\n"):
            net, wire, deferred = self.connect()
            if said:
                wire.say(said)
            net.reactor.advance(10.1)
            self.failureResultOf(deferred, ConnectTimedOut)
            self.assertTrue(wire.aborted)
            net.turn()
            self.assertEqual((net.origin.connections, net.reactor.getDelayedCalls()), (0, []))
