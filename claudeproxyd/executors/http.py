"""What all executors that reach their provider by HTTP have in common.

Sending an attempt, reading what comes back into an answer, and making an outcome of whatever is none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn, TypeVar
from urllib.parse import quote

from twisted.internet.defer import TimeoutError

from claudeproxyd.executors.judge import Judge
from claudeproxyd.executors.responses import (
    BufferedResponse,
    ParsedMessage,
    StreamingResponse,
    read_count,
    read_message,
)
from claudeproxyd.framing.coding import CodingError, decoding, sniff
from claudeproxyd.headers import Headers
from claudeproxyd.messages import hops
from claudeproxyd.messages.headers import value_of
from claudeproxyd.messages.reader import ErrorAnswer, MalformedAnswer, ModelFault
from claudeproxyd.observe.scrub import redact_bytes, redact_headers
from claudeproxyd.outcomes.classify import classify
from claudeproxyd.outcomes.hints import foreseen
from claudeproxyd.outcomes.types import AttemptFailed, AttemptPhase, Evidence, Failure
from claudeproxyd.upstream.errors import IdleTimedOut, UpstreamError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IStreamReader
    from claudeproxyd.upstream.client import Origin, Response

#: No whole answer is larger: 128,000 tokens are some 2 MB. It is read in one go, which takes up to 0.2 s.
MAX_WHOLE_ANSWER = 33_554_432
MAX_ERROR_ANSWER = 1_048_576
#: Seconds for the body of an answer that is none: what matters of it is said in its head.
ERROR_BODY_SECONDS = 5.0

#: Pages of a list of models that are read; all that publish such lists fit into fewer.
MAX_PAGES = 20

EVENT_STREAM = b"text/event-stream"

Listed = TypeVar("Listed")


class HTTPExecutor(ABC):
    """The base of one provider's executor. A subclass says what goes up, and which reader takes what comes down."""

    kind: str
    family: str
    make_judge = Judge
    request_id_headers: tuple[bytes, ...] = (b"request-id", b"x-request-id")
    """Those that hold the upstream's own id of a request; the first that is there."""

    def __init__(self, section: Provider, services: Services) -> None:
        self.services = services
        self.judge = self.make_judge(self.family, services, self._passing)
        self.section = section
        self.origin: Origin = services.origin(section.base_url)

    @abstractmethod
    def client_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Which of an upstream's headers its client gets."""

    # -- up

    async def send(
        self, attempt: Attempt, target: bytes, lines: bytes, body: bytes, *, streamed: bool | None = None
    ) -> Response:
        """Send *body*, with *lines* beside the headers that every provider gets, and return the 200 that comes back.

        *streamed*: the upstream is asked for a stream; None: if the client asked for one.
        Raises AttemptFailed for any other status, and UpstreamError.
        """
        request = attempt.request
        section, timeouts = self.section, self.services.timeouts
        if streamed is None:
            streamed = request.envelope.stream and not request.count_tokens
        lines = b"%b%b%b%bcontent-type: application/json\r\naccept-encoding: %b\r\n" % (
            lines,
            hops.line(self.services.own_hop, request.headers),
            own_lines(section.headers, request.principal.name) if section.headers else b"",
            attempt.trace.lines if attempt.trace is not None else b"",
            b"identity" if streamed else b"gzip",
        )
        attempt.bytes_out = len(body)
        if attempt.capture is not None:
            attempt.transcript = attempt.capture.attempt(section.name, attempt.credential.name)
            attempt.transcript.request("POST", target.decode("latin-1"), _pairs(lines), body)
        response = await self.origin.request(
            b"POST",
            target,
            lines,
            body,
            first_byte=timeouts.first_byte if streamed else timeouts.first_byte_whole,
            idle=timeouts.idle,
            stale=lambda: attempt.went_stale(self.services.clock.seconds()),
        )
        attempt.head_at = self.services.clock.seconds()
        attempt.status = response.status
        attempt.abandon = response.stopProducing
        if attempt.transcript is not None:
            attempt.transcript.answer(response.status, response.headers)
        if response.status != 200:
            error = await self._opened(await self._error_body(response), response, attempt)
            raise self.judge.refused(attempt, response, error, phase=AttemptPhase.ANSWER)
        return response

    async def pages(
        self, target: str, parameter: str, lines: bytes, read: Callable[[bytes], tuple[list[Listed], str]]
    ) -> list[Listed]:
        """What is on all the pages of a list; *target* has a query, and *parameter* is by which it goes on.

        *read* gives what is on a page, and what asks for the next; '' for the last. A page with nothing on it is the
        last too, and so is one that leads back. Raises AttemptFailed, UpstreamError, and what *read* does.
        """
        listed: list[Listed] = []
        asked = {""}
        after = ""
        while len(asked) <= MAX_PAGES:
            onward = f"&{parameter}={quote(after, safe='')}" if after else ""
            page, after = read(await self._get(self.origin.base_path + f"{target}{onward}".encode(), lines))
            listed += page
            if after in asked or not page:
                break
            asked.add(after)
        return listed

    async def _get(self, target: bytes, lines: bytes) -> bytes:
        """The body of a 200, decoded and redacted; for lists. Raises AttemptFailed or UpstreamError."""
        timeouts = self.services.timeouts
        response = await self.origin.request(
            b"GET",
            target,
            lines + hops.line(self.services.own_hop) + b"accept-encoding: gzip\r\n",
            b"",
            first_byte=timeouts.first_byte,
            idle=timeouts.idle,
        )
        raw = await self._body(response, MAX_ERROR_ANSWER)
        body = redact_bytes(await self._decoded(raw, response, MAX_ERROR_ANSWER))
        if response.status != 200:
            raise AttemptFailed(
                classify(
                    Evidence(
                        family=self.family,
                        phase=AttemptPhase.ANSWER,
                        status=response.status,
                        headers=response.headers,
                        body=body,
                        now=self.services.now(),
                    )
                )
            )
        return body

    # -- down

    async def stream(
        self, response: Response, attempt: Attempt, reader: IStreamReader, media_types: tuple[bytes, ...]
    ) -> StreamingResponse:
        """Return the stream that *reader* makes of a body, which has to be of one of these types.

        Raises AttemptFailed.
        """
        if not value_of(response.headers, b"content-type").lower().startswith(media_types):
            body = await self._opened(await self._error_body(response), response, attempt)
            raise self._not_claude(body, response, attempt)
        encoding = value_of(response.headers, b"content-encoding").decode("latin-1")
        try:
            return StreamingResponse(
                self.judge,
                self.services,
                attempt,
                response,
                reader,
                headers=self._passing(response.headers),
                coding=encoding,
                exhausted=foreseen(response.headers, self.family, self.services.now()),
                request_id=self._request_id(response),
            )
        except CodingError:
            response.stopProducing()
            raise self._not_claude(b"", response, attempt) from None

    async def whole(
        self, response: Response, attempt: Attempt, read: Callable[[bytes], ParsedMessage] | None = None
    ) -> BufferedResponse:
        """Read a body to its end and return the response in it; *read* makes a Claude one of it, where it is none yet.

        *read* may raise :class:`~claudeproxyd.messages.reader.MalformedAnswer` and ``ModelFault``. Raises
        AttemptFailed, and UpstreamError.
        """
        if read is None:
            read = read_count if attempt.request.count_tokens else read_message
        raw = response.whole
        if raw is None:
            reading = self._body(response, MAX_WHOLE_ANSWER)
            if limit := self.services.timeouts.content:
                reading.addTimeout(limit, self.services.clock, _never_whole)
            raw = await reading
        body = await self._opened(raw, response, attempt, MAX_WHOLE_ANSWER)
        try:
            whole = BufferedResponse(
                self._passing(response.headers),
                read(body),
                exhausted=foreseen(response.headers, self.family, self.services.now()),
                request_id=self._request_id(response),
            )
        except ModelFault as e:
            words = str(e).encode()
            raise self.judge.failed(
                attempt, phase=AttemptPhase.ANSWER, failure=Failure.MODEL_FAULT, body=words
            ) from None
        except ErrorAnswer as e:
            raise self.judge.refused(attempt, response, e.body, phase=AttemptPhase.STREAM) from None
        except MalformedAnswer:
            raise self._not_claude(body[:MAX_ERROR_ANSWER], response, attempt) from None
        whole.bytes_in = len(raw)
        return whole

    def _body(self, response: Response, limit: int) -> Deferred[bytes]:
        """All of a body, counted in ``max_buffered_bytes`` while it comes."""
        return response.read(limit, self.services.buffers.adjust)

    async def _error_body(self, response: Response) -> bytes:
        """As much as there is of the body of what is no answer.

        An error whose body breaks off, or does not come, is still what its status says.
        """
        try:
            return await self._body(response, MAX_ERROR_ANSWER).addTimeout(ERROR_BODY_SECONDS, self.services.clock)
        except (UpstreamError, TimeoutError):
            return b""

    async def _decoded(self, raw: bytes, response: Response, limit: int) -> bytes:
        """The body without its content-encoding, declared or not. What cannot be decoded is nothing."""
        encoding = value_of(response.headers, b"content-encoding").decode("latin-1") or sniff(raw)
        if not encoding:
            return raw
        try:
            return await self.services.turns.run(decoding(raw, encoding, limit))
        except CodingError:
            return b""

    async def _opened(self, raw: bytes, response: Response, attempt: Attempt, limit: int = MAX_ERROR_ANSWER) -> bytes:
        """A body without its coding; that is what is captured, since inside a coding nothing can be masked."""
        body = await self._decoded(raw, response, limit)
        if attempt.transcript is not None:
            attempt.transcript.data(body)
            if raw and not body:
                attempt.transcript.failed("the body does not match its content-encoding")
        return body

    def _request_id(self, response: Response) -> str:
        for name in self.request_id_headers:
            if told := value_of(response.headers, name):
                return told.decode("latin-1")
        return ""

    def _passing(self, headers: Headers) -> Headers:
        """Return those of an upstream's headers that go on to the client, with our keys masked."""
        return redact_headers(self.client_headers(headers))

    # -- failures

    def _not_claude(self, body: bytes, response: Response, attempt: Attempt) -> AttemptFailed:
        """A 200 that is HTML, empty, of the wrong type, or an error object."""
        return self.judge.failed(
            attempt,
            phase=AttemptPhase.ANSWER,
            status=200,
            headers=response.headers,
            body=body,
            failure=Failure.NOT_CLAUDE,
        )

    def outcomes(self, attempt: Attempt) -> _Outcomes:
        """Make an AttemptFailed of the HTTP client's errors; all else, a cancellation above all, stays what it is."""
        return _Outcomes(self.judge, attempt)


class _Outcomes:
    """The context of :meth:`HTTPExecutor.outcomes`: a generator's would cost each request eight calls more."""

    __slots__ = ("_attempt", "_judge")

    def __init__(self, judge: Judge, attempt: Attempt) -> None:
        self._judge = judge
        self._attempt = attempt

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, UpstreamError):
            words = str(error)
            if self._attempt.transcript is not None:
                self._attempt.transcript.failed(words)
            raise self._judge.failed(
                self._attempt, phase=error.phase, failure=error.failure, body=words.encode()
            ) from None


def own_lines(headers: Mapping[str, str], client: str) -> bytes:
    """A provider's configured ``headers``, with ``{client}`` filled in."""
    return b"".join(f"{name}: {value.replace('{client}', client)}\r\n".encode() for name, value in headers.items())


def _pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Rendered header lines as pairs again, for a capture."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")) if name]


def _never_whole(_: object, seconds: float) -> NoReturn:
    """Blanks may keep an answer alive, and its client waiting for ever."""
    raise IdleTimedOut(f"the answer was not whole within {seconds:g} seconds of its head")
