"""What the readers of all families' answers have in common: the way from a body's bytes to the end of a message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from zope.interface import implementer

from claudeproxyd.framing.event_stream import DamagedMessage
from claudeproxyd.framing.whole import WholeBody
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.block import BlockError
from claudeproxyd.messages.frame import read_frame
from claudeproxyd.messages.loose import with_halves_joined
from claudeproxyd.messages.reader import ErrorAnswer, MalformedAnswer

if TYPE_CHECKING:
    import msgspec

    from claudeproxyd.framing.types import Framing
    from claudeproxyd.messages.batch import Batch
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.translate.prepared import TranslatedRequest

Frame = TypeVar("Frame")
Event = TypeVar("Event")

#: What stands ahead of the data of a frame of server-sent events.
_DATA = b"data: "
#: As a number it is found sooner than as bytes, for which Python asks first whether they are one.
_LINE_FEED = ord("\n")


class NoEvent(MalformedAnswer):
    """Bytes that are no event of the family's; at the end of a body, half of one."""


@implementer(IStreamReader)
class AnswerReader(ABC, Generic[Frame]):
    """Reads one answer, streamed or whole, and drives a machine by it.

    A family says how bodies are framed, by the first byte, and what a frame means. One framed by
    :class:`~claudeproxyd.framing.whole.WholeBody` is read at its end.
    """

    def __init__(self, machine: BlockMachine, request: TranslatedRequest, max_event_bytes: int) -> None:
        self.anomaly = ""
        self.request_id = ""
        self.content = False
        """The client may have some of the answer."""
        self._machine = machine
        self._thinks = request.thinks
        self._shows = request.thinks and request.shows
        self._may_stop = bool(request.stop_sequences)
        self._limit = max_event_bytes
        self._splitter: Framing[Frame] | WholeBody | None = None
        self._progress = False
        """Something of the answer has come since the last batch that a client is not shown."""
        self._answered = False
        """There is text or a call: more than thoughts."""
        self._reason: str | None = None
        """Why the upstream has ended the answer, once it says that it has."""
        self._over = False
        """The message is finished; nothing more is read."""

    # -- what a family has

    @abstractmethod
    def _framing(self, data: bytes) -> Framing[Frame] | WholeBody:
        """Return what cuts a body that begins so. Raises :class:`~claudeproxyd.messages.reader.MalformedAnswer`."""

    @abstractmethod
    def _read(self, frames: Sequence[Frame]) -> bytes | None:
        """Read frames. Return the error that is among them, behind which nothing is read; or None.

        Raises :class:`NoEvent`, and what :meth:`feed` does or turns into that.
        """

    @abstractmethod
    def _read_object(self, body: bytes) -> bytes | None:
        """Read an answer that is one JSON object; the rest is as of :meth:`_read`."""

    @abstractmethod
    def _finish(self) -> None:
        """End the message. Raises BlockError, MalformedAnswer and ModelFault."""

    # -- IStreamReader

    @property
    def usage(self) -> Usage:
        """As upstream counted; estimated where the answer was truncated before it did."""
        if self._machine.stop_reason is None:
            self._machine.estimate_usage()
        return self._machine.usage

    @property
    def stop_reason(self) -> str | None:
        """Claude's, at the end."""
        return self._machine.stop_reason

    @property
    def unfinished(self) -> int:
        """Bytes of a frame whose end has not come."""
        return self._splitter.unfinished if self._splitter is not None else 0

    def feed(self, data: bytes) -> Batch:
        """See :meth:`~claudeproxyd.interfaces.IStreamReader.feed`."""
        splitter = self._splitter
        if splitter is None:
            data = data.lstrip()
            if not data:
                return self._batch(None)
            splitter = self._splitter = self._framing(data)
        try:
            return self._batch(self._read(splitter.feed(data)))
        except (BlockError, DamagedMessage, *UNREADABLE) as e:
            raise MalformedAnswer(str(e)) from None

    def end(self) -> Batch:
        """See :meth:`~claudeproxyd.interfaces.IStreamReader.end`."""
        if self._over:
            return self._batch(None)
        try:
            error = self._read_end()
            if error is None and self._reason is not None and not self._over:
                self._finish()
        except NoEvent:
            return self._batch(None)  # half of its last frame is: it was truncated
        except (BlockError, *UNREADABLE) as e:
            raise MalformedAnswer(str(e)) from None
        return self._batch(error)

    def _read_end(self) -> bytes | None:
        splitter = self._splitter
        if splitter is None:
            return None
        if isinstance(splitter, WholeBody):
            (body,) = splitter.end()
            return self._read_object(body)
        return self._read(splitter.end())

    # -- a whole answer

    def read_whole(self, body: bytes) -> None:
        """Read an answer that came at once: an object, or a stream that nobody asked for.

        Raises :class:`~claudeproxyd.messages.reader.MalformedAnswer`, of an error
        :class:`~claudeproxyd.messages.reader.ErrorAnswer`, and :class:`~claudeproxyd.messages.reader.ModelFault`.
        """
        body = body.removeprefix(BOM_UTF8).strip()
        self._limit = max(self._limit, len(body))
        try:
            error = self._read_object(body) if body.startswith(b"{") else self.feed(body).error
        except (BlockError, *UNREADABLE) as e:
            raise MalformedAnswer(str(e)) from None
        if error is None:
            error = self.end().error
        if error is not None:
            raise ErrorAnswer(error)
        if not self._over:
            raise MalformedAnswer("an answer without an end")

    # -- for families

    def _batch(self, error: bytes | None) -> Batch:
        batch = self._machine.flush()
        batch.error = error
        batch.progress, self._progress = self._progress, False
        if batch.content:
            self.content = True
        return batch

    def _note(self, anomaly: str) -> None:
        self.anomaly = self.anomaly or anomaly


