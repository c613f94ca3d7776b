"""Keys, models, concurrency, web pages and proxies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IAuthenticator, IBufferAccount
from claudeproxyd.observe.scrub import scrub
from claudeproxyd.principals import Principal
from claudeproxyd.web.access import BrowserGuard, KeyAuthenticator, OpenAccess, TrustedProxies
from claudeproxyd.web.buffers import BufferBudget
from tests.web.support import BODY, Listener, get, post, sha256


class Principals(SynchronousTestCase):
    """What a key may ask for."""

    def test_globs(self) -> None:
        """A model is allowed if any glob matches all of its name, letter by letter."""
        principal = Principal("k", models=("claude-*", "gpt-[45]"))
        table = {"claude-x": True, "gpt-4": True, "gpt-45": False, "Claude-x": False, "x-claude-x": False, "": False}
        for _ in range(2):
            self.assertEqual({model: principal.may_use(model) for model in table}, table)
        self.assertTrue(Principal("k").may_use("anything"))

    def test_equal_name(self) -> None:
        """A name that is equal is allowed, though read as a glob it would stand for others."""
        principal = Principal("k", models=("claude-opus-4-8[1m]", "x-[ab]"))
        table = {"claude-opus-4-8[1m]": True, "claude-opus-4-81": False, "claude-opus-4-8m": False, "x-[ab]": True}
        self.assertEqual({model: principal.may_use(model) for model in table}, table)
        self.assertTrue(principal.may_use("x-a"))

    def test_memory_is_bounded(self) -> None:
        """A client that makes up model names does not fill our memory."""
        principal = Principal("k", models=("a",))
        for number in range(5000):
            principal.may_use(str(number))
        self.assertLessEqual(len(principal._answers), 100)

    def test_repr(self) -> None:
        """Principals are shown by name."""
        self.assertIn("'k'", repr(Principal("k")))


class Keys(SynchronousTestCase):
    """Who is calling."""

    def setUp(self) -> None:
        self.authenticator = KeyAuthenticator({sha256("one"): Principal("1"), sha256("two").upper(): Principal("2")})

    def test_interfaces(self) -> None:
        """The parts are what they say they are."""
        verifyObject(IAuthenticator, self.authenticator)
        verifyObject(IAuthenticator, OpenAccess())
        verifyObject(IBufferAccount, BufferBudget(1))

    def test_either_header(self) -> None:
        """Either header will do, and of both either valid one."""
        table = (
            ([(b"x-api-key", b"one")], "1"),
            ([(b"authorization", b"Bearer two")], "2"),
            ([(b"authorization", b"bearer  two ")], "2"),
            ([(b"x-api-key", b"wrong"), (b"authorization", b"Bearer two")], "2"),
            ([(b"authorization", b"Bearer wrong"), (b"x-api-key", b"one")], "1"),
            ([(b"authorization", b"Basic x"), (b"x-api-key", b"one")], "1"),
        )
        for headers, name in table:
            self.assertEqual(self.authenticator.authenticate(headers).name, name)

    def test_wrong_keys(self) -> None:
        """Anything else is a 401 that is not to be tried again and does not repeat the key."""
        for headers in (
            [],
            [(b"x-api-key", b"")],
            [(b"x-api-key", b" "), (b"authorization", b"Bearer  ")],
            [(b"x-api-key", b"sk-wrong")],
            [(b"x-api-key", sha256("one").encode())],
            [(b"authorization", b"one")],
            [(b"authorization", b"Basic one")],
            [(b"authorization", b"Bearer")],
            [(b"cookie", b"x-api-key=one")],
        ):
            error = self.assertRaises(ClaudeError, self.authenticator.authenticate, headers)
            self.assertEqual((error.status, error.headers), (401, ((b"x-should-retry", b"false"),)))
            self.assertNotIn("sk-wrong", error.message)

    def test_words_for_a_wrong_key(self) -> None:
        """They are the gateway's own: by the API's, Claude Code would tell its user to log in at Anthropic."""
        error = self.assertRaises(ClaudeError, self.authenticator.authenticate, [(b"x-api-key", b"sk-wrong")])
        self.assertIn("This gateway does not know", error.message)
        self.assertNotIn("x-api-key", error.message)

    def test_who_still_uses_it(self) -> None:
        """The log has the beginning of an unknown key's digest, which is how keys are configured."""
        listener = Listener(Principal("k"))
        listener.ask(post("/v1/messages", BODY, "x-api-key: revoked-1", "Authorization: Bearer revoked-2"))
        (entry,) = listener.log
        self.assertEqual(entry.status, 401)
        for key in ("revoked-1", "revoked-2"):
            self.assertIn(sha256(key)[:12], entry.error)
            self.assertNotIn(sha256(key)[:16], entry.error)
            self.assertNotIn(key, entry.error)

    def test_no_key_is_none(self) -> None:
        """An empty key is looked up nowhere, though a digest of nothing were among those that are known."""
        authenticator = KeyAuthenticator({sha256(""): Principal("nobody"), sha256("one"): Principal("1")})
        for headers in ([(b"x-api-key", b"")], [(b"authorization", b"Bearer ")], [(b"x-api-key", b"\t ")]):
            error = self.assertRaises(ClaudeError, authenticator.authenticate, headers)
            self.assertEqual(error.message, "x-api-key or a bearer token is required")
            self.assertEqual(scrub(error.message), error.message)
        self.assertEqual(authenticator.authenticate([(b"x-api-key", b""), (b"x-api-key", b"one")]).name, "1")

    @given(st.binary())
    def test_garbage(self, key: bytes) -> None:
        """No bytes break the comparison."""
        self.assertRaises(ClaudeError, self.authenticator.authenticate, [(b"x-api-key", b"!" + key)])


