"""Streams that are compressed: whatever is in one read holds nobody up, and is not decoded before its turn."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

from claudeproxyd.executors.anthropic.maker import AnthropicMaker
from claudeproxyd.outcomes.types import Kind
from claudeproxyd.slices import SLICE
from claudeproxyd.sockets import NEXT_TURN
from claudeproxyd.testing import EVENT_STREAM, EventRecorder, chunk
from tests.executors.anthropic.test_executor import BLOCK, BLOCK_STOP, DELTA, FIGURES, STOP
from tests.executors.anthropic.test_executor import START as HEAD
from tests.executors.support import ExecutorTestCase

START = HEAD + BLOCK
DELTA_OF_A_WORD = DELTA % b"word"
DELTAS = DELTA_OF_A_WORD * 40_000
END = BLOCK_STOP + FIGURES + STOP


class InflatingTests(ExecutorTestCase):
    """An upstream's stream in gzip, and a client that takes some milliseconds for each piece of it."""

    maker = AnthropicMaker()

    def setUp(self) -> None:
        super().setUp()
        self.events = EventRecorder()
        self.answer, self.wire = self.stream(EVENT_STREAM, "content-encoding: gzip")
        reactor, note = self.net.reactor, self.events.events

        def events(batch: Any) -> None:
            note(batch)
            reactor.rightNow += SLICE / 4

        self.events.events = events  # type: ignore[method-assign]
        self.answer.deliver(self.events)

    def turns(self, most: int = 100) -> int:
        """Give the reactor turns until nothing more comes; how many that took, at the most that many."""
        for number in range(most):
            before = len(self.events.batches)
            self.net.reactor.advance(NEXT_TURN)
            self.assertLessEqual(len(self.events.batches) - before, 5)
            if before == len(self.events.batches):
                return number
        return most

    def test_slices(self) -> None:
        """One read that comes to megabytes is handed on in many turns, and none is read meanwhile."""
        self.wire.say(chunk(gzip.compress(START + DELTAS + END)))
        self.assertLessEqual(len(self.events.batches), 5)
        self.assertEqual(self.wire.producerState, "paused")
        self.assertGreater(self.turns(), 2)
        self.assertEqual((self.events.frames, self.events.failure), (START + DELTAS + END, None))
        self.assertEqual(self.wire.producerState, "producing")

    def test_small_reads(self) -> None:
        """What is small is handed on at once, and nothing is paused for it."""
        packed = zlib.compressobj(wbits=31)
        for event in (START, DELTA_OF_A_WORD):
            self.wire.say(chunk(packed.compress(event) + packed.flush(zlib.Z_SYNC_FLUSH)))
            self.assertTrue(self.events.frames.endswith(event))
        self.assertEqual((self.wire.producerState, self.net.reactor.getDelayedCalls()), ("producing", self.idle()))

    def idle(self) -> list[Any]:
        """The timers of a stream that waits for its upstream."""
        return [call for call in self.net.reactor.getDelayedCalls() if call.getTime() > self.net.reactor.seconds() + 1]

    def test_paused(self) -> None:
        """A client that takes nothing more: nothing more is decoded, until it does."""
        self.wire.say(chunk(gzip.compress(START + DELTAS)))
        self.answer.pauseProducing()
        self.assertLessEqual(self.turns(), 1)
        self.assertLess(len(self.events.frames), len(DELTAS) // 2)
        self.answer.resumeProducing()
        self.assertEqual(self.wire.producerState, "paused")
        self.turns()
        self.assertEqual((len(self.events.frames), self.events.failure), (len(START + DELTAS), None))
        self.assertEqual(self.wire.producerState, "producing")

    def test_paused_at_once(self) -> None:
        """The same where a client has enough before a slice is over."""
        note = self.events.events

        def events(batch: Any) -> None:
            note(batch)
            self.answer.pauseProducing()

        self.events.events = events  # type: ignore[method-assign]
        self.wire.say(chunk(gzip.compress(START + DELTAS)))
        self.assertEqual(len(self.events.batches), 1)
        while len(self.events.frames) < len(START + DELTAS):
            self.answer.resumeProducing()
            self.turns()
        self.assertEqual(self.wire.producerState, "paused")
        self.answer.resumeProducing()
        self.turns()
        self.assertEqual(self.wire.producerState, "producing")

    def test_end_behind_it(self) -> None:
        """An end, or a break, that came meanwhile comes after all that came before it."""
        self.wire.say(chunk(gzip.compress(START + DELTAS)) + chunk(b""))
        self.assertIsNone(self.events.failure)
        self.turns()
        self.assertEqual(self.events.frames, START + DELTAS)
        self.assertEqual(self.events.failure.outcome.kind, Kind.BROKEN_STREAM)

    def test_cut_behind_it(self) -> None:
        """The same where the connection is lost."""
        self.wire.say(chunk(gzip.compress(START + DELTAS)))
        self.wire.end()
        self.assertIsNone(self.events.failure)
        self.turns()
        self.assertEqual(self.events.frames, START + DELTAS)
        self.assertEqual(self.events.failure.outcome.kind, Kind.BROKEN_STREAM)

    def test_damaged(self) -> None:
        """What is damaged later on breaks the stream in its turn."""
        packed = gzip.compress(START + DELTAS)
        self.wire.say(chunk(packed[:-8] + b"x" * 8))
        self.assertIsNone(self.events.failure)
        self.turns()
        self.assertEqual(self.events.failure.outcome.kind, Kind.BROKEN_STREAM)
        self.assertTrue(self.wire.aborted)

    def test_client_gone(self) -> None:
        """When nobody wants the rest, it is not decoded, and no timer is left."""
        self.wire.say(chunk(gzip.compress(START + DELTAS)))
        came = len(self.events.batches)
        self.answer.stopProducing()
        self.turns()
        self.assertEqual((len(self.events.batches), self.wire.aborted), (came, True))
        self.assertEqual(self.idle(), [])

    def test_fault_of_ours(self) -> None:
        """One in a later turn ends the attempt, too: nobody waits for what does not come."""
        self.wire.say(chunk(gzip.compress(START + DELTAS)))

        def events(batch: Any) -> None:
            raise ZeroDivisionError

        self.events.events = events  # type: ignore[method-assign]
        self.turns()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.events.failure.outcome.kind, Kind.INTERNAL)