class EventReader(AnswerReader[bytes], Generic[Event]):
    """One whose frames are server-sent events, or JSON without such a frame, and whose events one struct can hold."""

    _decoder: msgspec.json.Decoder[Event]
    _head = _name = b""
    """What the last frame had ahead of its data, which nearly all have in a stream, and its ``event:`` name."""
    _half = b""
    """Of a character that the last event cut in two: the escape that it ended with."""

    @abstractmethod
    def _take(self, event: Event, name: bytes, data: bytes) -> bytes | None:
        """Read one event, of that ``event:`` name. Return the error that it is, or None."""

    @abstractmethod
    def _take_odd(self, name: bytes, data: bytes) -> bytes | None:
        """Read what the decoder cannot, if it is anything. Raises :class:`NoEvent`."""

    def _read(self, frames: Sequence[bytes]) -> bytes | None:
        decode, take = self._decoder.decode, self._take
        for frame in frames:
            head, _, data = frame.partition(_DATA)
            if head != self._head or _LINE_FEED in data:
                data = self._data_of(frame)
            try:
                event = decode(data)
            except UNREADABLE:
                error = self._read_odd(data)
            else:
                error = take(event, self._name, data)
            if error is not None:
                return error
            if self._over:
                break
        return None

    def _read_odd(self, data: bytes) -> bytes | None:
        """Read what the decoder could not: a character that was cut in two is enough for that."""
        whole, self._half = with_halves_joined(data, self._half)
        if whole == data:
            return self._take_odd(self._name, data)
        self._note("half a surrogate pair")
        try:
            event = self._decoder.decode(whole)
        except UNREADABLE:
            return self._take_odd(self._name, whole)
        return self._take(event, self._name, whole)

    def _data_of(self, frame: bytes) -> bytes:
        if frame.startswith((b"{", b"[")):  # an element, or an error that was put between the events
            name, data = b"", frame
        else:
            name, data = read_frame(frame)
        self._name, self._head = name, b"event: %b\n" % name if name else b""
        return data

    def _read_object(self, body: bytes) -> bytes | None:
        return self._read([body])
