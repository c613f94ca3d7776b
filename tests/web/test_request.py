"""Bodies: their bounds, their codings, and what they hold in memory."""

from __future__ import annotations

import gc
import gzip
import tracemalloc
import weakref
import zlib
from typing import Any

import zstandard
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.principals import Principal
from claudeproxyd.web.buffers import BufferBudget
from claudeproxyd.web.downlink import Downlink
from claudeproxyd.web.gateway import Limits
from claudeproxyd.web.request import MAX_UNWANTED_BODY_BYTES
from claudeproxyd.web.root import Endpoint
from tests.web.support import BODY, Listener, Reply, get, post, replies

CHUNKED = b"POST /v1/messages HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


class Bodies(SynchronousTestCase):
    """What is taken and what is not."""

    def setUp(self) -> None:
        self.listener = Listener(limits=Limits(max_request_bytes=1000))

    def assertError(self, reply: Reply, status: int, kind: str, *words: str) -> None:
        self.assertEqual((reply.status, reply.json["error"]["type"]), (status, kind))
        for word in words:
            self.assertIn(word, reply.json["error"]["message"])

    def tearDown(self) -> None:
        self.assertEqual(self.listener.site.gateway.buffers.held, 0)

    def test_faults_are_named(self) -> None:
        """A body that is no request is a 400 that names the member."""
        table = {
            b"": "JSON",
            b"{": "JSON",
            b"[]": "object",
            b"\xff\xfe": "JSON",
            b'{"messages":[],"max_tokens":1}': "model",
            b'{"model":7,"messages":[],"max_tokens":1}': "model",
            b'{"model":"m","messages":{},"max_tokens":1}': "messages",
            b'{"model":"m","messages":[]}': "max_tokens",
            b'{"model":"m","messages":[],"max_tokens":-1}': "max_tokens",
            b'{"model":"m","messages":[],"max_tokens":"9"}': "max_tokens",
            b'{"model":"m","messages":[],"max_tokens":1,"stream":"yes"}': "stream",
            b'{"model":"m","messages":[],"max_tokens":1,"model":"n"}': "model",
        }
        for body, word in table.items():
            with self.subTest(body):
                self.assertError(self.listener.ask(post("/v1/messages", body)), 400, "invalid_request_error", word)
        self.assertEqual(self.listener.dispatcher.running, [])

    def test_deep_nesting(self) -> None:
        """A body nested ten thousand deep is a 400, and the daemon lives."""
        self.listener = Listener()
        body = b'{"model":"m","max_tokens":1,"messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
        self.assertIn(self.listener.ask(post("/v1/messages", body)).status, (200, 400))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_no_max_tokens_to_count(self) -> None:
        """count_tokens needs no max_tokens."""
        reply = self.listener.ask(post("/v1/messages/count_tokens", b'{"model":"m","messages":[]}'))
        self.assertEqual(reply.status, 200)
        self.assertTrue(self.listener.dispatcher.running[0].request.count_tokens)

    def test_too_large_by_its_length(self) -> None:
        """A body that says it is too large is refused before a byte of it came."""
        head = post("/v1/messages", b"x" * 1001)[:-1001]
        self.assertError(self.listener.ask(head), 413, "request_too_large", "1000")

    def test_too_large_while_it_comes(self) -> None:
        """A body in chunks is refused when it gets too large, and only one answer is given."""
        connection = self.listener.connect()
        connection.send(CHUNKED)
        for _ in range(20):
            connection.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        connection.send(b"0\r\n\r\n")
        (reply,) = replies(connection.take())
        self.assertError(reply, 413, "request_too_large")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_too_large_in_one_read(self) -> None:
        """The same when all of it comes at once."""
        (reply,) = replies(self._send(CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n"))
        self.assertError(reply, 413, "request_too_large")

    def _send(self, data: bytes) -> bytes:
        connection = self.listener.connect()
        connection.send(data)
        return connection.take()

    def test_exactly_as_large_as_it_may_be(self) -> None:
        """The bound itself is within bounds."""
        body = BODY.ljust(1000)
        self.assertEqual(self.listener.ask(post("/v1/messages", body)).status, 200)

    def test_codings(self) -> None:
        """gzip, deflate and zstd are undone before dispatch sees the body."""
        for coding, data in (
            ("gzip", gzip.compress(BODY)),
            ("deflate", zlib.compress(BODY)),
            ("zstd", zstandard.compress(BODY)),
            ("identity", BODY),
        ):
            with self.subTest(coding):
                self.assertEqual(
                    self.listener.ask(post("/v1/messages", data, f"Content-Encoding: {coding}")).status, 200
                )
                self.assertEqual(self.listener.dispatcher.bodies[-1], BODY)

    def test_bad_codings(self) -> None:
        """A coding that is unknown is a 415, damaged data a 400, a bomb a 413."""
        table = (
            ("br", BODY, 415, "invalid_request_error"),
            ("gzip", BODY, 400, "invalid_request_error"),
            ("gzip", gzip.compress(BODY)[:-3], 400, "invalid_request_error"),
            ("gzip", gzip.compress(b"x" * 100_000), 413, "request_too_large"),
            ("zstd", zstandard.compress(b"x" * 100_000), 413, "request_too_large"),
        )
        for coding, data, status, kind in table:
            with self.subTest(coding, status=status):
                reply = self.listener.ask(post("/v1/messages", data, f"Content-Encoding: {coding}"))
                self.assertError(reply, status, kind)

    def test_log_of_what_is_refused(self) -> None:
        """Every refusal has its line, with its status and why."""
        self.listener.ask(post("/v1/messages", b"{"))
        self.listener.ask(get("/nope"))
        self.assertEqual([entry.status for entry in self.listener.log], [400, 404])
        self.assertTrue(all(entry.error for entry in self.listener.log))


class Memory(SynchronousTestCase):
    """All bodies together have a bound."""

    def setUp(self) -> None:
        self.buffers = BufferBudget(1000)
        self.listener = Listener(buffers=self.buffers)

    def test_full(self) -> None:
        """Where there is no room for a body, its client is told to come again; when there is, it is taken."""
        first = self.listener.connect()
        first.send(post("/v1/messages", BODY.ljust(750))[:-1])
        self.assertGreater(self.buffers.held, 700)
        reply = self.listener.ask(post("/v1/messages", BODY.ljust(300)))
        self.assertEqual((reply.status, reply.json["error"]["type"]), (529, "overloaded_error"))
        self.assertEqual(reply.headers[b"retry-after"], b"1")
        self.assertEqual(first.ask(b" ").status, 200)
        self.assertEqual(self.buffers.held, 0)
        self.assertEqual(self.listener.ask(post("/v1/messages", BODY.ljust(300))).status, 200)

    def test_share(self) -> None:
        """One client's bodies leave room for others', and the others' for one who comes new."""
        listener = Listener(*map(Principal, "abc"), buffers=self.buffers)

        def begin(client: str) -> None:
            """Bodies as many as are taken, none of them whole."""
            for _ in range(30):
                connection = listener.connect()
                connection.send(post("/v1/messages", BODY.ljust(50), f"x-api-key: {client}")[:-1])

        begin("a")
        self.assertLessEqual(self.buffers.held, 800)
        begin("b")
        self.assertLessEqual(self.buffers.held, 960)
        reply = listener.ask(post("/v1/messages", BODY.ljust(50), "x-api-key: a"))
        self.assertEqual((reply.status, reply.headers[b"retry-after"]), (529, b"1"))
        self.assertEqual(listener.ask(post("/v1/messages", BODY, "x-api-key: c")).status, 200)

    def test_refused_is_freed_at_once(self) -> None:
        """What a request was made of is nothing for the garbage collector to look for, however it was refused."""
        listener = Listener(limits=Limits(max_request_bytes=100_000))
        refused: list[weakref.ref[object]] = []
        self.patch(listener.site, "log", lambda request: refused.append(weakref.ref(request)))
        large = post("/v1/messages", b"x" * 99_999)
        self.addCleanup(gc.enable)
        gc.disable()
        for name, data in {
            "no such path": get("/nowhere"),
            "no such path, with a body": post("/nowhere"),
            "no such path, with a large body": large.replace(b"messages", b"nowhere"),
            "no request": post("/v1/messages", b"{}"),
            "too large": post("/v1/messages", b"x" * 100_001),
            "too large, in chunks": CHUNKED + b"20000\r\n" + b"x" * 0x20000,
            "an unknown coding": post("/v1/messages", BODY, "Content-Encoding: br"),
            "damaged": post("/v1/messages", BODY, "Content-Encoding: gzip"),
            "truncated": post("/v1/messages", gzip.compress(BODY)[:-3], "Content-Encoding: gzip"),
            "not HTTP": b"GET / HTTP/1.1\r\nnonsense\r\n\r\n",
            "a long path": get("/" + "a" * 60_000),
        }.items():
            connection = listener.connect()
            connection.send(data)
            connection.lose()
            self.assertEqual((len(refused), refused.pop()()), (1, None), name)

    def test_full_in_the_middle(self) -> None:
        """A body without a length is refused when the room ends."""
        connection = self.listener.connect()
        connection.send(CHUNKED + b"500\r\n" + b"x" * 0x500 + b"\r\n")
        self.assertEqual([reply.status for reply in replies(connection.take())], [529])
        self.assertEqual(self.buffers.held, 0)

    def test_decoded_counts(self) -> None:
        """What a coded body comes to is counted, not what it was."""
        reply = self.listener.ask(post("/v1/messages", gzip.compress(BODY.ljust(5000)), "Content-Encoding: gzip"))
        self.assertEqual((reply.status, self.buffers.held), (529, 0))

    def test_client_gone(self) -> None:
        """A client that leaves in the middle of its body holds nothing any more, and is logged."""
        connection = self.listener.connect()
        connection.send(post("/v1/messages", BODY)[:-5])
        self.assertGreater(self.buffers.held, 0)
        connection.lose()
        self.assertEqual(self.buffers.held, 0)
        self.assertEqual([(entry.status, entry.outcome) for entry in self.listener.log], [(0, "cancelled")])

    def test_small_pieces(self) -> None:
        """A body that comes by two bytes takes no more memory than is counted, in chunks or in reads."""
        pieces = [b"ab"] * 20_000
        in_chunks = [CHUNKED, b"".join([b"2\r\n%b\r\n" % each for each in pieces])]
        in_reads = [post("/v1/messages", b"x" * 50_000)[:-50_000], *pieces]
        for name, sent in {"chunks": in_chunks, "reads": in_reads}.items():
            listener = Listener()
            connection = listener.connect()
            tracemalloc.start()
            self.addCleanup(tracemalloc.stop)
            before, _ = tracemalloc.get_traced_memory()
            for data in sent:
                connection.send(data)
            taken = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            self.assertEqual(listener.site.gateway.buffers.held, 40_000)
            self.assertLess(taken, 3 * 40_000, name)
            if name == "chunks":
                connection.send(b"0\r\n\r\n")
                self.assertEqual(listener.log[0].bytes_in, 40_000)
            connection.lose()

    def test_held_while_answered(self) -> None:
        """A body counts until its answer is out."""
        self.listener.dispatcher.hold = True
        self.listener.connect().send(post())
        self.assertEqual(self.buffers.held, len(BODY))
        self.listener.dispatcher.answer()
        self.assertEqual(self.buffers.held, 0)

    def test_large_body_is_copied_once(self) -> None:
        """A body of one read reaches dispatch as the very bytes that came."""
        seen: list[bytes] = []
        listener = Listener()
        connection = listener.connect()
        connection.send(post()[: -len(BODY)])
        self.patch(
            Endpoint, "render", lambda _, request: (seen.append(request.take_body().data), request.answer_json(b"{}"))
        )
        body = bytes(BODY)
        connection.send(body)
        self.assertIs(seen[0], body)


class Refused(SynchronousTestCase):
    """Clients that may not come in."""

    def setUp(self) -> None:
        self.listener = Listener(Principal("k"))

    def test_before_its_body(self) -> None:
        """A large body is not even read of a client without a key."""
        connection = self.listener.connect()
        connection.send(post("/v1/messages", b"x" * (MAX_UNWANTED_BODY_BYTES + 1))[: -MAX_UNWANTED_BODY_BYTES - 1])
        self.assertEqual([reply.status for reply in replies(connection.take())], [401])
        self.assertTrue(connection.closing)
        self.assertEqual(self.listener.site.gateway.buffers.held, 0)

    def test_connection_lives_on(self) -> None:
        """After a small one the connection serves the next request."""
        connection = self.listener.connect()
        self.assertEqual(connection.ask(post()).status, 401)
        self.assertEqual(connection.ask(post("/v1/messages", BODY, "x-api-key: k")).status, 200)


class Faults(SynchronousTestCase):
    """Our own mistakes."""

    def test_fault_in_an_endpoint(self) -> None:
        """A fault of ours is a Claude-shaped 500 with the id under which it is logged."""

        def fail(*_: Any) -> None:
            raise ZeroDivisionError

        self.patch(Endpoint, "render", fail)
        listener = Listener()
        reply = listener.ask(get("/"))
        self.assertEqual((reply.status, reply.json["error"]["type"]), (500, "api_error"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(listener.log[0].request_id, reply.json["request_id"])

    def test_fault_after_the_head(self) -> None:
        """Once an answer has begun, a fault cuts it: half an answer must not look whole."""

        def fail(_: Endpoint, request: Any) -> None:
            Downlink(request, request.site.clock).commit_head([])
            raise ZeroDivisionError

        self.patch(Endpoint, "render", fail)
        connection = Listener().connect()
        connection.send(get("/"))
        self.assertTrue(connection.transport.disconnected)
        self.flushLoggedErrors(ZeroDivisionError)
