"""What the client makes of an upstream's bytes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from httptools import HttpParserCallbackError
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.outcomes.types import AttemptPhase
from claudeproxyd.upstream.errors import Cut, InternalError, Malformed, TooLarge, UpstreamError
from claudeproxyd.upstream.parser import Event, ResponseParser
from tests.upstream.fakes import Net, Sink
from tests.upstream.responses import BAD_BODIES, BAD_HEADS, CHUNKED, HELLO, OK, WHOLE


def hear(pieces: list[bytes], end: bool = False, method: bytes = b"POST") -> tuple[Any, Sink, Net]:
    """What comes of an answer in these reads: the head or the error, what was delivered, and the net it came over."""
    net = Net()
    heads: list[Any] = []
    sink = Sink()
    deferred = net.ask(method)
    wire = net.accept()

    def answered(response: Any) -> None:
        heads.append(response)
        response.deliver(sink)

    deferred.addCallbacks(answered, lambda failure: heads.append(failure.value))
    for piece in pieces:
        wire.say(piece)
        net.turn()
    if end:
        wire.end()
    return heads[0] if heads else None, sink, net


def cuts(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Every way in which reads may split *data*."""
    return st.lists(st.integers(1, len(data) - 1), unique=True, max_size=12).map(
        lambda at: [data[start:stop] for start, stop in pairwise([0, *sorted(at), len(data)])]
    )


