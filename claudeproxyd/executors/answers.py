"""What a Claude-speaking upstream gives back: a whole message, a token count, or a stream of its own frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from claudeproxyd.errors import STATUS_OF_TYPE, type_in
from claudeproxyd.framing.coding import CodingError, Decoder, sniff
from claudeproxyd.framing.sse import FrameSplitter, FrameTooLarge
from claudeproxyd.interfaces import IBodyConsumer, IEventConsumer, IUpstreamAnswer
from claudeproxyd.messages.usage import Usage, UsageMembers, count
from claudeproxyd.messages.watch import DamagedEvent, StreamWatch
from claudeproxyd.outcomes import AttemptFailed, ErrorAnswer, Outcome, Phase
from claudeproxyd.upstream.errors import UpstreamError

if TYPE_CHECKING:
    from claudeproxyd.observe.capture import Exchange as CapturedExchange
    from claudeproxyd.upstream.client import Response

#: How long an upstream may linger after ``message_stop`` before its connection is given up, in seconds.
LINGER = 5.0

Headers = Sequence[tuple[bytes, bytes]]
Classify = Callable[..., Outcome]
"""Evidence's members, without what the executor knows already, to an outcome."""


class NotClaude(Exception):
    """A 200 whose body is not the Claude answer that it should be."""


class _Message(msgspec.Struct):
    type: str = ""
    stop_reason: str | None = None
    usage: UsageMembers | None = None


class _Count(msgspec.Struct):
    input_tokens: int


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_count = msgspec.json.Decoder(_Count).decode


