"""The admin listener: what operators can see and do."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass

import claudeproxyd
from claudeproxyd.accounts.keys import RuntimeKeys
from claudeproxyd.accounts.ledger import Ledger
from claudeproxyd.checkup import Checkup, IssuerFinding
from claudeproxyd.config.diagnostics import ConfigError, Problem
from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import ICredentialPool, ILimitStore
from claudeproxyd.leases import Exhausted
from claudeproxyd.observe.access_log import AccessEntry
from claudeproxyd.observe.activity import ClientActivity
from claudeproxyd.observe.status import Status
from claudeproxyd.principals import Principal
from claudeproxyd.web.admin import ENTRIES_PER_TURN, AdminRoot
from claudeproxyd.web.roles import Operator, Role, check_role
from claudeproxyd.web.root import Endpoint
from tests.accounts.support import NOON
from tests.web.support import AdminListener, Connection, Reply, get, post, replies, turns


@implementer(ICredentialPool)
class FakePool:
    """Has one credential, ``p/c``, or as many as it is told to."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.credentials: Sequence[Mapping[str, Any]] = [{"provider": "p", "credential": "c", "state": "ready"}]

    def lease(self, wanted: Any) -> Deferred[Any]:
        raise NotImplementedError

    def ready_in(self, wanted: Any) -> float | None:
        raise NotImplementedError

    def outage(self, routes: Sequence[Any]) -> Exhausted | None:
        raise NotImplementedError

    def snapshot(self) -> Sequence[Mapping[str, Any]]:
        return self.credentials

    def queued(self) -> Sequence[Mapping[str, Any]]:
        return [{"client": "laptop", "requests": 2}]

    def gauges(self) -> Mapping[str, int]:
        return {"waiting": 2}

    def clear(self, provider: str | None, credential: str | None, model: str | None) -> int:
        self.done.append((provider, credential, model))
        return 3

    def is_enabled(self, provider: str, credential: str) -> bool | None:
        return True

    def set_enabled(self, provider: str, credential: str, enabled: bool) -> bool:
        if enabled and credential == "shut":
            raise ValueError(f"{provider}/{credential} is disabled in the configuration")
        self.done.append((provider, credential, enabled))
        return (provider, credential) == ("p", "c")

    def reload(
        self, credentials: Sequence[Any], settings: Any, provider_limits: Mapping[str, int] | None = None
    ) -> None:
        raise NotImplementedError


verifyClass(ICredentialPool, FakePool)


def admin_root(
    ledger: Ledger | None = None,
    limits: ILimitStore | None = None,
    keys: RuntimeKeys | None = None,
    *,
    checkup: Callable[[], Checkup] | None = None,
    issuers: Callable[[], Awaitable[list[IssuerFinding]]] | None = None,
) -> AdminRoot:
    """One with a pool that nobody asks for."""
    activity = ClientActivity({})
    status = Status.begun(NOON)
    return AdminRoot(FakePool(), Deferred, status, activity, ledger, limits, keys, checkup=checkup, issuers=issuers)


NAMED = b'{"provider":"p","credential":"c"}'


