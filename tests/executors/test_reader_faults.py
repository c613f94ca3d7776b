"""Readers of streams that raise what no reader may: faults of a plugin's code, or of ours."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import ensureDeferred

from claudeproxyd.executors.gathering import LimitedReader, gathered
from claudeproxyd.executors.http import EVENT_STREAM, HTTPExecutor
from claudeproxyd.executors.maker import Maker
from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.outcomes.types import Kind, Scope, Then
from claudeproxyd.testing import EventRecorder, chunk
from tests.executors.support import ExecutorTestCase


def frame(name: str, members: str) -> bytes:
    """An event."""
    return f'event: {name}\ndata: {{"type":"{name}",{members}}}\n\n'.encode()


START = frame("message_start", '"message":{"id":"msg_1","type":"message","usage":{}}')
BLOCK = frame("content_block_start", '"index":0,"content_block":{"type":"text","text":""}')
CONTENT = BLOCK + frame("content_block_delta", '"index":0,"delta":{"type":"text_delta","text":"x"}')


class Broken(Exception):
    """What nobody expects of a reader."""


class BrokenReader(ClaudeReader):
    """Reads Claude's events, and breaks on a word or at the end."""

    def feed(self, data: bytes) -> Batch:
        """Break on ``crash``."""
        if b"crash" in data:
            raise Broken("sk-ant-api03-AbCdEf_123-x")
        return super().feed(data)

    def end(self) -> Batch:
        """Break."""
        raise Broken("sk-ant-api03-AbCdEf_123-x")


class BrokenExecutor(HTTPExecutor):
    """Has such a reader; ``at_head``: or breaks before there is one."""

    kind = "broken"
    family = "anthropic"
    at_head = False
    gathers = False

    def client_headers(self, headers: Any) -> list[tuple[bytes, bytes]]:
        """None."""
        return []

    async def messages(self, attempt: Any) -> Any:
        """Send it, and read what comes."""
        with self.outcomes(attempt):
            response = await self.send(attempt, b"/", b"", b"{}")
            if self.at_head:
                raise Broken
            reader: Any = BrokenReader(self.services.max_event_bytes)
            if not self.gathers:
                return await self.stream(response, attempt, reader, (EVENT_STREAM,))
            stream = await self.stream(response, attempt, LimitedReader(reader, 1_000), (EVENT_STREAM,))

            def whole() -> Any:
                raise Broken

            return await gathered(stream, whole)


class BrokenMaker(Maker):
    """Makes it."""

    kind = "broken"

    def make(self, section: Any, services: Any) -> Any:
        """See the interface."""
        return BrokenExecutor(section, services)


class ReaderFaults(ExecutorTestCase):
    """The attempt fails by nobody's fault but the daemon's, and its connection is closed."""

    maker = BrokenMaker()
    executor: Any

    def stream(self, *data: bytes, end: bool = False) -> EventRecorder:
        """Serve a stream of these pieces, and return what its consumer saw."""
        self.make()
        attempt = self.attempt(stream=True)
        sent = ensureDeferred(self.executor.messages(attempt))
        self.connection = self.net.accept()
        self.connection.begin_stream()
        events = EventRecorder()
        self.successResultOf(sent).deliver(events)
        for piece in data:
            self.connection.say(chunk(piece))
        if end:
            self.connection.say(chunk(b"") + b"\r\n")
        self.net.turn()
        return events

    def check(self, events: EventRecorder, then: Then) -> None:
        """It came to a fault of ours, logged once."""
        outcome = events.failure.outcome
        self.assertEqual((outcome.kind, outcome.scope, outcome.then), (Kind.INTERNAL, Scope.NONE, then))
        self.assertIn("BrokenReader", outcome.reason)
        self.assertNotIn("sk-ant", outcome.reason)
        self.assertEqual(len(self.flushLoggedErrors(Broken)), 1)

    def test_feed(self) -> None:
        """Another candidate may take over before there is content, and none after that."""
        for data, then in (
            ((b"crash",), Then.NEXT),
            ((START, b"crash"), Then.NEXT),
            ((START + CONTENT, b"crash"), Then.ANSWER),
        ):
            self.check(self.stream(*data), then)
            self.assertTrue(self.connection.aborted)

    def test_end(self) -> None:
        """It may break at the end of the body as well."""
        self.check(self.stream(START, end=True), Then.NEXT)
        self.check(self.stream(START + CONTENT, end=True), Then.ANSWER)

    def test_before_there_is_one(self) -> None:
        """The answer that nobody takes can be abandoned."""
        self.executor.at_head = True
        attempt = self.attempt(stream=True)
        sent = ensureDeferred(self.executor.messages(attempt))
        connection = self.net.accept()
        connection.begin_stream()
        self.failureResultOf(sent, Broken)
        assert attempt.abandon is not None
        attempt.abandon()
        self.assertTrue(connection.aborted)

    def test_gathered(self) -> None:
        """What is made of a stream at its end may break too."""
        self.executor.gathers = True
        sent = ensureDeferred(self.executor.messages(self.attempt(stream=True)))
        connection = self.net.accept()
        connection.begin_stream()
        connection.say(chunk(START + frame("message_stop", '"index":0')))
        self.failureResultOf(sent, Broken)
