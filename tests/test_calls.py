"""What a request costs, in calls of functions: they can be counted, where times on a busy machine say little.

A feature that adds some to every request shows here. The bounds may be raised for one that is worth it, knowingly.
"""

from __future__ import annotations

from pathlib import Path

from claudeproxyd.testing import MemoryConnection
from tests.calls import calls_of
from tests.test_daemon import BASE, CLIENTS, ONE, STREAM, DaemonTestCase, chunk
from tests.web.support import Connection

MOST_UNARY = 590
"""Calls, those in Twisted and in the standard library included, and those of sockets and the reactor not."""
MOST_BURST = 880
MOST_FOR_AN_EVENT = 42
"""Of a stream whose events come one by one."""
MOST_FOR_SPANS = 150
"""Of a request that is not streamed, beside the others."""
MOST_WITH_LIMITS = 1.1
"""Times what a request costs with neither ledger nor limits."""
EVENTS = 50
A_TURN = 4
"""Requests that come in one turn of the hub: what is done once a turn they share, as they do where there is load."""

CONFIGURATION = (
    BASE.replace('access = "off"', 'format = "json"\naccess = "ACCESS"')
    + "[pool]\naffinity = true\n"
    + CLIENTS
    + ONE
    + '[[models]]\nname = "claude-sonnet-4-5"\nroutes = [{ provider = "one" }]\n'
)
NO_LEDGER = '[accounts]\ndatabase = ""\n'
LEDGER = """[accounts]
database = "sqlite:DATABASE"
[[prices]]
model = "*"
input = 5.0
output = 25.0
"""
LIMITS = "".join(
    f'[[limits]]\nname = "{measure}, a {per}"\neach = "client"\n{measure} = 1000000000\nper = "{per}"\n'
    for measure, per in (("requests", "minute"), ("tokens", "hour"), ("usd", "day"), ("usd", "month"))
)
"""All four count each request."""
BODIES = Path(__file__).parent.parent / "benchmarks" / "bodies"
HEAD = (
    b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: a-key-of-a-client\r\n"
    b"anthropic-version: 2023-06-01\r\ncontent-type: application/json\r\nuser-agent: test\r\ncontent-length: %d\r\n\r\n"
)
ANSWER = (
    b'{"id":"msg_0","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":'
    b'"Hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":34}}'
)


def event(name: str, members: bytes = b"") -> bytes:
    """One of a stream."""
    return b'event: %b\ndata: {"type":"%b"%b}\n\n' % (name.encode(), name.encode(), members)


BEGIN = event("message_start", b',"message":{"id":"msg_0","usage":{"input_tokens":12,"output_tokens":1}}') + event(
    "content_block_start", b',"index":0,"content_block":{"type":"text","text":""}'
)
DELTA = event("content_block_delta", b',"index":0,"delta":{"type":"text_delta","text":"Hello "}')
BURST = (
    BEGIN
    + DELTA * EVENTS
    + event("content_block_stop", b',"index":0')
    + event("message_delta", b',"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":34}')
    + event("message_stop")
)

UNARY = (
    "small.json",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER),
)
"""The request's body, and its answer."""
AT_ONCE = ("small-stream.json", STREAM + chunk(BURST) + chunk(b""))


def limit_of_another(number: int) -> str:
    """One that does not count the client's requests."""
    return f'[[limits]]\nname = "other {number}"\nmatch = {{ client = "other-{number}" }}\nusd = 1.0\nper = "day"\n'


class CallsTestCase(DaemonTestCase):
    """With access log, usage records, keyed clients and affinity, as the benchmarks have them."""

    def setUp(self) -> None:
        super().setUp()
        self.have(CONFIGURATION)

    def have(self, configuration: str) -> None:
        """A daemon of that configuration, in the place of the one that there is."""
        self.successResultOf(self.daemon.stopService())
        self.reactor.advance(0)
        self.write(configuration.replace("ACCESS", self.path + ".access").replace("DATABASE", self.path + ".db"))
        self.setUpDaemon()

    def request(self, body: str) -> bytes:
        """A whole one, with that body."""
        data = (BODIES / body).read_bytes()
        return HEAD % len(data) + data

    def asked(self, request: bytes) -> tuple[Connection, MemoryConnection]:
        """A client who has sent that, and the upstream that has it."""
        connection = Connection(self.daemon.site, "127.0.0.1")
        connection.send(request)
        return connection, self.accept()

    def calls(self, body: str, answer: bytes) -> int:
        """The fewest of some requests that come after others on the same connections."""
        request = self.request(body)
        connection, wire = self.asked(request)
        wire.say(answer)
        self.assertIn(b"Hello", connection.take())
        counts = [self.count(connection, request, wire, answer) for _ in range(20)]
        self.assertIn(b"end_turn", connection.take())
        connection.lose()
        return min(counts)

    def count(self, connection: Connection, request: bytes, wire: MemoryConnection, answer: bytes) -> int:
        """Of one request, from the client's bytes to the end of its answer, where some come in one turn of the hub."""
        hub = self.daemon._hub

        def serve() -> None:
            hub._in_turn = True
            for _ in range(A_TURN):
                if request:
                    connection.channel.dataReceived(request)
                wire.protocol.dataReceived(answer)
            hub._in_turn = False
            hub._send()

        return calls_of(serve) // A_TURN


class CallsTests(CallsTestCase):
    """Of a request by itself."""

    def test_traced(self) -> None:
        """Both spans of a request; what sends them is not in the way."""
        untraced = self.calls(*UNARY)
        self.have(CONFIGURATION + '[traces]\nendpoint = "http://127.0.0.1:9"\n')
        traced = self.calls(*UNARY)
        self.assertLessEqual(traced - untraced, MOST_FOR_SPANS)

    def test_unary(self) -> None:
        """A request that is not streamed."""
        self.assertLessEqual(self.calls(*UNARY), MOST_UNARY)

    def test_burst(self) -> None:
        """A stream that comes in one read."""
        self.assertLessEqual(self.calls(*AT_ONCE), MOST_BURST)

    def test_event(self) -> None:
        """One event of a stream."""
        connection, wire = self.asked(self.request("small-stream.json"))
        wire.say(STREAM + chunk(BEGIN + DELTA))
        counts = [self.count(connection, b"", wire, chunk(DELTA)) for _ in range(20)]
        self.assertEqual(connection.take().count(b"Hello"), 1 + 20 * A_TURN)
        self.assertLessEqual(min(counts), MOST_FOR_AN_EVENT)


class AccountsCallsTests(CallsTestCase):
    """What ledger and limits add to a request."""

    def test_unary(self) -> None:
        """A request that is not streamed."""
        self.compare(*UNARY)

    def test_burst(self) -> None:
        """A stream that comes in one read."""
        self.compare(*AT_ONCE)

    def compare(self, body: str, answer: bytes) -> None:
        """With neither, and with both, be the limits of others few or many."""
        without = self.calls(body, answer)
        for others in (1, 4_996):
            self.have(CONFIGURATION.replace(NO_LEDGER, LEDGER) + LIMITS + "".join(map(limit_of_another, range(others))))
            calls = self.calls(body, answer)
            told = f"{calls} calls, and {without} with neither ledger nor limits"
            self.assertLessEqual(calls, MOST_WITH_LIMITS * without, told)
        self.successResultOf(self.daemon.stopService())
