"""The bytes that a client gets, and the way they go."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IDownlink
from claudeproxyd.outcomes.types import ErrorResponse
from claudeproxyd.web.downlink import Downlink
from tests.dispatch.fakes import FakeProducer
from tests.web.support import BODY, Connection, Listener, Reply, post

verifyClass(IDownlink, Downlink)
verifyClass(IPushProducer, Downlink)

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
CHUNKED = b"transfer-encoding: chunked"


class DownlinkTestCase(SynchronousTestCase):
    """One request that dispatch has, and its downlink."""

    def setUp(self) -> None:
        self.begin(post())

    def begin(self, request: bytes) -> None:
        """A client's request has come."""
        self.listener = Listener()
        self.listener.dispatcher.hold = True
        self.connection: Connection = self.listener.connect()
        self.connection.send(request)
        (running,) = self.listener.dispatcher.running
        self.downlink: Any = running.downlink
        self.request_id = running.request.request_id.encode()

    def head(self) -> tuple[bytes, list[bytes], bytes]:
        """Status line, headers, and what came with them."""
        head, _, rest = self.connection.take().partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        return status, lines, rest


class Streams(DownlinkTestCase):
    """A stream of events."""

    def test_frames(self) -> None:
        """Head and first frames in one write; the frames as they are, a chunk a write; then the end."""
        self.downlink.frames([(b"request-id", b"req_up"), (b"content-type", b"text/plain")], b"one\n\n", False)
        self.assertEqual((self.downlink.head_committed, self.downlink.message_committed), (True, True))
        status, lines, rest = self.head()
        self.assertEqual((status, rest), (b"HTTP/1.1 200 OK", b"5\r\none\n\n\r\n"))
        for line in (
            b"content-type: text/event-stream; charset=utf-8",
            b"cache-control: no-cache",
            b"x-accel-buffering: no",
            b"request-id: req_up",
            CHUNKED,
        ):
            self.assertEqual(lines.count(line), 1, line)
        self.assertEqual(sum(line.startswith((b"content-type", b"request-id", b"date")) for line in lines), 3)
        self.downlink.frames((), b"two\n\n", True)
        self.assertEqual(self.connection.take(), b"5\r\ntwo\n\n\r\n0\r\n\r\n")
        self.assertEqual(self.downlink.sent, 10)

    def test_head_alone(self) -> None:
        """A head by time, then pings: no message is out; its id is ours."""
        self.downlink.commit_head(())
        _, lines, rest = self.head()
        self.assertIn(b"request-id: " + self.request_id, lines)
        self.assertEqual((rest, self.downlink.message_committed), (b"", False))
        self.listener.clock.advance(3.0)
        self.downlink.ping()
        self.assertEqual(self.connection.take(), b"%x\r\n%b\r\n" % (len(PING), PING))
        self.assertEqual(self.downlink.last_write, self.listener.clock.seconds())
        self.assertFalse(self.downlink.message_committed)

    def test_error_event(self) -> None:
        """After the head an error is an event of the usual shape, and the body's end."""
        self.downlink.frames((), b"one\n\n", False)
        self.connection.take()
        error = ClaudeError(502, "cut")
        self.downlink.fail(error, ErrorResponse(502, [], b"{}", verbatim=True))
        frame = b"event: error\ndata: " + error.body(self.request_id.decode()) + b"\n\n"
        self.assertEqual(self.connection.take(), b"%x\r\n%b\r\n0\r\n\r\n" % (len(frame), frame))

    def test_old_clients(self) -> None:
        """HTTP/1.0 knows no chunks: the close ends the body."""
        self.begin(b"POST /v1/messages HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY))
        self.downlink.frames((), b"one\n\n", False)
        _, lines, rest = self.head()
        self.assertEqual(rest, b"one\n\n")
        self.assertNotIn(CHUNKED, lines)
        self.assertIn(b"connection: close", lines)
        self.downlink.frames((), b"two\n\n", True)
        self.assertEqual(self.connection.take(), b"two\n\n")
        self.assertTrue(self.connection.closing)

    def test_next_request(self) -> None:
        """The connection serves another request after a stream."""
        self.downlink.frames((), b"one\n\n", True)
        self.listener.dispatcher.running[0].done.callback(None)
        self.connection.take()
        self.listener.dispatcher.hold = False
        self.assertEqual(self.connection.ask(post()).status, 200)


class Whole(DownlinkTestCase):
    """Answers that are not streamed, and errors."""

    def test_whole(self) -> None:
        """Head and body in one piece, with the length."""
        self.downlink.whole([(b"content-type", b"application/json"), (b"request-id", b"req_up")], b'{"a":1}')
        reply = Reply(self.connection.take())
        self.assertEqual((reply.status, reply.body, reply.rest), (200, b'{"a":1}', b""))
        self.assertEqual(reply.headers[b"request-id"], b"req_up")

    def test_id(self) -> None:
        """Where the upstream gave none, the request's id is ours."""
        self.downlink.whole([], b"{}")
        self.assertEqual(Reply(self.connection.take()).headers[b"request-id"], self.request_id)

    def test_large(self) -> None:
        """A large body arrives whole too."""
        self.downlink.whole([], b"x" * 300_000)
        self.assertEqual(Reply(self.connection.take()).body, b"x" * 300_000)

    def test_error(self) -> None:
        """Status, shape, id, and the error's own headers."""
        self.downlink.fail(ClaudeError(529, "busy", headers=[(b"retry-after", b"3")]))
        reply = Reply(self.connection.take())
        self.assertEqual((reply.status, reply.phrase), (529, b"Overloaded"))
        self.assertEqual((reply.headers[b"retry-after"], reply.headers[b"request-id"]), (b"3", self.request_id))
        self.assertEqual(reply.headers[b"content-type"], b"application/json")
        self.assertEqual(reply.json["request_id"].encode(), self.request_id)

    def test_upstreams_error(self) -> None:
        """An upstream's own answer, byte for byte, with its id."""
        answer = ErrorResponse(418, [(b"request-id", b"req_up"), (b"x-a", b"1")], b'{"type":"error"}', verbatim=True)
        self.downlink.fail(ClaudeError(418, "no", headers=[(b"x-claudeproxyd-attempts", b"1")]), answer)
        reply = Reply(self.connection.take())
        self.assertEqual((reply.status, reply.body), (418, b'{"type":"error"}'))
        self.assertEqual([value for name, value in reply.pairs if name == b"request-id"], [b"req_up"])
        self.assertEqual((reply.headers[b"x-a"], reply.headers[b"x-claudeproxyd-attempts"]), (b"1", b"1"))

    def test_blanks(self) -> None:
        """Blanks ahead of a body that takes long: still one JSON document; an error after them is one too."""
        self.downlink.whitespace()
        _, lines, rest = self.head()
        self.assertIn(b"content-type: application/json", lines)
        self.assertIn(b"request-id: " + self.request_id, lines)
        self.assertIn(b"x-claudeproxyd-request-id: " + self.request_id, lines)
        self.assertEqual(rest, b"1\r\n \r\n")
        self.downlink.whole((), b"{}")
        self.assertEqual(self.connection.take(), b"2\r\n{}\r\n0\r\n\r\n")
        self.begin(post())
        self.downlink.whitespace()
        self.connection.take()
        error = ClaudeError(502, "no")
        self.downlink.fail(error)
        body = error.body(self.request_id.decode())
        self.assertEqual(self.connection.take(), b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))


