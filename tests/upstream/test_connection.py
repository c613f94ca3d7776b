"""What a read, the time and a close do in each state of a connection."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.testing import MemoryConnection
from tests.upstream.fakes import Net, Sink
from tests.upstream.responses import HELLO

HEAD, BODY = HELLO[:-5], HELLO[-5:]


class Deaf(MemoryConnection):
    """The other end of a connection that does not answer our close."""

    def loseConnection(self) -> None:
        self.disconnecting = True


class Case:
    """A connection in one of its states, a request on it that may be under way, and what came of that."""

    def __init__(self, state: str, used: bool) -> None:
        self.state = state
        self.net = Net(idle_timeout=50.0)
        self.sink = Sink()
        self.came: list[str] = []
        self.response: Any = None
        if used or state in ("IDLE", "CLOSING"):
            self.net.ask(first_byte=10.0, idle=20.0)
            self.wire = self.net.accept(Deaf)
            self.wire.say(HELLO)
        if state not in ("IDLE", "CLOSING"):
            asked = self.net.ask(first_byte=10.0, idle=20.0, stale=lambda: self.came.append("sent again"))
            if not used:
                self.wire = self.net.accept(Deaf)
            asked.addCallbacks(self.answered, lambda failure: self.came.append(type(failure.value).__name__))
        getattr(self, state)()
        self.wire.clear()

    def answered(self, response: Any) -> None:
        """The head is in."""
        self.response = response
        response.deliver(self.sink)

    def IDLE(self) -> None:
        """Its response is complete."""

    def WAITING(self) -> None:
        """Its request is out."""

    def HEAD(self) -> None:
        """Some of the head is in."""
        self.wire.say(HEAD[:10])

    def BODY(self) -> None:
        """The head is in, and some of the body."""
        self.wire.say(HEAD + BODY[:1])

    def PAUSED(self) -> None:
        """The same, and the consumer wants no more for now."""
        self.BODY()
        self.response.pauseProducing()

    def CLOSING(self) -> None:
        """It was idle for too long."""
        self.net.reactor.advance(50.1)

    # What may happen.

    def read(self) -> None:
        """The rest of a response comes in."""
        self.wire.say({"HEAD": HEAD[10:] + BODY, "BODY": BODY[1:], "PAUSED": BODY[1:]}.get(self.state, HELLO))

    def time(self) -> None:
        """Nothing happens for longer than any time-out of a request."""
        self.net.reactor.advance(20.1)

    def long(self) -> None:
        """Nothing happens for longer than a connection is kept."""
        self.net.reactor.advance(50.1)

    def lost(self) -> None:
        """The upstream closes the connection."""
        self.wire.end()

    def outcome(self) -> str:
        """What came of it: of the request, and of the connection."""
        request = self.sink.end if self.sink.end in (None, "whole") else type(self.sink.end).__name__
        wire = self.wire
        socket = "aborted" if wire.aborted else "gone" if wire.lost else "closing" if wire.disconnecting else "open"
        idle = ", idle" if self.net.origin.idle else ""
        return f"{self.came[0] if self.came else request or '–'}; {socket}{idle}"


#: The state, whether the connection was used before, what happens, and what comes of it.
TABLE = (
    ("IDLE", True, "read", "–; aborted"),
    ("IDLE", True, "time", "–; open, idle"),
    ("IDLE", True, "long", "–; closing"),
    ("IDLE", True, "lost", "–; gone"),
    ("WAITING", False, "read", "whole; open, idle"),
    ("WAITING", False, "time", "FirstByteTimedOut; aborted"),
    ("WAITING", False, "lost", "Cut; gone"),
    ("WAITING", True, "read", "whole; open, idle"),
    ("WAITING", True, "time", "FirstByteTimedOut; aborted"),
    ("WAITING", True, "lost", "sent again; gone"),
    ("HEAD", False, "read", "whole; open, idle"),
    ("HEAD", False, "time", "FirstByteTimedOut; aborted"),
    ("HEAD", False, "lost", "Cut; gone"),
    ("HEAD", True, "lost", "Cut; gone"),
    ("BODY", False, "read", "whole; open, idle"),
    ("BODY", False, "time", "IdleTimedOut; aborted"),
    ("BODY", True, "lost", "Cut; gone"),
    ("PAUSED", False, "read", "whole; open, idle"),
    ("PAUSED", False, "long", "–; open"),
    ("PAUSED", True, "lost", "Cut; gone"),
    ("CLOSING", True, "read", "–; aborted"),
    ("CLOSING", True, "time", "–; aborted"),
    ("CLOSING", True, "lost", "–; gone"),
)


class States(SynchronousTestCase):
    """The table in the connection's own documentation."""

    def test_each(self) -> None:
        """What comes of each event in each state; and nothing is left of a connection that is gone."""
        for state, used, event, outcome in TABLE:
            case = Case(state, used)
            getattr(case, event)()
            self.assertEqual(case.outcome(), outcome, (state, used, event))
            if not outcome.startswith("sent again"):
                case.net.turn()
                case.wire.end()
                self.assertEqual(case.net.origin.connections, 0, (state, event))
                self.assertEqual(case.net.reactor.getDelayedCalls(), [], (state, event))
