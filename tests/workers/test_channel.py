"""The wire between the parent and a worker."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.workers.channel import Refused
from tests.workers.support import Pair, refuse


class ChannelTests(SynchronousTestCase):
    """Tells, asks, and what comes of them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.heard: list[object] = []
        self.late: Deferred[object] = Deferred()
        self.pair = Pair(
            self.clock,
            worker={
                "note": lambda channel, body: self.heard.append(body),
                "double": lambda channel, body: [body, body],
                "late": lambda channel, body: self.late,
                "parts": lambda channel, body: iter([1, 2, 3]),
                "refuse": refuse,
                "no": self.no,
            },
        )

    def no(self, *_: object) -> None:
        raise Refused("not now")

    def test_tell(self) -> None:
        """What is told arrives in its order, as it was."""
        for body in ({"a": [1, None, b"bytes", 2.5]}, "text", None):
            self.pair.parent.tell("note", body)
        self.pair.settle()
        self.assertEqual(self.heard, [{"a": [1, None, b"bytes", 2.5]}, "text", None])
        self.assertEqual(self.pair.transports[1].value(), b"")

    def test_ask(self) -> None:
        """Each question gets its own answer, whichever comes first."""
        late, now = self.pair.parent.ask("late"), self.pair.parent.ask("double", 7)
        self.pair.settle()
        self.assertEqual(self.successResultOf(now), [7, 7])
        self.assertNoResult(late)
        self.late.callback("at last")
        self.pair.settle()
        self.assertEqual(self.successResultOf(late), "at last")

    def test_parts(self) -> None:
        """An answer in parts is one list in the end; each part has a turn of its own."""
        answer = self.pair.parent.ask("parts")
        self.pair.settle()
        for _ in range(5):
            self.assertNoResult(answer)
            self.clock.advance(0)
            self.pair.settle()
            if answer.called:
                break
        self.assertEqual(self.successResultOf(answer), [1, 2, 3])

    def test_fault(self) -> None:
        """A handler that breaks is an error there, logged here; the channel goes on."""
        answer = self.pair.parent.ask("refuse")
        unknown = self.pair.parent.ask("what")
        self.pair.settle()
        self.assertEqual(str(self.failureResultOf(answer, Refused).value), "a fault")
        self.failureResultOf(unknown, Refused)
        self.assertEqual(len(self.flushLoggedErrors(ValueError, KeyError)), 2)
        self.pair.parent.tell("refuse")
        self.pair.settle()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_refusal(self) -> None:
        """A handler that refuses has no fault."""
        answer = self.pair.parent.ask("no")
        self.pair.settle()
        self.assertEqual(str(self.failureResultOf(answer, Refused).value), "not now")

    def test_cancelled(self) -> None:
        """An answer that nobody waits for any more is dropped."""
        answer = self.pair.parent.ask("double", 1)
        answer.cancel()
        self.failureResultOf(answer)
        self.pair.settle()

    def test_lost(self) -> None:
        """The end of the other side fails what was asked, is told once, and makes what follows do nothing."""
        answer = self.pair.parent.ask("late")
        self.pair.settle()
        self.pair.cut()
        self.failureResultOf(answer, ConnectionDone)
        self.assertEqual(self.pair.lost, [self.pair.parent, self.pair.worker])
        self.pair.parent.tell("note")
        self.failureResultOf(self.pair.parent.ask("double"), ConnectionDone)
        self.late.callback(None)
        self.assertEqual([transport.value() for transport in self.pair.transports], [b"", b""])

    def test_lost_with_what_follows(self) -> None:
        """Who hears of the end of one question may give up another."""
        first, second = self.pair.parent.ask("late"), self.pair.parent.ask("late")
        first.addErrback(lambda failure: second.cancel())
        self.pair.parent.connectionLost()
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.pair.lost, [self.pair.parent])
