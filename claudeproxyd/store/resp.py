"""A connection to Redis in RESP3: commands out, replies in the same order, published messages in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

_NOTHING = object()


class RedisConnection(Protocol):
    """Sends commands and matches replies to them. Knows nothing of what the commands mean."""

    def __init__(
        self,
        made: Callable[[RedisConnection], None],
        published: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        """*made* and *lost* are called at the beginning and the end, *published* gets each message in between."""
        self._made = made
        self._published = published
        self._lost = lost
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._asked: deque[Deferred[object]] = deque()
        self.open = False

    def connectionMade(self) -> None:
        """Connected."""
        self.open = True
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._made(self)

    def command(self, *words: str | bytes | float) -> Deferred[Any]:
        """Send one command. Fails with :class:`hiredis.ReplyError`, or with why the connection ended.

        An answer that was cancelled is still read, and dropped.
        """
        assert self.transport is not None
        answer: Deferred[object] = Deferred()
        if not self.open:
            answer.errback(Failure(connectionDone.value))
            return answer
        self._asked.append(answer)
        packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # typed for one word
        self.transport.write(packed)
        return answer

    def dataReceived(self, data: bytes) -> None:
        """Handle each complete reply and message."""
        try:
            self._reader.feed(data)
            while self.open and (reply := self._reader.gets()) is not _NOTHING:
                self._replied(reply)
        except hiredis.ProtocolError:
            self.abort()

    def _replied(self, reply: object) -> None:
        if isinstance(reply, hiredis.PushNotification):
            if reply[0] == b"message":
                self._published(reply[2])
            if reply[0] != b"subscribe":
                return
        # A subscription's confirmation comes as a push, a refusal as a reply: both are for the command.
        if not self._asked:
            self.abort()
            return
        answer = self._asked.popleft()
        if answer.called:
            return
        if isinstance(reply, hiredis.ReplyError):
            answer.errback(reply)
        else:
            answer.callback(reply)

    def abort(self) -> None:
        """Abort the connection: the other side does not reply, or does not speak RESP."""
        if self.open:
            self.open = False
            transport: Any = self.transport
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail the commands that have no reply yet."""
        self.open = False
        asked, self._asked = self._asked, deque()
        for answer in asked:
            if not answer.called:
                answer.errback(reason)
        self._lost()
