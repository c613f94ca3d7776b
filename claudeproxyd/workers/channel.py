"""The wire between the parent and one worker: a unix socket pair, on which both may tell and ask.

A frame is a length and a MessagePack array ``[kind, number, name, body]``. What is told is not answered. What is asked
is answered under its number: by a body, by parts that come over several turns of the reactor, or by an error's words.
Frames keep their order in each direction. Nobody else holds an end, so what comes is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: The largest frame, in bytes: the whole state of a pool with all its sessions fits many times.
MAX_FRAME = 1 << 30

T = TypeVar("T")

_TELL, _ASK, _PART, _ANSWER, _ERROR = range(5)

Body = object
"""Plain values: what MessagePack has."""
Handler = Callable[["ControlChannel", object], object]
"""Takes the channel and a body. For what is asked it returns the answer, an iterator over its parts, or a Deferred."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, str, object]).decode


class Refused(Exception):
    """The other side answered with an error; this is what it said."""


class ControlChannel(Int32StringReceiver):
    """One end. Handlers are looked up by name in a mapping, which may grow as long as the channel lives."""

    MAX_LENGTH = MAX_FRAME
    noisy = False
    _log = Logger()

    def __init__(
        self, clock: IReactorTime, handlers: Mapping[str, Handler], lost: Callable[[ControlChannel], None]
    ) -> None:
        """*lost* is called once, when the other side is gone."""
        self._handlers = handlers
        self._lost = lost
        self._asked: dict[int, tuple[Deferred[object], list[object]]] = {}
        self._number = 0
        self._open = True
        self._turns = Cooperator(scheduler=lambda work: clock.callLater(0, work))

    @property
    def is_open(self) -> bool:
        """Whether the other side is there."""
        return self._open

    def tell(self, name: str, body: Body = None) -> None:
        """Have the other side's handler called; nothing comes back. Does nothing where it is gone."""
        self._send(_TELL, 0, name, body)

    def ask(self, name: str, body: Body = None) -> Deferred[object]:
        """Return what the other side answers: a body, or a list of parts.

        Fails with :class:`Refused`, or ConnectionDone where it is gone.
        """
        if not self._open:
            return fail(ConnectionDone(f"nobody there to ask for {name}"))
        self._number += 1
        number = self._number

        def forget(_: Deferred[object]) -> None:
            self._asked.pop(number, None)

        answer: Deferred[object] = Deferred(forget)
        self._asked[number] = (answer, [])
        self._send(_ASK, number, name, body)
        return answer

    def close(self) -> None:
        """Send what waits, and end it."""
        if self._open and self.transport is not None:
            self.transport.loseConnection()

    # -- the protocol

    def stringReceived(self, string: bytes) -> None:
        """Take one frame."""
        kind, number, name, body = _decode(string)
        if kind in (_TELL, _ASK):
            self._handle(number, name, body)
            return
        waiting = self._asked.get(number)
        if waiting is None:  # whoever asked has left
            return
        answer, parts = waiting
        if kind == _PART:
            parts.append(body)
            return
        del self._asked[number]
        if kind == _ERROR:
            answer.errback(Refused(body))
        else:
            answer.callback(parts if name == "parts" else body)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's own form
        """Fail whatever was asked, and say so."""
        self._open = False
        while self._asked:  # whoever hears of one may give up others
            answer, _ = self._asked.pop(next(iter(self._asked)))
            answer.errback(ConnectionDone("the other side is gone"))
        self._lost(self)

    def _send(self, kind: int, number: int, name: str, body: object) -> None:
        if self._open:
            self.sendString(_encode((kind, number, name, body)))

    def _handle(self, number: int, name: str, body: object) -> None:
        try:
            answer = self._handlers[name](self, body)
        except Exception:
            self._fault(Failure(), number, name)
            return
        if not number:
            return
        if isinstance(answer, Deferred):
            answer.addCallbacks(self._answer, self._fault, (number,), errbackArgs=(number, name))
        else:
            self._answer(answer, number)

    def _answer(self, answer: object, number: int) -> None:
        if not isinstance(answer, Iterator):
            self._send(_ANSWER, number, "", answer)
            return

        def parts() -> Iterator[None]:
            for part in answer:
                self._send(_PART, number, "", part)
                yield None

        done = self._turns.coiterate(parts())
        done.addCallbacks(
            lambda _: self._send(_ANSWER, number, "parts", None), self._fault, errbackArgs=(number, "parts")
        )

    def _fault(self, failure: Failure, number: int, name: str) -> None:
        if failure.check(Refused) is None:
            self._log.failure("{name}, for another process of this daemon, failed", failure, name=name)
        if number:
            self._send(_ERROR, number, "", failure.getErrorMessage())


def shielded(asked: Deferred[T], late: Callable[[T], None] = lambda answer: None) -> Deferred[T]:
    """Return what fires as *asked* does; when it is cancelled the answer is still waited for, and *late* gets it."""
    waiting: Deferred[T] = Deferred()

    def answered(answer: T) -> None:
        if waiting.called:
            late(answer)
        else:
            waiting.callback(answer)

    asked.addCallbacks(answered, lambda failure: None if waiting.called else waiting.errback(failure))
    return waiting
