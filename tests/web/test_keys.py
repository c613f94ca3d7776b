"""Keys on the admin listener, and whom they let in on the public one."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts.keys import POLL_INTERVAL, RuntimeKeys
from claudeproxyd.errors import ClaudeError
from claudeproxyd.principals import Principal
from claudeproxyd.web.access import Authenticators, KeyAuthenticator, OpenUntilMinted
from tests.accounts.support import NOON
from tests.accounts.test_ledger import Thread
from tests.web.support import AdminListener, Connection, Listener, Reply, get, post, replies, sha256
from tests.web.test_admin import admin_root


def delete(path: str, *headers: str) -> bytes:
    """A DELETE as curl sends it."""
    return get(path, *headers, method="DELETE")


class KeysTestCase(SynchronousTestCase):
    """With keys on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.thread = Thread()
        self.keys = self.with_database(self.mktemp() + "/a.db")
        self.use(self.keys)

    def with_database(self, path: str) -> RuntimeKeys:
        keys = RuntimeKeys(path, self.clock, lambda: NOON + self.clock.seconds(), self.thread)
        keys.startService()
        self.addCleanup(keys.stopService)
        return keys

    def use(self, keys: RuntimeKeys | None) -> None:
        self.admin = AdminListener(admin_root(keys=keys))

    def mint(self, name: str = "ann", **more: Any) -> str:
        reply = self.admin.ask(post("/admin/v1/keys", json.dumps({"name": name, **more}).encode()))
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(set(reply.json), {"name", "key"})
        key: str = reply.json["key"]
        return key

    def listed(self) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = self.admin.ask(get("/admin/v1/keys")).json["keys"]
        return keys

    def refused(self, data: bytes) -> tuple[int, str]:
        reply = self.admin.ask(data)
        return reply.status, reply.json["error"]["message"]


