"""The daemon: one configuration in place of another, and the end. On a reactor in memory."""

from __future__ import annotations

import gc
import io
import json
import os
import resource
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import Application, MultiService
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import ILogObserver, Logger, capturedLogs, formatEvent, globalLogPublisher
from twisted.plugins.claudeproxyd_plugin import DaemonMaker
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import claudeproxyd.config.installed
import claudeproxyd.daemon
from claudeproxyd import graph
from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.executors.maker import Maker
from claudeproxyd.observe.scrub import redact
from claudeproxyd.tap import Options, makeService
from claudeproxyd.testing import MemoryConnection
from tests.service_manager import NotifySocket
from tests.web.support import Connection, Reply, get, new_certificate, post

BASE = """
[server]
listen = ["tcp:8765:interface=127.0.0.1"]
admin = "tcp:8766:interface=127.0.0.1"
state = "memory:"
drain = 30.0
[accounts]
database = ""
[log]
access = "off"
"""
ONE = """
[[providers]]
name = "one"
kind = "anthropic"
base_url = "http://127.0.0.1:9001"
credentials = [{ name = "a", api_key = "sk-one" }]
"""
TWO = ONE.replace("one", "two").replace("9001", "9002")
#: Each by its name: for a glob the daemon would ask the providers what they have.
MODELS = "".join(
    f'[[models]]\nname = "{name}"\nroutes = [{{ provider = "one" }}, {{ provider = "two" }}]\n'
    for name in ("one-m", "any")
)
CLIENTS = '[[clients]]\nname = "c"\nkey = "a-key-of-a-client"\n'
GEMINI = '[[models]]\nname = "gemini-3-pro"\nroutes = [{ provider = "one" }]\n'
OK = b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"type":"message"}'
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def chunk(data: bytes) -> bytes:
    """One chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Reactor(MemoryReactorClock):
    """That has threads."""

    def callFromThread(self, work: Callable[..., object], *args: Any) -> None:
        work(*args)


class DaemonTestCase(SynchronousTestCase):
    """A daemon that runs, without a network and without touching this process."""

    def setUp(self) -> None:
        self.signals: dict[int, Any] = {}
        self.patch(signal, "signal", self.signals.__setitem__)
        self.patch(resource, "setrlimit", lambda *_: None)
        self.held: list[Callable[[], object]] | None = None
        self.patch(claudeproxyd.daemon, "thread_of_its_own", lambda reactor, name: self.in_thread)
        self.patch(claudeproxyd.daemon, "unawaited_threads", lambda reactor, name, most: self.in_unawaited_thread)
        for name in ("freeze", "set_threshold"):
            self.patch(gc, name, lambda *_: None)
        self.path = os.path.abspath(self.mktemp())
        self.write(BASE + ONE + TWO + MODELS)
        self.setUpDaemon()

    def setUpDaemon(self, arguments: list[str] | None = None) -> None:
        """A daemon of the file as it is now."""
        options = Options()
        options.parseOptions(["--config", self.path] if arguments is None else arguments)
        self.reactor = Reactor()
        self.daemon: Any = makeService(options, self.reactor)
        self.daemon.privilegedStartService()
        self.daemon.startService()

    def in_thread(self, work: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Work that is handed to a thread is done at once, or when the test says so."""
        if self.held is None:
            return maybeDeferred(work, *args)
        done: Deferred[Any] = Deferred()
        self.held.append(lambda: maybeDeferred(work, *args).chainDeferred(done))
        return done

    def in_unawaited_thread(self, work: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Work whose end the process does not wait for."""
        return self.in_thread(work, *args)

    def write(self, text: str) -> None:
        """Another configuration."""
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)

    def ask(self, model: str = "one-m", stream: bool = False) -> Connection:
        """A client's request."""
        connection = Connection(self.daemon.site, "127.0.0.1")
        more = b',"stream":true' if stream else b""
        body = b'{"model":"%b","max_tokens":9,"messages":[]%b}' % (model.encode(), more)
        connection.send(post(body=body))
        return connection

    def accept(self) -> MemoryConnection:
        """An upstream takes the oldest connection that is being made to it."""
        _, _, factory, _, _ = self.reactor.tcpClients.pop(0)
        wire = MemoryConnection(self.reactor)
        wire.protocol = factory.buildProtocol(None)
        wire.protocol.makeConnection(wire)
        return wire

    def used(self, model: str) -> MemoryConnection:
        """A connection to an upstream that has served a request."""
        connection = self.ask(model)
        wire = self.accept()
        wire.say(OK)
        self.assertIn(b'{"type":"message"}', connection.take())
        connection.lose()
        wire.clear()
        return wire

    def streaming(self) -> tuple[Connection, MemoryConnection]:
        """A stream whose first content is out."""
        connection = self.ask(stream=True)
        wire = self.accept()
        wire.say(STREAM + chunk(DELTA))
        self.assertIn(DELTA, connection.take())
        return connection, wire

    def ready(self) -> list[int]:
        """What ``/readyz`` says on the public listener and on the other."""
        sites = (self.daemon.site, self.daemon.admin_site)
        return [Connection(site, "127.0.0.1").ask(get("/readyz")).status for site in sites]

    def stop(self) -> Deferred[None]:
        """SIGTERM, as twistd has it."""
        stopped: Deferred[None] = self.daemon.stopService()
        return stopped

    def settle(self, *connections: Connection) -> None:
        """Connections that we have ended are lost, and what was put off happens."""
        for connection in connections:
            self.assertTrue(connection.closing)
            connection.lose()
        self.reactor.advance(0)


class Serving(DaemonTestCase):
    """All parts together, from the client's bytes to the upstream's and back."""

    def test_byte_exact(self) -> None:
        """A client gets the upstream's frames as they are, ours being only what stands around them."""
        connection, wire = self.streaming()
        odd = b'event: new\ndata: { "type" : "new" , "x":"\xc3\xa4\\ud83d" }\n\n'
        wire.say(chunk(odd + STOP) + chunk(b""))
        self.assertEqual(connection.take(), chunk(odd + STOP) + chunk(b""))

    def test_odd_answers(self) -> None:
        """A whole answer that is odd is paid for once: its client gets the bytes, and the log one line."""
        body = b'{"type":"message","content":"\\ud99c","usage":{"input_tokens":"11","output_tokens":3}}'
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
        with capturedLogs() as events:
            connection = self.ask()
            wire = self.accept()
            wire.say(head + body)
            for _ in range(2):
                reply = Reply(connection.take())
                self.assertEqual((reply.status, reply.body), (200, body))
                self.assertEqual(dict(reply.pairs)[b"x-claudeproxyd-attempts"], b"1")
                connection = self.ask()
                wire.say(head + body)
        told = [event for event in events if "does not keep to the API's format" in event["log_format"]]
        self.assertEqual([event["what"] for event in told], ["figures of an unknown shape: usage.input_tokens"])
        self.assertEqual(self.reactor.tcpClients, [])

    def test_another_takes_over(self) -> None:
        """An upstream that is overloaded in its stream costs the client nothing, content in the same read or not."""
        error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no"}}\n\n'
        for first in (STREAM + chunk(error), STREAM + chunk(DELTA + error)):
            connection = self.ask(model="any", stream=True)
            self.accept().say(first)
            self.accept().say(STREAM + chunk(DELTA + STOP) + chunk(b""))
            told = connection.take()
            self.assertTrue(told.startswith(b"HTTP/1.1 200 "), told)
            self.assertTrue(told.endswith(chunk(DELTA + STOP) + chunk(b"")), told)
            self.assertIn(b"x-claudeproxyd-attempts: 2", told)
            self.setUp()

    def test_error_is_json(self) -> None:
        """With nobody left, such an error is an HTTP error with its own status, body and one retry-after."""
        error = b'{"type":"error","error":{"type":"overloaded_error","message":"no"}}'
        self.write(BASE + ONE)
        self.successResultOf(self.daemon.reload())
        connection = self.ask(stream=True)
        for _ in range(60):
            if self.reactor.tcpClients:
                self.accept().say(STREAM + chunk(b"event: error\ndata: " + error + b"\n\n"))
            self.reactor.advance(1.0)
        reply = Reply(connection.take())
        self.assertEqual((reply.status, reply.body), (529, error))
        self.assertEqual([value for name, value in reply.pairs if name == b"content-type"], [b"application/json"])
        self.assertEqual(len([name for name, _ in reply.pairs if name == b"retry-after"]), 1)

    def test_client_leaves(self) -> None:
        """A client that leaves takes its upstream along, at once."""
        connection, wire = self.streaming()
        connection.lose()
        self.assertTrue(wire.aborted)


class Concurrency(DaemonTestCase):
    """How much a client may have at once."""

    def setUp(self) -> None:
        super().setUp()
        self.write(BASE + ONE + TWO + MODELS + CLIENTS + "max_concurrency = 1\n")
        self.successResultOf(self.daemon.reload())

    def asked(self, path: str = "/v1/messages", stream: bool = False, times: int = 1) -> Connection:
        """Requests of the client, sent at once."""
        body = b'{"model":"one-m","max_tokens":9,"messages":[],"stream":%b}' % (b"true" if stream else b"false")
        connection = Connection(self.daemon.site, "127.0.0.1")
        connection.send(post(path, body, "x-api-key: a-key-of-a-client") * times)
        return connection

    def test_limit(self) -> None:
        """Above its limit a client is told to wait; counting takes no place."""
        self.asked()
        reply = Reply(self.asked().take())
        self.assertEqual((reply.status, reply.json["error"]["type"]), (429, "rate_limit_error"))
        self.assertEqual(reply.headers[b"retry-after"], b"1")
        for _ in range(27):
            self.asked("/v1/messages/count_tokens")
        self.assertEqual(len(self.reactor.tcpClients), 28)

    def test_sent_ahead(self) -> None:
        """A place is free when a response is out, also for a request that was sent ahead."""
        connection = self.asked(times=2)
        wire = self.accept()
        for _ in range(2):
            wire.say(OK)
            self.assertEqual(Reply(connection.take()).status, 200)
        connection = self.asked(times=2, stream=True)
        wire.say(STREAM + chunk(DELTA + STOP) + chunk(b""))
        self.reactor.advance(0)
        wire.say(STREAM + chunk(DELTA + STOP) + chunk(b""))
        self.assertEqual(connection.take().count(b"HTTP/1.1 200 "), 2)

    def test_client_leaves(self) -> None:
        """A client that goes gives its place back."""
        self.asked().lose()
        connection = self.asked()
        self.assertEqual(connection.take(), b"")
        self.assertEqual(len(self.reactor.tcpClients), 2)


class Starting(DaemonTestCase):
    """What there is before the first request."""

    def observer(self, **options: Any) -> Any:
        """What an application has for its log once the daemon is its child."""
        settings = Options()
        settings.parent = {"nodaemon": True, **options}
        settings.parseOptions(["--config", self.path])
        application = Application("test")
        daemon: Any = makeService(settings, Reactor())
        daemon.setServiceParent(application)
        return application.getComponent(ILogObserver)

    def test_log(self) -> None:
        """twistd is given our observer, in the configured form; under --syslog it is left its own."""
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        for form, written in (("json", '"msg":"hello"'), ("text", "hello")):
            self.write(f'{BASE}format = "{form}"\n{ONE}')
            log = self.observer()
            verifyObject(ILogObserver, log)
            Logger("test", observer=log).info("hello")
            self.assertIn(written, out.getvalue().replace('": "', '":"'))
        self.assertIsNone(self.observer(syslog=True))

    def test_other_parents(self) -> None:
        """A parent that is no application has no log to give it."""
        parent = MultiService()
        self.daemon.setServiceParent(parent)
        self.assertIn(self.daemon, list(parent))

    def test_secrets(self) -> None:
        """Every secret of the configuration is known, and stays so for a while after a reload took it away."""
        key_file = os.path.abspath(self.mktemp())
        with open(key_file, "w", encoding="utf-8") as file:
            json.dump(
                {"type": "authorized_user", "refresh_token": "user-refresh", "client_secret": "user-secret"}, file
            )
        os.chmod(key_file, 0o600)
        beside = (
            'proxy = "http://me:proxy%21password@127.0.0.1:3128"\n'
            'headers = { x-token = "Bearer header-token", x-name = "gateway-name", x-auth-of = "{client}-auth" }\n'
        )
        vertex = (
            '[[providers]]\nname = "v"\nkind = "vertex"\n[[providers.credentials]]\nname = "c"\n'
            f'project = "some-project"\nlocation = "us"\nservice_account = {{ file = "{key_file}" }}\n'
        )
        self.write(BASE + ONE.replace("sk-one", "key-of-one") + beside + vertex)
        self.successResultOf(self.daemon.reload())
        told = "key-of-one user-refresh user-secret proxy!password header-token gateway-name"
        self.assertEqual(redact(told), "*** *** *** *** *** gateway-name")
        self.write(BASE + ONE)
        self.successResultOf(self.daemon.reload())
        self.assertEqual(redact(told), "*** *** *** *** *** gateway-name")

    def test_models_in_metrics(self) -> None:
        """What the configuration names has a label of its own, though its first request fails."""
        self.ask("any")
        self.accept().say(b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n")
        page = self.daemon.metrics.render().decode()
        self.assertIn('claudeproxyd_requests_total{client="anonymous",model="any",status="400"} 1', page)

    def test_model_that_nobody_serves(self) -> None:
        """A line when it begins, a line when it is over, and none for each request between."""
        models = "".join(
            f'[[models]]\nname = "{name}-m"\nroutes = [{{ provider = "{name}" }}]\n' for name in ("one", "two")
        )
        self.write(BASE + ONE + TWO + models)
        self.successResultOf(self.daemon.reload())
        observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        self.ask()
        wire = self.accept()
        wire.say(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n")
        for _ in range(3):
            self.assertIn(b"503", self.ask().take())
        page = self.daemon.metrics.render().decode()
        self.assertIn('claudeproxyd_model_ready{model="one-m"} 0.0', page)
        self.assertIn('claudeproxyd_model_ready{model="two-m"} 1.0', page)
        self.assertIn('claudeproxyd_refused_total{reason="no_credential"} 4.0', page)
        self.daemon.pool.clear(None, None, None)
        self.ask()
        wire.say(OK)
        said = [formatEvent(each) for each in observer if " serve" in formatEvent(each)]
        self.assertEqual(
            [line.partition(":")[0] for line in said],
            ["Nobody serves one-m", "one-m is served again, after 0 s and 4 refused requests."],
        )
        self.assertIn('claudeproxyd_model_ready{model="one-m"} 1.0', self.daemon.metrics.render().decode())


class Reloading(DaemonTestCase):
    """SIGHUP, or the admin listener's word."""

    def test_certificates(self) -> None:
        """Those of all listeners are read again, the admin listener's too, and when they expire is told."""
        pem = FilePath(self.mktemp())
        new_certificate(pem, 10)
        admin = f"ssl:8766:interface=127.0.0.1:privateKey={pem.path}"
        self.successResultOf(self.daemon.stopService())
        self.write(BASE.replace("tcp:8766:interface=127.0.0.1", admin) + ONE)
        self.setUpDaemon()
        ends = new_certificate(pem, 90)
        self.successResultOf(self.daemon.hang_up())
        page = self.daemon.metrics.render().decode()
        (told,) = [line for line in page.splitlines() if line.startswith("claudeproxyd_certificate_expiry")]
        self.assertEqual(float(told.rpartition(" ")[2]), ends)

    def test_unchanged_providers(self) -> None:
        """They keep their executors, and the connections that those have open."""
        wire = self.used("one-m")
        self.write(BASE + ONE + TWO.replace("sk-two", "sk-new") + MODELS)
        self.assertIn("two", self.successResultOf(self.daemon.reload()))
        connection = self.ask()
        self.assertEqual(self.reactor.tcpClients, [])
        self.assertIn(b"POST /v1/messages", wire.taken())
        wire.say(OK)
        self.assertIn(b'{"type":"message"}', connection.take())

    def test_signatures(self) -> None:
        """What Gemini signed goes back to it with the next turn, though a reload put another executor there."""
        call = b'{"functionCall":{"name":"f","args":{}},"thoughtSignature":"c2lnbmVk"}'
        answer = b'{"candidates":[{"content":{"role":"model","parts":[%b]},"finishReason":"STOP"}]}' % call
        turns: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
        for port in ("9003", "9004"):
            self.write(BASE + ONE.replace('"anthropic"', '"gemini"').replace("9001", port) + GEMINI)
            self.successResultOf(self.daemon.reload())
            connection = Connection(self.daemon.site, "127.0.0.1")
            tools = [{"name": "f", "input_schema": {"type": "object"}}]
            body = {"model": "gemini-3-pro", "max_tokens": 9, "messages": turns, "tools": tools}
            connection.send(post(body=json.dumps(body).encode()))
            wire = self.accept()
            asked = wire.taken()
            wire.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))
            content = json.loads(Reply(connection.take()).body)["content"]
            turns.append({"role": "assistant", "content": content})
            turns.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": content[-1]["id"]}]})
        self.assertIn(b'"thoughtSignature":"c2lnbmVk"', asked)

    def test_changed_providers(self) -> None:
        """Their idle connections are closed, and the next request has the new secret."""
        wire = self.used("one-m")
        self.write(BASE + ONE.replace("9001", "9003").replace("sk-one", "sk-new") + TWO + MODELS)
        self.successResultOf(self.daemon.reload())
        self.reactor.advance(0)
        self.assertTrue(wire.lost)
        self.ask()
        self.assertEqual(self.reactor.tcpClients[0][1], 9003)
        self.assertIn(b"sk-new", self.accept().taken())

    def test_secret_alone(self) -> None:
        """A new secret under an old name is what goes up from then on."""
        self.write(BASE + ONE.replace("sk-one", "sk-new") + TWO + MODELS)
        self.successResultOf(self.daemon.reload())
        self.ask()
        self.assertIn(b"sk-new", self.accept().taken())

    def test_streams_in_flight(self) -> None:
        """A stream goes on although its provider is gone from the configuration."""
        connection, wire = self.streaming()
        self.write(BASE + TWO + MODELS.replace('{ provider = "one" }, ', ""))
        self.successResultOf(self.daemon.reload())
        self.reactor.advance(0)
        wire.say(chunk(STOP) + chunk(b""))
        self.assertIn(STOP, connection.take())
        self.reactor.advance(0)
        self.assertTrue(wire.lost)

    def test_waiting_requests(self) -> None:
        """What waited for a credential and gets a new one takes it to where that belongs, and nowhere else."""
        models = '[[models]]\nname = "one-m"\nroutes = [{ provider = "one" }]\n'
        limited = BASE + ONE.replace(" }]", ", max_concurrency = 1 }]") + models
        self.write(limited)
        self.successResultOf(self.daemon.reload())
        self.streaming()
        waiting = self.ask()
        self.write(limited.replace("9001", "9003"))
        self.successResultOf(self.daemon.reload())
        self.assertEqual(self.reactor.tcpClients, [])
        self.write(limited.replace("9001", "9004").replace('"a"', '"b"').replace("sk-one", "sk-new"))
        self.successResultOf(self.daemon.reload())
        self.assertEqual([port for _, port, *_ in self.reactor.tcpClients], [9004])
        wire = self.accept()
        self.assertIn(b"sk-new", wire.taken())
        wire.say(OK)
        self.assertIn(b'{"type":"message"}', waiting.take())

    def test_executors_that_are_gone(self) -> None:
        """Nothing stays of an executor that no configuration and no request has any more."""
        one = weakref.ref(self.daemon._generation.upstreams.executors["one"])
        self.write(BASE + ONE.replace("9001", "9003") + TWO + MODELS)
        self.successResultOf(self.daemon.reload())
        two = weakref.ref(self.daemon._generation.upstreams.executors["two"])
        self.write(BASE + ONE + MODELS.replace(', { provider = "two" }', ""))
        self.successResultOf(self.daemon.reload())
        self.reactor.advance(0)
        gc.collect()
        self.assertEqual((one(), two()), (None, None))

    def test_executors_of_a_failed_reload(self) -> None:
        """A reload that fails late leaves the executors as they were."""
        self.patch(graph, "Catalog", None)
        self.write(BASE + ONE.replace("9001", "9003") + TWO + MODELS)
        self.failureResultOf(self.daemon.reload(), ConfigError)
        self.ask()
        self.assertEqual([port for _, port, *_ in self.reactor.tcpClients], [9001])

    def test_captures(self) -> None:
        """The metrics tell what captures hold, of requests too that came before a reload."""
        whole = BASE + ONE + TWO + MODELS
        self.write(whole + f'[capture]\nwhen = "errors"\ndirectory = "{self.mktemp()}"\n')
        self.successResultOf(self.daemon.reload())
        connection, _ = self.streaming()
        self.assertIn(b"claudeproxyd_captures_open{} 1.0", self.daemon.metrics.render())
        self.write(whole)
        self.successResultOf(self.daemon.reload())
        self.assertIn(b"claudeproxyd_captures_open{} 1.0", self.daemon.metrics.render())
        connection.lose()
        self.assertIn(b"claudeproxyd_captures_open{} 0.0", self.daemon.metrics.render())

    def test_mistake(self) -> None:
        """A mistake leaves the running configuration in force, and shows in the metrics until it is mended."""
        successful = b"claudeproxyd_config_last_reload_successful{} %s"
        wire = self.used("one-m")
        self.write(BASE + ONE + "nonsense = 1")
        self.failureResultOf(self.daemon.reload(), ConfigError)
        self.assertIn(successful % b"0.0", self.daemon.metrics.render())
        self.ask()
        self.assertIn(b"POST /v1/messages", wire.taken())
        self.write(BASE + ONE)
        self.successResultOf(self.daemon.reload())
        self.assertIn(successful % b"1.0", self.daemon.metrics.render())

    def test_mistake_is_told(self) -> None:
        """To a webhook, once until it is mended; where that leads is not in the log."""
        hook = '[[webhooks]]\nname = "chat"\nurl = "http://127.0.0.1:9009/secret-of-the-hook"\n'
        self.write(BASE + ONE + TWO + MODELS + hook)
        self.setUpDaemon()
        for text in ("nonsense = 1", "nonsense = 2", hook, "nonsense = 3"):
            self.write(BASE + ONE + TWO + MODELS + text)
            self.daemon.reload().addErrback(lambda failure: failure.trap(ConfigError))
        self.reactor.advance(0)
        self.assertIn(b"POST /secret-of-the-hook HTTP/1.1", self.accept().taken())
        self.assertIn(b'claudeproxyd_webhook_events_waiting{webhook="chat"} 2.0', self.daemon.metrics.render())
        self.assertEqual(redact("http://127.0.0.1:9009/secret-of-the-hook"), "***")

    def test_hang_up(self) -> None:
        """SIGHUP reloads, and a mistake then is logged, no more; the audit has both."""
        self.write(BASE + ONE.replace("9001", "9003") + TWO + MODELS)
        with capturedLogs() as logs:
            self.signals[signal.SIGHUP](signal.SIGHUP, None)
            self.write("nonsense = 1")
            self.signals[signal.SIGHUP](signal.SIGHUP, None)
        done, failed = [line for line in map(formatEvent, logs) if line.startswith("audit: ")]
        self.assertIn('audit: - at - reload target="SIGHUP" after={"changes":"changed: one"}', done)
        self.assertRegex(failed, r'audit: - at - reload target="SIGHUP" error=".*:1: nonsense')
        self.ask()
        self.assertEqual(self.reactor.tcpClients[0][1], 9003)

    def test_asked_by_an_operator(self) -> None:
        """Whoever asks the admin listener gets all that SIGHUP does: the access log's file is opened anew, too."""
        path = Path(self.mktemp())
        self.write(BASE.replace('access = "off"', f'access = "{path.absolute()}"') + ONE)
        self.setUpDaemon()
        path.rename(f"{path}.1")
        connection = Connection(self.daemon.admin_site, "127.0.0.1")
        connection.send(post("/admin/v1/reload", b""))
        self.assertEqual(Reply(connection.take()).json["changes"], "nothing changed")
        self.assertTrue(path.exists())

    def test_listeners_in_force(self) -> None:
        """The next reloads too are judged by the listeners that are there, not by those of the file read last."""
        everywhere = BASE.replace("tcp:8765:interface=127.0.0.1", "tcp:8765:interface=0.0.0.0")
        self.write(everywhere + ONE + CLIENTS)
        self.setUpDaemon()
        self.write(BASE + ONE + CLIENTS)
        self.assertIn("not before a restart: server.listen", self.successResultOf(self.daemon.reload()))
        self.write(BASE + ONE)
        self.assertIn("0.0.0.0", str(self.failureResultOf(self.daemon.reload(), ConfigError).value))
        stranger = post(body=b'{"model":"m","max_tokens":9,"messages":[]}')
        self.assertEqual(Connection(self.daemon.site, "192.0.2.7").ask(stranger).status, 401)

    def test_warnings(self) -> None:
        """What is allowed and probably not meant is told at the start, and at a reload that brings it."""
        hidden = MODELS.replace('"one-m"', '"gemini-3-pro"').replace('provider = "one"', 'provider = "google"')
        google = ONE.replace('"one"', '"google"').replace('"anthropic"', '"gemini"')
        told = "is hidden by Claude Code's /model"
        self.write(BASE + google + TWO + hidden)
        for bring in (self.daemon.reload, self.setUpDaemon):
            with capturedLogs() as logs:
                bring()
            said = [formatEvent(event) for event in logs]
            self.assertEqual([told in line and "claude-gemini-3-pro" in line for line in said].count(True), 1, said)

    def test_hidden_lists(self) -> None:
        """Models that Claude Code does not show, for none are named, are told at the start, at a reload and a check."""
        self.write(BASE + ONE.replace('"anthropic"', '"gemini"'))

        def check() -> None:
            self.assertRaises(SystemExit, Options().parseOptions, ["--config", self.path, "--check"])

        checked = io.StringIO()
        self.patch(sys, "stdout", checked)
        for bring in (self.daemon.reload, self.setUpDaemon, check):
            with capturedLogs() as logs:
                bring()
            said = "".join(formatEvent(event) for event in logs) + checked.getvalue()
            self.assertEqual(said.count("providers[0] lists models that are hidden by Claude Code's /model"), 1, said)

    def test_kinds_that_cannot_be_made(self) -> None:
        """A kind that breaks over its section is named with the place in its code, and what was in force stays."""

        class Broken(Maker):
            """It makes nothing."""

            kind = "broken"
            credential_schema = ("api_key",)

            def make(self, section: Any, services: Any) -> NoReturn:
                raise KeyError("sk-ant-api03-a-secret")

        plugins: list[Any] = [Broken()]
        found = claudeproxyd.config.installed
        self.patch(found, "getPlugins", lambda interface: [each for each in plugins if interface.providedBy(each)])
        self.write(BASE + ONE.replace('"anthropic"', '"broken"') + MODELS.replace("two", "one"))
        before = self.daemon.site.gateway
        refused = str(self.failureResultOf(self.daemon.reload(), ConfigError).value)
        self.assertIs(self.daemon.site.gateway, before)
        for told in (refused, str(self.assertRaises(SystemExit, self.setUpDaemon))):
            self.assertIn('provider "one" cannot be made by kind "broken": KeyError in ', told)
            self.assertIn("test_daemon.py", told)
            self.assertNotIn("secret", told)

    def test_broken_plugins(self) -> None:
        """A plugin that is of no use is named, and all else goes on."""

        class Nameless(Maker):
            """It forgot its kind."""

        found = claudeproxyd.config.installed
        plugins: list[Any] = [Nameless()]
        self.patch(found, "getPlugins", lambda interface: [each for each in plugins if interface.providedBy(each)])
        for bring in (self.daemon.reload, self.setUpDaemon):
            with capturedLogs() as logs:
                bring()
            said = "".join(formatEvent(event) for event in logs)
            self.assertEqual(said.count("Nameless has no kind, so this plugin is left out"), 1, said)

    def test_open_access_is_not_reloaded(self) -> None:
        """A reload that says ``open`` changes nothing: other names than loopback stay out until a restart."""
        elsewhere = b"GET / HTTP/1.1\r\nHost: gateway.example\r\n\r\n"
        opened = BASE.replace("drain = 30.0", "drain = 30.0\nopen = true") + ONE
        self.write(opened)
        self.assertIn("not before a restart: server.open", self.successResultOf(self.daemon.reload()))
        self.assertEqual(Connection(self.daemon.site, "127.0.0.1").ask(elsewhere).status, 403)
        self.setUpDaemon()
        self.assertEqual(Connection(self.daemon.site, "127.0.0.1").ask(elsewhere).status, 200)

    def test_file_is_gone(self) -> None:
        """A configuration that was found by itself and vanishes is a mistake, not the environment alone."""
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        self.addCleanup(os.chdir, os.getcwd())
        self.path = os.path.join(folder, "claudeproxyd.toml")
        self.write(BASE + ONE + CLIENTS)
        os.chdir(folder)
        self.setUpDaemon([])
        os.chdir("/")
        self.assertEqual(self.successResultOf(self.daemon.reload()), "nothing changed")
        os.unlink(self.path)
        failure = self.failureResultOf(self.daemon.reload(), ConfigError)
        self.assertIn(f"{self.path}: cannot be read", str(failure.value))
        self.assertEqual(Reply(self.ask().take()).status, 401)

    def test_unforeseen(self) -> None:
        """Whatever no check foresaw is one line in the log, for SIGHUP as for who asks, beside the audit's; the daemon
        serves as before."""
        wire = self.used("one-m")
        log = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)

        def unusable(*_: object) -> None:
            raise FileNotFoundError(2, "gone between the check and now", "/ca.pem")

        self.write(BASE + ONE.replace("9001", "9003") + TWO + MODELS)
        self.patch(graph, "Generation", unusable)
        failure = self.failureResultOf(self.daemon.reload(), ConfigError)
        self.assertIn("FileNotFoundError: [Errno 2] gone between", str(failure.value))
        self.signals[signal.SIGHUP](signal.SIGHUP, None)
        lines = [line for line in map(formatEvent, log) if not line.startswith("audit: ")]
        self.assertEqual([line.count("gone between") for line in lines], [1, 1])
        self.assertEqual(self.flushLoggedErrors(), [])
        self.ask()
        self.assertIn(b"sk-one", wire.taken())

    def test_off_the_reactor(self) -> None:
        """Reading and checking is a thread's work; requests are served meanwhile, by the configuration of before."""
        self.held = held = []
        self.write(BASE + ONE.replace("9001", "9003") + TWO + MODELS)
        reloaded = self.daemon.reload()
        self.used("one-m")
        self.assertNoResult(reloaded)
        held.pop(0)()
        self.assertIn("one", self.successResultOf(reloaded))

    def test_new_secrets(self) -> None:
        """They are known before anybody can show them, and those from before for as long as their answers may come."""
        known: list[str] = []
        generation = graph.Generation
        self.patch(graph, "Generation", lambda *args: known.append(redact("a-key-of-a-client")) or generation(*args))
        self.write(BASE + ONE + CLIENTS)
        self.assertIn("clients", self.successResultOf(self.daemon.reload()))
        self.assertEqual(known, ["***"])
        self.write(BASE + ONE.replace("sk-one", "another-key-of-one") + CLIENTS)
        self.successResultOf(self.daemon.reload())
        self.write(BASE + ONE + CLIENTS)
        self.successResultOf(self.daemon.reload())
        self.assertEqual(redact("another-key-of-one"), "***")

    def test_one_at_a_time(self) -> None:
        """Those who ask while one is under way share the next, which reads what they wrote."""
        self.held = held = []
        reloads = [self.daemon.reload() for _ in range(200)]
        self.assertEqual(len(held), 1)
        self.write(BASE + TWO + MODELS.replace('{ provider = "one" }, ', ""))
        held.pop(0)()
        self.assertIn("removed: one", self.successResultOf(reloads[0]))
        self.assertEqual(len(held), 1)
        held.pop(0)()
        self.assertEqual([self.successResultOf(each) for each in reloads[1:]], ["nothing changed"] * 199)
        self.assertEqual(held, [])

    def test_nothing_changed(self) -> None:
        """A reload of the same file builds nothing anew: no provider is asked for its models again."""
        catalog = self.daemon._generation.catalog
        self.assertEqual(self.successResultOf(self.daemon.reload()), "nothing changed")
        self.assertIs(self.daemon._generation.catalog, catalog)


