"""The way to one client: the only place that writes dispatch's answers to its connection."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IPushProducer
from twisted.web.http import datetimeToString
from zope.interface import implementer

from claudeproxyd.interfaces import IDownlink
from claudeproxyd.web.phrases import PHRASES

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.errors import ClaudeError
    from claudeproxyd.headers import Headers
    from claudeproxyd.interfaces import ITranscript
    from claudeproxyd.outcomes.types import ErrorResponse
    from claudeproxyd.web.request import GatewayRequest


_STREAM_HEADERS = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)
_JSON = b"content-type: application/json\r\n"
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STREAM_OWN = frozenset({b"content-type", b"cache-control", b"x-accel-buffering"})
_STATUS_LINES = {status: b"HTTP/1.1 %d %b\r\n" % (status, phrase) for status, phrase in PHRASES.items()}


@implementer(IDownlink, IPushProducer)
class Downlink:
    """One request's answer. Made by web, driven by dispatch."""

    def __init__(
        self, request: GatewayRequest, clock: IReactorTime, extra: Headers = (), transcript: ITranscript | None = None
    ) -> None:
        """*extra*: headers of web's own, for CORS. *transcript*: shown what the client gets."""
        assert request.channel is not None
        self._request = request
        self._channel = request.channel
        self._clock = clock
        self._extra = extra
        self._transcript = transcript
        self._producer: IPushProducer | None = None
        self._is_stream = False
        self._chunked = False
        self._ended = False
        self.status = 0
        """What the client was told; 0 until the head is out."""
        self.head_committed = False
        self.message_committed = False
        self.last_write = 0.0
        self.sent = 0

    # -- IDownlink

    def attach(self, producer: IPushProducer) -> None:
        """See :meth:`IDownlink.attach <claudeproxyd.interfaces.IDownlink.attach>`."""
        if not self._gone():
            self._producer = producer
            self._channel.register(self)

    def commit_head(self, headers: Headers) -> None:
        """See :meth:`IDownlink.commit_head <claudeproxyd.interfaces.IDownlink.commit_head>`."""
        if not self._gone():
            self._write(self._stream_head(headers))

    def frames(self, headers: Headers, frames: bytes, last: bool) -> None:
        """See :meth:`IDownlink.frames <claudeproxyd.interfaces.IDownlink.frames>`."""
        if self._gone():
            return
        self.message_committed = True
        head = b"" if self.head_committed else self._stream_head(headers)
        self._body(head, frames, last)

    def ping(self) -> None:
        """See :meth:`IDownlink.ping <claudeproxyd.interfaces.IDownlink.ping>`."""
        if not self._gone():
            self._body(b"", _PING, False)

    def whitespace(self) -> None:
        """See :meth:`IDownlink.whitespace <claudeproxyd.interfaces.IDownlink.whitespace>`."""
        if not self._gone():
            head = b"" if self.head_committed else self._early_head()
            self._body(head, b" ", False)

    def whole(self, headers: Headers, body: bytes) -> None:
        """See :meth:`IDownlink.whole <claudeproxyd.interfaces.IDownlink.whole>`."""
        if self._gone():
            return
        if self.head_committed:
            self._body(b"", body, True)
        else:
            self._whole(200, b"", self._identified(headers), body)

    def fail(self, error: ClaudeError, answer: ErrorResponse | None = None) -> None:
        """See :meth:`IDownlink.fail <claudeproxyd.interfaces.IDownlink.fail>`."""
        if self._gone():
            return
        request_id = self._request.request_id
        if self.head_committed:
            body = error.frame(request_id) if self._is_stream else error.body(request_id)
            self._body(b"", body, True)
        elif answer is not None:
            self._whole(answer.status, b"", self._identified([*answer.headers, *error.headers]), answer.body)
        else:
            self._whole(error.status, _JSON, self._identified(error.headers), error.body(request_id))

    def abort(self) -> None:
        """See :meth:`IDownlink.abort <claudeproxyd.interfaces.IDownlink.abort>`."""
        if not self._gone():
            self._ended = True
            self._channel.transport.abortConnection()

    # -- IPushProducer, for the channel

    def pauseProducing(self) -> None:
        """The client's socket is full."""
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The client took what there was."""
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """The client is gone."""
        if self._producer is not None:
            self._producer.stopProducing()

    # -- bytes

    def _gone(self) -> bool:
        return self._ended or self._request.channel is None

    def _identified(self, headers: Headers) -> Headers:
        for name, _ in headers:
            if name == b"request-id":
                return headers
        return [*headers, (b"request-id", self._request.request_id.encode())]

    def _stream_head(self, headers: Headers) -> bytes:
        self._is_stream = True
        passing = [pair for pair in headers if pair[0] not in _STREAM_OWN]
        return self._head(200, _STREAM_HEADERS, self._identified(passing), None)

    def _early_head(self) -> bytes:
        """Which upstream will answer is not known yet."""
        ours = (b"x-claudeproxyd-request-id", self._request.request_id.encode())
        return self._head(200, _JSON, self._identified([ours]), None)

    def _head(self, status: int, fixed: bytes, headers: Headers, length: int | None) -> bytes:
        """Status line and headers; chunked where the length is open and the client knows chunks."""
        request = self._request
        request.startedWriting = True
        self.head_committed = True
        self.status = status
        if self._transcript is not None:
            self._transcript.answer(status, headers)
        lines = [
            _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status,
            _date_line(int(request.time + self._clock.seconds() - request.started)),
            fixed,
        ]
        lines += [b"%b: %b\r\n" % pair for pair in (*headers, *self._extra)]
        if length is not None:
            lines.append(b"content-length: %d\r\n" % length)
        elif request.clientproto == b"HTTP/1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self._channel.persistent:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _whole(self, status: int, fixed: bytes, headers: Headers, body: bytes) -> None:
        head = self._head(status, fixed, headers, len(body))
        self._count(body)
        self._channel.transport.writeSequence((head, body))
        self._finish()

    def _body(self, head: bytes, data: bytes, last: bool) -> None:
        self._count(data)
        if self._chunked:
            self._write(b"%b%x\r\n%b\r\n%b" % (head, len(data), data, b"0\r\n\r\n" if last else b""))
        else:
            self._write(head + data)
        if last:
            self._finish()

    def _count(self, body: bytes) -> None:
        self.sent += len(body)
        if self._transcript is not None:
            self._transcript.data(body)

    def _write(self, data: bytes) -> None:
        self.last_write = self._clock.seconds()
        self._channel.transport.write(data)

    def _finish(self) -> None:
        self._ended = True
        request = self._request
        if self._producer is not None:
            self._producer = None
            self._channel.unregister()
        request.finish()


@lru_cache(maxsize=2)
def _date_line(second: int) -> bytes:
    return b"date: %b\r\n" % datetimeToString(second)
