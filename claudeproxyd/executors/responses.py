"""What an upstream's 200 becomes: a whole message, a token count, or a stream of Claude events."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.executors.inflating import InflatedBody
from claudeproxyd.framing.coding import CodingError, sniff
from claudeproxyd.framing.sse import FrameTooLarge
from claudeproxyd.headers import Headers
from claudeproxyd.interfaces import IBodyConsumer, IBufferedResponse, IEventConsumer, IStreamingResponse
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.loose import is_word, read_object
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.messages.usage import TokenCount, Usage, count
from claudeproxyd.observe.scrub import redact_bytes
from claudeproxyd.outcomes.types import AttemptFailed, AttemptPhase, Failure
from claudeproxyd.upstream.errors import InternalError, UpstreamError

if TYPE_CHECKING:
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.executors.judge import Judge
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IStreamReader
    from claudeproxyd.messages.batch import Batch
    from claudeproxyd.upstream.client import Response

#: Seconds that an upstream may take to end its body once the message is whole; then its connection is given up.
DRAIN_SECONDS = 5.0
#: Bytes that a stream may bring without an event, pings apart: blanks, comments, pings without end.
MAX_BYTES_WITHOUT_EVENT = 1_048_576

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
#: A figure may be text, as protobuf's JSON has it.
_decode_tokens = msgspec.json.Decoder(TokenCount, strict=False).decode

_PING = b"event: ping\n"
_PING_BYTES = len(_PING)
_CUT = "upstream closed the stream before message_stop"


class ParsedMessage(NamedTuple):
    """An answer's body as its client gets it, and what there is to know of it."""

    body: bytes
    usage: Usage
    stop_reason: str | None = None
    request_id: str = ""
    """As the upstream's body told it."""
    anomaly: str = ""


class _Message(msgspec.Struct):
    """The members of a message that are read. None has to be of the shape that we know."""

    type: Any = None
    stop_reason: Any = None
    usage: Any = None


_decode_message = msgspec.json.Decoder(_Message).decode


def read_message(body: bytes) -> ParsedMessage:
    """Read a Claude message, which stays as it is.

    Raises :class:`~claudeproxyd.messages.reader.MalformedAnswer` for what is none.

    It was paid for: what is odd in it, or cannot be read, is its client's to see, and keeps nothing else from passing.
    """
    try:
        message = _decode_message(body)
    except UNREADABLE:
        message = _Message()
    anomaly = ""
    if message.type != "message":
        message, anomaly = _odd_message(body), "a message of an unknown shape"
    usage = Usage()
    anomaly = count(usage, message.usage) or anomaly
    reason = message.stop_reason
    if reason is not None and not is_word(reason):
        reason, anomaly = None, anomaly or "a stop_reason of an unknown shape"
    return ParsedMessage(body, usage, reason, anomaly=anomaly)


def _odd_message(body: bytes) -> _Message:
    """Read *body* as a message if it has a message's members, though not its type, or is no JSON to msgspec."""
    members = read_object(body)
    if members is None:
        raise MalformedAnswer("no message, and no JSON object")
    kind = members.get("type")
    if kind != "message" and (
        kind == "error" or members.get("error") is not None or not {"role", "content"} <= members.keys()
    ):
        raise MalformedAnswer("no message")
    return _Message(kind, members.get("stop_reason"), members.get("usage"))


def _pings_alone(batch: Batch) -> bool:
    return batch.frames.count(_PING) == batch.count


def read_count(body: bytes) -> ParsedMessage:
    """Read a token count, which stays as it is. Raises MalformedAnswer for what is none."""
    members = read_object(body)
    if members is None or "input_tokens" not in members:
        raise MalformedAnswer("no count")
    usage = Usage()
    anomaly = count(usage, {"input_tokens": members["input_tokens"]})
    return ParsedMessage(redact_bytes(body), usage, anomaly=anomaly)


def count_reader(member: str) -> Callable[[bytes], ParsedMessage]:
    """Return what reads another API's token count, an object that has it in *member*, as an answer of count_tokens.

    It raises MalformedAnswer.
    """

    def read(body: bytes) -> ParsedMessage:
        usage = Usage()
        try:
            usage.input = _decode_tokens(_split(body)[member])
        except (KeyError, *UNREADABLE) as e:
            raise MalformedAnswer(f"no count: {e}") from None
        return ParsedMessage(b'{"input_tokens":%d}' % usage.input, usage)

    return read