class Managed(DaemonTestCase):
    """By systemd."""

    def setUp(self) -> None:
        self.theirs = NotifySocket()
        self.addCleanup(self.theirs.close)
        os.environ["NOTIFY_SOCKET"] = self.theirs.path
        self.addCleanup(os.environ.pop, "NOTIFY_SOCKET", None)
        super().setUp()

    def test_told(self) -> None:
        """It is told when the daemon serves, of each reload and what came of it, and for what the end waits."""
        serving = "STATUS=serving on http://127.0.0.1:8765"
        self.assertEqual(self.theirs.told(), [["READY=1", serving]])
        self.write(BASE + ONE)
        self.successResultOf(self.daemon.reload())
        self.write("[pool]\nstrategy = 'best'\n")
        self.failureResultOf(self.daemon.reload(), ConfigError)
        begun, good, begun_again, bad = self.theirs.told()
        self.assertEqual((begun[0], begun_again[0]), ("RELOADING=1", "RELOADING=1"))
        self.assertEqual((good[0], bad[0]), ("READY=1", "READY=1"))
        self.assertIn("STATUS=serving; reloaded: ", good[1])
        self.assertIn(f"{self.path}:2: pool.strategy", bad[1])
        connection, _ = self.streaming()
        stopped = self.stop()
        self.assertEqual(self.theirs.told(), [["STOPPING=1", "STATUS=draining: 1 connections, for up to 30 s"]])
        self.signals[signal.SIGTERM](signal.SIGTERM, None)
        self.successResultOf(stopped)
        connection.lose()


