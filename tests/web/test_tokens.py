"""Who calls by a token, and a connection on which it is not known yet who does."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IAuthenticator
from claudeproxyd.issuers.issuer import MIN_INTERVAL
from claudeproxyd.issuers.registry import Issuers
from claudeproxyd.principals import Principal
from claudeproxyd.web.access import Authenticators, KeyAuthenticator
from claudeproxyd.web.channel import IDENTIFY_TIMEOUT
from claudeproxyd.web.request import GatewayRequest
from claudeproxyd.web.tokens import TokenAuthenticator
from tests.issuers.support import NOW, OTHER_RSA, Publisher, published, section, token
from tests.web.support import BODY, Connection, Listener, get, post, replies
from tests.web.support import sha256 as hexadecimal


class TokensTestCase(SynchronousTestCase):
    """A listener that takes a key and an issuer's tokens."""

    def setUp(self) -> None:
        self.publisher = Publisher()
        self.listener = Listener(Principal("of-the-file"))
        self.clock = self.listener.clock
        self.issuers = Issuers(self.clock, lambda: NOW, lambda _: self.publisher)
        self.issuers.startService()
        self.addCleanup(self.issuers.stopService)
        self.issuers.configure([section()])
        self.authenticator = self.beside(KeyAuthenticator({hexadecimal("of-the-file"): Principal("of-the-file")}))

    def beside(self, by_key: IAuthenticator) -> TokenAuthenticator:
        """Take tokens beside keys, from now on."""
        authenticator = TokenAuthenticator(self.issuers, by_key, lambda name: name == "of-the-file")
        self.listener.site.gateway = replace(self.listener.site.gateway, authenticator=authenticator)
        return authenticator

    def ask(self, *headers: str) -> Any:
        """What a request is answered."""
        return self.listener.ask(get("/v1/models", *headers))


class Telling(TokensTestCase):
    """Keys and tokens, in either header."""

    def test_interface(self) -> None:
        """It is what it says it is."""
        verifyObject(IAuthenticator, self.authenticator)

    def test_either(self) -> None:
        """One that is valid is enough, wherever it stands."""
        for headers in (
            [f"Authorization: Bearer {token()}"],
            [f"x-api-key: {token()}"],
            [f"x-api-key: {token()}", "Authorization: Bearer nonsense"],
            ["x-api-key: nonsense", f"Authorization: Bearer {token()}"],
            ["x-api-key: of-the-file"],
            ["x-api-key: of-the-file", f"Authorization: Bearer {token(aud='another')}"],
            [f"x-api-key: {token(aud='another')}", "Authorization: Bearer of-the-file"],
        ):
            for _ in range(2):
                self.assertEqual(self.ask(*headers).status, 200, headers)
        self.assertEqual({entry.client for entry in self.listener.log}, {"ann", "of-the-file"})

    def test_refused(self) -> None:
        """A token is told what is wrong with it, a key that it is unknown, and nothing at all that one is needed."""
        for headers, why in (
            ([f"Authorization: Bearer {token(aud='another')}"], "audience has to be claudeproxyd"),
            (
                ["x-api-key: nonsense", f"Authorization: Bearer {token(iss='https://evil.example')}"],
                "its issuer is none",
            ),
            ([f"Authorization: Bearer {token(iss=['https://login.example.com'])}"], "its issuer is none"),
            ([f"Authorization: Bearer {token(exp=NOW)}"], "it has expired"),
            ([f"Authorization: Bearer {token()}\xff"], "it cannot be read"),
            (["Authorization: Bearer a.b.c"], "does not know your API key"),
            ([], "is required"),
        ):
            reply = self.ask(*headers)
            self.assertEqual((reply.status, reply.headers[b"x-should-retry"]), (401, b"false"))
            self.assertIn(why, reply.json["error"]["message"])
            self.assertEqual(reply.json["error"]["type"], "authentication_error")

    def test_key_like_a_token(self) -> None:
        """A key of the configuration that has a token's form is a key."""
        key = token(OTHER_RSA, kid="somebody's")
        self.beside(KeyAuthenticator({hexadecimal(key): Principal("static")}))
        self.assertEqual(self.ask(f"x-api-key: {key}").status, 200)
        self.assertEqual(self.listener.log[-1].client, "static")

    def test_name_of_another(self) -> None:
        """Nobody becomes a client that has a key, whatever an issuer calls them."""
        reply = self.ask(f"Authorization: Bearer {token(sub='of-the-file')}")
        self.assertEqual((reply.status, reply.json["error"]["type"]), (403, "permission_error"))

    def test_first_of_several(self) -> None:
        """A plugin is asked where the issuers refuse, also after keys were waited for; the first refusal is told."""
        plugin = KeyAuthenticator({hexadecimal("k"): Principal("of a plugin")})
        both = Authenticators([self.authenticator, plugin])
        verifyObject(IAuthenticator, both)
        self.listener.site.gateway = replace(self.listener.site.gateway, authenticator=both)
        for unknown in ("1", "2"):
            connection = self.listener.connect()
            connection.send(get("/v1/models", f"Authorization: Bearer {token(OTHER_RSA, unknown)}", "x-api-key: k"))
            self.clock.advance(MIN_INTERVAL)
            (reply,) = replies(connection.take())
            self.assertEqual((reply.status, self.listener.log[-1].client), (200, "of a plugin"))
        connection = self.listener.connect()
        connection.send(get("/v1/models", f"Authorization: Bearer {token(OTHER_RSA, '3')}"))
        self.clock.advance(MIN_INTERVAL)
        (reply,) = replies(connection.take())
        self.assertIn("signed by no key", reply.json["error"]["message"])