class Admin(SynchronousTestCase):
    """Endpoints, guard and key."""

    def setUp(self) -> None:
        self.pool = FakePool()
        self.reloads: list[Deferred[str]] = []
        self.use()

    def use(self, *operators: Operator) -> None:
        """Each operator's key is its name; without any, none is asked for."""
        self.status = Status.begun(NOON)
        self.running = {"laptop": 2}
        self.activity = ClientActivity(self.running)
        root = AdminRoot(self.pool, self.reload, self.status, self.activity)
        self.listener = AdminListener(root, *operators)
        self.clock, self.site = self.listener.clock, self.listener.site

    def reload(self) -> Deferred[str]:
        self.reloads.append(Deferred())
        return self.reloads[-1]

    def ask(self, data: bytes) -> Reply:
        """As many turns of the reactor as it takes."""
        connection = Connection(self.site)
        connection.send(data)
        (reply,) = replies(connection.take() or turns(self.clock, connection)[-1])
        return reply

    def audits(self) -> int:
        return len(self.listener.audit)

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
        """The pool shows its credentials, how many there are, its sizes, and who waits."""
        self.assertEqual(
            self.ask(get("/admin/v1/pool")).json,
            {
                "total": 1,
                "gauges": {"waiting": 2},
                "unserved": [],
                "queue": [{"client": "laptop", "requests": 2}],
                "credentials": [{"provider": "p", "credential": "c", "state": "ready"}],
            },
        )

    def test_part_of_the_pool(self) -> None:
        """One can ask for some of the credentials, across the borders of what is made at once, and beyond the end."""
        self.pool.credentials = [{"credential": str(number)} for number in range(3 * ENTRIES_PER_TURN)]

        def names(query: str) -> list[str]:
            told = self.ask(get(f"/admin/v1/pool{query}")).json
            self.assertEqual(told["total"], 3 * ENTRIES_PER_TURN)
            return [entry["credential"] for entry in told["credentials"]]

        every = [str(number) for number in range(3 * ENTRIES_PER_TURN)]
        self.assertEqual(names(""), every)
        self.assertEqual(names("?limit=0"), [])
        self.assertEqual(names(f"?limit={ENTRIES_PER_TURN}"), every[:ENTRIES_PER_TURN])
        self.assertEqual(names(f"?offset=7&limit={ENTRIES_PER_TURN + 5}"), every[7 : ENTRIES_PER_TURN + 12])
        self.assertEqual(names(f"?offset={3 * ENTRIES_PER_TURN - 1}&limit=9"), every[-1:])
        self.assertEqual(names("?offset=100000"), [])

    def test_bad_parts(self) -> None:
        """What makes no sense is told, and not taken for everything."""
        for query in ("limit=-1", "limit=x", "offset=-1", "limit=1.5", "lmit=1", "limit=%ff"):
            self.assertEqual(self.ask(get("/admin/v1/pool?" + query)).status, 400, query)

    def test_in_turns(self) -> None:
        """A large pool is told over many turns of the reactor, so that requests are served in between."""
        self.pool.credentials = [{"credential": str(number)} for number in range(10 * ENTRIES_PER_TURN)]
        connection = Connection(self.site)
        connection.send(get("/admin/v1/pool"))
        taken = turns(self.clock, connection)
        self.assertGreater(len(taken), 10)
        self.assertEqual(len(Reply(taken[-1]).json["credentials"]), 10 * ENTRIES_PER_TURN)
        connection.send(get("/metrics"))
        self.assertGreater(len(turns(self.clock, connection)), 10)

    def test_who_leaves_meanwhile(self) -> None:
        """Nothing more is made for a client that is gone."""
        connection = Connection(self.site)
        connection.send(get("/admin/v1/pool"))
        connection.lose()
        self.clock.advance(0)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.getTime() <= self.clock.seconds()], [])

    def test_fault_meanwhile(self) -> None:
        """A fault of ours in the middle of it is a 500, and logged."""
        self.pool.credentials = [{"credential": object()}]
        self.assertEqual(self.ask(get("/admin/v1/pool")).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_page(self) -> None:
        """The page for people needs no key, and may run and fetch nothing but its own."""
        self.use(Operator("k", role=Role.OPERATE))
        for path in ("/admin", "/admin/"):
            reply = self.ask(get(path))
            self.assertEqual((reply.status, reply.headers[b"content-type"]), (200, b"text/html; charset=utf-8"))
        policy = reply.headers[b"content-security-policy"].decode()
        self.assertEqual(re.findall(rb"<script [^>]*>|<link rel=.stylesheet.[^>]*>", reply.body), [])
        for tag in ("script", "style"):
            pieces = re.findall(f"<{tag}>(.*?)</{tag}>", reply.body.decode(), re.DOTALL)
            hashes = [b64encode(hashlib.sha256(piece.encode()).digest()).decode() for piece in pieces]
            self.assertIn(f"{tag}-src " + " ".join(f"'sha256-{each}'" for each in hashes) + ";", policy)
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(re.findall(rb"https?://|\son[a-z]+=|\sstyle=", reply.body), [])

    def test_status(self) -> None:
        """Version, age, and the last reload: well or not, and why."""
        told = self.ask(get("/admin/v1/status")).json
        self.assertEqual((told["version"], told["started_at"], told["ready"]), (claudeproxyd.__version__, NOON, True))
        self.assertEqual(told["reload"], {"at": NOON, "successful": True, "mistake": "", "changes": ""})
        self.status.not_reloaded('f.toml:3: server.drian: did you mean "drain"?', NOON + 5)
        told = self.ask(get("/admin/v1/status")).json["reload"]
        self.assertEqual((told["at"], told["successful"]), (NOON + 5, False))
        self.assertIn("f.toml:3", told["mistake"])

    def test_clients(self) -> None:
        """Who has requests under way and what each was answered lately; who is none, from where and why."""
        for fields in (
            {"client": "desk", "status": 429, "outcome": "refused", "refusal": "client_limit"},
            {"client": "desk", "status": 429, "outcome": "refused", "refusal": "client_limit"},
            {"client": "laptop", "status": 200, "outcome": "ok"},
            {
                "remote": "192.0.2.9",
                "status": 401,
                "refusal": "unknown_key",
                "error": "unknown client key, SHA-256 abc…",
            },
        ):
            self.activity.counting(lambda entry: None)(
                AccessEntry(time=NOON, request_id="r", path="/v1/messages", **fields)
            )
        told = self.ask(get("/admin/v1/clients")).json
        self.assertEqual(
            told,
            {
                "minutes": 5,
                "clients": [
                    {
                        "client": "desk",
                        "in_flight": 0,
                        "answers": [{"status": 429, "outcome": "refused", "refusal": "client_limit", "requests": 2}],
                    },
                    {
                        "client": "laptop",
                        "in_flight": 2,
                        "answers": [{"status": 200, "outcome": "ok", "refusal": "", "requests": 1}],
                    },
                ],
                "strangers": [
                    {
                        "remote": "192.0.2.9",
                        "status": 401,
                        "refusal": "unknown_key",
                        "error": "unknown client key, SHA-256 abc…",
                        "requests": 1,
                    }
                ],
            },
        )
        for query in ("minutes=0", "minutes=16", "minute=1", "minutes=x"):
            self.assertEqual(self.ask(get("/admin/v1/clients?" + query)).status, 400, query)

    def test_front(self) -> None:
        """The address that the daemon prints, cut to its host, leads to the page; it needs no key for that."""
        self.use(Operator("k", role=Role.OPERATE))
        reply = self.ask(get("/"))
        self.assertEqual((reply.status, reply.headers[b"location"]), (302, b"/admin/"))
        self.assertEqual(self.ask(get("/", method="HEAD")).status, 302)

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

    def test_switch_what_is_shut(self) -> None:
        """One that the configuration has disabled is not brought back here, and it is said where it is."""
        reply = self.ask(post("/admin/v1/pool/enable", NAMED.replace(b'"c"', b'"shut"')))
        self.assertEqual((reply.status, reply.json["error"]["type"]), (409, "conflict_error"))
        self.assertIn("disabled in the configuration", reply.json["error"]["message"])
        self.assertEqual(self.audits(), 0)

    def test_bad_bodies(self) -> None:
        """A misspelt member clears nothing by mistake."""
        for path in ("clear", "disable", "enable"):
            for body in (b'{"provder":"p"}', b"[]", b"{", b'{"provider":1}', b"\xff"):
                reply = self.ask(post(f"/admin/v1/pool/{path}", body))
                self.assertEqual((reply.status, reply.json["error"]["type"]), (400, "invalid_request_error"))
        self.assertEqual(self.pool.done, [])

    def test_reload(self) -> None:
        """A reload is answered when it is done, with what changed."""
        connection = Connection(self.site)
        connection.send(post("/admin/v1/reload", b""))
        self.assertEqual(connection.take(), b"")
        self.reloads[0].callback("settings changed: clients")
        reply = Reply(connection.take())
        self.assertEqual((reply.status, reply.json["changes"]), (200, "settings changed: clients"))
        self.assertEqual(self.audits(), 1)

    def test_reload_with_mistakes(self) -> None:
        """Or with what is wrong, and where."""
        connection = Connection(self.site)
        connection.send(post("/admin/v1/reload", b""))
        self.reloads[0].errback(ConfigError([Problem("f.toml", "server.drain", "must be a number")]))
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
        for result in ("changed", ConfigError([]), ZeroDivisionError()):
            connection = Connection(self.site)
            connection.send(post("/admin/v1/reload", b""))
            connection.lose()
            self.reloads[-1].callback(result) if isinstance(result, str) else self.reloads[-1].errback(result)
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_guard(self) -> None:
        """No web page reaches it, key or not."""
        self.assertEqual(self.ask(post("/admin/v1/reload", b"", "Origin: https://evil.example")).status, 403)
        self.assertEqual(self.ask(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").status, 403)
        self.assertEqual(self.ask(post("/admin/v1/pool/clear", b"{}", "Content-Type: text/plain")).status, 415)
        self.assertEqual(self.ask(post("/admin/v1/reload", b"", "Sec-Fetch-Site: cross-site")).status, 403)
        self.assertEqual((self.reloads, self.pool.done), ([], []))

    def test_acts_are_json(self) -> None:
        """No form can act, not even one without a body: its type has to be one that forms do not send."""
        for path in ("reload", "pool/clear"):
            bare = f"POST /admin/v1/{path} HTTP/1.1\r\nHost: localhost\r\n".encode()
            for kind in (b"", b"Content-Length: 0\r\n", b"Content-Type: text/plain\r\nContent-Length: 0\r\n"):
                self.assertEqual(self.ask(bare + kind + b"\r\n").status, 415)
        self.assertEqual((self.reloads, self.pool.done), ([], []))

    def test_secrets_of_earlier_days(self) -> None:
        """A reason from a store that was not masked when it was written is masked here."""
        key = "sk-ant-api03-AbCdEf_123-x"
        self.pool.credentials = [{"provider": "p", "credential": "c", "last_failure": {"reason": f"bad key {key}"}}]
        self.patch(self.pool, "queued", lambda: [{"client": "laptop", "routes": [key]}])
        told = self.ask(get("/admin/v1/pool")).json
        self.assertEqual(told["credentials"][0]["last_failure"], {"reason": "bad key ***"})
        self.assertEqual(told["queue"][0]["routes"], ["***"])

    def test_own_page(self) -> None:
        """But our own does, which bears our own origin: over TLS too; another port is another origin."""
        for origin, status in (
            ("http://localhost", 200),
            ("https://localhost", 200),
            ("http://localhost:1", 403),
            ("http://localhost.evil.example", 403),
            ("null", 403),
            ("localhost", 403),
        ):
            self.assertEqual(self.ask(post("/admin/v1/pool/clear", b"{}", f"Origin: {origin}")).status, status, origin)
        rebound = b"POST /admin/v1/pool/clear HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n"
        self.assertEqual(self.ask(rebound).status, 403)

    def test_key(self) -> None:
        """With an admin key everything but the probes asks for it."""
        self.use(Operator("k", role=Role.OPERATE))
        for path in ("/metrics", "/admin/v1/pool"):
            self.assertEqual(self.ask(get(path)).status, 401)
            self.assertEqual(self.ask(get(path, "Authorization: Bearer k")).status, 200)
        self.assertEqual(self.ask(get("/healthz")).status, 200)


class NoCredentials:
    """Finds none."""

    async def findings(self, provider: str, credential: str) -> list[Any]:
        return []


class Roles(SynchronousTestCase):
    """What each operator may do."""

    GETS = (
        "/metrics",
        *(
            f"/admin/v1/{name}"
            for name in ("operator", "pool", "keys", "usage", "labels", "requests", "limits", "status", "clients")
        ),
    )
    ACTS = (
        *(
            ("POST", f"/admin/v1/{path}")
            for path in ("reload", "pool/check", "pool/clear", "pool/disable", "pool/enable", "keys")
        ),
        ("POST", "/admin/v1/keys/ann/rotate"),
        ("DELETE", "/admin/v1/keys/ann"),
    )

    def setUp(self) -> None:
        operators = [Operator(role.name, role=role) for role in Role]
        self.pool = FakePool()
        checkup: Any = NoCredentials
        self.root = admin_root(checkup=checkup)
        self.listener = AdminListener(self.root, *operators)

    def ask(self, method: str, path: str, role: Role | None) -> Reply:
        key = () if role is None else (f"x-api-key: {role.name}",)
        return self.listener.ask(get(path, "Content-Type: application/json", *key, method=method))

    def may(self, role: Role) -> set[str]:
        """What is not refused for the role's sake; that it is not there, or makes no sense, is another matter."""
        asked = [*(("GET", path) for path in self.GETS), *(each for each in self.ACTS if each[1] != "/admin/v1/reload")]
        return {f"{method} {path}" for method, path in asked if self.ask(method, path, role).status not in (401, 403)}

    def test_roles(self) -> None:
        """Each may what those before it may: scrape, see, act."""
        gets = {f"GET {path}" for path in self.GETS}
        acts = {f"{method} {path}" for method, path in self.ACTS} - {"POST /admin/v1/reload"}
        self.assertEqual(self.may(Role.MINT), {"GET /admin/v1/operator"})
        self.assertEqual(self.may(Role.METRICS), {"GET /admin/v1/operator", "GET /metrics"})
        self.assertEqual(self.may(Role.READ), gets)
        self.assertEqual(self.may(Role.OPERATE), gets | acts)

    def test_every_endpoint_is_in_here(self) -> None:
        """An endpoint that is new is looked at, too."""

        def paths(resource: Any, at: str) -> Any:
            for name, child in resource.children.items():
                path = f"{at}/{name.decode()}"
                if isinstance(child, Endpoint) and not child.is_open and child.allowedMethods:
                    yield path
                if name:  # /admin/ is /admin's own child
                    yield from paths(child, path)

        looked_at = {*self.GETS, *(path for _, path in self.ACTS)}
        self.assertEqual(set(paths(self.root, "")) - looked_at, set())

    def test_words(self) -> None:
        """The refusal names the role that is needed, and is not to be tried again."""
        for method, path, role, needed in (
            ("GET", "/admin/v1/pool", Role.METRICS, "read"),
            ("HEAD", "/admin/v1/pool", Role.METRICS, "read"),
            ("POST", "/admin/v1/reload", Role.METRICS, "operate"),
            ("POST", "/admin/v1/reload", Role.READ, "operate"),
        ):
            reply = self.ask(method, path, role)
            self.assertEqual((reply.status, reply.headers[b"x-should-retry"]), (403, b"false"))
            if method != "HEAD":
                self.assertEqual(reply.json["error"]["message"], f'This needs an operator with the role "{needed}"')

    def test_probes(self) -> None:
        """Probes and the page ask for no key, and no role."""
        for path in ("/healthz", "/readyz", "/admin/"):
            self.assertEqual(self.ask("GET", path, None).status, 200)

    def test_clients_are_no_operators(self) -> None:
        """Whoever is let in without being an operator may nothing."""
        error = self.assertRaises(ClaudeError, check_role, Principal("laptop"), b"GET", Role.METRICS)
        self.assertEqual(error.status, 403)

    def test_refusals_are_written_down(self) -> None:
        """Who tried what, and was not let: without a key, by a wrong one, beyond a role, from another site's page."""
        self.ask("GET", "/admin/v1/pool", None)
        self.listener.ask(post("/admin/v1/reload", b"", "x-api-key: wrong-key"))
        self.ask("POST", "/admin/v1/reload", Role.READ)
        self.listener.ask(post("/admin/v1/reload", b"", "x-api-key: OPERATE", "Origin: https://evil.example"))
        self.ask("GET", "/admin/v1/nothing", None)
        told = [(each.operator, each.action, each.error.split(",")[0]) for each in self.listener.audit]
        self.assertEqual(
            told,
            [
                ("", "GET /admin/v1/pool", "x-api-key or a bearer token is required"),
                ("", "POST /admin/v1/reload", "unknown client key"),
                ("READ", "POST /admin/v1/reload", 'This needs an operator with the role "operate"'),
                ("", "POST /admin/v1/reload", "This origin is not among server.cors_origins"),
            ],
        )
        self.assertNotIn("wrong-key", str(self.listener.audit))

    def test_before_and_after(self) -> None:
        """What was done says what there was before."""
        self.listener.ask(post("/admin/v1/pool/disable", NAMED, "x-api-key: OPERATE"))
        self.listener.ask(post("/admin/v1/pool/clear", b'{"provider":"p"}', "x-api-key: OPERATE"))
        told = [(each.operator, each.action, each.before, each.after) for each in self.listener.audit]
        self.assertEqual(
            told,
            [
                ("OPERATE", "pool.disable", {"enabled": True}, {"enabled": False}),
                ("OPERATE", "pool.clear", {"cooldowns": 3}, {"cooldowns": 0}),
            ],
        )


class Gathered(SynchronousTestCase):
    """What other processes know is told, too: it is waited for."""

    def setUp(self) -> None:
        self.asked: list[tuple[str, object]] = []
        self.gathered: list[Deferred[None]] = []
        self.pool = FakePool()
        root = AdminRoot(self.pool, Deferred, Status.begun(NOON), ClientActivity({}), gather=self.gather)
        self.listener = AdminListener(root)

    def gather(self, what: str, body: object) -> Deferred[None]:
        self.asked.append((what, body))
        self.gathered.append(Deferred())
        return self.gathered[-1]

    def ask(self, data: bytes) -> Connection:
        connection = Connection(self.listener.site)
        connection.send(data)
        self.assertEqual(connection.take(), b"")
        return connection

    def reply(self, connection: Connection) -> Reply:
        self.gathered.pop().callback(None)
        (reply,) = replies(connection.take() or turns(self.listener.clock, connection)[-1])
        return reply

    def test_waited_for(self) -> None:
        """Metrics, pool and clients are answered when all have answered; an action when all have heard of it."""
        for data, what in (
            (get("/metrics"), ("metrics", None)),
            (get("/admin/v1/pool"), ("pool", None)),
            (get("/admin/v1/clients?minutes=3"), ("clients", 3)),
            (post("/admin/v1/pool/clear", b"{}"), ("heard", None)),
            (post("/admin/v1/pool/disable", NAMED), ("heard", None)),
        ):
            self.assertEqual(self.reply(self.ask(data)).status, 200)
            self.assertEqual(self.asked.pop(), what)

    def test_operator_leaves(self) -> None:
        """Who has left by then is told nothing."""
        for path in ("/metrics", "/admin/v1/pool", "/admin/v1/clients"):
            self.ask(get(path)).lose()
            self.gathered.pop().callback(None)

    def test_fault(self) -> None:
        """A fault of ours is a 500, and logged."""
        connection = self.ask(get("/admin/v1/pool"))
        self.gathered.pop().errback(ValueError("a fault"))
        (reply,) = replies(connection.take())
        self.assertEqual(reply.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