class KeyPages(KeysTestCase):
    """Mint, list, rotate, revoke."""

    def test_mint_and_list(self) -> None:
        """The list has all that was said of a key, and its secret nowhere."""
        key = self.mint(labels={"team": "ads"}, models=["claude-*"], expires_in=60, max_concurrency=2)
        reply = self.admin.ask(get("/admin/v1/keys"))
        self.assertNotIn(key.encode(), reply.body)
        (entry,) = reply.json["keys"]
        self.assertEqual(
            entry,
            {
                "name": "ann",
                "source": "minted",
                "state": "active",
                "labels": {"team": "ads"},
                "models": ["claude-*"],
                "max_concurrency": 2,
                "created": NOON,
                "expires": NOON + 60,
                "revoked": None,
                "last_used": None,
                "secrets": [
                    {"digest": sha256(key)[:12], "created": NOON, "expires": None, "last_used": None},
                ],
            },
        )

    def test_empty_and_long_lists(self) -> None:
        """A list of none, and ones across the borders of what is written at once."""
        self.assertEqual(self.listed(), [])
        for count in (1, 49, 50, 51, 100, 120):
            self.keys.configure([Principal(f"c{number}") for number in range(count)], is_open=False)
            self.assertEqual([each["name"] for each in self.listed()], [f"c{number}" for number in range(count)])

    def test_told_once(self) -> None:
        """No cache keeps the answer that has the secret."""
        reply = self.admin.ask(post("/admin/v1/keys", b'{"name":"ann"}'))
        self.assertEqual(reply.headers[b"cache-control"], b"no-store")

    def test_rotate(self) -> None:
        """Another secret beside the one before, for as long as is said, or an hour."""
        before = self.mint()
        for body, overlap in ((b"", 3600), (b'{"overlap":5}', 5)):
            reply = self.admin.ask(post("/admin/v1/keys/ann/rotate", body))
            self.assertEqual((reply.status, reply.json["name"]), (200, "ann"))
            self.assertNotEqual(reply.json["key"], before)
            self.assertEqual({each["expires"] for each in self.listed()[0]["secrets"][1:]}, {NOON + overlap})
        self.assertEqual(len(self.listed()[0]["secrets"]), 3)

    def test_revoke(self) -> None:
        """Its name stays in the list; a second time there is none."""
        self.mint()
        self.assertEqual(self.admin.ask(delete("/admin/v1/keys/ann")).json, {"name": "ann", "revoked": True})
        self.assertEqual([each["state"] for each in self.listed()], ["revoked"])
        self.assertEqual(self.refused(delete("/admin/v1/keys/ann"))[0], 404)
        self.assertEqual(self.refused(post("/admin/v1/keys/ann/rotate", b""))[0], 404)

    def test_names_in_paths(self) -> None:
        """Names of any letters are found by their URL."""
        name = "Jürgen & co. +1?"
        self.mint(name)
        reply = self.admin.ask(delete("/admin/v1/keys/J%C3%BCrgen%20%26%20co.%20+1%3F"))
        self.assertEqual(reply.json["name"], name)

    def test_other_paths(self) -> None:
        """What is not there is not found."""
        for path in ("/admin/v1/keys/", "/admin/v1/keys/ann/", "/admin/v1/keys/ann/x", "/admin/v1/keys/ann/rotate/x"):
            self.assertEqual(self.refused(delete(path))[0], 404, path)
        self.assertEqual(self.refused(get("/admin/v1/keys/ann"))[0], 405)

    def test_taken(self) -> None:
        """A name that a key or the configuration has is a conflict, and it is said what to do."""
        self.mint()
        status, words = self.refused(post("/admin/v1/keys", b'{"name":"ann"}'))
        self.assertEqual((status, "rotate or revoke" in words), (409, True))
        self.keys.configure([Principal("bob")], is_open=False)
        for data in (
            post("/admin/v1/keys", b'{"name":"bob"}'),
            delete("/admin/v1/keys/bob"),
            post("/admin/v1/keys/bob/rotate", b""),
        ):
            status, words = self.refused(data)
            self.assertEqual((status, "in the configuration" in words), (409, True))

    def test_open(self) -> None:
        """Where anybody may call by the operator's word, a key would end that: it is not minted."""
        self.keys.configure([], is_open=True)
        status, words = self.refused(post("/admin/v1/keys", b'{"name":"ann"}'))
        self.assertEqual((status, "server.open" in words), (409, True))

    def test_bad_bodies(self) -> None:
        """What makes no sense is told, and mints nothing."""
        for body in (
            {},
            {"name": ""},
            {"name": "x" * 101},
            {"name": "a/b"},
            {"name": ".."},
            {"name": "a\nb"},
            {"name": "sk-ant-api03-AbCdEf_123-x"},
            {"name": "ann", "labels": {"team": "cpxd-0123456789abcdef0123"}},
            {"name": "ann", "labels": {"team": 1}},
            {"name": "ann", "labels": {"": "x"}},
            {"name": "ann", "models": "claude-*"},
            {"name": "ann", "models": ["{a,b}"]},
            {"name": "ann", "expires_in": 0},
            {"name": "ann", "expires_in": 1e300},
            {"name": "ann", "max_concurrency": -1},
            {"name": "ann", "key": "mine"},
        ):
            self.assertEqual(self.refused(post("/admin/v1/keys", json.dumps(body).encode()))[0], 400, body)
        self.mint()
        for text in (b'{"overlap":-1}', b'{"overlap":"x"}', b'{"x":1}', b"["):
            self.assertEqual(self.refused(post("/admin/v1/keys/ann/rotate", text))[0], 400, text)
        self.assertEqual(len(self.admin.audit), 1)

    def test_without_a_database(self) -> None:
        """There are none then, and it is said why."""
        self.use(None)
        for data in (
            get("/admin/v1/keys"),
            post("/admin/v1/keys", b'{"name":"ann"}'),
            delete("/admin/v1/keys/ann"),
            post("/admin/v1/keys/ann/rotate", b""),
        ):
            status, words = self.refused(data)
            self.assertEqual((status, "accounts.database" in words), (404, True))

    def test_database_away(self) -> None:
        """Nothing is done then, and it is said."""
        self.mint()
        self.patch(self.keys, "_in_thread", lambda *_: Deferred())
        waiting: list[Deferred[Any]] = []

        def in_thread(*_: object) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        self.patch(self.keys, "_in_thread", in_thread)
        for data in (post("/admin/v1/keys", b'{"name":"bob"}'), delete("/admin/v1/keys/ann")):
            connection = Connection(self.admin.site)
            connection.send(data)
            waiting[-1].errback(OSError("disk full"))
            (reply,) = replies(connection.take())
            self.assertEqual((reply.status, "the log says why" in reply.json["error"]["message"]), (503, True))
        connection = Connection(self.admin.site)
        connection.send(delete("/admin/v1/keys/ann"))
        connection.lose()
        waiting[-1].errback(OSError("disk full"))
        self.assertEqual(len(self.admin.audit), 1)

    def test_pages_of_others(self) -> None:
        """No web page mints or revokes, be it from another site or by a form."""
        self.mint()
        cross = ("Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
        for data in (
            delete("/admin/v1/keys/ann", *cross),
            delete("/admin/v1/keys/ann", cross[0]),
            delete("/admin/v1/keys/ann", cross[1]),
            post("/admin/v1/keys", b'{"name":"eve"}', *cross),
        ):
            self.assertEqual(self.refused(data)[0], 403)
        self.assertEqual(self.refused(post("/admin/v1/keys", b'{"name":"eve"}', "Content-Type: text/plain"))[0], 415)
        self.assertEqual([each["state"] for each in self.listed()], ["active"])

    def test_audit(self) -> None:
        """Who did what, what there was and what there is; and no key."""
        keys = [self.mint(labels={"team": "ads"})]
        keys.append(self.admin.ask(post("/admin/v1/keys/ann/rotate", b'{"overlap":7}')).json["key"])
        self.admin.ask(delete("/admin/v1/keys/ann"))
        minted, rotated, revoked = self.admin.audit
        self.assertEqual([each.action for each in self.admin.audit], ["key.mint", "key.rotate", "key.revoke"])
        self.assertEqual(
            {(each.operator, each.address, each.target) for each in self.admin.audit},
            {("operator", "192.0.2.7", "ann")},
        )
        self.assertEqual((minted.before, revoked.after), (None, None))
        self.assertEqual(minted.after, revoked.before)
        self.assertEqual(minted.after["labels"], {"team": "ads"})  # type: ignore[index]
        shown = [sha256(key)[:12] for key in keys]
        self.assertEqual(
            (rotated.before, rotated.after),
            (
                {"secrets": shown[:1]},
                {"secrets": shown[::-1], "overlap": 7.0},
            ),
        )
        self.assertTrue(all(each.request_id.startswith("req_") for each in self.admin.audit))
        for key in keys:
            self.assertNotIn(key, str(self.admin.audit))


class Callers(KeysTestCase):
    """Who is let in where keys are minted."""

    def public(self, keys: RuntimeKeys, *configured: Principal) -> Listener:
        authenticator = KeyAuthenticator({sha256(each.name): each for each in configured}, keys)
        return Listener(authenticator=authenticator if configured else OpenUntilMinted(keys))

    def call(self, listener: Listener, *headers: str) -> Reply:
        return listener.ask(get("/v1/models", *headers))

    def test_minted_beside_files(self) -> None:
        """Either is let in, and nobody else."""
        listener = self.public(self.keys, Principal("file-key"))
        key = self.mint()
        for shown in (key, "file-key"):
            self.assertEqual(self.call(listener, f"x-api-key: {shown}").status, 200)
            self.assertEqual(self.call(listener, f"Authorization: Bearer {shown}").status, 200)
        self.assertEqual([entry.client for entry in listener.log], ["ann", "ann", "file-key", "file-key"])
        for headers in ((), ("x-api-key: wrong",)):
            self.assertEqual(self.call(listener, *headers).status, 401)

    def test_file_s_digest_wins(self) -> None:
        """A secret that the configuration has is that client's, whoever has it in the database."""
        key = self.mint()
        listener = Listener(authenticator=KeyAuthenticator({sha256(key): Principal("file")}, self.keys))
        self.assertEqual(self.call(listener, f"x-api-key: {key}").status, 200)
        self.assertEqual(listener.log[0].client, "file")

    def test_expired_beside_good(self) -> None:
        """Of two keys the good one is enough, in whichever header; an expired one alone is told so."""
        listener = self.public(self.keys, Principal("file-key"))
        old = self.mint()
        new = self.admin.ask(post("/admin/v1/keys/ann/rotate", b'{"overlap":1}')).json["key"]
        self.clock.advance(1)
        for good in (new, "file-key"):
            for headers in (
                (f"x-api-key: {old}", f"Authorization: Bearer {good}"),
                (f"Authorization: Bearer {good}", f"x-api-key: {old}"),
            ):
                self.assertEqual(self.call(listener, *headers).status, 200)
        reply = self.call(listener, f"x-api-key: {old}")
        self.assertEqual((reply.status, reply.headers[b"x-should-retry"]), (401, b"false"))
        self.assertIn("expired", reply.json["error"]["message"])

    def test_open_until_the_first(self) -> None:
        """Where everybody may call, nobody may without a key from the first key on; not when it is gone either."""
        listener = self.public(self.keys)
        self.assertEqual(self.call(listener).status, 200)
        key = self.mint()
        self.assertEqual(self.call(listener).status, 401)
        self.assertEqual(self.call(listener, f"x-api-key: {key}").status, 200)
        self.admin.ask(delete("/admin/v1/keys/ann"))
        for headers in ((), (f"x-api-key: {key}",)):
            self.assertEqual(self.call(listener, *headers).status, 401)

    def test_unreadable(self) -> None:
        """While it is not known which keys there are, nobody is let in by one, and nobody without one: a 503."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"damaged" * 1000)
        keys = self.with_database(path)
        listener = self.public(keys)
        for headers in ((), ("x-api-key: cpxd-1",)):
            self.assertEqual(self.call(listener, *headers).status, 503)
        listener = self.public(keys, Principal("file-key"))
        self.assertEqual(self.call(listener, "x-api-key: file-key").status, 200)
        self.assertEqual(self.call(listener, "x-api-key: cpxd-1").status, 503)
        self.assertEqual(self.call(listener).status, 401)

    def test_unread(self) -> None:
        """Neither is anybody before they were read at all."""
        self.thread.at_once = False
        keys = self.with_database(self.mktemp() + "/b.db")
        listener = self.public(keys)
        self.assertEqual((self.call(listener).status, keys.settled), (503, False))
        self.thread.run()
        self.assertEqual((self.call(listener).status, keys.settled), (200, True))
        self.thread.at_once = True

    def test_revoked_elsewhere(self) -> None:
        """A key that another daemon revokes lets in nobody within a second, on a connection that stays too."""
        path = self.mktemp() + "/c.db"
        one, other = self.with_database(path), self.with_database(path)
        key = self.successResultOf(one.mint(Principal("ann"))).secret
        self.clock.advance(POLL_INTERVAL)
        connection = self.public(other).connect()
        self.assertEqual(connection.ask(get("/v1/models", f"x-api-key: {key}")).status, 200)
        self.successResultOf(one.revoke("ann"))
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(connection.ask(get("/v1/models", f"x-api-key: {key}")).status, 401)

    def test_beside_plugins(self) -> None:
        """Who cannot tell is passed over: another may know who calls. That it could not is told, if none does."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"damaged" * 1000)
        unread = KeyAuthenticator({}, self.with_database(path))
        known = KeyAuthenticator({sha256("k"): Principal("of a plugin")})
        for order in ([unread, known], [known, unread]):
            both = Authenticators(order)
            self.assertEqual(both.authenticate([(b"x-api-key", b"k")]).name, "of a plugin")
            error = self.assertRaises(ClaudeError, both.authenticate, [(b"x-api-key", b"x")])
            self.assertEqual(error.status, 503)

    def test_no_text(self) -> None:
        """A plugin's principal whose name or labels nobody could write down is a fault of the plugin's."""
        half = b"\xff".decode("utf-8", "surrogateescape")
        for principal in (Principal(half), Principal("a", {"team": half}), Principal("a", {half: "b"})):
            plugin = Authenticators([KeyAuthenticator({sha256("k"): principal})])
            error = self.assertRaises(ClaudeError, plugin.authenticate, [(b"x-api-key", b"k")])
            self.assertEqual((error.status, len(self.flushLoggedErrors(UnicodeEncodeError))), (500, 1))