@implementer(IBufferedResponse)
class BufferedResponse:
    """A message or a token count, to its last byte."""

    def __init__(
        self, headers: Headers, whole: ParsedMessage, *, exhausted: float | None = None, request_id: str = ""
    ) -> None:
        self.headers = headers
        self.body = whole.body
        self.usage = whole.usage
        self.stop_reason = whole.stop_reason
        self.exhausted = exhausted
        self.request_id = request_id or whole.request_id
        self.anomaly = whole.anomaly
        self.bytes_in = len(whole.body)


@implementer(IStreamingResponse)
class LocalStream:
    """A stream that is whole from the start, since no upstream was asked for it."""

    request_id = ""
    exhausted = None
    anomaly = ""
    bytes_in = 0

    def __init__(self, headers: Headers, batch: Batch, usage: Usage, stop_reason: str) -> None:
        self.headers = headers
        self.usage = usage
        self.stop_reason = stop_reason
        self._batch = batch

    def deliver(self, consumer: IEventConsumer) -> None:
        """All of it at once."""
        consumer.events(self._batch)

    def pauseProducing(self) -> None:
        """It has nothing more."""

    resumeProducing = stopProducing = pauseProducing


class ReaderFacts:
    """What the reader of a stream knows of it, for those who stand in front of one."""

    __slots__ = ("_reader",)

    def __init__(self, reader: IStreamReader) -> None:
        self._reader = reader

    @property
    def usage(self) -> Usage:
        """What is known so far; estimated where the stream was cut."""
        return self._reader.usage

    @property
    def stop_reason(self) -> str | None:
        """Known at the end."""
        return self._reader.stop_reason

    @property
    def anomaly(self) -> str:
        """What was out of order, or ''."""
        return self._reader.anomaly


