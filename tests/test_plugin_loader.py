"""The objects of plugins: made, kept over reloads, asked, started and stopped. In a daemon on a reactor in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, succeed
from zope.interface import directlyProvides, implementer
from zope.interface.verify import verifyObject

import claudeproxyd.tap
from claudeproxyd import graph
from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.config.setting import setting
from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import (
    IAdmission,
    IAuthenticator,
    IPermit,
    IPluginMaker,
    IRequestHook,
    IUsageSink,
)
from claudeproxyd.plugin_loader import PluginMaker
from claudeproxyd.principals import Principal
from tests.test_daemon import BASE, CLIENTS, MODELS, OK, ONE, STOP, TWO, DaemonTestCase, chunk
from tests.web.support import Connection, Reply, get, post


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a plugin."""

    word: str = setting("", "Whatever.")
    path: str = setting("", "A file for lines.")


class FakePlugin(Service):
    """Does all that a plugin's object can; a test says which of it its kind provides."""

    def __init__(self, settings: Settings, services: Any, notes: list[Any]) -> None:
        self.settings = settings
        self.file = services.line_file(settings.path) if settings.path else None
        self._notes = notes
        self.breaks: tuple[str, ...] = ()

    def _note(self, *what: Any) -> None:
        self._notes.append((self.settings.word, *what))
        if what[0] in self.breaks:
            raise ValueError(f"of {what[0]}")

    def startService(self) -> None:
        super().startService()
        self._note("start")

    def stopService(self) -> None:
        super().stopService()
        self._note("stop")

    def request(self, request: Any) -> Any:
        self._note("request")
        return request

    def finished(self, request: Any, log: Any) -> None:
        if self.file is not None:
            self.file.write(log.outcome)
        self._note("finished", log.outcome)

    def admit(self, request: Any) -> Any:
        self._note("admit")
        return self

    def done(self, usage: Any, outcome: str) -> None:
        self._note("done", outcome)

    def record(self, record: Any) -> None:
        self._note("record", record.outcome)

    def authenticate(self, headers: Any) -> Principal:
        for name, value in headers:
            if name == b"x-badge":
                return Principal(value.decode())
        raise ClaudeError(401, "x-badge is required")


@implementer(IPluginMaker)
class FakeMaker(PluginMaker):
    """Makes these."""

    settings = Settings

    def __init__(self, kind: str, notes: list[Any], *provides: Any) -> None:
        self.kind = kind
        self.authenticates = IAuthenticator in provides
        self.made: list[FakePlugin] = []
        self.error: Exception | None = None
        self.breaks: tuple[str, ...] = ()
        self._notes = notes
        self._provides = provides

    def make(self, settings: Any, services: Any) -> Any:
        made = FakePlugin(settings, services, self._notes)
        if self.error is not None:
            raise self.error
        made.breaks = self.breaks
        directlyProvides(made, *self._provides)
        self.made.append(made)
        return made


def section(kind: str, **settings: str) -> str:
    """A section of that kind."""
    return f'[[plugins]]\nkind = "{kind}"\n' + "".join(f'{name} = "{value}"\n' for name, value in settings.items())


class PluginsTestCase(DaemonTestCase):
    """With a few kinds."""

    plugins = ""

    def setUp(self) -> None:
        self.notes: list[Any] = []
        kinds: dict[str, tuple[Any, ...]] = {
            "hook": (IRequestHook, IService),
            "all": (IRequestHook, IAdmission, IPermit, IUsageSink),
            "badge": (IAuthenticator,),
            "none": (IService,),
        }
        self.makers = {kind: FakeMaker(kind, self.notes, *provides) for kind, provides in kinds.items()}
        self.patch(claudeproxyd.tap, "plugin_makers", lambda broken: dict(self.makers))
        self.wire: Any = None
        super().setUp()

    def write(self, text: str) -> None:
        super().write(text + self.plugins)

    def reload(self, plugins: str) -> None:
        """Other plugins."""
        self.plugins = plugins
        self.write(BASE + ONE + TWO + MODELS)
        self.successResultOf(self.daemon.reload())

    def refused(self, plugins: str) -> str:
        """Why a reload to these is."""
        self.plugins = plugins
        self.write(BASE + ONE + TWO + MODELS)
        return str(self.failureResultOf(self.daemon.reload(), ConfigError).value)

    def serve(self) -> None:
        """One request, to its end."""
        connection = self.ask()
        wire = self.wire = self.accept() if self.reactor.tcpClients else self.wire
        wire.say(OK)
        self.assertIn(b'{"type":"message"}', connection.take())
        connection.lose()

    def words(self, *events: str) -> list[str]:
        """Whose events of these kinds there were."""
        return [note[0] for note in self.notes if note[1] in events]