class Pages(SynchronousTestCase):
    """What a web page in somebody's browser can do."""

    def setUp(self) -> None:
        guard = BrowserGuard(origins=["https://good.example"], check_host=True, check_origin=True)
        self.listener = Listener(guard=guard)

    def test_hosts(self) -> None:
        """Without keys only loopback names are answered: a name that was rebound to us is not."""
        for host in ("localhost", "LOCALHOST:8765", "127.0.0.1:8765", "127.1.2.3", "[::1]:8765"):
            self.assertEqual(self.listener.ask(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).status, 200, host)
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "[::2]"):
            reply = self.listener.ask(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            self.assertEqual((reply.status, reply.json["error"]["type"]), (403, "permission_error"), host)
        self.assertEqual(self.listener.ask(b"GET / HTTP/1.1\r\n\r\n").status, 403)

    def test_origins(self) -> None:
        """A page that is not on the list gets nothing, not even by a form."""
        for origin in ("https://evil.example", "null", "https://good.example.evil.example", "http://good.example"):
            reply = self.listener.ask(post("/v1/messages", BODY, f"Origin: {origin}"))
            self.assertEqual(reply.status, 403, origin)
            self.assertNotIn(b"access-control-allow-origin", reply.headers)
        self.assertEqual(self.listener.dispatcher.running, [])

    def test_open_to_all(self) -> None:
        """Where anybody may call by any name, a page still may not: its name may have been led here for that."""
        listener = Listener(guard=BrowserGuard(check_host=False, check_origin=True))
        self.assertEqual(listener.ask(b"GET / HTTP/1.1\r\nHost: gateway.example\r\n\r\n").status, 200)
        head = b"POST /v1/messages HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n"
        request = head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
        self.assertEqual(listener.ask(request).status, 403)
        self.assertEqual(listener.dispatcher.running, [])

    def test_content_types(self) -> None:
        """A body of a type that forms can send is refused."""
        for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"):
            reply = self.listener.ask(post("/v1/messages", BODY, f"Content-Type: {kind}"))
            self.assertEqual((reply.status, reply.json["error"]["type"]), (415, "invalid_request_error"), kind)
        for kind in ("application/json", "Application/JSON; charset=utf-8"):
            self.assertEqual(self.listener.ask(post("/v1/messages", BODY, f"Content-Type: {kind}")).status, 200, kind)

    def test_acts_of_other_sites(self) -> None:
        """A browser that says whose page it is about has it refused, also where it hides the origin."""
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
            reply = self.listener.ask(post("/v1/messages", BODY, f"Sec-Fetch-Site: {site}"))
            self.assertEqual(reply.status, status, site)
        welcome = ("Origin: https://good.example", "Sec-Fetch-Site: cross-site")
        self.assertEqual(self.listener.ask(post("/v1/messages", BODY, *welcome)).status, 200)
        # Whoever follows a link to our page comes from another site, too.
        self.assertEqual(self.listener.ask(get("/", "Sec-Fetch-Site: cross-site")).status, 200)

    def test_chunked_needs_a_type_too(self) -> None:
        """A body without a length is a body."""
        data = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        self.assertEqual(self.listener.ask(data).status, 415)

    def test_page_that_may(self) -> None:
        """A page on the list reads answers and errors, and so does its preflight."""
        origin = "Origin: https://good.example"
        for data, status in ((post("/v1/messages", BODY, origin), 200), (get("/nope", origin), 404)):
            reply = self.listener.ask(data)
            self.assertEqual(reply.status, status)
            self.assertEqual(reply.headers[b"access-control-allow-origin"], b"https://good.example")
            self.assertEqual(reply.headers[b"vary"], b"origin")
        reply = self.listener.ask(
            get("/v1/messages", origin, "Access-Control-Request-Headers: x-api-key", method="OPTIONS")
        )
        self.assertEqual((reply.status, reply.body), (204, b""))
        self.assertEqual(reply.headers[b"access-control-allow-methods"], b"POST")
        self.assertEqual(reply.headers[b"access-control-allow-headers"], b"x-api-key")

    def test_with_keys(self) -> None:
        """Where keys are asked for, any name, origin and type will do, and only pages on the list may read."""
        guard = BrowserGuard(origins=["https://good.example"], check_host=False, check_origin=False)
        listener = Listener(Principal("k"), guard=guard)
        reply = listener.ask(
            post("/v1/messages", BODY, "x-api-key: k", "Origin: https://x.example", "Content-Type: text/plain")
        )
        self.assertEqual(reply.status, 200)
        self.assertNotIn(b"access-control-allow-origin", reply.headers)

    def test_preflight_needs_no_key(self) -> None:
        """Browsers send none with it."""
        guard = BrowserGuard(origins=["*"], check_host=False, check_origin=False)
        listener = Listener(Principal("k"), guard=guard)
        self.assertEqual(listener.ask(get("/v1/messages", "Origin: https://a", method="OPTIONS")).status, 204)


class Forwarded(SynchronousTestCase):
    """Where a request came from, through proxies."""

    def client(self, peer: str, *values: bytes) -> str:
        proxies = TrustedProxies(["10.0.0.0/8", "::1"])
        return proxies.client(peer, [(b"x-forwarded-for", value) for value in values])

    def test_table(self) -> None:
        """From the right, the first address that no trusted proxy has; nothing a client makes up is believed."""
        table = (
            (("192.0.2.1", b"1.2.3.4"), "192.0.2.1"),
            (("10.0.0.1", b"1.2.3.4"), "1.2.3.4"),
            (("10.0.0.1", b"6.6.6.6, 1.2.3.4"), "1.2.3.4"),
            (("10.0.0.1", b"6.6.6.6, 1.2.3.4, 10.2.0.1"), "1.2.3.4"),
            (("10.0.0.1", b"6.6.6.6", b"1.2.3.4"), "1.2.3.4"),
            (("10.0.0.1", b"10.9.9.9"), "10.9.9.9"),
            (("10.0.0.1", b"garbage"), "10.0.0.1"),
            (("10.0.0.1", b"1.2.3.4, garbage, 10.0.0.2"), "10.0.0.2"),
            (("10.0.0.1",), "10.0.0.1"),
            (("::ffff:10.0.0.1", b"1.2.3.4"), "1.2.3.4"),
            (("::1", b"2001:db8::1"), "2001:db8::1"),
            (("unix", b"1.2.3.4"), "unix"),
            (("10.0.0.1", b"fe80::1%words of a client's"), "10.0.0.1"),
            (("10.0.0.1", b"fe80::1%lo, 10.0.0.2"), "10.0.0.2"),
        )
        for arguments, client in table:
            self.assertEqual(self.client(*arguments), client, arguments)

    def test_nobody_trusted(self) -> None:
        """Without trusted proxies the header means nothing."""
        self.assertEqual(TrustedProxies().client("10.0.0.1", [(b"x-forwarded-for", b"1.2.3.4")]), "10.0.0.1")

    def test_in_the_log(self) -> None:
        """The access log shows the client, not the proxy."""
        listener = Listener(proxies=TrustedProxies(["192.0.2.7"]))
        listener.ask(get("/", "X-Forwarded-For: 1.2.3.4"))
        self.assertEqual(listener.log[0].remote, "1.2.3.4")