class WholeAnswers(SynchronousTestCase):
    """Answers as they should be."""

    def test_each(self) -> None:
        """Status and body come out as they were sent, and the connection is kept exactly if it may be."""
        for name, (data, status, body, kept) in WHOLE.items():
            response, sink, net = hear([data])
            net.turn()
            self.assertEqual((response.status, sink.body, sink.end), (status, body, "whole"), name)
            self.assertEqual((net.origin.idle, net.origin.connections), (int(kept), int(kept)), name)

    def test_byte_by_byte(self) -> None:
        """An upstream that sends one byte at a time is understood all the same."""
        for name, (data, status, body, kept) in WHOLE.items():
            response, sink, net = hear([data[i : i + 1] for i in range(len(data))])
            net.turn()
            self.assertEqual(
                (response.status, sink.body, sink.end, net.origin.idle), (status, body, "whole", int(kept)), name
            )

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_any_split(self, data: st.DataObject) -> None:
        """How the network splits an answer changes nothing, be it good or bad."""
        cases = [case[0] for case in WHOLE.values()] + list(BAD_HEADS.values()) + list(BAD_BODIES.values())
        answer = data.draw(st.sampled_from(cases))
        heads = [hear(pieces) for pieces in ([answer], data.draw(cuts(answer)))]
        seen = [
            (
                type(head),
                str(head) if isinstance(head, Exception) else (head.status, head.headers),
                sink.body,
                str(sink.end),
            )
            for head, sink, _ in heads
        ]
        self.assertEqual(seen[0], seen[1])

    def test_headers(self) -> None:
        """Names come in lower case, values without the blanks around them, in order; trailers are left out."""
        response, _, _ = hear([OK + b"B: 1 \r\nA:\t2\r\nb:\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: x\r\n\r\n"])
        self.assertEqual(
            response.headers, [(b"b", b"1"), (b"a", b"2"), (b"b", b""), (b"transfer-encoding", b"chunked")]
        )
        self.assertEqual(response.reason, b"OK")

    def test_one_read_is_one_call(self) -> None:
        """A burst of chunks in one read reaches the consumer as one piece."""
        _, sink, _ = hear([CHUNKED, b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n"])
        self.assertEqual(sink.reads, [b"abc"])

    def test_until_close(self) -> None:
        """Without a length the close is the end, if it is an orderly one."""
        _, sink, net = hear([OK + b"\r\nab", b"cd"], end=True)
        self.assertEqual((sink.body, sink.end), (b"abcd", "whole"))
        self.assertEqual(net.origin.connections, 0)

    def test_until_reset(self) -> None:
        """A reset in an answer without a length may have eaten some of it."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(OK + b"\r\nab")
        sink = Sink()
        self.successResultOf(deferred).deliver(sink)
        wire.end(ConnectionLost())
        self.assertIsInstance(sink.end, Cut)

    def test_head(self) -> None:
        """HEAD is answered by the head alone, and its connection is not used again."""
        response, sink, net = hear([HELLO[:-5]], method=b"HEAD")
        net.turn()
        self.assertEqual((response.status, sink.body, sink.end), (200, b"", "whole"))
        self.assertEqual(net.origin.connections, 0)

    def test_reads(self) -> None:
        """read() brings the whole body, wherever it was split."""
        for pieces in ([HELLO], [HELLO[:-3], HELLO[-3:]], [HELLO[:-5], HELLO[-5:]]):
            net = Net()
            deferred, wire = net.ask(), net.accept()
            wire.say(pieces[0])
            body = self.successResultOf(deferred).read(5)
            for piece in pieces[1:]:
                wire.say(piece)
            self.assertEqual(self.successResultOf(body), b"hello")

    def test_response_is_a_push_producer(self) -> None:
        """A response can be paused and stopped as any producer can."""
        response, _, _ = hear([HELLO])
        verifyObject(IPushProducer, response)


class DamagedAnswers(SynchronousTestCase):
    """Answers that cannot be relied on."""

    def test_heads(self) -> None:
        """A head that could be read in two ways is refused and its connection dropped."""
        for name, data in BAD_HEADS.items():
            error, sink, net = hear([data])
            net.turn()
            self.assertIsInstance(error, Malformed, name)
            self.assertEqual((error.phase, error.failure), (AttemptPhase.HEAD, "malformed"), name)
            self.assertEqual((sink.end, net.origin.connections), (None, 0), name)

    def test_bodies(self) -> None:
        """Damage in a body ends it as broken after what was good of it, and the connection is dropped."""
        for name, data in BAD_BODIES.items():
            response, sink, net = hear([data])
            net.turn()
            self.assertEqual(response.status, 200, name)
            self.assertIsInstance(sink.end, Malformed, name)
            self.assertEqual((sink.end.phase, sink.body), (AttemptPhase.ANSWER, b"hello"), name)
            self.assertEqual(net.origin.connections, 0, name)

    def test_cut_anywhere(self) -> None:
        """An answer that stops short at whatever byte is never taken for whole."""
        for data in (HELLO, WHOLE["trailers"][0], WHOLE["100 first"][0]):
            for at in range(len(data)):
                head, sink, net = hear([data[:at]] if at else [], end=True)
                error = head if isinstance(head, UpstreamError) else sink.end
                self.assertIsInstance(error, Cut, data[:at])
                self.assertEqual(error.phase, AttemptPhase.HEAD if error is head else AttemptPhase.ANSWER)
                self.assertEqual(net.origin.connections, 0)

    def test_endless_without_a_body(self) -> None:
        """An upstream cannot send heads, extensions or trailers for ever."""
        flood = b"x" * 16_384
        for start in (b"HTTP/1.1 200 ", OK + b"A: ", CHUNKED + b"5\r\nhello\r\n5;", CHUNKED + b"0\r\nA: "):
            head, sink, net = hear([start] + [flood] * 5)
            net.turn()
            self.assertIsInstance(head if isinstance(head, Exception) else sink.end, Malformed, start)
            self.assertEqual(net.origin.connections, 0)

    def test_endless_1xx(self) -> None:
        """Nor can it put its answer off with interim ones for ever."""
        error, _, _ = hear([b"HTTP/1.1 103 Early Hints\r\n\r\n" * 600] * 5)
        self.assertIsInstance(error, Malformed)

    def test_large_head_within_bounds(self) -> None:
        """A head just below the bound is fine."""
        response, sink, _ = hear([OK, (b"A: " + b"b" * 250 + b"\r\n") * 250, b"Content-Length: 2\r\n\r\nhi"])
        self.assertEqual((len(response.headers), sink.body), (251, b"hi"))

    def test_bytes_after_the_end(self) -> None:
        """What follows a whole answer does it no harm, but its connection is done for."""
        for surplus in (b"x", b"HTTP/1.1 200 OK\r\n", HELLO, b"\0", b"HTTP/1.0 500 No\r\n\r\n"):
            response, sink, net = hear([HELLO + surplus])
            net.turn()
            self.assertEqual((response.status, response.reason, sink.body, sink.end), (200, b"OK", b"hello", "whole"))
            self.assertEqual(net.origin.connections, 0, surplus)

    def test_too_large(self) -> None:
        """read() gives up at its limit and drops the connection."""
        for pieces in ([HELLO], [HELLO[:-1], HELLO[-1:]]):
            net = Net()
            deferred, wire = net.ask(), net.accept()
            wire.say(pieces[0])
            held: list[int] = []
            body = self.successResultOf(deferred).read(4, held.append)
            for piece in pieces[1:]:
                wire.say(piece)
            self.failureResultOf(body, TooLarge)
            self.assertEqual(sum(held), 0)

    def test_cut_in_read(self) -> None:
        """read() fails when the body is cut."""
        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO[:-1])
        body = self.successResultOf(deferred).read(100)
        wire.end()
        self.failureResultOf(body, Cut)


class BrokenConsumers(SynchronousTestCase):
    """Faults of our own."""

    def test_data_raises(self) -> None:
        """A consumer that raises is logged, told that it is broken, and not the upstream's fault."""

        class Faulty(Sink):
            def data(self, chunk: bytes) -> None:
                raise ZeroDivisionError

        net = Net()
        deferred, wire = net.ask(), net.accept()
        wire.say(HELLO[:-2])
        sink = Faulty()
        self.successResultOf(deferred).deliver(sink)
        self.assertIsInstance(sink.end, InternalError)
        self.assertEqual(sink.end.failure, "internal")
        self.assertTrue(wire.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_parser_fails(self) -> None:
        """A fault in what the parser calls is logged, and not taken for a malformed answer."""
        net = Net()
        deferred, wire = net.ask(), net.accept()

        class Parser(ResponseParser):
            def feed(self, data: bytes) -> list[Event]:
                raise HttpParserCallbackError

        wire.protocol._wrappedProtocol._parser = Parser()
        wire.say(HELLO)
        self.assertEqual(self.failureResultOf(deferred, InternalError).value.phase, AttemptPhase.HEAD)
        self.assertEqual(len(self.flushLoggedErrors(HttpParserCallbackError)), 1)

    def test_ends_raise(self) -> None:
        """One that raises at the end is logged and called no more."""

        class Faulty(Sink):
            def ended(self) -> None:
                raise ZeroDivisionError

            def broken(self, reason: Exception) -> None:
                raise ZeroDivisionError

        for data, end in ((HELLO, False), (HELLO[:-1], True)):
            net = Net()
            deferred, wire = net.ask(), net.accept()
            wire.say(data)
            self.successResultOf(deferred).deliver(Faulty())
            if end:
                wire.end()
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_request_from_within(self) -> None:
        """A consumer may send the next request the moment its answer ends, over the same connection."""
        net = Net()

        class Eager(Sink):
            def ended(self) -> None:
                super().ended()
                self.next = net.ask()

        deferred, wire = net.ask(), net.accept()
        wire.taken()
        wire.say(HELLO[:-1])
        sink = Eager()
        self.successResultOf(deferred).deliver(sink)
        wire.say(HELLO[-1:])
        self.assertIn(b"POST /v1/messages", wire.taken())
        wire.say(HELLO)
        self.assertTrue(self.successResultOf(sink.next).reused)