@implementer(IUpstreamAnswer)
class WholeAnswer:
    """A message or a token count, to its last byte. Raises :class:`NotClaude` where it is something else."""

    producer = None
    oddity = ""

    def __init__(
        self, headers: Headers, body: bytes, *, exhausted: float | None, request_id: str, count_tokens: bool
    ) -> None:
        self.status = 200
        self.headers = headers
        self.body = body
        self.usage = Usage()
        self.stop_reason: str | None = None
        self.exhausted = exhausted
        self.request_id = request_id
        self.bytes_in = len(body)
        try:
            if count_tokens:
                self.usage.input = _decode_count(body).input_tokens
                return
            message = _decode_message(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise NotClaude(f"a 200 whose body is not a Claude answer: {e}") from None
        if message.type != "message":
            raise NotClaude(f"a 200 whose body is of type {message.type!r}")
        self.stop_reason = message.stop_reason
        count(self.usage, message.usage)

    def deliver(self, consumer: Any) -> None:
        """A whole answer has no events."""
        raise RuntimeError("a whole answer has no events")


@implementer(IUpstreamAnswer, IBodyConsumer, IPushProducer)
class StreamAnswer:
    """The stream of a Claude-speaking upstream: its frames go on as they came, and the watch reads along."""

    __slots__ = (
        "_capture",
        "_classify",
        "_consumer",
        "_decoder",
        "_held",
        "_hold",
        "_max_event_bytes",
        "_response",
        "_splitter",
        "_watch",
        "body",
        "bytes_in",
        "exhausted",
        "headers",
        "request_id",
        "status",
    )

    def __init__(
        self,
        response: Response,
        headers: Headers,
        *,
        classify: Classify,
        max_event_bytes: int,
        decoder: Decoder | None,
        exhausted: float | None,
        request_id: str,
        capture: CapturedExchange | None = None,
        hold: Callable[[int], None] = lambda change: None,
    ) -> None:
        """*hold* is told of changes in the bytes of unfinished frames."""
        self.status = 200
        self.headers = headers
        self.body = None
        self.exhausted = exhausted
        self.request_id = request_id
        self.bytes_in = 0
        self._response = response
        self._classify = classify
        self._capture = capture
        self._decoder = decoder
        self._max_event_bytes = max_event_bytes
        self._splitter = FrameSplitter(max_event_bytes)
        self._hold = hold
        self._held = 0
        self._watch = StreamWatch()
        self._consumer: IEventConsumer | None = None

    @property
    def producer(self) -> StreamAnswer:
        """Itself, before the upstream's socket."""
        return self

    def pauseProducing(self) -> None:
        """Read no more from the upstream."""
        self._response.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self._response.resumeProducing()

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        self._consumer = None
        self._holds(0)
        self._response.stopProducing()

    @property
    def usage(self) -> Usage:
        """What the watch has read so far; estimated where the stream was cut."""
        self._watch.close()
        return self._watch.usage

    @property
    def stop_reason(self) -> str | None:
        """As the upstream's ``message_delta`` said it."""
        return self._watch.stop_reason

    @property
    def oddity(self) -> str:
        """What was out of the grammar's order, or ''."""
        return self._watch.oddity

    def deliver(self, consumer: IEventConsumer) -> None:
        """See :class:`~claudeproxyd.interfaces.IUpstreamAnswer`."""
        self._consumer = consumer
        self._response.deliver(self)

    def data(self, chunk: bytes) -> None:
        """One read of the upstream's body."""
        consumer = self._consumer
        if consumer is None:
            # More after message_stop: nobody's.
            self._response.stopProducing()
            return
        if not self.bytes_in and self._decoder is None and (coding := sniff(chunk)):
            self._decoder = Decoder(coding, self._max_event_bytes)
        self.bytes_in += len(chunk)
        if self._capture is not None:
            self._capture.data(chunk)
        had_content = self._watch.content
        try:
            if self._decoder is not None:
                chunk = self._decoder.feed(chunk)
            batch = self._watch.batch(self._splitter.feed(chunk))
            if self._splitter.unfinished != self._held:
                self._holds(self._splitter.unfinished)
        except (CodingError, FrameTooLarge, DamagedEvent) as e:
            self._break("malformed", str(e), had_content)
            return
        if batch.error is not None:
            # What came in the same read as the error has reached nobody: another credential can still take over.
            if batch.count and had_content:
                consumer.events(batch)
            self._refuse(batch.error, had_content)
        elif batch.count:
            if batch.ended:
                self._consumer = None
                self._holds(0)
                self._response.linger(LINGER)
            consumer.events(batch)

    def ended(self) -> None:
        """The body is over; without ``message_stop`` before it that is a cut."""
        if self._consumer is not None:
            self._break("cut", "upstream closed the stream before message_stop", self._watch.content)

    def broken(self, reason: Exception) -> None:
        """The body is over and not whole."""
        if self._consumer is None:
            return
        if isinstance(reason, UpstreamError) and reason.failure != "cut":
            self._break(reason.failure, str(reason), self._watch.content)
        else:
            self._break("cut", "upstream closed the stream before message_stop", self._watch.content)

    def _holds(self, size: int) -> None:
        if size != self._held:
            self._hold(size - self._held)
            self._held = size

    def _break(self, failure: str, why: str, committed: bool) -> None:
        """*committed*: content has been handed on."""
        if self._capture is not None:
            self._capture.failed(why)
        outcome = self._classify(phase=Phase.STREAM, failure=failure, body=why.encode(), message_committed=committed)
        self._end(AttemptFailed(outcome))

    def _refuse(self, error: bytes, committed: bool) -> None:
        status = STATUS_OF_TYPE.get(type_in(error) or "", 500)
        outcome = self._classify(
            phase=Phase.STREAM,
            status=status,
            body=error,
            headers=self._response.headers,
            message_committed=committed,
        )
        headers = [pair for pair in self.headers if pair[0] != b"content-type"]
        headers.append((b"content-type", b"application/json"))
        self._end(AttemptFailed(outcome, ErrorAnswer(status, headers, error, verbatim=True)))

    def _end(self, failure: AttemptFailed) -> None:
        consumer = self._consumer
        self.stopProducing()
        if consumer is not None:
            consumer.broken(failure)