class Reloads(TokensTestCase):
    """A reload keeps what it can."""

    def test_same(self) -> None:
        """An issuer that stays keeps its keys and the tokens that they proved."""
        text = token()
        self.ask(f"x-api-key: {text}")
        self.issuers.configure([section(), section(url="https://sso.example.com")])
        self.assertEqual(self.publisher.asked, 2)
        self.publisher.document = ValueError("it is down")
        self.assertEqual(self.ask(f"x-api-key: {text}").status, 200)

    def test_other_claims(self) -> None:
        """One whose section says other things of the claims keeps its keys, and looks at tokens anew."""
        text = token(groups=["x"])
        self.ask(f"x-api-key: {text}")
        self.publisher.document = ValueError("it is down")
        self.issuers.configure([section(require={"groups": "claude"})])
        self.assertEqual(self.ask(f"x-api-key: {text}").status, 403)
        self.issuers.configure([section(audience="another")])
        self.assertEqual(self.ask(f"x-api-key: {text}").status, 401)

    def test_other_keys(self) -> None:
        """One that is told to find its keys elsewhere trusts none of those before."""
        text = token()
        self.ask(f"x-api-key: {text}")
        self.publisher.document = published(("1", OTHER_RSA))
        self.issuers.configure([section(jwks_url="https://keys.example.com")])
        connection = self.listener.connect()
        connection.send(get("/v1/models", f"x-api-key: {text}"))
        self.clock.advance(MIN_INTERVAL)
        self.assertEqual(replies(connection.take())[0].status, 401)

    def test_gone(self) -> None:
        """One that is taken out lets in nobody any more, and asks nobody."""
        text = token()
        self.ask(f"x-api-key: {text}")
        self.issuers.configure([section(url="https://sso.example.com")])
        self.assertEqual(self.ask(f"x-api-key: {text}").status, 401)
        asked = self.publisher.asked
        self.clock.advance(301)
        self.assertEqual(self.publisher.asked, asked + 1)

    def test_told(self) -> None:
        """The metrics tell how each fares, as it is now."""
        metrics = self.listener.site.gateway.metrics
        self.issuers.register(metrics)
        self.ask(f"x-api-key: {token()}")
        text = metrics.render().decode()
        for line in (
            'claudeproxyd_issuer_keys{issuer="https://login.example.com"} 1',
            'claudeproxyd_issuer_remembered_tokens{issuer="https://login.example.com"} 1',
            'claudeproxyd_issuer_waiting_requests{issuer="https://login.example.com"} 0',
            'claudeproxyd_issuer_fetches_total{issuer="https://login.example.com",outcome="ok"} 1',
        ):
            self.assertIn(line, text)


