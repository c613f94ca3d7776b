"""The public listener, path by path, and the way of a request through it."""

from __future__ import annotations

import gc
import weakref

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.dispatch.request import CancelReason
from claudeproxyd.principals import Principal
from tests.web.support import BODY, Listener, get, post


class Paths(SynchronousTestCase):
    """The endpoints, and what is none."""

    def test_open_paths(self) -> None:
        """Probes need no key, by GET and by HEAD."""
        for path in ("/", "/api/hello", "/healthz", "/readyz", "/?x=1"):
            for method in ("GET", "HEAD"):
                with self.subTest(path, method=method):
                    reply = Listener(Principal("k")).ask(get(path, method=method))
                    self.assertEqual(reply.status, 200)
                    self.assertEqual(bool(reply.body), method == "GET")
                    self.assertNotEqual(reply.headers[b"content-length"], b"0")
                    self.assertNotIn(b"server", reply.headers)

    def test_key_needed(self) -> None:
        """Everything else needs one, and a wrong one is not to be tried again."""
        for data in (post(), post("/v1/messages/count_tokens"), get("/v1/models"), get("/v1/models/m")):
            reply = Listener(Principal("k")).ask(data)
            self.assertEqual((reply.status, reply.json["error"]["type"]), (401, "authentication_error"))
            self.assertEqual(reply.headers[b"x-should-retry"], b"false")

    def test_unknown_paths(self) -> None:
        """What is not there is a Claude-shaped 404."""
        for path in ("/nope", "/v1", "/v1/", "/v1/messages/", "/v1/models/", "//v1/messages", "*"):
            with self.subTest(path):
                reply = Listener().ask(get(path))
                self.assertEqual((reply.status, reply.json["error"]["type"]), (404, "not_found_error"))

    def test_wrong_methods(self) -> None:
        """A known path with another method says which ones will do."""
        table = (
            (get("/v1/messages"), b"POST"),
            (get("/v1/messages", method="BREW"), b"POST"),
            (get("/v1/messages/count_tokens", method="PUT"), b"POST"),
            (get("/v1/models", method="OPTIONS"), b"GET, HEAD"),
            (post("/healthz"), b"GET, HEAD"),
            (post("/v1/models/m"), b"GET, HEAD"),
        )
        for data, allow in table:
            with self.subTest(data):
                reply = Listener().ask(data)
                self.assertEqual((reply.status, reply.headers[b"allow"]), (405, allow))
                self.assertEqual(reply.json["error"]["type"], "invalid_request_error")

    def test_ready(self) -> None:
        """A daemon that starts or drains is not ready, and lives."""
        listener = Listener()
        listener.is_ready = False
        self.assertEqual(listener.ask(get("/readyz")).status, 503)
        self.assertEqual(listener.ask(get("/healthz")).status, 200)
        listener.is_ready = True
        connection = listener.connect()
        connection.send(b"G")
        listener.site.drain()
        self.assertEqual(connection.ask(get("/readyz")[1:]).status, 503)


class Calls(SynchronousTestCase):
    """A request's way to dispatch and back."""

    def test_what_dispatch_gets(self) -> None:
        """Dispatch knows who asks for what, under which id, and since when."""
        listener = Listener(Principal("k"))
        listener.clock.advance(5)
        listener.ask(post("/v1/messages?beta=true&x=%20", BODY, "x-api-key: k"))
        request = listener.dispatcher.running[0].request
        self.assertEqual((request.principal.name, request.envelope.model, request.started), ("k", "m", 5))
        self.assertEqual(request.query, b"beta=true&x=%20")
        self.assertFalse(request.count_tokens)
        self.assertRegex(request.request_id, r"\Areq_[0-9a-f]{24}\Z")

    def test_model_not_allowed(self) -> None:
        """A model that is not the client's to use is a 400 that names it."""
        listener = Listener(Principal("k", models=("claude-*",)))
        reply = listener.ask(post("/v1/messages", BODY, "x-api-key: k"))
        self.assertEqual((reply.status, reply.json["error"]["type"]), (400, "invalid_request_error"))
        self.assertIn("m", reply.json["error"]["message"])

    def test_client_leaves(self) -> None:
        """A client that goes takes its request along: dispatch knows why, and the log has one line."""
        listener = Listener()
        listener.dispatcher.hold = True
        connection = listener.connect()
        connection.send(post())
        connection.lose()
        self.assertIs(listener.dispatcher.running[0].cancelled, CancelReason.CLIENT_GONE)
        self.assertEqual([(entry.status, entry.outcome) for entry in listener.log], [(0, "cancelled")])

    def test_answer_without_dispatch(self) -> None:
        """A request that dispatch has no part in and that is answered was not cancelled, and its line says so."""
        listener = Listener()
        listener.ask(get("/v1/models"))
        self.assertEqual([(entry.status, entry.outcome) for entry in listener.log], [(200, "")])

    def test_client_leaves_after_its_answer(self) -> None:
        """A client that goes after its answer cancels nothing."""
        listener = Listener()
        connection = listener.connect()
        connection.ask(post())
        connection.lose()
        self.assertIsNone(listener.dispatcher.running[0].cancelled)
        self.assertEqual(len(listener.log), 1)

    def test_freed_at_once(self) -> None:
        """What a request was made of goes with its end, and is nothing for the garbage collector to look for."""
        listener = Listener()
        connection = listener.connect()
        self.addCleanup(gc.enable)
        gc.disable()
        connection.ask(post())
        running = listener.dispatcher.running.pop()
        downlink = weakref.ref(running.downlink)
        del running
        self.assertIsNone(downlink())

    def test_client_leaves_between_answer_and_end(self) -> None:
        """Nor while dispatch puts its things in order; the line says what the client was told."""
        listener = Listener()
        listener.dispatcher.hold = True
        connection = listener.connect()
        connection.send(post())
        listener.dispatcher.running[0].downlink.whole([], b"{}")
        connection.lose()
        self.assertEqual(listener.log, [])
        listener.dispatcher.running[0].done.callback(None)
        self.assertEqual([entry.status for entry in listener.log], [200])

    def test_entry(self) -> None:
        """The log's line says who asked for what and what it came to."""
        listener = Listener(Principal("k"))
        listener.ask(post("/v1/messages?secret=1", BODY, "x-api-key: k"))
        (entry,) = listener.log
        self.assertEqual(
            (entry.client, entry.remote, entry.method, entry.path, entry.model, entry.status, entry.outcome),
            ("k", "192.0.2.7", "POST", "/v1/messages", "m", 200, "ok"),
        )
        self.assertEqual((entry.bytes_in, entry.bytes_out), (len(BODY), len(listener.dispatcher.body)))