class EarlySignals(SynchronousTestCase):
    """Signals that come early."""

    def setUp(self) -> None:
        self.addCleanup(signal.pthread_sigmask, signal.SIG_SETMASK, signal.pthread_sigmask(signal.SIG_BLOCK, []))
        self.path = self.mktemp()
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(BASE + ONE)

    def held(self) -> bool:
        """Whether SIGHUP waits."""
        return signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, [])

    def test_hang_up(self) -> None:
        """SIGHUP before the daemon listens for it ends nothing, and is not lost: it waits from the options on."""
        Options().parseOptions(["--config", self.path])
        self.assertTrue(self.held())

    def test_twistd(self) -> None:
        """For twistd it waits from before the options are imported."""
        self.assertRaises(AttributeError, lambda: DaemonMaker("c", "claudeproxyd.nothing", "", "c").options)
        self.assertTrue(self.held())

    def test_check(self) -> None:
        """A check is nobody's daemon: it ends with its terminal."""
        self.patch(sys, "stdout", io.StringIO())
        self.assertRaises(SystemExit, Options().parseOptions, ["--check", "--config", self.path])
        self.assertFalse(self.held())

    def test_command(self) -> None:
        """`claudeproxyd run` has it wait before anything of size is imported."""
        for argv, held in ((["run", "--help"], True), (["version"], False)):
            program = (
                "import signal, sys; from claudeproxyd.cli.entry import main;"
                "sys.meta_path.insert(0, type('Stop', (), {'find_spec': lambda name, *_: sys.exit("
                "signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, []))}));"
                f"sys.argv[1:] = {argv!r}; main()"
            )
            here = {**os.environ, "PYTHONPATH": str(Path(claudeproxyd.__file__).parents[1])}
            ended = subprocess.run([sys.executable, "-c", program], env=here, check=False)
            self.assertEqual(ended.returncode, held, argv)


