"""A streamed request's way to its client: the commit gate, pings, deadlines, pauses."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from claudeproxyd.config.schema import Timeouts
from claudeproxyd.dispatch.relay import Relay
from claudeproxyd.interfaces import IEventConsumer
from claudeproxyd.messages.batch import Batch
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Outcome, Scope, Then
from claudeproxyd.testing import FakeAccount
from tests.dispatch.fakes import FakeStreaming, House, Served

verifyClass(IEventConsumer, Relay)
verifyClass(IPushProducer, Relay)


def cut(committed: bool = False) -> AttemptFailed:
    """The upstream broke off."""
    if committed:
        return AttemptFailed(Outcome(Kind.BROKEN_STREAM, Scope.MODEL, Then.ANSWER, reason="cut off"))
    return AttemptFailed(Outcome(Kind.TRANSIENT, Scope.MODEL, Then.NEXT, repeatable=True, reason="cut off"))


class RelayTestCase(SynchronousTestCase):
    """One stream."""

    def begin(self, *keys: str, **streaming: Any) -> None:
        """A streamed request that waits for its upstream's head."""
        self.house = House(*(keys or "a"), **streaming)
        self.served: Served = self.house.serve(stream=True)
        self.client = self.served.client

    def head(self, number: int = -1, *at_once: Batch) -> FakeStreaming:
        """The head of an attempt's answer arrives."""
        answer = FakeStreaming(headers=[(b"x-up", b"1")])
        answer.at_once = list(at_once)
        self.house.executor.sent[number].answered.callback(answer)
        return answer

    def over(self, *outcomes: str) -> None:
        """The request is over, with nothing left behind, and its leases came back so."""
        self.assertTrue(self.served.done)
        self.assertEqual(self.house.pool.outcomes, list(outcomes))
        self.assertEqual(self.house.clock.getDelayedCalls(), [])
        self.assertEqual(self.house.services.relays, set())


class MessageCommit(RelayTestCase):
    """``message_start`` is held until the first content event."""

    def test_one_write(self) -> None:
        """What was held goes out with the first content event in one write, with the upstream's headers."""
        self.begin()
        answer = self.head()
        answer.say(b"start\n\n", content=False)
        answer.say(b"block\n\n", content=False)
        self.assertEqual((self.client.writes, self.client.head_committed), ([], False))
        answer.say(b"delta\n\n")
        self.assertEqual(self.client.writes, [b"start\n\nblock\n\ndelta\n\n"])
        self.assertIn((b"x-up", b"1"), self.client.head)
        answer.say(b"more\n\n")
        self.assertEqual(self.client.writes[1:], [b"more\n\n"])
        answer.say(b"stop\n\n", ended=True)
        self.assertTrue(self.client.ended)
        self.over("ok")

    def test_proves_its_candidate(self) -> None:
        """The pool hears of the first content event: those who wait for a probe do not wait for the answer's end."""
        self.begin()
        answer = self.head()
        (lease,) = self.house.pool.leases
        answer.say(b"start\n\n", content=False)
        self.assertFalse(lease.was_proved)
        answer.say(b"delta\n\n")
        self.assertTrue(lease.was_proved)

    def test_freed_at_once(self) -> None:
        """What a stream was made of goes with its end, and is nothing for the garbage collector to look for."""
        self.addCleanup(gc.enable)
        gc.disable()
        self.begin()
        self.head(-1, Batch(b"all\n\n", 6, True, ended=True))
        self.over("ok")
        client = weakref.ref(self.client)
        self.client.producer = None  # as the real one does
        del self.client, self.served
        for kept in (self.house.executor.sent, self.house.pool.lease_requests, self.house.pool.leases):
            kept.clear()
        self.assertIsNone(client())

    def test_all_at_once(self) -> None:
        """A whole stream in the read of its head."""
        self.begin()
        self.head(-1, Batch(b"all\n\n", 6, True, ended=True))
        self.assertEqual((self.client.writes, self.client.ended), ([b"all\n\n"], True))
        self.over("ok")

    def test_failover_before_head(self) -> None:
        """What was held of a failed attempt reaches nobody: the next one's message is the client's."""
        self.begin(*"ab")
        answer = self.head()
        answer.say(b"start a\n\n", content=False)
        answer.consumer.broken(cut())
        self.head().say(b"all of b\n\n", ended=True)
        self.assertEqual(self.client.writes, [b"all of b\n\n"])
        self.assertEqual(dict(self.client.head)[b"x-claudeproxyd-attempts"], b"2")
        self.over("transient", "ok")

    def test_failover_between_head_and_message(self) -> None:
        """After the head, and pings, another credential can still take over."""
        self.begin(*"ab")
        answer = self.head()
        answer.say(b"start a\n\n", content=False)
        self.house.clock.pump([45.0, 10.0])
        self.assertEqual(self.client.writes, [b"", b"ping"])
        answer.consumer.broken(cut())
        self.head().say(b"all of b\n\n", ended=True)
        self.assertEqual(self.client.writes, [b"", b"ping", b"all of b\n\n"])
        self.over("transient", "ok")

    def test_no_failover_after_message(self) -> None:
        """After message commit a cut is told, and nobody is asked any more."""
        self.begin(*"ab")
        answer = self.head()
        answer.say(b"delta\n\n")
        answer.consumer.broken(cut(committed=True))
        self.assertEqual((self.served.told, self.client.error.message), ((502, "api_error"), "cut off"))
        self.over("broken_stream")

    def test_ended_without_content(self) -> None:
        """A message_stop that was not earned is a cut."""
        self.begin(*"ab")
        answer = self.head()
        answer.say(b"start\n\nstop\n\n", content=False, ended=True)
        self.head().say(b"all\n\n", ended=True)
        self.assertEqual(self.client.writes, [b"all\n\n"])
        self.assertEqual(answer.stopped, 1)
        self.over("transient", "ok")

    def test_bound(self) -> None:
        """What is held has a bound."""
        self.begin(*"ab", max_event_bytes=20)
        answer = self.head()
        answer.say(b"x" * 15, content=False)
        answer.say(b"x" * 15, content=False)
        self.assertEqual(answer.stopped, 1)
        self.head().say(b"all\n\n", ended=True)
        self.over("transient", "ok")