class Ends(DownlinkTestCase):
    """Clients that leave, or are cut."""

    def everything(self) -> None:
        """All that dispatch may ask for."""
        self.connection.take()
        self.downlink.attach(FakeProducer())
        self.downlink.commit_head(())
        self.downlink.frames((), b"x", True)
        self.downlink.ping()
        self.downlink.whitespace()
        self.downlink.whole((), b"x")
        self.downlink.fail(ClaudeError(500, "x"))
        self.downlink.abort()

    def test_gone(self) -> None:
        """After the client has left nothing does anything."""
        self.connection.lose()
        self.everything()
        self.assertEqual(self.connection.take(), b"")

    def test_ended(self) -> None:
        """Nor after the end, and the connection stays open."""
        self.downlink.whole((), b"{}")
        self.everything()
        self.assertEqual(self.connection.take(), b"")
        self.assertFalse(self.connection.closing)

    def test_abort(self) -> None:
        """A client that takes nothing is cut."""
        self.downlink.frames((), b"one\n\n", False)
        self.downlink.abort()
        self.assertTrue(self.connection.transport.disconnected or self.connection.closing)

    def test_pauses(self) -> None:
        """The client's full socket pauses the producer that was attached, for the whole request."""
        socket = FakeProducer()
        self.downlink.attach(socket)
        producer: Any = self.connection.transport.producer
        producer.pauseProducing()
        self.assertTrue(socket.paused)
        producer.resumeProducing()
        self.assertFalse(socket.paused)
        self.downlink.frames((), b"one\n\n", True)
        self.assertEqual(socket.stopped, 0)