class Descriptors(DaemonTestCase):
    """What the process may have is what it lets in."""

    def setUp(self) -> None:
        self.patch(resource, "getrlimit", lambda _: (64, 1_024))
        super().setUp()

    def test_fewer_connections(self) -> None:
        """No more clients than there are descriptors for, at either listener, now and after a reload."""
        for site in (self.daemon.site, self.daemon.admin_site):
            self.assertEqual(site.gateway.limits.max_connections, 487)
        self.write((BASE + ONE + TWO + MODELS).replace("drain", "max_connections = 400\ndrain"))
        self.successResultOf(self.daemon.reload())
        self.assertEqual(self.daemon.site.gateway.limits.max_connections, 400)


class Lookups(DaemonTestCase):
    """Names of hosts."""

    def setUp(self) -> None:
        self.asked: list[tuple[str, Deferred[Any]]] = []
        super().setUp()

    def in_unawaited_thread(self, function: Any, name: str) -> Deferred[Any]:
        """In a thread that ends when a test says so."""
        work: Deferred[Any] = Deferred()
        self.asked.append((name, work))
        return work

    def test_one_that_hangs(self) -> None:
        """Many requests to a host whose name hangs take one thread, and another provider is reached meanwhile."""
        by_name = (ONE + TWO).replace("http://127.0.0.1:9001", "https://hangs.example:9001")
        by_name = by_name.replace("http://127.0.0.1:9002", "https://fine.example:9002")
        self.write(BASE + by_name + MODELS + '[[models]]\nname = "two-m"\nroutes = [{ provider = "two" }]\n')
        self.successResultOf(self.daemon.reload())
        for _ in range(24):
            self.ask()
        self.ask("two-m")
        self.assertEqual([name for name, _ in self.asked], ["hangs.example", "fine.example"])
        self.asked[1][1].callback([(IPv4Address, "192.0.2.2")])
        self.assertEqual([where[:2] for where in self.reactor.tcpClients], [("192.0.2.2", 9002)])