class Serving(PluginsTestCase):
    """What they are asked."""

    plugins = section("all", word="a") + section("hook", word="b") + section("all", word="c")

    def test_order(self) -> None:
        """In the order of the file, each as all that it provides."""
        verifyObject(IPluginMaker, self.makers["all"])
        self.serve()
        self.assertEqual(self.words("admit"), ["a", "c"])
        self.assertEqual(self.words("request"), ["a", "b", "c"])
        self.assertEqual(self.words("record"), ["a", "c"])
        self.assertEqual(self.words("done"), ["a", "c"])
        self.assertEqual(self.words("finished"), ["a", "b", "c"])

    def test_streams_and_counts(self) -> None:
        """Streams and counts go the same way."""
        connection, wire = self.streaming()
        wire.say(chunk(STOP) + chunk(b""))
        self.assertIn(STOP, connection.take())
        self.assertEqual(self.words("request", "finished"), ["a", "b", "c"] * 2)
        connection = Connection(self.daemon.site, "127.0.0.1")
        connection.send(post("/v1/messages/count_tokens", b'{"model":"one-m","messages":[]}'))
        self.assertEqual(self.words("request"), ["a", "b", "c"] * 2)

    def test_concurrency_stays(self) -> None:
        """The limits of clients are asked ahead of theirs."""
        self.write(BASE + ONE + TWO + MODELS + CLIENTS + "max_concurrency = 1\n")
        self.successResultOf(self.daemon.reload())
        ask = post("/v1/messages", b'{"model":"one-m","max_tokens":9,"messages":[]}', "x-api-key: a-key-of-a-client")
        Connection(self.daemon.site, "127.0.0.1").send(ask)
        self.assertEqual(Connection(self.daemon.site, "127.0.0.1").ask(ask).status, 429)
        self.assertEqual(self.words("admit"), ["a", "c"])


