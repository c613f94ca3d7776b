"""The daemon of one worker, on a reactor in memory: what it serves, and what it does at its parent's word."""

from __future__ import annotations

import pickle
from typing import Any

from claudeproxyd.tap import Options
from claudeproxyd.web.tokens import TokenAuthenticator
from claudeproxyd.workers.worker import WorkerDaemon
from tests.test_daemon import BASE, MODELS, OK, ONE, DaemonTestCase, Reactor
from tests.workers.support import Pair, greeting

LIMITED = ONE.replace('"sk-one" }]', '"sk-one", max_concurrency = 2 }]')


class WorkerDaemonTests(DaemonTestCase):
    """The second of two."""

    def setUpDaemon(self, arguments: list[str] | None = None) -> None:
        self.reactor = Reactor()
        self.told: list[tuple[str, Any]] = []
        handlers: Any = {
            name: lambda channel, body, name=name: self.told.append((name, body))
            for name in ("ready", "changes", "want", "yielded", "happened", "counters", "bye")
        }
        handlers["state"] = lambda channel, body: None
        self.commands: dict[str, Any] = {}
        self.pair = Pair(self.reactor, handlers, self.commands)
        loaded = self.loaded()
        begun = pickle.loads(pickle.dumps(greeting(loaded, 1, {'["disabled","one","a"]': True})))
        self.daemon = WorkerDaemon(self.reactor, begun, loaded, self.pair.worker)
        self.commands.update(self.daemon.handlers())
        self.daemon.privilegedStartService()
        self.daemon.startService()
        self.pair.settle()

    def loaded(self) -> Any:
        options = Options()
        options.parseOptions(["--config", self.path])
        return options.loaded

    def answer(self, name: str, body: object = None) -> Any:
        """What it answers its parent."""
        asked = self.pair.parent.ask(name, body)
        for _ in range(20):
            self.pair.settle()
            if asked.called:
                break
            self.reactor.advance(0)
        return self.successResultOf(asked)

    def test_begins(self) -> None:
        """It has its parent's state and hop, no admin listener and no ear for signals; and says that it serves."""
        self.assertEqual([name for name, _ in self.told], ["ready"])
        self.assertEqual(self.daemon.own_hop, b"hop")
        self.assertFalse(self.daemon.pool.is_enabled("one", "a"))
        self.assertEqual((self.reactor.tcpServers, self.signals), ([], {}))

    def test_configuration(self) -> None:
        """What the parent has judged is in force when that is answered, in the worker's part."""
        self.write(BASE.replace("[accounts]", "max_connections = 101\n[accounts]") + ONE.replace("sk-one", "sk-new"))
        loaded = self.loaded()
        self.answer("configure", pickle.dumps((loaded.config, loaded.files)))
        self.assertEqual(self.daemon.site.gateway.limits.max_connections, 50)
        self.pair.parent.tell("changed", {'["disabled","one","a"]': None})
        self.pair.settle()
        self.ask("one-m")
        self.assertIn(b"sk-new", self.accept().taken())

    def test_issuers_stay(self) -> None:
        """Tokens of issuers let in after a reload as before it."""
        issuer = '[[issuers]]\nurl = "https://login.example.com"\naudience = "claudeproxyd"\n'
        self.write(BASE + ONE + MODELS.replace(', { provider = "two" }', "") + issuer)
        self.setUpDaemon()
        before = self.daemon.site.gateway.authenticator
        self.write(BASE + ONE.replace("sk-one", "sk-new") + MODELS.replace(', { provider = "two" }', "") + issuer)
        loaded = self.loaded()
        self.answer("configure", pickle.dumps((loaded.config, loaded.files)))
        self.assertIsNot(self.daemon.site.gateway.authenticator, before)
        self.assertIsInstance(before, TokenAuthenticator)
        self.assertIsInstance(self.daemon.site.gateway.authenticator, TokenAuthenticator)

    def test_figures(self) -> None:
        """It tells of its pool, its clients and its metrics."""
        self.pair.parent.tell("changed", {'["disabled","one","a"]': None})
        self.pair.settle()
        self.used("one-m")
        ((gauges, queued, unserved), *entries) = self.answer("pool")
        self.assertEqual((gauges["in_flight"], queued, unserved), (0, [], []))
        told = {entry["provider"]: entry["outcomes"] for part in entries for entry in part}
        self.assertEqual(told, {"one": {"ok": 1}, "two": {}})
        running, answered = self.answer("clients", 5)
        self.assertEqual((running, [count for _, count in answered]), ({}, [1]))
        names = {part[0] for batch in self.answer("counters") for part in batch}
        self.assertIn("claudeproxyd_requests_total", names)
        self.assertNotIn("claudeproxyd_connections", names)
        self.assertIn("claudeproxyd_connections", {part[0] for batch in self.answer("metrics") for part in batch})

    def test_permits(self) -> None:
        """It has its share of a limit, asks for more, gets it, and gives it up."""
        self.write(BASE + LIMITED + MODELS.replace(', { provider = "two" }', ""))
        self.setUpDaemon()
        self.daemon.pool.set_enabled("one", "a", True)
        first, second = self.ask(), self.ask()
        wire = self.accept()
        self.assertEqual(self.reactor.tcpClients, [])
        self.pair.settle()
        key = ["credential", "one", "a"]
        self.assertIn(("want", [key, 2]), self.told)
        self.pair.parent.tell("granted", (key, 1))
        self.pair.settle()
        other = self.accept()
        self.assertEqual(self.answer("recall", (key, 2, "due")), 0)
        wire.say(OK)
        self.pair.settle()
        self.assertIn(("yielded", [key, 1]), self.told)
        other.say(OK)
        for connection in (first, second):
            self.assertIn(b'{"type":"message"}', connection.take())

    def test_changes(self) -> None:
        """What happens to its credentials the parent hears at the end of the turn."""
        self.daemon.pool.set_enabled("one", "a", True)
        self.reactor.advance(0)
        self.pair.settle()
        self.assertIn(("changes", [1, {'["disabled","one","a"]': None}]), self.told)
        self.assertEqual(self.answer("clear", (None, None, None)), 0)

    def test_end(self) -> None:
        """It leaves, drains, and has told all its counters before it ends."""
        self.pair.parent.tell("leave")
        self.pair.settle()
        self.assertTrue(self.daemon.site.draining)
        ended = self.daemon.stopService()
        for _ in range(5):
            self.reactor.advance(0)
            self.pair.settle()
        self.successResultOf(ended)
        self.assertEqual([name for name, _ in self.told][-2:], ["counters", "bye"])

    def test_hurry(self) -> None:
        """A second signal at the parent cuts what is left."""
        self.pair.parent.tell("changed", {'["disabled","one","a"]': None})
        self.pair.settle()
        connection, _ = self.streaming()
        ended = self.daemon.stopService()
        self.reactor.advance(0)
        self.assertNoResult(ended)
        self.pair.parent.tell("hurry")
        self.pair.parent.tell("hurry")
        for _ in range(5):
            self.pair.settle()
            self.reactor.advance(0)
        self.assertIn(b"event: error", connection.take())
        connection.lose()
        for _ in range(5):
            self.reactor.advance(0)
            self.pair.settle()
        self.successResultOf(ended)
