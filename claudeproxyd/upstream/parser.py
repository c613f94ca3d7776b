"""Parses HTTP/1.1 responses, without a socket: bytes in, events out.

llhttp reads; what it lets pass and an intermediary must not, is refused here. Its callbacks only collect, and what they
mean is decided once it has returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from claudeproxyd.outcomes.types import AttemptPhase
from claudeproxyd.remembered import Remembered
from claudeproxyd.upstream.errors import Cut, Malformed, ProxyRefused, UpstreamError

#: Bound for a response's head, and for what comes later without a byte of body: trailers, chunk extensions.
MAX_NON_BODY_BYTES = 65_536
#: Header lines in a response's head.
MAX_HEADERS = 256


@dataclass(slots=True)
class Head:
    """The status line and headers of the final response; those of interim ones (1xx) are passed over."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    """In the order in which they came, names in lower case. Trailers are not among them."""


class End(Enum):
    """The response is complete; the value says what may become of its connection."""

    KEEP_ALIVE = "can carry another request"
    CLOSE = "the upstream closes it"
    DESYNCHRONIZED = "has brought, or may bring, bytes that belong to no response"


#: What a read brought: bytes are of the body.
Event = Head | bytes | End | UpstreamError


class _Stage(Enum):
    """How far the response has come."""

    HEAD = "its final head is still to come"
    BODY = "the head is complete"
    COMPLETE = "the body is complete as well"


# Bound to names of the module, where Python finds them ten times as fast as in their enums.
KEEP_ALIVE, CLOSE, DESYNCHRONIZED = End
_HEAD, _BODY, _COMPLETE = _Stage

_names = Remembered[bytes, bytes](bytes.lower)
"""Names of headers in lower case."""


class ResponseParser:
    """Parses the responses on one connection, one after the other.

    :meth:`start` comes before each, and after an :class:`End` or an error nothing may be fed until then. It is kept for
    all of them, since llhttp's wrapper costs a microsecond to make.
    """

    def __init__(self, *, through_proxy: bool = False) -> None:
        """*through_proxy*: requests go to a proxy in absolute form, so that a 407 is the proxy's own."""
        self._through_proxy = through_proxy
        self._head = Head(0, b"", [])
        self._version = ""
        self._keep_alive = False
        self._body_pieces = 0
        """How many of the pieces are of this response's body, once it is complete."""
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._llhttp = HttpResponseParser(self)
        self.start(False)

    def start(self, head_request: bool) -> None:
        """Expect the response to another request. *head_request*: it has no body, whatever its head says."""
        self._head_request = head_request
        self._stage = _HEAD
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._extra_data = False
        self._non_body_bytes = 0

    def close(self) -> None:
        """Break the reference cycle with llhttp; nothing may be fed any more."""
        del self._llhttp

    def feed(self, data: bytes) -> list[Event]:
        """Return what *data* brings: at most a :class:`Head`, bytes of the body, and an :class:`End` or an error.

        In this order, each at most once. Raises HttpParserCallbackError for a fault of ours.
        """
        head_is_due = self._stage is _HEAD
        error: UpstreamError | None = None
        try:
            self._llhttp.feed_data(data)
        except HttpParserCallbackError:
            raise
        except (HttpParserError, HttpParserUpgrade) as reason:
            error = Malformed(f"the upstream's answer is not valid HTTP: {reason}")
        if head_is_due:
            return self._take_head(len(data), error)
        if error is not None or self._stage is _COMPLETE:
            return self._take_end(error)
        pieces = self._pieces
        if not pieces:
            return self._count_non_body(len(data))
        self._non_body_bytes = 0
        chunk = b"".join(pieces)
        pieces.clear()
        return [chunk]

    def eof(self, *, orderly: bool) -> End | Cut:
        """Return how the upstream's close ends the response.

        *orderly*: the close was announced. A TLS connection that ends without saying so, like a reset one, may have
        lost its last bytes.
        """
        if self._stage is _HEAD:
            return Cut("the upstream closed the connection without an answer", AttemptPhase.HEAD)
        if orderly and not any(name in (b"transfer-encoding", b"content-length") for name, _ in self._head.headers):
            return CLOSE
        return Cut("the upstream closed the connection within its answer")

    # -- called by llhttp

    def on_message_begin(self) -> None:
        self._extra_data = self._stage is _COMPLETE

    def on_status(self, reason: bytes) -> None:
        if self._stage is _HEAD:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((_names[name], value.rstrip()))

    def on_headers_complete(self) -> None:
        if self._stage is not _HEAD:
            return
        status = self._llhttp.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self._head = Head(status, self._reason, self._headers)
        self._headers = []  # what comes now are trailers, or belongs to no response
        self._version = self._llhttp.get_http_version()
        self._stage = _BODY

    def on_message_complete(self) -> None:
        if self._stage is _BODY:
            self._stage = _COMPLETE
            self._body_pieces = len(self._pieces)
            self._keep_alive = self._llhttp.should_keep_alive()
        elif self._stage is _HEAD:  # 100 Continue, 103 Early Hints and the like: the final head is still to come
            self._headers = []
            self._reason = b""

    # -- what llhttp leaves to us

    def _take_head(self, size: int, error: UpstreamError | None) -> list[Event]:
        """Return the events of a read of *size* bytes that began in the head."""
        if self._stage is _HEAD:
            if error is None:
                return self._count_non_body(size)
            error.phase = AttemptPhase.HEAD
            return [error]
        refusal = self._judge_head(size)
        if refusal is not None:
            return [refusal]
        head = self._head
        if error is not None or self._stage is _COMPLETE:
            return [head, *self._take_end(error)]
        self._non_body_bytes = 0
        if not self._pieces:
            return [head]
        events: list[Event] = [head, b"".join(self._pieces)]
        self._pieces.clear()
        return events

    def _take_end(self, error: UpstreamError | None) -> list[Event]:
        """Return the events of a read with which the response ends, or breaks with *error*."""
        if self._extra_data:
            del self._pieces[self._body_pieces :]
        chunk = b"".join(self._pieces)
        self._pieces.clear()
        end: Event
        if self._stage is _BODY:
            assert error is not None
            end = error
        elif self._extra_data or error is not None:
            end = DESYNCHRONIZED
        else:
            end = KEEP_ALIVE if self._keep_alive else CLOSE
        return [chunk, end] if chunk else [end]

    def _judge_head(self, size: int) -> UpstreamError | None:
        """Return why the head is refused, if it is. *size*: of the read that completed it."""
        head, version = self._head, self._version
        status, headers = head.status, head.headers
        if status == 101 or status < 100:
            return Malformed(f"the upstream answered with status {status}", AttemptPhase.HEAD)
        if status == 407 and self._through_proxy:
            return ProxyRefused("the proxy answered with 407", status)
        if version not in ("1.1", "1.0"):
            return Malformed(f"the upstream answered in HTTP {version}", AttemptPhase.HEAD)
        if len(headers) > MAX_HEADERS:
            return _too_many_headers()
        if self._non_body_bytes + size > MAX_NON_BODY_BYTES and _size(headers) > MAX_NON_BODY_BYTES:
            return _too_large_head()
        if b"\0" in head.reason:
            return Malformed("the answer's reason phrase holds a NUL", AttemptPhase.HEAD)
        codings = 0
        for name, value in headers:
            if name == b"transfer-encoding":
                codings += 1
                if codings > 1 or value.lower() != b"chunked" or version != "1.1":
                    return Malformed("the answer's transfer-encoding is not plainly chunked", AttemptPhase.HEAD)
        if self._head_request and (self._stage is _BODY or self._pieces or codings):
            # llhttp waits for a body, or has taken for one what is none: the connection has served its last request.
            self._stage = _COMPLETE
            self._body_pieces = 0
            self._extra_data = True
        return None

    def _count_non_body(self, size: int) -> list[Event]:
        """Count a read that brought nothing of a body; return the error once there were too many of them."""
        self._non_body_bytes += size
        if self._stage is _HEAD:
            if len(self._headers) > MAX_HEADERS:
                return [_too_many_headers()]
            if self._non_body_bytes > MAX_NON_BODY_BYTES:
                return [_too_large_head()]
        elif self._non_body_bytes > MAX_NON_BODY_BYTES:
            return [
                Malformed(f"the answer brings {MAX_NON_BODY_BYTES} bytes and nothing of its body", AttemptPhase.ANSWER)
            ]
        return []


def _too_many_headers() -> Malformed:
    return Malformed(f"the answer has more than {MAX_HEADERS} headers", AttemptPhase.HEAD)


def _too_large_head() -> Malformed:
    return Malformed(f"the answer's head is larger than {MAX_NON_BODY_BYTES} bytes", AttemptPhase.HEAD)


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)