class Lives(PluginsTestCase):
    """When they are made, and when they end."""

    plugins = section("hook", word="a") + section("hook", word="b")

    def test_started_and_stopped(self) -> None:
        """Those that are services are, with the daemon."""
        self.assertEqual(self.notes, [("a", "start"), ("b", "start")])
        self.successResultOf(self.stop())
        self.assertEqual(self.words("stop"), ["b", "a"])

    def test_reload(self) -> None:
        """An unchanged section keeps its object, a changed one is made anew, one that is gone is stopped."""
        first = list(self.makers["hook"].made)
        self.notes.clear()
        self.reload(section("hook", word="c") + section("hook", word="a"))
        self.assertEqual(len(self.makers["hook"].made), 3)
        self.assertEqual(self.notes, [("c", "start"), ("b", "stop")])
        self.serve()
        self.assertEqual(self.words("request"), ["c", "a"])
        self.assertTrue(first[0].running)
        self.reload("")
        self.assertEqual(self.words("stop"), ["b", "c", "a"])
        self.notes.clear()
        self.serve()
        self.assertEqual(self.notes, [])

    def test_twins(self) -> None:
        """Of two sections that say the same each has an object of its own, which it keeps."""
        self.reload(section("hook", word="a") * 2)
        self.reload(section("hook", word="a") * 3)
        self.assertEqual(len(self.makers["hook"].made), 4)
        self.assertEqual(self.words("stop"), ["b"])

    def test_requests_under_way(self) -> None:
        """A request keeps those that it began with until its end, over several reloads; then they are stopped."""
        connection, wire = self.streaming()
        self.reload(section("hook", word="a") + section("hook", word="c"))
        self.reload(section("hook", word="d"))
        self.assertEqual(self.words("stop"), [])
        self.serve()
        self.assertEqual(self.words("finished"), ["d"])
        wire.say(chunk(STOP) + chunk(b""))
        self.assertIn(STOP, connection.take())
        self.assertEqual(self.words("finished"), ["d", "a", "b"])
        self.assertEqual(sorted(self.words("stop")), ["a", "b", "c"])

    def test_cannot_be_made(self) -> None:
        """One that cannot be made fails the start with its place, and so does one that is of no use."""
        for kind, error, why in (
            ("hook", OSError("no room"), "OSError: no room"),
            ("none", None, "TypeError: FakePlugin provides none of IRequestHook"),
        ):
            self.makers[kind].error = error
            self.plugins = section("hook", word="x") + section(kind, word="y")
            self.write(BASE + ONE)
            told = str(self.assertRaises(SystemExit, self.setUpDaemon))
            number = 1 if kind == "none" else 0
            self.makers["hook"].error = None
            self.assertIn(f"plugins[{number}] cannot be made: {why}", told)
            self.assertIn(f"{self.path}:", told)
            self.assertIn("mend its settings, or leave the section out", told)

    def test_cannot_be_started(self) -> None:
        """A service that fails to start fails the start, with its place too."""
        self.makers["hook"].breaks = ("start",)
        told = str(self.assertRaises(SystemExit, self.setUpDaemon))
        self.assertIn("plugins[0] cannot be started: ValueError: of start", told)

    def test_tells_the_truth(self) -> None:
        """An authenticator whose kind does not say so fails the start, and so does what is said to be one."""
        for kind, says in (("badge", False), ("hook", True)):
            self.makers[kind].authenticates = says
            self.assertIn("FakeMaker.authenticates is", self.refused(section(kind)))

    def test_reload_that_fails(self) -> None:
        """A reload that fails leaves those in force, and ends what it made, files included."""
        self.notes.clear()
        self.makers["all"].error = OSError("no room")
        path = os.path.abspath(self.mktemp())
        before = set(os.listdir("/proc/self/fd"))
        self.assertIn("no room", self.refused(section("all", path=path) + section("hook", word="c", path=path)))
        self.assertEqual(self.notes, [])
        self.makers["hook"].breaks = ("start",)
        told = self.refused(section("hook", word="c", path=path))
        self.assertIn("plugins[0] cannot be started: ValueError: of start", told)
        self.makers["hook"].breaks = ()
        self.patch(graph, "Catalog", None)
        self.refused(section("hook", word="d", path=path))
        self.assertEqual(self.words("start", "stop"), ["c", "c", "d", "d"])
        self.assertEqual(set(os.listdir("/proc/self/fd")), before)

    def test_stop_that_fails(self) -> None:
        """One that cannot be stopped is logged, and keeps nobody from the end."""
        self.makers["hook"].made[0].breaks = ("stop",)
        self.reload(section("hook", word="b"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_files(self) -> None:
        """Lines for a file are written, also after SIGHUP found it renamed, and when the plugin ends."""
        path = os.path.abspath(self.mktemp())
        self.reload(section("hook", path=path))
        self.serve()
        os.rename(path, path + ".1")
        self.signals[claudeproxyd.daemon.signal.SIGHUP](1, None)
        self.serve()
        self.reload("")
        for name in (path, path + ".1"):
            with open(name, encoding="utf-8") as file:
                self.assertEqual(file.read(), "ok\n")


class Callers(PluginsTestCase):
    """Who is let in."""

    plugins = section("badge")

    def status(self, *headers: str) -> int:
        """What a caller with these headers gets."""
        return Connection(self.daemon.site, "127.0.0.1").ask(get("/v1/models", *headers)).status

    def test_plugin_alone(self) -> None:
        """With an authenticator and no clients nobody gets in without it, and pages of browsers do not either."""
        self.assertEqual([self.status(), self.status("x-badge: 7")], [401, 200])
        self.assertEqual(self.status("x-badge: 7", "Origin: https://page.example"), 403)

    def test_beside_clients(self) -> None:
        """Configured keys are asked first, and either is enough; the refusal is that of the keys."""
        self.write(BASE + ONE + CLIENTS)
        self.successResultOf(self.daemon.reload())
        for headers in (["x-badge: 7"], ["x-api-key: a-key-of-a-client"], ["x-api-key: wrong", "x-badge: 7"]):
            self.assertEqual(self.status(*headers), 200)
        reply = Connection(self.daemon.site, "127.0.0.1").ask(get("/v1/models", "x-api-key: wrong"))
        self.assertIn("does not know your API key", reply.json["error"]["message"])

    def test_faults(self) -> None:
        """One that breaks, or returns nobody, now or later, lets nobody in; one that is sure of its no is heard."""
        (plugin,) = self.makers["badge"].made

        def answer(what: Callable[[], Any]) -> int:
            plugin.authenticate = lambda headers: what()  # type: ignore[method-assign]
            return self.status("x-badge: 7")

        def forbid() -> Any:
            raise ClaudeError(403, "not you")

        self.assertEqual([answer(what) for what in (lambda: None, lambda: succeed(None), lambda: 1 / 0)], [500] * 3)
        self.assertEqual(answer(forbid), 403)
        self.assertEqual(len(self.flushLoggedErrors(TypeError, ZeroDivisionError)), 3)

    def test_asks_others(self) -> None:
        """One may have to ask who calls; nothing more is read of the client until it knows."""
        (plugin,) = self.makers["badge"].made
        asked: Deferred[Principal] = Deferred()
        plugin.authenticate = lambda headers: asked  # type: ignore[method-assign]
        connection = Connection(self.daemon.site, "127.0.0.1")
        connection.send(get("/v1/models", "x-badge: 7"))
        self.assertEqual((connection.take(), connection.transport.producerState), (b"", "paused"))
        asked.callback(Principal("7"))
        self.assertEqual(Reply(connection.take()).status, 200)

    def test_in_logs(self) -> None:
        """Whom it lets in goes by the name that it gave."""
        body = b'{"model":"one-m","max_tokens":9,"messages":[]}'
        connection = Connection(self.daemon.site, "127.0.0.1")
        connection.send(post("/v1/messages", body, "x-badge: seven"))
        self.accept().say(OK)
        self.assertEqual(Reply(connection.take()).status, 200)
        self.assertIn('client="seven"', self.daemon.metrics.render().decode())