@implementer(IStreamingResponse, IBodyConsumer)
class StreamingResponse(ReaderFacts):
    """A stream: what an :class:`~claudeproxyd.interfaces.IStreamReader` makes of the upstream's bytes."""

    _log = Logger()

    __slots__ = (
        "_adjust",
        "_attempt",
        "_bytes_without_event",
        "_clock",
        "_committed",
        "_consumer",
        "_inflated",
        "_judge",
        "_request_id",
        "_response",
        "_transcript",
        "_unfinished",
        "bytes_in",
        "exhausted",
        "headers",
    )

    def __init__(
        self,
        judge: Judge,
        services: Services,
        attempt: Attempt,
        response: Response,
        reader: IStreamReader,
        *,
        headers: Headers,
        coding: str,
        exhausted: float | None,
        request_id: str,
    ) -> None:
        """*coding*: as the response's head tells it. Raises :class:`~claudeproxyd.framing.coding.UnknownCoding`."""
        super().__init__(reader)
        self.headers = headers
        self.exhausted = exhausted
        self._request_id = request_id
        self.bytes_in = 0
        self._judge = judge
        self._attempt = attempt
        self._transcript = attempt.transcript
        self._response = response
        self._clock = services.clock
        self._inflated = self._inflate(coding) if coding else None
        self._adjust = services.buffers.adjust
        self._unfinished = 0
        self._bytes_without_event = 0
        """Since the last event that was no ping."""
        self._committed = False
        """Content has been handed on."""
        self._consumer: IEventConsumer | None = None

    @property
    def _body(self) -> Response | InflatedBody:
        return self._inflated or self._response

    def pauseProducing(self) -> None:
        """Read no more from the upstream."""
        self._body.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self._body.resumeProducing()

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        self._consumer = None
        self._count_unfinished(0)
        self._body.stopProducing()

    @property
    def request_id(self) -> str:
        """As a header said, or else what has come of the body."""
        return self._request_id or self._reader.request_id

    def deliver(self, consumer: IEventConsumer) -> None:
        """See :class:`~claudeproxyd.interfaces.IStreamingResponse`."""
        self._consumer = consumer
        self._response.deliver(self)

    def data(self, chunk: bytes) -> None:
        """Read what one read of the socket brought."""
        if self._consumer is None:
            # More after the end of the message: nobody's.
            self._body.stopProducing()
            return
        before = self.bytes_in
        if not before and self._inflated is None and (coding := sniff(chunk)):
            self._inflated = self._inflate(coding)
        self.bytes_in = before + len(chunk)
        if self._inflated is None:
            self._take(chunk)
        else:
            self._inflated.data(chunk)

    def _inflate(self, coding: str) -> InflatedBody:
        return InflatedBody(self._response, coding, self._clock, self._take, self._not_inflated)

    def _not_inflated(self, error: CodingError | InternalError) -> None:
        if isinstance(error, InternalError):
            self._break(error.failure, str(error))
        else:
            self._fail(error)

    def _take(self, chunk: bytes) -> None:
        """Read a piece of the body, its coding undone."""
        consumer = self._consumer
        if consumer is None:
            return
        if self._transcript is not None:
            self._transcript.data(chunk)
        try:
            self._read(chunk, consumer)
        except Exception as e:
            self._fail(e)

    def _read(self, chunk: bytes, consumer: IEventConsumer) -> None:
        """Feed the reader with decoded bytes, and hand on what it makes of them. Raises as the reader does."""
        reader = self._reader
        batch = reader.feed(chunk)
        before, unfinished = self._unfinished, reader.unfinished
        if unfinished != before:
            self._count_unfinished(unfinished)
        if batch.ended or batch.error is not None:
            self._last(batch, consumer)
            return
        if not batch.count or (batch.frames[:_PING_BYTES] == _PING and _pings_alone(batch)):
            self._bytes_without_event += 0 if batch.progress else len(chunk) + before - unfinished
            if self._bytes_without_event > MAX_BYTES_WITHOUT_EVENT:
                raise MalformedAnswer(f"the stream brings {MAX_BYTES_WITHOUT_EVENT} bytes and nothing of the answer")
        elif self._bytes_without_event:
            self._bytes_without_event = 0
        if batch.count:
            if not self._committed:
                self._committed = batch.content
            consumer.events(batch)

    def ended(self) -> None:
        """See the interface."""
        if self._inflated is None:
            self._ended()
        else:
            self._inflated.end(self._ended)

    def broken(self, reason: Exception) -> None:
        """Fail the attempt: the body is not whole."""
        if isinstance(reason, UpstreamError) and reason.failure is not Failure.CUT:
            end = partial(self._break, reason.failure, str(reason))
        else:
            end = partial(self._break, Failure.CUT, _CUT)
        if self._inflated is None:
            end()
        else:
            self._inflated.end(end)

    def _ended(self) -> None:
        """End the stream: that is a cut unless the message ended in it, or ends by that."""
        consumer = self._consumer
        if consumer is None:
            return
        try:
            batch = self._reader.end()
        except Exception as e:
            self._fail(e)
        else:
            self._last(batch, consumer)

    def _last(self, batch: Batch, consumer: IEventConsumer) -> None:
        """Hand on the last batch: with the end of the message, an error, or a cut."""
        if batch.ended:
            self._consumer = None
            self._count_unfinished(0)
            self._body.linger(DRAIN_SECONDS)
            consumer.events(batch)
            return
        # What came in the same read as the fault has reached nobody: another credential can still take over.
        if batch.count and self._committed:
            consumer.events(batch)
        if batch.error is not None:
            self._refuse(batch.error)
        else:
            self._break(Failure.CUT, _CUT)

    def _count_unfinished(self, size: int) -> None:
        """Count *size* bytes of an unfinished frame as buffered."""
        if size != self._unfinished:
            self._adjust(size - self._unfinished)
            self._unfinished = size

    def _fail(self, error: Exception) -> None:
        """End the attempt: what came cannot be read, or the model failed, or the reader has a fault."""
        if isinstance(error, ModelFault):
            self._break(Failure.MODEL_FAULT, str(error))
        elif isinstance(error, (CodingError, FrameTooLarge, MalformedAnswer)):
            self._break(Failure.MALFORMED, str(error))
        else:
            reader = type(self._reader).__name__
            self._log.failure("{reader} has a fault: the stream cannot be read", reader=reader)
            self._break(Failure.INTERNAL, f"a fault in the code of {reader}")

    def _break(self, failure: Failure, why: str) -> None:
        if self._consumer is None:
            return
        if self._transcript is not None:
            self._transcript.failed(why)
        self._end(
            self._judge.failed(
                self._attempt,
                phase=AttemptPhase.STREAM,
                failure=failure,
                body=why.encode(),
                message_committed=self._committed,
            )
        )

    def _refuse(self, error: bytes) -> None:
        self._end(
            self._judge.refused(
                self._attempt, self._response, error, phase=AttemptPhase.STREAM, message_committed=self._committed
            )
        )

    def _end(self, failure: AttemptFailed) -> None:
        consumer = self._consumer
        self.stopProducing()
        if consumer is not None:
            consumer.broken(failure)
