"""What the parser makes of a response's bytes, however reads split them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from itertools import combinations, pairwise

from httptools import HttpParserCallbackError
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.outcomes.types import AttemptPhase
from claudeproxyd.upstream.errors import Cut, Malformed, ProxyRefused, UpstreamError
from claudeproxyd.upstream.parser import MAX_HEADERS, MAX_NON_BODY_BYTES, End, Event, Head, ResponseParser
from tests.upstream.responses import BAD_BODIES, BAD_HEADS, CHUNKED, HELLO, OK, UNTIL_CLOSE, WHOLE

CASES = {
    **{name: case[0] for name, case in WHOLE.items()},
    **BAD_HEADS,
    **BAD_BODIES,
    **UNTIL_CLOSE,
    "extra data": HELLO + b"x",
    "another response": HELLO + HELLO,
    "another response, chunked": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + CHUNKED + b"3\r\nbad\r\n0\r\n\r\n",
    "a body for 204": b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nhi",
}
#: Up to this length every pair of cuts is tried.
SHORT = 60


def parse(pieces: Iterable[bytes], head_request: bool = False) -> list[Event]:
    """The events of a response in these reads, its body in one piece.

    What comes after its end is extra data, but for blank lines: llhttp passes over those between two messages.
    """
    parser = ResponseParser()
    parser.start(head_request)
    events: list[Event] = []
    for piece in pieces:
        if events and isinstance(events[-1], UpstreamError):
            break
        if events and isinstance(events[-1], End):
            if piece.strip(b"\r\n"):
                events[-1] = End.DESYNCHRONIZED
            continue
        for event in parser.feed(piece):
            if isinstance(event, bytes) and events and isinstance(events[-1], bytes):
                events[-1] += event
            else:
                events.append(event)
    parser.close()
    return events


def plain(events: list[Event]) -> list[object]:
    """The same, so that it can be compared."""
    return [
        (type(event), str(event), event.phase, event.failure) if isinstance(event, UpstreamError) else event
        for event in events
    ]


class Responses(SynchronousTestCase):
    """A table of responses, and what is parsed from each."""

    def test_complete(self) -> None:
        """Status, body, and whether the connection can be kept."""
        for name, (data, status, body, kept) in WHOLE.items():
            head, *rest = parse([data])
            assert isinstance(head, Head)
            self.assertEqual(head.status, status, name)
            end = End.KEEP_ALIVE if kept else End.CLOSE
            self.assertEqual(rest, [body, end] if body else [end], name)

    def test_refused_heads(self) -> None:
        """A head that could be read in two ways is the one event that there is."""
        for name, data in BAD_HEADS.items():
            (event,) = parse([data])
            assert isinstance(event, Malformed), name
            self.assertEqual((event.phase, event.failure), (AttemptPhase.HEAD, "malformed"), name)

    def test_damaged_bodies(self) -> None:
        """What was good of a body comes before the error."""
        for name, data in BAD_BODIES.items():
            head, body, error = parse([data])
            assert isinstance(head, Head), name
            assert isinstance(error, Malformed), name
            self.assertEqual((head.status, body, error.phase), (200, b"hello", AttemptPhase.ANSWER), name)

    def test_head(self) -> None:
        """Names are in lower case, values without the blanks around them; interim heads and trailers leave no trace."""
        events = parse(
            [
                b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Here\r\nB: 1 \r\nA:\t2\r\nb:\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: x\r\n\r\n"
            ]
        )
        headers = [(b"b", b"1"), (b"a", b"2"), (b"b", b""), (b"transfer-encoding", b"chunked")]
        self.assertEqual(events, [Head(404, b"Not Here", headers), b"hi", End.KEEP_ALIVE])

    def test_response_to_head(self) -> None:
        """It has no body, whatever is claimed or comes, and its connection is used up unless it claims none."""
        for head, end in (
            (OK + b"Content-Length: 5\r\n\r\n", End.DESYNCHRONIZED),
            (CHUNKED, End.DESYNCHRONIZED),
            (OK + b"\r\n", End.DESYNCHRONIZED),
            (OK + b"Content-Length: 0\r\n\r\n", End.KEEP_ALIVE),
            (b"HTTP/1.1 204 No\r\n\r\n", End.KEEP_ALIVE),
        ):
            self.assertEqual(parse([head], head_request=True)[1:], [end], head)
        for data in (HELLO, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", CHUNKED + b"0\r\n\r\n"):
            for pieces in ([data], [data[:20], data[20:]], [data[:-1], data[-1:]]):
                self.assertEqual(parse(pieces, head_request=True)[1:], [End.DESYNCHRONIZED], pieces)

    def test_one_read_is_one_piece(self) -> None:
        """A burst of chunks in one read is one event."""
        parser = ResponseParser()
        self.assertEqual(len(parser.feed(CHUNKED)), 1)
        self.assertEqual(parser.feed(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n"), [b"abc"])
        self.assertEqual(parser.feed(b"1"), [])
        self.assertEqual(parser.feed(b"\r\nd\r\n0\r\n\r\n"), [b"d", End.KEEP_ALIVE])

    def test_extra_data(self) -> None:
        """What follows a response does it no harm, whatever it is, but its connection is out of step."""
        for response in (HELLO, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"):
            for extra in (
                b"x",
                b"HTTP/1.1 200 OK\r\n",
                HELLO,
                CHUNKED + b"3\r\nbad\r\n",
                b"\0",
                b"HTTP/1.0 500 No\r\n\r\n",
            ):
                head, *rest = parse([response + extra])
                assert isinstance(head, Head)
                self.assertEqual((head.status, head.reason), (200, b"OK"))
                self.assertEqual(rest, [b"hello", End.DESYNCHRONIZED], extra)

    def test_proxy(self) -> None:
        """A 407 is the proxy's where requests go to it as they are, and the upstream's elsewhere."""
        data = b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"
        (event,) = ResponseParser(through_proxy=True).feed(data)
        assert isinstance(event, ProxyRefused)
        self.assertEqual(event.failure, "proxy_auth")
        self.assertIsInstance(ResponseParser().feed(data)[0], Head)
        self.assertIsInstance(ResponseParser(through_proxy=True).feed(HELLO)[0], Head)

    def test_one_after_the_other(self) -> None:
        """Nothing of a response is left when the next one comes, and a HEAD request stands for itself alone."""
        parser = ResponseParser()
        no_content = b"HTTP/1.1 204 Nothing\r\nX: y\r\n\r\n"
        for _ in range(2):
            self.assertEqual(
                parser.feed(b"HTTP/1.1 100 C\r\nA: b\r\n\r\n" + HELLO),
                [Head(200, b"OK", [(b"content-length", b"5")]), b"hello", End.KEEP_ALIVE],
            )
            parser.start(True)
            self.assertEqual(parser.feed(no_content), [Head(204, b"Nothing", [(b"x", b"y")]), End.KEEP_ALIVE])
            parser.start(False)
            head = Head(200, b"OK", [(b"transfer-encoding", b"chunked")])
            self.assertEqual(parser.feed(CHUNKED + b"1\r\nx\r\n0\r\nT: u\r\n\r\n"), [head, b"x", End.KEEP_ALIVE])
            parser.start(False)

    def test_fault_of_ours(self) -> None:
        """What goes wrong in a callback is raised, and is not taken for a malformed response."""

        class Faulty(ResponseParser):
            def on_header(self, name: bytes, value: bytes) -> None:
                raise ZeroDivisionError

        self.assertRaises(HttpParserCallbackError, Faulty().feed, HELLO)

    def test_close(self) -> None:
        """Parser and llhttp hold each other until it is closed; no collector is needed after that."""
        parser = ResponseParser()
        parser.feed(HELLO)
        reference = weakref.ref(parser)
        gc.disable()
        self.addCleanup(gc.enable)
        parser.close()
        del parser
        self.assertIsNone(reference())


class Closes(SynchronousTestCase):
    """The upstream closes the connection."""

    def test_until_close(self) -> None:
        """Without a length the close is the end, if it is an orderly one."""
        for name, data in UNTIL_CLOSE.items():
            for orderly in (True, False):
                parser = ResponseParser()
                self.assertEqual(parser.feed(data)[1:], [b"hello"], name)
                end = parser.eof(orderly=orderly)
                if orderly:
                    self.assertIs(end, End.CLOSE, name)
                else:
                    assert isinstance(end, Cut)
                    self.assertEqual(end.phase, AttemptPhase.ANSWER)

    def test_cut_anywhere(self) -> None:
        """A response that says how long it is, and stops short of it at whatever byte, is cut."""
        for name, (data, *_) in WHOLE.items():
            for at in range(len(data)):
                parser = ResponseParser()
                head: Head | None = None
                ended = False
                for event in parser.feed(data[:at]) if at else []:
                    head = event if isinstance(event, Head) else head
                    ended = ended or isinstance(event, End)
                if not ended:
                    end = parser.eof(orderly=True)
                    assert isinstance(end, Cut), (name, data[:at])
                    self.assertIs(end.phase, AttemptPhase.ANSWER if head else AttemptPhase.HEAD, (name, data[:at]))


class Bounds(SynchronousTestCase):
    """What is not the body cannot go on for ever."""

    def last(self, start: bytes, step: bytes) -> Malformed:
        """The error that ends a response which goes on with *step* again and again, and how much of it that took."""
        parser = ResponseParser()
        self.fed = 0
        events: list[Event] = list(parser.feed(start))
        while not events or not isinstance(events[-1], UpstreamError):
            self.assertLess(self.fed, 2 * MAX_NON_BODY_BYTES)
            self.assertEqual([event for event in events if isinstance(event, End)], [])
            events = parser.feed(step)
            self.fed += len(step)
        assert isinstance(events[-1], Malformed)
        return events[-1]

    def test_heads(self) -> None:
        """Not a status line, a header, or header upon header; nor interim responses."""
        for start, step in (
            (b"HTTP/1.1 200 ", b"x" * 1000),
            (OK + b"A: ", b"x" * 1000),
            (OK, b"A: " + b"b" * 995 + b"\r\n"),
            (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10),
        ):
            error = self.last(start, step)
            self.assertIs(error.phase, AttemptPhase.HEAD)
            self.assertIn("head is larger", str(error))
            self.assertGreater(self.fed + len(start), MAX_NON_BODY_BYTES)
            self.assertLess(self.fed, MAX_NON_BODY_BYTES + 1000)

    def test_headers(self) -> None:
        """No more than so many headers, in one read or in many."""
        for count, fits in ((MAX_HEADERS, True), (MAX_HEADERS + 1, False)):
            head = OK + b"A: b\r\n" * (count - 1) + b"Content-Length: 0\r\n\r\n"
            self.assertIs(isinstance(parse([head])[0], Head), fits)
            self.assertIs(isinstance(parse(head[i : i + 6] for i in range(0, len(head), 6))[0], Head), fits)
        self.assertIn("more than 256 headers", str(self.last(OK, b"A: b\r\n")))
        self.assertLess(self.fed, 6 * (MAX_HEADERS + 3))

    def test_bodies(self) -> None:
        """Not chunk extensions, nor trailers."""
        for start in (CHUNKED + b"5\r\nhello\r\n5;", CHUNKED + b"0\r\nA: "):
            error = self.last(start, b"x" * 1000)
            self.assertIs(error.phase, AttemptPhase.ANSWER)
            self.assertGreater(self.fed, MAX_NON_BODY_BYTES)
            self.assertLessEqual(self.fed, MAX_NON_BODY_BYTES + 1000)

    def test_body_starts_the_count_anew(self) -> None:
        """A long stream may bring far more than the bound, as long as some of it is body."""
        parser = ResponseParser()
        parser.feed(CHUNKED)
        for _ in range(20):
            self.assertEqual(parser.feed(b"1;" + b"x" * 20_000), [])
            self.assertEqual(parser.feed(b"\r\na\r\n"), [b"a"])

    def test_head_within_its_bound(self) -> None:
        """A large head is fine by itself, also where much body comes in one read with it."""
        head = OK + (b"A: " + b"b" * 250 + b"\r\n") * 250 + b"Content-Length: 9000\r\n\r\n"
        for pieces in ([head + b"x" * 9000], [head[:30_000], head[30_000:] + b"x" * 9000]):
            events = parse(pieces)
            assert isinstance(events[0], Head)
            self.assertEqual((len(events[0].headers), events[1:]), (251, [b"x" * 9000, End.KEEP_ALIVE]))


class Splits(SynchronousTestCase):
    """How the network splits a response changes nothing."""

    def test_bytes(self) -> None:
        """One byte a read."""
        for name, data in CASES.items():
            self.assertEqual(plain(parse(data[i : i + 1] for i in range(len(data)))), plain(parse([data])), name)

    def test_two_reads(self) -> None:
        """Every split in two; heads of many kilobytes at each 997th byte."""
        for name, data in CASES.items():
            expected = plain(parse([data]))
            for at in range(1, len(data), 1 if len(data) < 1000 else 997):
                self.assertEqual(plain(parse([data[:at], data[at:]])), expected, (name, data[:at]))

    def test_three_reads(self) -> None:
        """Every split in three of those that are short."""
        for name, data in CASES.items():
            if len(data) <= SHORT:
                expected = plain(parse([data]))
                for first, second in combinations(range(1, len(data)), 2):
                    pieces = [data[:first], data[first:second], data[second:]]
                    self.assertEqual(plain(parse(pieces)), expected, (name, pieces))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 400), max_size=12))
    def test_any(self, name: str, cuts: list[int]) -> None:
        """Any split."""
        data = CASES[name]
        at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[start:stop] for start, stop in pairwise(at)]
        self.assertEqual(plain(parse(pieces)), plain(parse([data])))
