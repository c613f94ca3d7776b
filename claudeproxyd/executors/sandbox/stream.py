"""The sandbox's streamed answers: their pace, their pauses, and how they break off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from zope.interface import implementer

from claudeproxyd.errors import STATUS_OF_TYPE, ClaudeError
from claudeproxyd.interfaces import IStreamingResponse
from claudeproxyd.outcomes.types import AttemptPhase, ErrorResponse, Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.executors.judge import Judge
    from claudeproxyd.executors.sandbox.faults import Wishes
    from claudeproxyd.interfaces import IEventConsumer
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.messages.usage import Usage

#: Seconds between two pings, where a stream has nothing else.
PING = 1.0


@implementer(IStreamingResponse)
class SandboxStream:
    """One streamed answer. It says a word only when its time has come, so that nothing waits while it is paused."""

    exhausted = None
    anomaly = ""

    def __init__(
        self,
        clock: IReactorTime,
        judge: Judge,
        attempt: Attempt,
        headers: list[tuple[bytes, bytes]],
        machine: BlockMachine,
        words: Iterator[None],
        wishes: Wishes,
        *,
        pace: float,
        idle: float,
    ) -> None:
        self._clock = clock
        self.headers = headers
        self.request_id = dict(headers)[b"request-id"].decode()
        self.bytes_in = 0
        self._machine = machine
        self._words = words
        self._wishes = wishes
        self._pace = pace
        self._idle = idle
        self._judge = judge
        self._attempt = attempt
        self._said = 0
        self._has_content = False
        self._consumer: IEventConsumer | None = None
        self._next: tuple[float, Callable[[], None]] | None = None
        """In how many seconds to do what; of a paused stream, what is left of them."""
        self._timer: IDelayedCall | None = None
        self._paused = False

    @property
    def usage(self) -> Usage:
        """Complete at the end; of an answer that was cut, an estimate by what was said."""
        return self._machine.usage

    @property
    def stop_reason(self) -> str | None:
        """Known at the end."""
        return self._machine.stop_reason

    def deliver(self, consumer: IEventConsumer) -> None:
        """See :class:`~claudeproxyd.interfaces.IStreamingResponse`."""
        self._consumer = consumer
        self._after(0.0, self._speak)

    def pauseProducing(self) -> None:
        """No word, no fault and no time-out until it goes on."""
        self._paused = True
        if self._timer is not None and self._next is not None:
            self._next = (max(0.0, self._timer.getTime() - self._clock.seconds()), self._next[1])
        self._disarm()

    def resumeProducing(self) -> None:
        """Go on where it was paused; never from within this call."""
        if self._paused:
            self._paused = False
            self._arm()

    def stopProducing(self) -> None:
        """Not a word more."""
        self._consumer = None
        self._next = None
        self._disarm()
        self._machine.estimate_usage()

    # -- time

    def _after(self, delay: float, do: Callable[[], None]) -> None:
        self._next = (delay, do)
        if not self._paused:
            self._arm()

    def _arm(self) -> None:
        if self._next is not None:
            delay, do = self._next
            self._timer = self._clock.callLater(delay, self._fire, do)

    def _fire(self, do: Callable[[], None]) -> None:
        self._timer = self._next = None
        do()

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # -- words

    def _speak(self) -> None:
        """Some words, and when the next ones come."""
        wishes = self._wishes
        count = wishes.burst
        if wishes.fault:
            count = min(count, wishes.after - self._said)
            if count <= 0:
                self._strike()
                return
        for _ in range(count):
            next(self._words, None)
        self._said += count
        self._after(self._pace, self._speak)
        self._hand_on()

    def _hand_on(self) -> None:
        batch = self._machine.flush()
        consumer = self._consumer
        if consumer is None or not batch.count:
            return
        if batch.ended:
            self.stopProducing()
        self.bytes_in += len(batch.frames)
        self._has_content = self._has_content or batch.content
        consumer.events(batch)

    def _strike(self) -> None:
        """The fault that was wished for."""
        match self._wishes.fault:
            case "pings-only":
                self._machine.ping()
                self._after(PING, self._strike)
                self._hand_on()
            case "stall":
                if self._idle:
                    self._after(self._idle, lambda: self._break(failure=Failure.IDLE_TIMEOUT))
            case "error":
                status = STATUS_OF_TYPE.get(self._wishes.error, 500)
                error = ClaudeError(status, "The sandbox breaks off, as it was asked to", type=self._wishes.error)
                body = error.body(self.request_id)
                answer = ErrorResponse(status, self.headers, body, verbatim=True)
                self._break(status=status, body=body, answer=answer)
            case fault:
                self._break(failure=Failure(fault))

    def _break(
        self, *, failure: Failure | None = None, status: int = 0, body: bytes = b"", answer: ErrorResponse | None = None
    ) -> None:
        consumer = self._consumer
        self.stopProducing()
        if consumer is not None:
            consumer.broken(
                self._judge.failed(
                    self._attempt,
                    phase=AttemptPhase.STREAM,
                    failure=failure,
                    status=status,
                    body=body,
                    message_committed=self._has_content,
                    answer=answer,
                )
            )
