"""The admin listener: what operators can see and do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.config.mistakes import ConfigError, Mistake
from claudeproxyd.interfaces import ICredentialPool
from claudeproxyd.web.access import BrowserGuard, KeyAuthenticator, Principal
from claudeproxyd.web.admin import AdminRoot
from claudeproxyd.web.site import GatewaySite
from tests.web.support import Connection, Listener, Reply, get, post, sha256


@implementer(ICredentialPool)
class FakePool:
    """Has one credential, ``p/c``."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def lease(self, wanted: Any) -> Deferred[Any]:
        raise NotImplementedError

    def ready_in(self, wanted: Any) -> float | None:
        raise NotImplementedError

    def snapshot(self) -> Sequence[Mapping[str, Any]]:
        return [{"provider": "p", "credential": "c", "state": "ready"}]

    def clear(self, provider: str | None, credential: str | None, model: str | None) -> int:
        self.done.append((provider, credential, model))
        return 3

    def set_enabled(self, provider: str, credential: str, enabled: bool) -> bool:
        self.done.append((provider, credential, enabled))
        return (provider, credential) == ("p", "c")

    def reload(self, credentials: Sequence[Any], settings: Any) -> None:
        raise NotImplementedError


verifyClass(ICredentialPool, FakePool)

NAMED = b'{"provider":"p","credential":"c"}'


class Admin(SynchronousTestCase):
    """Endpoints, guard and key."""

    def setUp(self) -> None:
        self.pool = FakePool()
        self.reloads: list[Deferred[None]] = []
        self.listener = Listener(guard=BrowserGuard(check_host=True, check_origin=True))
        self.use(self.listener)
        self.events = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)

    def use(self, listener: Listener) -> None:
        self.site = GatewaySite(AdminRoot(self.pool, self.reload), listener.site.gateway, listener.clock)

    def reload(self) -> Deferred[None]:
        self.reloads.append(Deferred())
        return self.reloads[-1]

    def ask(self, data: bytes) -> Reply:
        return Connection(self.site).ask(data)

    def audits(self) -> int:
        return sum("audit" in str(event.get("log_format")) for event in self.events)

    def test_metrics(self) -> None:
        """Prometheus gets its text."""
        reply = self.ask(get("/metrics"))
        self.assertEqual((reply.status, reply.headers[b"content-type"][:25]), (200, b"text/plain; version=0.0.4"))
        self.assertIn(b"# TYPE claudeproxyd_requests_total counter", reply.body)

    def test_probes(self) -> None:
        """The probes answer here too, and the messages do not."""
        self.assertEqual(self.ask(get("/healthz")).status, 200)
        self.assertEqual(self.ask(get("/readyz")).status, 200)
        self.assertEqual(self.ask(post()).status, 404)

    def test_pool(self) -> None:
        """The pool shows its credentials."""
        self.assertEqual(self.ask(get("/admin/v1/pool")).json["credentials"][0]["credential"], "c")

    def test_clear(self) -> None:
        """Cooldowns end, all or some, with an audit line."""
        self.assertEqual(self.ask(post("/admin/v1/pool/clear", b'{"provider":"p"}')).json, {"cleared": 3})
        self.assertEqual(self.ask(post("/admin/v1/pool/clear", b"")).status, 200)
        self.assertEqual(self.pool.done, [("p", None, None), (None, None, None)])
        self.assertEqual(self.audits(), 2)

    def test_switch(self) -> None:
        """A credential goes out of service and back, with an audit line; one that is not there is a 404."""
        self.assertEqual(self.ask(post("/admin/v1/pool/disable", NAMED)).json["enabled"], False)
        self.assertEqual(self.ask(post("/admin/v1/pool/enable", NAMED)).json["enabled"], True)
        self.assertEqual(self.audits(), 2)
        self.assertEqual(self.ask(post("/admin/v1/pool/enable", NAMED.replace(b'"c"', b'"d"'))).status, 404)

    def test_bad_bodies(self) -> None:
        """A misspelt member clears nothing by mistake."""
        for path in ("clear", "disable", "enable"):
            for body in (b'{"provder":"p"}', b"[]", b"{", b'{"provider":1}', b"\xff"):
                reply = self.ask(post(f"/admin/v1/pool/{path}", body))
                self.assertEqual((reply.status, reply.json["error"]["type"]), (400, "invalid_request_error"))
        self.assertEqual(self.pool.done, [])

    def test_reload(self) -> None:
        """A reload is answered when it is done."""
        connection = Connection(self.site)
        connection.send(post("/admin/v1/reload", b""))
        self.assertEqual(connection.take(), b"")
        self.reloads[0].callback(None)
        self.assertEqual(Reply(connection.take()).status, 200)
        self.assertEqual(self.audits(), 1)

    def test_reload_with_mistakes(self) -> None:
        """Or with what is wrong, and where."""
        connection = Connection(self.site)
        connection.send(post("/admin/v1/reload", b""))
        self.reloads[0].errback(ConfigError([Mistake("f.toml", "server.drain", "must be a number")]))
        reply = Reply(connection.take())
        self.assertEqual((reply.status, "server.drain" in reply.json["error"]["message"]), (400, True))

    def test_reload_with_a_fault(self) -> None:
        """A fault of ours is a 500, and logged."""
        connection = Connection(self.site)
        connection.send(post("/admin/v1/reload", b""))
        self.reloads[0].errback(ZeroDivisionError())
        self.assertEqual(Reply(connection.take()).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_reload_without_a_listener(self) -> None:
        """An operator who left meanwhile does no harm."""
        for result in (None, ConfigError([]), ZeroDivisionError()):
            connection = Connection(self.site)
            connection.send(post("/admin/v1/reload", b""))
            connection.lose()
            self.reloads[-1].callback(result) if result is None else self.reloads[-1].errback(result)
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_guard(self) -> None:
        """No web page reaches it, key or not."""
        self.assertEqual(self.ask(post("/admin/v1/reload", b"", "Origin: https://evil.example")).status, 403)
        self.assertEqual(self.ask(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").status, 403)
        self.assertEqual(self.ask(post("/admin/v1/pool/clear", b"{}", "Content-Type: text/plain")).status, 415)
        self.assertEqual(self.reloads, [])

    def test_key(self) -> None:
        """With an admin key everything but the probes asks for it."""
        self.use(Listener(authenticator=KeyAuthenticator({sha256("k"): Principal("admin")})))
        for path in ("/metrics", "/admin/v1/pool"):
            self.assertEqual(self.ask(get(path)).status, 401)
            self.assertEqual(self.ask(get(path, "Authorization: Bearer k")).status, 200)
        self.assertEqual(self.ask(get("/healthz")).status, 200)