class Circles(DaemonTestCase):
    """A base_url that leads back here, by whichever name."""

    def test_one_turn(self) -> None:
        """What comes back is refused before its key is looked at; the provider is out, and another serves."""
        connection = self.ask("any")
        wire = self.accept()
        again = Connection(self.daemon.site, "127.0.0.1")
        reply = again.ask(wire.taken().replace(b"Host: 127.0.0.1:9001", b"Host: gateway.example"))
        self.assertEqual(reply.status, 508)
        self.assertIn(b"base_url", reply.body)
        self.assertEqual(self.reactor.tcpClients, [])
        wire.say(b"HTTP/1.1 508 Loop Detected\r\ncontent-length: %d\r\n\r\n%b" % (len(reply.body), reply.body))
        self.accept().say(OK)
        self.assertIn(b'{"type":"message"}', connection.take())

    def test_another_daemon(self) -> None:
        """Requests of another daemon are as welcome as any client's."""
        connection = Connection(self.daemon.site, "127.0.0.1")
        body = b'{"model":"one-m","max_tokens":9,"messages":[]}'
        connection.send(post("/v1/messages", body, "x-claudeproxyd-hop: fedcba9876543210"))
        self.assertIn(b"x-claudeproxyd-hop: fedcba9876543210, ", self.accept().taken())


