"""What HTTP itself refuses, how long a client may take, and what one connection may carry."""

from __future__ import annotations

import socket
from collections.abc import Container
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import ITCPTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from claudeproxyd.principals import Principal
from claudeproxyd.remembered import MAX_WORD_LENGTH, MAX_WORDS
from claudeproxyd.slices import SLICE
from claudeproxyd.sockets import NEXT_TURN
from claudeproxyd.web import channel as module
from claudeproxyd.web.channel import (
    ABORT_TIMEOUT,
    CLOSE_TIMEOUT,
    DISCARD_TIMEOUT,
    KEEP_ALIVE_TIMEOUT,
    MAX_DISCARDED_BYTES,
    MAX_HEAD_BYTES,
    GatewayChannel,
)
from claudeproxyd.web.head import _names
from claudeproxyd.web.site import DRAIN_GRACE, MAX_REFUSED_CONNECTIONS
from tests.web.support import BODY, Connection, Listener, get, post, replies

HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

REFUSED = {
    "no request line": (b"garbage\r\n\r\n", 400),
    "two words": (b"GET /\r\n\r\n", 400),
    "four words": (b"GET / / HTTP/1.1\r\n\r\n", 400),
    "a method that is none": (b"G(T / HTTP/1.1\r\n\r\n", 400),
    "a lower-case version": (b"GET / http/1.1\r\n\r\n", 400),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\n\r\n", 400),
    "HTTP/2 in clear": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "both lengths": (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "both lengths, turned": (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
    "two lengths": (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
    "the same length twice": (HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400),
    "a list of lengths": (HEAD + b"Content-Length: 3, 3\r\n\r\n", 400),
    "a signed length": (HEAD + b"Content-Length: +5\r\n\r\n", 400),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n", 400),
    "no length": (HEAD + b"Content-Length:\r\n\r\n", 400),
    "a length of 5000 digits": (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
    "codings of transfer": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
    "chunked twice": (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "identity as a coding": (HEAD + b"Transfer-Encoding: identity\r\n\r\n" + get("/"), 400),
    "identity and chunked": (HEAD + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked and identity": (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
    "identity in a list": (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "a target of 60 KB": (b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\n\r\n", 414),
    "chunks in HTTP/1.0": (b"POST /v1/messages HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a chunk size that is none": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "a chunk without its end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
    "a folded header": (HEAD + b"X-A: b\r\n c\r\n\r\n", 400),
    "a fold at the start": (b"GET / HTTP/1.1\r\n X-A: b\r\n\r\n", 400),
    "a header without a colon": (HEAD + b"nonsense\r\n\r\n", 400),
    "a header without a name": (HEAD + b": x\r\n\r\n", 400),
    "blank before the colon": (HEAD + b"Content-Length : 3\r\n\r\n", 400),
    "a stray LF": (HEAD + b"X-A: b\nContent-Length: 3\r\n\r\n", 400),
    "a stray CR": (HEAD + b"X-A: b\rc\r\n\r\n", 400),
    "a NUL": (HEAD + b"X-A: b\0c\r\n\r\n", 400),
    "a target that is no URL": (b"GET http://[::1/ HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
    "the same host twice": (b"GET / HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\n\r\n", 400),
    "a target on another host": (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a target on another port": (b"GET http://localhost:1/ HTTP/1.1\r\nHost: localhost:2\r\n\r\n", 400),
    "a target with an odd host": (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost:x\r\n\r\n", 400),
    "too many headers": (HEAD + b"X-A: b\r\n" * 501 + b"\r\n", 431),
    "a head without end": (HEAD + b"X-A: " + b"b" * MAX_HEAD_BYTES, 431),
    "a request line without end": (b"GET /" + b"a" * (MAX_HEAD_BYTES + 1), 431),
}


class Refusals(SynchronousTestCase):
    """A client that speaks no HTTP is told so in the API's own shape."""

    def assertRefused(self, connection: Connection, listener: Listener, status: int) -> None:
        (reply,) = replies(connection.take())
        self.assertEqual(reply.status, status)
        self.assertEqual(reply.headers[b"content-type"], b"application/json")
        self.assertEqual(reply.headers[b"connection"], b"close")
        self.assertEqual(reply.json["type"], "error")
        self.assertEqual(reply.json["request_id"].encode(), reply.headers[b"request-id"])
        self.assertTrue(connection.closing)
        self.assertEqual([entry.status for entry in listener.log], [status])

    def test_table(self) -> None:
        """Each malformed request gets its status, a Claude error, a line in the log, and the connection's end."""
        for name, (data, status) in REFUSED.items():
            with self.subTest(name):
                listener = Listener()
                connection = listener.connect()
                connection.send(data)
                self.assertRefused(connection, listener, status)
                self.assertEqual(listener.dispatcher.running, [])

    def test_byte_by_byte(self) -> None:
        """How the bytes of a malformed request are cut changes nothing about its answer."""
        for name, (data, status) in REFUSED.items():
            if len(data) > 1000:
                continue
            with self.subTest(name):
                listener = Listener()
                connection = listener.connect()
                for index in range(len(data)):
                    connection.send(data[index : index + 1])
                self.assertRefused(connection, listener, status)

    def test_nothing_after_a_refusal(self) -> None:
        """What follows a refused request is no request: nobody can smuggle one past us."""
        listener = Listener()
        connection = listener.connect()
        connection.send(REFUSED["both lengths"][0] + post())
        connection.send(post())
        self.assertEqual(len(replies(connection.take())), 1)
        self.assertEqual(listener.dispatcher.running, [])

    def test_after_a_good_one(self) -> None:
        """A malformed request behind a good one is answered after it."""
        connection = Listener().connect()
        connection.send(post() + b"garbage\r\n\r\n")
        self.assertEqual([reply.status for reply in replies(connection.take())], [200, 400])

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.binary(max_size=60) | st.sampled_from([HEAD, b"\r\n", b"\r\n\r\n", post(), get("/")]), max_size=8)
    )
    def test_garbage(self, pieces: list[bytes]) -> None:
        """Whatever bytes come, every answer is Claude's or a good one, and nothing of ours breaks."""
        listener = Listener()
        connection = listener.connect()
        for piece in pieces:
            connection.send(piece)
        for reply in replies(connection.take()):
            if reply.status != 200:
                self.assertEqual(reply.json["type"], "error")
        connection.lose()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(listener.site.gateway.buffers.held, 0)


class Heads(SynchronousTestCase):
    """What a good head comes to."""

    def test_headers_as_sent(self) -> None:
        """Dispatch sees every header in order, its name in lower case, its value untouched."""
        listener = Listener()
        listener.ask(post("/v1/messages?beta=true", BODY, "X-B: 1", "x-a:\t two  words \t", "X-b: 3"))
        request = listener.dispatcher.running[0].request
        named = [pair for pair in request.headers if pair[0].startswith(b"x-")]
        self.assertEqual(named, [(b"x-b", b"1"), (b"x-a", b"two  words"), (b"x-b", b"3")])
        self.assertEqual(request.query, b"beta=true")

    def test_large_heads_pass(self) -> None:
        """Claude Code's long beta headers are within bounds, up to 64 KB together."""
        reply = Listener().ask(post("/v1/messages", BODY, "anthropic-beta: " + "b" * 60_000))
        self.assertEqual(reply.status, 200)

    def test_any_cut(self) -> None:
        """A request is the same however the network cuts it."""
        data = post("/v1/messages", BODY)
        for cut in range(1, len(data)):
            connection = Listener().connect()
            connection.send(data[:cut])
            connection.send(data[cut:])
            self.assertEqual([reply.status for reply in replies(connection.take())], [200])

    def test_blank_lines_first(self) -> None:
        """Blank lines ahead of a request, as some clients leave after a body, do no harm."""
        self.assertEqual(Listener().ask(b"\r\n\r\n" + get("/")).status, 200)

    def test_absolute_form(self) -> None:
        """A target that is a whole URL, as through a proxy, finds its path."""
        self.assertEqual(Listener().ask(get("http://localhost/v1/models?limit=1")).status, 200)
        for target, host in (("HTTP://LocalHost:80", "localhost"), ("https://[::1]", "[::1]:443"), ("x://y:9", "y:9")):
            data = f"GET {target}/v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            self.assertEqual(Listener().ask(data).status, 200, target)

    def test_chunked_body(self) -> None:
        """A body in chunks arrives whole, trailers and extensions aside."""
        listener = Listener()
        chunked = b"%x;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\nX-T: u\r\n\r\n" % (7, BODY[:7], len(BODY) - 7, BODY[7:])
        self.assertEqual(listener.ask(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked).status, 200)
        self.assertEqual(listener.dispatcher.bodies[0], BODY)

    def test_http_1_0(self) -> None:
        """An HTTP/1.0 client gets its answer and the end of the connection."""
        connection = Listener().connect()
        reply = connection.ask(b"GET /healthz HTTP/1.0\r\n\r\n")
        self.assertEqual((reply.status, reply.headers[b"connection"]), (200, b"close"))
        self.assertTrue(connection.closing)

    def test_close_is_heard(self) -> None:
        """``Connection: close`` is honoured wherever it stands in the list, and keep-alive otherwise."""
        for value, closing in (("close", True), ("TE, Close", True), ("keep-alive", False), ("closed", False)):
            connection = Listener().connect()
            reply = connection.ask(get("/", f"Connection: {value}"))
            self.assertEqual((connection.closing, b"connection" in reply.headers), (closing, closing), value)

    def test_expect(self) -> None:
        """A client that asks first is told to go on, but never towards a body that is refused anyway."""
        connection = Listener().connect()
        connection.send(HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(BODY))
        self.assertEqual(connection.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(connection.ask(BODY).status, 200)
        for head in (
            HEAD + b"Content-Length: 99999999\r\n",
            b"POST /nope HTTP/1.1\r\nContent-Length: 9\r\n",
        ):
            reply = Listener().ask(head + b"Expect: 100-continue\r\n\r\n")
            self.assertIn(reply.status, (413, 404))

    def test_names_kept_are_bounded(self) -> None:
        """A client that makes up header names does not fill our memory."""
        self.addCleanup(_names.clear)
        connection = Listener().connect()
        for batch in range(4):
            connection.send(get("/", *(f"X-{batch}-{index}: 1" for index in range(400)), f"{'y' * 200}: 1"))
            self.assertLessEqual(len(_names), MAX_WORDS)
        self.assertFalse(any(len(name) > MAX_WORD_LENGTH for name in _names))


class OneAfterAnother(SynchronousTestCase):
    """A connection carries many requests."""

    def test_keep_alive(self) -> None:
        """The second request needs no second connection."""
        connection = Listener().connect()
        for _ in range(3):
            self.assertEqual(connection.ask(post()).status, 200)
        self.assertFalse(connection.closing)

    def test_pipelining(self) -> None:
        """Requests sent ahead are answered in their order, also when the first one takes its time."""
        listener = Listener()
        listener.dispatcher.hold = True
        connection = listener.connect()
        connection.send(post() + get("/healthz") + get("/nope"))
        self.assertEqual(connection.take(), b"")
        listener.dispatcher.answer()
        self.assertEqual([reply.status for reply in replies(connection.take())], [200, 200, 404])

    def test_many_at_once(self) -> None:
        """Thousands of requests in one read neither recurse nor get lost."""
        connection = Listener().connect()
        connection.send(get("/healthz") * 3000)
        self.assertEqual(len(replies(connection.take())), 3000)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_what_comes_ahead_is_bounded(self) -> None:
        """A client that sends on and on while its first request runs is read no further."""
        listener = Listener()
        listener.dispatcher.hold = True
        connection = listener.connect()
        connection.send(post())
        connection.send(post() * 100)
        connection.send(post() * 100)
        self.assertEqual(connection.transport.producerState, "paused")


class Patience(SynchronousTestCase):
    """No client can hold a connection by being slow."""

    def setUp(self) -> None:
        self.listener = Listener()
        self.connection = self.listener.connect()

    def pump(self, seconds: float, data: bytes = b"") -> None:
        for _ in range(int(seconds)):
            if data and not self.connection.closing:
                self.connection.send(data)
            self.listener.clock.advance(1)

    def end_slowly(self, looked_at: Container[GatewayChannel] = ()) -> None:
        """Have the end of each connection take a millisecond, but for those that are to be *looked_at* again."""
        expired = GatewayChannel.expired

        def slow(channel: GatewayChannel) -> None:
            self.listener.clock.rightNow += 0.001
            if channel in looked_at:
                channel.deadline = self.listener.clock.seconds()
            else:
                expired(channel)

        self.patch(GatewayChannel, "expired", slow)

    def test_head_by_drops(self) -> None:
        """A head that comes a byte a second is not waited for beyond ``request_head``."""
        self.connection.send(b"GET / HTTP/1.1\r\nX-A: ")
        self.pump(22, b"b")
        (reply,) = replies(self.connection.take())
        self.assertEqual((reply.status, reply.json["error"]["type"]), (408, "invalid_request_error"))
        self.assertTrue(self.connection.closing)

    def test_second_head_by_drops(self) -> None:
        """Nor is that of a later request, and the pause before it is not counted."""
        self.connection.ask(get("/"))
        self.pump(60)
        self.assertFalse(self.connection.closing)
        self.pump(22, b"G")
        self.assertEqual([reply.status for reply in replies(self.connection.take())], [408])

    def test_many(self) -> None:
        """Those whose time is over at one moment are dealt with in slices, and those that are looked at again wait."""
        silent = [self.listener.connect() for _ in range(60)]
        self.end_slowly({self.listener.connect().channel for _ in range(60)})
        ended = 0
        for seconds in (20, *[NEXT_TURN] * 50):
            self.listener.clock.advance(seconds)
            now = sum(connection.closing for connection in silent)
            self.assertLessEqual(now - ended, SLICE / 0.001 + 1)
            ended = now
        self.assertEqual(ended, 60)

    def test_late_and_gone(self) -> None:
        """Who has asked, or has gone, before it is its turn is left alone."""
        connections = [self.listener.connect() for _ in range(60)]
        self.end_slowly()
        self.listener.clock.advance(20)
        left = [connection for connection in connections if not connection.closing]
        left[0].ask(get("/healthz"))
        left[1].lose()
        for _ in range(50):
            self.listener.clock.advance(NEXT_TURN)
        self.assertEqual([connection for connection in connections if not connection.closing], left[:2])

    def test_silence(self) -> None:
        """A connection that never asks anything is closed without a word."""
        self.pump(21)
        self.assertEqual((self.connection.take(), self.connection.closing), (b"", True))

    def test_idle(self) -> None:
        """Between two requests there is more time, and then no word either."""
        self.connection.ask(get("/"))
        self.pump(KEEP_ALIVE_TIMEOUT - 2)
        self.assertFalse(self.connection.closing)
        self.pump(3)
        self.assertEqual((self.connection.take(), self.connection.closing), (b"", True))

    def whole_answer_waits(self, *headers: str) -> None:
        """An answer is written, and the client's socket is full of it."""
        self.left = 1_000_000
        self.patch(module, "unsent", lambda transport: self.left)
        self.listener.dispatcher.hold = True
        self.connection.send(post("/v1/messages", BODY, *headers))
        self.connection.channel.pauseProducing()
        self.listener.dispatcher.answer()

    def test_client_that_takes_nothing(self) -> None:
        """A client that takes nothing of a whole answer is cut after ``stall``, keep-alive or not."""
        for headers in ((), ("Connection: close",)):
            self.connection = self.listener.connect()
            self.whole_answer_waits(*headers)
            self.pump(58)
            self.assertFalse(self.connection.transport.disconnected)
            self.pump(4)
            self.assertTrue(self.connection.transport.disconnected)
            self.connection.lose()
            self.listener.dispatcher.running.clear()

    def test_client_that_reads_slowly(self) -> None:
        """One that takes a little now and then gets all of it, however long that lasts."""
        for headers in ((), ("Connection: close",)):
            self.connection = self.listener.connect()
            self.whole_answer_waits(*headers)
            for _ in range(20):
                self.pump(50)
                self.left -= 1_000
            self.assertFalse(self.connection.transport.disconnected)
            self.connection.lose()
            self.listener.dispatcher.running.clear()

    def test_client_that_leaves_a_remainder(self) -> None:
        """It is cut after ``stall`` for a few bytes too, of which Twisted does not tell us as they are too few."""
        self.patch(module, "unsent", lambda transport: 3)
        for headers in ((), ("Connection: close",)):
            self.connection = self.listener.connect()
            self.connection.send(post("/v1/messages", BODY, *headers))
            self.pump(59)
            self.assertFalse(self.connection.transport.disconnected)
            self.pump(3)
            self.assertTrue(self.connection.transport.disconnected)
            self.connection.lose()

    def test_next_head_after_a_remainder(self) -> None:
        """Who goes on to a next request has as long for its head as anybody."""
        self.patch(module, "unsent", lambda transport: 3)
        self.connection.send(post())
        self.connection.take()
        self.pump(10)
        self.connection.send(b"GET / HT")
        self.pump(19)
        self.assertEqual(self.connection.take(), b"")
        self.pump(3)
        self.assertEqual([reply.status for reply in replies(self.connection.take())], [408])

    def test_client_that_has_read_all(self) -> None:
        """After that the connection is kept as any other."""
        self.whole_answer_waits()
        self.pump(30)
        self.left = 0
        self.pump(KEEP_ALIVE_TIMEOUT - 2)
        self.assertFalse(self.connection.closing)
        self.pump(3)
        self.assertTrue(self.connection.closing)

    def test_body(self) -> None:
        """A body may take long as long as it moves, and not when it stands still."""
        self.connection.send(HEAD + b"Content-Length: 8000000\r\n\r\n")
        self.pump(200, b"x" * module.MIN_BODY_RATE)
        self.assertEqual(self.connection.take(), b"")
        self.pump(62)
        self.assertEqual([reply.status for reply in replies(self.connection.take())], [408])

    def test_body_by_drops(self) -> None:
        """Nor may it go on for ever by a byte now and then, whatever came before: that is memory held from others."""
        for head in (b"Content-Length: 8000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n500000\r\n"):
            connection = self.connection = self.listener.connect()
            connection.send(HEAD + head)
            connection.send(b"x" * module.MIN_BODY_RATE * 30)
            self.pump(85, b"x")
            self.assertEqual(connection.take(), b"")
            self.pump(10, b"x")
            self.assertEqual([reply.status for reply in replies(connection.take())], [408])
            self.assertEqual(self.listener.site.gateway.buffers.held, 0)

    def test_refused_body_by_drops(self) -> None:
        """A body that nobody wants is not waited for, however it drags on."""
        tail = b"x" * 9
        for head, drop in ((b"Content-Length: 65536\r\n\r\n", b"x"), (b"Content-Length: 9\r\n\r\n", b"")):
            connection = self.connection = self.listener.connect()
            connection.send(HEAD.replace(b"messages", b"nowhere") + head)
            self.pump(4, drop)
            self.assertEqual(connection.take(), b"")
            self.pump(3, drop)
            self.assertEqual([reply.status for reply in replies(connection.take())], [408])
            self.assertTrue(connection.closing)
        connection = self.listener.connect()
        self.assertEqual(connection.ask(HEAD.replace(b"messages", b"nowhere") + head + tail).status, 404)
        self.assertFalse(connection.closing)

    def test_answers_take_their_time(self) -> None:
        """Nothing here ends a request that dispatch is at."""
        self.listener.dispatcher.hold = True
        self.connection.send(post())
        self.pump(2000)
        self.listener.dispatcher.answer()
        self.assertEqual([reply.status for reply in replies(self.connection.take())], [200])

    def test_client_that_does_not_go(self) -> None:
        """A connection that was given up is cut when its client takes no more of what was written."""
        self.connection.ask(get("/", "Connection: close"))
        self.pump(CLOSE_TIMEOUT + 1)
        self.assertTrue(self.connection.transport.disconnected)

    def test_no_timer_is_left(self) -> None:
        """With the last connection the last timer goes."""
        self.connection.lose()
        self.assertEqual(self.listener.clock.getDelayedCalls(), [])


class Lingering(SynchronousTestCase):
    """A refused client gets to read why, although it is still sending."""

    def setUp(self) -> None:
        self.listener = Listener()
        self.connection = self.listener.connect()
        self.half_closed: list[bool] = []
        transport: Any = self.connection.transport
        directlyProvides(transport, ITCPTransport)
        transport.loseWriteConnection = lambda: self.half_closed.append(True)
        self.connection.send(HEAD + b"Content-Length: 99999999\r\n\r\n" + b"x" * 1000)

    def test_answer_and_half_close(self) -> None:
        """The answer is written at once, and our half of the connection closed behind it."""
        self.assertEqual([reply.status for reply in replies(self.connection.take())], [413])
        self.assertEqual(self.half_closed, [True])
        self.assertFalse(self.connection.closing)

    def test_dropped_within_a_bound(self) -> None:
        """What it sends on is dropped, up to a bound."""
        for _ in range(MAX_DISCARDED_BYTES // 65_536):
            self.connection.send(b"x" * 65_536)
        self.assertFalse(self.connection.closing)
        self.connection.send(b"x" * 65_536)
        self.assertTrue(self.connection.transport.disconnected)

    def test_dropped_for_a_while(self) -> None:
        """And not for long."""
        for _ in range(int(DISCARD_TIMEOUT) + 1):
            self.listener.clock.advance(1)
        self.assertTrue(self.connection.transport.disconnected)


class Leaving(SynchronousTestCase):
    """Draining, limits, and the numbers behind them."""

    def test_drain(self) -> None:
        """Idle connections go after a grace, busy ones with their answer, and then the drain is over."""
        listener = Listener()
        listener.dispatcher.hold = True
        fresh, used, busy = (listener.connect() for _ in range(3))
        used.ask(get("/"))
        listener.clock.pump([1, 1])  # it has taken the answer
        busy.send(post())
        drained = listener.site.drain()
        listener.clock.pump([1] * int(DRAIN_GRACE - 1))
        self.assertEqual((fresh.closing, used.closing, busy.closing), (False, False, False))
        listener.clock.advance(1)
        self.assertEqual((fresh.closing, used.closing, busy.closing), (True, True, False))
        fresh.lose()
        used.lose()
        self.assertNoResult(drained)
        listener.dispatcher.answer()
        self.assertEqual([reply.headers[b"connection"] for reply in replies(busy.take())], [b"close"])
        self.assertTrue(busy.closing)
        busy.lose()
        self.successResultOf(drained)

    def test_drain_of_kept_connections(self) -> None:
        """A request that comes on an idle connection after the drain began is answered; the answer is its last."""
        listener = Listener()
        fresh, used = listener.connect(), listener.connect()
        used.ask(get("/"))
        listener.site.drain()
        for connection in (fresh, used):
            reply = connection.ask(post())
            self.assertEqual((reply.status, reply.headers[b"connection"]), (200, b"close"))
            self.assertTrue(connection.closing)

    def test_drain_keeps_promises(self) -> None:
        """Who was told before the drain that the connection stays may still send a request when the answer is over."""
        listener = Listener()
        listener.dispatcher.hold = True
        connection = listener.connect()
        connection.send(post())
        downlink = listener.dispatcher.running[0].downlink
        downlink.commit_head([])
        listener.site.drain()
        downlink.frames([], b"event: message_stop\n\n", True)
        self.assertNotIn(b"connection: close", connection.take())
        self.assertFalse(connection.closing)
        self.assertEqual(connection.ask(get("/")).headers[b"connection"], b"close")
        self.assertTrue(connection.closing)

    def test_drain_of_kept_promises_ends(self) -> None:
        """And where none comes, the grace begins with the answer's end."""
        listener = Listener()
        connection = listener.connect()
        connection.ask(get("/"))
        listener.site.drain()
        listener.clock.pump([1] * int(DRAIN_GRACE + 2))
        self.assertTrue(connection.closing)

    def test_leave(self) -> None:
        """A daemon that leaves answers on, as long as it likes, and each answer is its connection's last."""
        listener = Listener()
        kept, other = listener.connect(), listener.connect()
        for connection in (kept, other):
            connection.ask(get("/"))
        listener.site.leave()
        listener.clock.pump([1] * int(DRAIN_GRACE * 3))
        self.assertEqual((kept.closing, other.closing), (False, False))
        self.assertEqual(kept.ask(get("/readyz")).status, 503)
        for connection in (other, listener.connect()):
            reply = connection.ask(post())
            self.assertEqual((reply.status, reply.headers[b"connection"]), (200, b"close"))
            self.assertTrue(connection.closing)

    def test_request_in_the_kernel(self) -> None:
        """An idle connection whose time is over is not closed while a request waits in its socket to be read."""
        listener = Listener()
        waiting = True
        self.patch(module, "is_readable", lambda transport: waiting)
        connection = listener.connect()
        listener.site.drain()
        listener.clock.pump([1] * 5)
        self.assertFalse(connection.closing)
        waiting = False
        listener.clock.advance(1)
        self.assertTrue(connection.closing)

    def test_drain_between_head_and_answer(self) -> None:
        """A request that is still being sent when the drain begins is answered, and told that this is the end."""
        listener = Listener()
        connection = listener.connect()
        connection.send(post()[:-5])
        listener.site.drain()
        reply = connection.ask(post()[-5:])
        self.assertEqual((reply.status, reply.headers[b"connection"]), (200, b"close"))
        self.assertTrue(connection.closing)

    def test_drain_with_nobody(self) -> None:
        """Nothing to wait for is over at once."""
        self.successResultOf(Listener().site.drain())

    def test_abort(self) -> None:
        """When the drain's time is over dispatch is told why, and who still does not go is cut."""
        listener = Listener()
        listener.dispatcher.hold = True
        connection = listener.connect()
        connection.send(post())
        gone = listener.site.abort_all()
        self.assertEqual(listener.log[-1].error, "drain")
        self.assertEqual(connection.take(), b"")
        listener.clock.advance(ABORT_TIMEOUT - 1)
        self.assertFalse(connection.transport.disconnected)
        listener.clock.pump([1, 1])
        self.assertTrue(connection.transport.disconnected)
        connection.lose()
        self.successResultOf(gone)
        self.assertEqual(len(listener.log), 1)

    def test_abort_while_it_uploads(self) -> None:
        """A client that is still sending its request then is told why it gets no answer, and when to come again."""
        for piece in (post()[:-5], HEAD, HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"):
            listener = Listener()
            connection = listener.connect()
            connection.send(piece)
            connection.take()
            gone = listener.site.abort_all()
            (reply,) = replies(connection.take())
            self.assertEqual((reply.status, reply.json["error"]["type"]), (529, "overloaded_error"))
            self.assertEqual(reply.json["error"]["message"], "The gateway is shutting down")
            self.assertEqual((reply.headers[b"retry-after"], reply.headers[b"connection"]), (b"1", b"close"))
            self.assertEqual(listener.log[-1].status, 529)
            self.assertFalse(connection.transport.disconnected)
            connection.send(b"more of it")
            listener.clock.pump([1] * (int(ABORT_TIMEOUT) + 1))
            self.assertTrue(connection.transport.disconnected)
            self.assertEqual(connection.take(), b"")
            connection.lose()
            self.successResultOf(gone)

    def test_abort_between_requests(self) -> None:
        """Who asked nothing, or has its answer, is told nothing."""
        listener = Listener()
        fresh, served = listener.connect(), listener.connect()
        served.ask(post())
        listener.site.abort_all()
        self.assertEqual((fresh.take(), served.take()), (b"", b""))
        self.assertTrue(fresh.closing and served.closing)

    def test_too_many_connections(self) -> None:
        """Above the limit a client is told to come again; far above it, nothing."""
        listener = Listener()
        gateway = listener.site.gateway
        listener.site.gateway = replace(gateway, limits=replace(gateway.limits, max_connections=2))
        connections = [listener.connect() for _ in range(2 + MAX_REFUSED_CONNECTIONS)]
        self.assertIsNone(listener.site.buildProtocol(None))
        self.assertEqual(connections[1].ask(get("/")).status, 200)
        reply = connections[2].ask(get("/"))
        self.assertEqual((reply.status, reply.headers[b"retry-after"]), (503, b"1"))
        self.assertTrue(connections[2].closing)
        connections[0].lose()
        self.assertIsNotNone(listener.site.buildProtocol(None))

    def test_send_buffer(self) -> None:
        """The kernel holds little of an answer: its buffer is bounded, below TLS too."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)

        class Transport:
            def getHandle(self) -> socket.socket:
                return ours

        module._bound_send_buffer(Transport())
        self.assertLessEqual(ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF), 2 * module.SEND_BUFFER_BYTES)

    def test_http_2_is_not_offered(self) -> None:
        """TLS clients are offered what our channel speaks."""
        self.assertEqual(Listener().site.acceptableProtocols(), [b"http/1.1"])

    def test_reload(self) -> None:
        """Another configuration is for the next request; one that has begun keeps its own."""
        listener, other = Listener(), Listener(Principal("k"))
        connection = listener.connect()
        connection.send(post()[:-5])
        listener.site.gateway = replace(other.site.gateway)
        self.assertEqual(connection.ask(post()[-5:]).status, 200)
        self.assertEqual(connection.ask(post()).status, 401)

    def test_two_listeners(self) -> None:
        """Each site has its own root, and they share what they are given."""
        one, two = Listener(), Listener()
        two.site.gateway = one.site.gateway
        two.ask(post())
        self.assertEqual(len(one.dispatcher.running), 1)