class HeadCommit(RelayTestCase):
    """Status and headers go out after ``head_commit`` seconds at the latest."""

    def test_by_time(self) -> None:
        """To the second, counted from the request; the upstream is not known yet, so its headers are absent."""
        self.begin()
        self.house.clock.advance(44.9)
        self.assertFalse(self.client.head_committed)
        self.house.clock.advance(0.1)
        self.assertTrue(self.client.head_committed)
        self.assertEqual(self.client.head, ((b"x-claudeproxyd-request-id", b"req_ours"),))
        self.assertEqual(self.client.writes, [b""])

    def test_late_start(self) -> None:
        """The time that the body took to arrive counts."""
        house = House()
        request = house.request(stream=True)
        house.clock.advance(40.0)
        served = Served(house, request, FakeAccount([]))
        house.clock.advance(5.0)
        self.assertTrue(served.client.head_committed)

    def test_failure_before(self) -> None:
        """A failure before it is an HTTP error with its own status; one after it an error event."""
        for seconds, committed in ((44.0, False), (45.0, True)):
            self.begin()
            self.house.clock.advance(seconds)
            self.house.executor.sent[0].answered.errback(
                AttemptFailed(Outcome(Kind.CLIENT_FAULT, Scope.NONE, Then.ANSWER))
            )
            self.assertEqual(self.client.head_committed, committed)
            self.assertEqual(self.served.told, (400, "invalid_request_error"))
            self.over("client_fault")

    def test_in_the_queue(self) -> None:
        """Also while the request still waits for a credential."""
        house = House()
        house.pool.hold = True
        served = house.serve(stream=True)
        house.clock.advance(45.0)
        self.assertTrue(served.client.head_committed)


class Pings(RelayTestCase):
    """``keepalive``."""

    def test_silence(self) -> None:
        """A ping for each ``keepalive`` seconds in which nothing was sent, and none before the head."""
        self.begin()
        answer = self.head()
        self.house.clock.pump([15.0, 15.0, 14.0])
        self.assertEqual(self.client.writes, [])
        answer.say(b"delta\n\n")
        self.house.clock.advance(9.9)
        self.assertEqual(self.client.writes, [b"delta\n\n"])
        self.house.clock.advance(0.1)
        self.house.clock.advance(9.9)
        self.assertEqual(self.client.writes, [b"delta\n\n", b"ping"])
        self.house.clock.advance(0.1)
        self.assertEqual(self.client.writes, [b"delta\n\n", b"ping", b"ping"])

    def test_events_put_it_off(self) -> None:
        """A stream that talks gets none."""
        self.begin()
        answer = self.head()
        for _ in range(20):
            answer.say(b"delta\n\n")
            self.house.clock.advance(9.0)
        self.assertNotIn(b"ping", self.client.writes)
        self.house.clock.advance(1.0)
        self.assertEqual(self.client.writes.count(b"ping"), 1)

    def test_never_while_paused(self) -> None:
        """A client that does not read gets no more to read."""
        self.begin(stall=100.0)
        answer = self.head()
        answer.say(b"delta\n\n")
        self.client.producer.pauseProducing()
        self.house.clock.pump([10.0] * 5)
        self.assertEqual(self.client.writes, [b"delta\n\n"])
        self.client.producer.resumeProducing()
        self.house.clock.pump([10.0])
        self.assertEqual(self.client.writes, [b"delta\n\n", b"ping"])

    def test_off(self) -> None:
        """0 turns them off."""
        self.begin(keepalive=0.0)
        self.head().say(b"delta\n\n")
        self.house.clock.pump([50.0] * 5)
        self.assertEqual(self.client.writes, [b"delta\n\n"])