@implementer(IAuthenticator)
class Asks:
    """Somebody who has to ask who calls."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Principal]] = []
        self.left = 0

    def authenticate(self, headers: Any) -> Deferred[Principal]:
        """Ask."""

        def leave(_: Deferred[Principal]) -> None:
            self.left += 1

        self.asked.append(Deferred(leave))
        return self.asked[-1]


verifyClass(IAuthenticator, Asks)


class Waiting(SynchronousTestCase):
    """It takes a while until it is known who calls."""

    def setUp(self) -> None:
        self.asks = Asks()
        self.listener = Listener(authenticator=self.asks)
        self.clock = self.listener.clock

    def connect(self, data: bytes) -> Connection:
        """A client that has sent this, and is to be known."""
        connection = self.listener.connect()
        connection.send(data)
        self.assertEqual((connection.take(), connection.transport.producerState), (b"", "paused"))
        return connection

    def test_body_waits(self) -> None:
        """Nothing of a body is held before; what came with the head is read afterwards, and the rest then."""
        head, _, body = post().partition(b"\r\n\r\n")
        connection = self.connect(head + b"\r\n\r\n" + body[:10])
        self.assertEqual(self.listener.site.gateway.buffers.held, 0)
        self.asks.asked[0].callback(Principal("ann"))
        self.assertEqual(connection.transport.producerState, "producing")
        connection.send(body[10:])
        (running,) = self.listener.dispatcher.running
        self.assertEqual((running.request.principal.name, self.listener.dispatcher.bodies), ("ann", [BODY]))

    def test_compressed_body_waits(self) -> None:
        """So does one that is compressed."""
        data = gzip.compress(BODY)
        head, _, body = post("/v1/messages", data, "Content-Encoding: gzip").partition(b"\r\n\r\n")
        connection = self.connect(head + b"\r\n\r\n" + body[:10])
        self.assertEqual(self.listener.site.gateway.buffers.held, 0)
        self.asks.asked[0].callback(Principal("ann"))
        connection.send(body[10:])
        for _ in range(5):
            self.clock.advance(0)
        self.assertEqual(self.listener.dispatcher.bodies, [BODY])

    def test_pipelined(self) -> None:
        """The next request waits for its turn, and is asked for by itself."""
        connection = self.connect(get("/v1/models") + get("/v1/models"))
        self.assertEqual(len(self.asks.asked), 1)
        self.asks.asked[0].callback(Principal("ann"))
        self.assertEqual((replies(connection.take())[0].status, len(self.asks.asked)), (200, 2))
        self.asks.asked[1].callback(Principal("bob"))
        self.assertEqual(replies(connection.take())[0].status, 200)
        self.assertEqual([entry.client for entry in self.listener.log], ["ann", "bob"])

    def test_asked_to_go_on(self) -> None:
        """A client that waits to be told to send its body is told when it is known."""
        connection = self.connect(post("/v1/messages", BODY, "Expect: 100-continue").partition(BODY)[0])
        self.asks.asked[0].callback(Principal("ann"))
        self.assertEqual(connection.take(), b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_refused(self) -> None:
        """A refusal that comes late is as one that comes at once, and the connection lives on."""
        connection = self.connect(post())
        self.asks.asked[0].errback(ClaudeError(401, "not you"))
        (reply,) = replies(connection.take())
        self.assertEqual((reply.status, reply.json["error"]["message"]), (401, "not you"))
        self.assertFalse(connection.closing)
        large = self.connect(
            post("/v1/messages", b"x", "Content-Length: 9999999").replace(b"Content-Length: 1\r\n", b"")
        )
        self.asks.asked[1].errback(ClaudeError(401, "not you"))
        (reply,) = replies(large.take())
        self.assertEqual((reply.status, large.closing), (401, True))

    def test_faults(self) -> None:
        """What breaks lets nobody in."""
        for result in (ValueError("x"), None):
            connection = self.connect(get("/v1/models"))
            if result is None:
                self.asks.asked[-1].callback(result)  # type: ignore[arg-type]
            else:
                self.asks.asked[-1].errback(result)
            self.assertEqual(replies(connection.take())[0].status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError, AttributeError)), 2)

    def test_fault_behind_it(self) -> None:
        """What breaks once it is known is answered, too: nobody waits for ever."""
        self.patch(GatewayRequest, "expect_body", lambda request, head: 1 // 0)
        connection = self.connect(post())
        self.asks.asked[0].callback(Principal("ann"))
        (reply,) = replies(connection.take())
        self.assertEqual((reply.status, connection.closing), (500, True))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_client_leaves(self) -> None:
        """Nobody is asked any more then."""
        self.connect(post()).lose()
        self.assertEqual((self.asks.left, len(self.listener.log)), (1, 1))

    def test_too_long(self) -> None:
        """Whoever asks for ever is not waited for."""
        connection = self.connect(post())
        for _ in range(int(IDENTIFY_TIMEOUT) + 2):
            self.clock.advance(1)
        (reply,) = replies(connection.take())
        self.assertEqual((reply.status, reply.headers[b"retry-after"], self.asks.left), (503, b"5", 1))
        self.assertEqual(len(self.listener.log), 1)

    def test_shutdown(self) -> None:
        """The end of the daemon is told to those who wait; a drain lets them finish."""
        connection, other = self.connect(post()), self.connect(get("/v1/models"))
        self.listener.site.drain()
        self.asks.asked[1].callback(Principal("ann"))
        self.assertEqual((replies(other.take())[0].status, other.closing), (200, True))
        self.listener.site.abort_all()
        self.assertEqual((replies(connection.take())[0].status, self.asks.left), (529, 1))

    def test_slow_client(self) -> None:
        """A client that takes its last answer meanwhile is not read from for that."""
        connection = self.connect(post())
        connection.channel.pauseProducing()
        connection.channel.resumeProducing()
        self.assertEqual(connection.transport.producerState, "paused")

    def test_at_once(self) -> None:
        """An answer that is there already is not waited for."""
        known: Deferred[Principal] = Deferred()
        known.callback(Principal("ann"))
        self.asks.authenticate = lambda headers: known  # type: ignore[method-assign]
        self.assertEqual(self.listener.ask(get("/v1/models")).status, 200)

    def test_many(self) -> None:
        """A crowd that is known all at once goes on in several turns, so that streams go on between them."""
        connections = [self.connect(get("/v1/models")) for _ in range(20)]
        turnstile = self.listener.site.turnstile
        turnstile._slice._left = 0.0
        for asked in self.asks.asked:
            asked.callback(Principal("ann"))
        for _ in range(50):
            self.clock.advance(0.01)
        self.assertEqual([replies(each.take())[0].status for each in connections], [200] * 20)
        self.assertEqual({each.transport.producerState for each in connections}, {"producing"})