class Stopping(DaemonTestCase):
    """SIGTERM, and a second one."""

    def test_idle(self) -> None:
        """Without work the end is now; nothing listens and no timer is left."""
        self.used("one-m")
        self.assertEqual(self.ready(), [200, 200])
        for channel in [*self.daemon.site.channels, *self.daemon.admin_site.channels]:
            channel.connectionLost(None)
        self.successResultOf(self.stop())
        self.reactor.advance(0)
        self.assertEqual([str(call) for call in self.reactor.getDelayedCalls()], [])

    def test_drain(self) -> None:
        """A stream is seen out; until then neither listener is ready; then all ends."""
        connection, wire = self.streaming()
        stopped = self.stop()
        self.assertEqual(self.ready(), [503, 503])
        self.reactor.advance(20.0)
        self.assertNoResult(stopped)
        wire.say(chunk(STOP) + chunk(b""))
        self.assertIn(STOP, connection.take())
        self.reactor.pump([1.0] * 3)  # it was promised that the connection stays
        for channel in list(self.daemon.site.channels):
            self.assertTrue(channel.transport.disconnecting)
            channel.connectionLost(None)
        self.successResultOf(stopped)
        self.reactor.advance(0)
        self.assertTrue(wire.lost)

    def test_drain_is_over(self) -> None:
        """After ``drain`` seconds what still runs is ended with a word, its upstream at once."""
        connection, wire = self.streaming()
        with capturedLogs() as logs:
            stopped = self.stop()
        self.assertIn("draining: 1 connections, for up to 30 s", [formatEvent(event) for event in logs])
        self.reactor.pump([10.0, 10.0, 9.9])
        self.assertFalse(wire.aborted)
        self.reactor.advance(0.1)
        self.assertTrue(wire.aborted)
        self.assertIn(b"event: error", connection.take())
        self.settle(connection)
        self.successResultOf(stopped)

    def test_lame_duck(self) -> None:
        """First it is not ready for a while, and serves whoever comes; only then nobody is accepted."""
        self.write((BASE + ONE + TWO + MODELS).replace("drain", "lame_duck = 5.0\ndrain"))
        self.successResultOf(self.daemon.reload())
        idle = Connection(self.daemon.site, "127.0.0.1")
        idle.ask(get("/readyz"))
        (listener,) = self.daemon._listeners
        stopped = self.stop()
        self.assertEqual(self.ready(), [503, 503])
        self.reactor.advance(4.9)
        self.assertFalse(idle.closing)
        asking = self.ask()
        self.accept().say(OK)
        self.assertIn(b"\r\nconnection: close\r\n", asking.take())
        self.assertTrue(listener.running)
        self.reactor.advance(0.1)
        self.assertFalse(listener.running)
        self.reactor.pump([1.0] * 5)
        self.assertTrue(idle.closing)
        for channel in list(self.daemon.site.channels):
            channel.connectionLost(None)
        self.successResultOf(stopped)

    def test_second_signal_to_a_lame_duck(self) -> None:
        """A second signal ends that wait, too."""
        self.write((BASE + ONE + TWO + MODELS).replace("drain", "lame_duck = 5.0\ndrain"))
        self.successResultOf(self.daemon.reload())
        stopped = self.stop()
        self.signals[signal.SIGTERM](signal.SIGTERM, None)
        self.successResultOf(stopped)

    def test_second_signal(self) -> None:
        """A second signal ends the wait."""
        for number in (signal.SIGTERM, signal.SIGINT):
            connection, wire = self.streaming()
            stopped = self.stop()
            self.signals[number](number, None)
            self.assertTrue(wire.aborted)
            self.assertIn(b"event: error", connection.take())
            self.successResultOf(stopped)
            self.setUp()
        self.daemon.stopService()