class Pauses(RelayTestCase):
    """A client that reads slowly."""

    def test_upstream_is_paused(self) -> None:
        """Its pause reaches the upstream's socket, and so does its end."""
        self.begin()
        answer = self.head()
        self.client.producer.pauseProducing()
        self.assertTrue(answer.paused)
        self.client.producer.resumeProducing()
        self.assertFalse(answer.paused)

    def test_next_attempt_is_paused(self) -> None:
        """A new attempt learns of it before its first event."""
        self.begin(*"ab")
        first = self.head()
        self.client.producer.pauseProducing()
        first.consumer.broken(cut())
        second = self.head()
        self.assertTrue(second.paused)
        self.client.producer.resumeProducing()
        self.assertFalse(second.paused)

    def test_stall(self) -> None:
        """A client that takes nothing for ``stall`` seconds is cut, and its upstream too, without blame."""
        self.begin()
        answer = self.head()
        answer.say(b"delta\n\n")
        self.house.clock.advance(3.0)
        self.client.producer.pauseProducing()
        self.house.clock.pump([10.0] * 5 + [9.9])
        self.assertFalse(self.served.done)
        self.house.clock.advance(0.1)
        self.assertTrue(self.client.aborted)
        self.assertEqual(answer.stopped, 1)
        self.assertEqual(self.served.log.error, "stalled")
        self.over("cancelled")

    def test_pauses_do_not_add_up(self) -> None:
        """Only one uninterrupted pause counts."""
        self.begin()
        self.head().say(b"delta\n\n")
        for _ in range(5):
            self.client.producer.pauseProducing()
            self.house.clock.advance(50.0)
            self.client.producer.resumeProducing()
        self.assertFalse(self.client.aborted)


class ContentDeadline(RelayTestCase):
    """``timeouts.content``: to the first content event of a stream, pings or not."""

    def begin(self, *keys: str, **streaming: Any) -> None:
        """With a deadline of 100 seconds."""
        super().begin(*keys, **streaming)
        self.house.timeouts["p"] = Timeouts(content=100.0)

    def test_failover(self) -> None:
        """An upstream that only ever begins is given up, and another takes over."""
        self.begin(*"ab")
        first = self.head()
        first.say(b"start\n\n", content=False)
        self.house.clock.pump([10.0] * 9 + [9.9])
        self.assertEqual(first.stopped, 0)
        self.house.clock.advance(0.1)
        self.assertEqual(first.stopped, 1)
        self.head().say(b"all\n\n", ended=True)
        self.assertEqual(self.client.writes[-1], b"all\n\n")
        self.over("transient", "ok")

    def test_last_one(self) -> None:
        """Where nobody is left the client is told that it was a time-out, and no timer stays behind."""
        self.begin()
        answer = self.head()
        self.house.clock.pump([10.0] * 10)
        self.assertEqual(self.served.told, (504, "timeout_error"))
        self.assertEqual(answer.stopped, 1)
        self.over("transient")

    def test_content_came(self) -> None:
        """Content ends the wait for it."""
        self.begin()
        self.head().say(b"delta\n\n")
        self.house.clock.pump([10.0] * 20)
        self.assertFalse(self.served.done)

    def test_each_attempt_anew(self) -> None:
        """The next attempt has a deadline of its own."""
        self.begin(*"ab")
        first = self.head()
        self.house.clock.pump([10.0] * 8)
        first.consumer.broken(cut())
        self.head()
        self.house.clock.pump([10.0] * 9)
        self.assertFalse(self.served.done)

    def test_to_the_second(self) -> None:
        """A deadline that is shorter than the other waits is met on time all the same."""
        self.begin(*"ab")
        self.house.timeouts["p"] = Timeouts(content=2.0)
        answer = self.head()
        self.house.clock.advance(2.0)
        self.assertEqual(answer.stopped, 1)


class FirstContent(RelayTestCase):
    """What the record says of a stream."""

    def test_times(self) -> None:
        """Time to the first content event, counted from the attempt."""
        self.begin()
        self.house.clock.advance(1.0)
        answer = self.head()
        self.house.clock.advance(2.0)
        answer.say(b"delta\n\n")
        self.house.clock.advance(4.0)
        answer.usage.output, answer.usage.estimated = 12, True
        answer.consumer.broken(cut(committed=True))
        (record,) = self.house.sink.records
        self.assertEqual((record.time_to_first_content, record.duration), (3.0, 7.0))
        self.assertEqual((record.outcome, record.output_tokens, record.estimated), ("broken_stream", 12, True))
