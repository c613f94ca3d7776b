"""What all executors that reach their provider by HTTP have in common.

Sending an attempt, reading what comes back into an answer, and making an outcome of whatever is none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote

from twisted.internet.defer import TimeoutError

from claudeproxyd.errors import type_in
from claudeproxyd.executors.responses import (
    BufferedResponse,
    ParsedMessage,
    StreamingResponse,
    read_count,
    read_message,
)
from claudeproxyd.framing.coding import CodingError, Decoder, decode_whole, sniff
from claudeproxyd.messages import hops
from claudeproxyd.messages.headers import value_of
from claudeproxyd.messages.reader import Damaged, ModelFault
from claudeproxyd.observe.scrub import redact_bytes, redact_headers
from claudeproxyd.outcomes.bodies import read_error
from claudeproxyd.outcomes.classify import classify, context_overflow
from claudeproxyd.outcomes.hints import foreseen
from claudeproxyd.outcomes.types import AttemptFailed, ErrorAnswer, Evidence, Phase
from claudeproxyd.upstream.errors import IdleTimedOut, UpstreamError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IStreamReader
    from claudeproxyd.upstream.client import Origin, Response

#: No whole answer is larger: 128,000 tokens are some 2 MB, images in tool results some 30.
MAX_WHOLE_ANSWER = 67_108_864
MAX_ERROR_ANSWER = 1_048_576
#: Seconds for the body of an answer that is none: what matters of it is said in its head.
ERROR_BODY = 5.0

#: Pages of a list of models that are read; all that publish such lists fit into fewer.
MAX_PAGES = 20

EVENT_STREAM = b"text/event-stream"

Listed = TypeVar("Listed")
Headers = Sequence[tuple[bytes, bytes]]
Read = Callable[["Response", "Attempt"], Any]
"""Makes an answer, or a Deferred of one, of a 200."""


class HTTPExecutor(ABC):
    """The base of one provider's executor. A subclass says what goes up, and which reader takes what comes down."""

    kind: str
    family: str

    def __init__(self, section: Provider, services: Services) -> None:
        self.services = services
        self._section = section
        self._origin: Origin = services.origin(section.base_url)

    @abstractmethod
    def client_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Which of an upstream's headers its client gets."""

    # -- up

    def _send(
        self, attempt: Attempt, target: bytes, lines: bytes, body: bytes, then: Read, *, streamed: bool | None = None
    ) -> Deferred[Any]:
        """Send *body*, with *lines* beside the headers that every provider gets; *then* reads a 200.

        *streamed*: the upstream is asked for a stream; None: if the client asked for one.
        Fails with :class:`~claudeproxyd.outcomes.types.AttemptFailed`.
        """
        call = attempt.call
        section, timeouts = self._section, self.services.timeouts
        if streamed is None:
            streamed = call.envelope.stream and not call.count_tokens
        lines = b"%b%b%bcontent-type: application/json\r\naccept-encoding: %b\r\n" % (
            lines,
            hops.line(self.services.own_hop, call.headers),
            own_lines(section.headers, call.principal.name) if section.headers else b"",
            b"identity" if streamed else b"gzip",
        )
        attempt.bytes_out = len(body)
        if call.capture is not None:
            attempt.transcript = call.capture.attempt(section.name, attempt.credential.name)
            attempt.transcript.request("POST", target.decode("latin-1"), _pairs(lines), body)
        sent = self._origin.request(
            b"POST",
            target,
            lines,
            body,
            first_byte=timeouts.first_byte if streamed else timeouts.first_byte_whole,
            idle=timeouts.idle,
            stale=lambda: attempt.went_stale(self.services.clock.seconds()),
        )
        sent.addCallback(self._answered, attempt, then)
        sent.addErrback(self._failed, attempt)
        return sent

    async def _list(
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
            page, after = read(await self._get(self._origin.base_path + f"{target}{onward}".encode(), lines))
            listed += page
            if after in asked or not page:
                break
            asked.add(after)
        return listed

    async def _get(self, target: bytes, lines: bytes) -> bytes:
        """The body of a 200, decoded and redacted; for lists. Raises AttemptFailed or UpstreamError."""
        timeouts = self.services.timeouts
        response = await self._origin.request(
            b"GET",
            target,
            lines + hops.line(self.services.own_hop) + b"accept-encoding: gzip\r\n",
            b"",
            first_byte=timeouts.first_byte,
            idle=timeouts.idle,
        )
        raw = await self._body(response, MAX_ERROR_ANSWER)
        body = redact_bytes(_decoded(raw, response, MAX_ERROR_ANSWER))
        if response.status != 200:
            raise AttemptFailed(
                classify(
                    Evidence(
                        family=self.family,
                        phase=Phase.ANSWER,
                        status=response.status,
                        headers=response.headers,
                        body=body,
                        now=self.services.now(),
                    )
                )
            )
        return body

    # -- down

    def _answered(self, response: Response, attempt: Attempt, then: Read) -> Any:
        attempt.head_at = self.services.clock.seconds()
        attempt.status = response.status
        if attempt.transcript is not None:
            attempt.transcript.answer(response.status, response.headers)
        if response.status == 200:
            return then(response, attempt)
        return self._error_body(response).addCallback(self._refused, response, attempt)

    def _stream(
        self, response: Response, attempt: Attempt, reader: IStreamReader, media_types: tuple[bytes, ...]
    ) -> Any:
        """The answer that *reader* makes of a body, which has to be of one of these types."""
        if not value_of(response.headers, b"content-type").lower().startswith(media_types):
            opened = self._error_body(response).addCallback(self._opened, response, attempt)
            return opened.addCallback(self._not_an_answer, response, attempt)
        encoding = value_of(response.headers, b"content-encoding").decode("latin-1")
        try:
            decoder = Decoder(encoding, self.services.max_event_bytes) if encoding else None
        except CodingError:
            response.stopProducing()
            return self._not_an_answer(b"", response, attempt)
        return StreamingResponse(
            self,
            attempt,
            response,
            reader,
            headers=self._passing(response),
            decoder=decoder,
            exhausted=foreseen(response.headers, self.family, self.services.now()),
            request_id=_request_id(response),
        )

    def _whole(self, response: Response, attempt: Attempt, read: Callable[[bytes], ParsedMessage] | None = None) -> Any:
        """The answer in a body, once it is here; *read* makes the Claude one of it, where it is none already.

        *read* may raise :class:`~claudeproxyd.messages.reader.Damaged` and ``ModelFault``.
        """
        if read is None:
            read = read_count if attempt.call.count_tokens else read_message
        if response.whole is not None:
            return self._read_whole(response.whole, response, attempt, read)
        body = self._body(response, MAX_WHOLE_ANSWER)
        if limit := self.services.timeouts.content:
            body.addTimeout(limit, self.services.clock, _never_whole)
        return body.addCallback(self._read_whole, response, attempt, read)

    def _body(self, response: Response, limit: int) -> Deferred[bytes]:
        """All of a body, counted in ``max_buffered_bytes`` while it comes."""
        return response.read(limit, self.services.hold)

    def _error_body(self, response: Response) -> Deferred[bytes]:
        """As much as there is of the body of what is no answer; nothing, where it does not come or breaks off."""
        body = self._body(response, MAX_ERROR_ANSWER)
        return body.addTimeout(ERROR_BODY, self.services.clock).addErrback(_without_body)

    def _opened(self, raw: bytes, response: Response, attempt: Attempt, limit: int = MAX_ERROR_ANSWER) -> bytes:
        """A body without its coding; that is what is captured, since inside a coding nothing can be masked."""
        body = _decoded(raw, response, limit)
        if attempt.transcript is not None:
            attempt.transcript.data(body)
            if raw and not body:
                attempt.transcript.failed("the body does not match its content-encoding")
        return body

    def _passing(self, response: Response) -> Headers:
        """The headers that go on to the client, without our keys."""
        return redact_headers(self.client_headers(response.headers))

    def _read_whole(
        self, raw: bytes, response: Response, attempt: Attempt, read: Callable[[bytes], ParsedMessage]
    ) -> BufferedResponse:
        body = self._opened(raw, response, attempt, MAX_WHOLE_ANSWER)
        try:
            answer = BufferedResponse(
                self._passing(response),
                read(body),
                exhausted=foreseen(response.headers, self.family, self.services.now()),
                request_id=_request_id(response),
            )
        except ModelFault as e:
            raise self.failed(attempt, phase=Phase.ANSWER, failure="model_fault", body=str(e).encode()) from None
        except Damaged:
            self._not_an_answer(body[:MAX_ERROR_ANSWER], response, attempt)
        answer.bytes_in = len(raw)
        return answer

    # -- failures

    def failed(self, attempt: Attempt, **seen: Any) -> AttemptFailed:
        """What an attempt came to that brought no answer; *seen* are members of Evidence, as far as they are known."""
        seen["body"] = redact_bytes(seen.get("body", b""))
        return AttemptFailed(classify(self._evidence(attempt, **seen), self.services.rules))

    def refused(
        self, attempt: Attempt, response: Response, body: bytes, *, phase: Phase, message_committed: bool = False
    ) -> AttemptFailed:
        """What an attempt came to that the upstream answered with an error, by its status or inside a stream.

        An error that is a Claude one already is relayed as it is, of others their sentence; of neither our keys.
        """
        body = redact_bytes(body)
        error = read_error(body, self.family)
        in_stream = phase is Phase.STREAM
        evidence = self._evidence(
            attempt,
            phase=phase,
            status=(error.status or 500) if in_stream else response.status,
            headers=response.headers,
            body=body,
            message_committed=message_committed,
        )
        status, message = evidence.status, error.message
        verbatim = type_in(body) is not None
        if (not verbatim or status == 413) and (overflow := context_overflow(evidence)) is not None:
            # By a 413 clients understand bytes, and do not compact, whatever its words.
            status, message, verbatim = 400, overflow.message, False
        headers = list(self._passing(response))
        if in_stream:
            headers = [pair for pair in headers if pair[0] != b"content-type"]
            headers.append((b"content-type", b"application/json"))
        answer = ErrorAnswer(status, headers, body, verbatim, message)
        return AttemptFailed(classify(evidence, self.services.rules), answer)

    def _refused(self, body: bytes, response: Response, attempt: Attempt) -> NoReturn:
        """Any status but 200."""
        raise self.refused(attempt, response, self._opened(body, response, attempt), phase=Phase.ANSWER)

    def _not_an_answer(self, body: bytes, response: Response, attempt: Attempt) -> NoReturn:
        """A 200 that is HTML, empty, of the wrong type, or an error object."""
        raise self.failed(
            attempt,
            phase=Phase.ANSWER,
            status=200,
            headers=response.headers,
            body=body,
            failure="not_claude",
        )

    def _failed(self, failure: Failure, attempt: Attempt) -> Failure:
        """The HTTP client's errors become outcomes; all else, a cancellation above all, stays what it is."""
        reason = failure.value
        if not isinstance(reason, UpstreamError):
            return failure
        if attempt.transcript is not None:
            attempt.transcript.failed(str(reason))
        raise self.failed(attempt, phase=reason.phase, failure=reason.failure, body=str(reason).encode())

    def _evidence(self, attempt: Attempt, **seen: Any) -> Evidence:
        return Evidence(
            family=self.family,
            count_tokens=attempt.call.count_tokens,
            refreshable=attempt.credential.source.refreshable,
            now=self.services.now(),
            **seen,
        )


def own_lines(headers: Mapping[str, str], client: str) -> bytes:
    """A provider's configured ``headers``, with ``{client}`` filled in."""
    return b"".join(f"{name}: {value.replace('{client}', client)}\r\n".encode() for name, value in headers.items())


def _decoded(body: bytes, response: Response, limit: int) -> bytes:
    """The body without its content-encoding, declared or not. What cannot be decoded is nothing."""
    encoding = value_of(response.headers, b"content-encoding").decode("latin-1") or sniff(body)
    if not encoding:
        return body
    try:
        return decode_whole(body, encoding, limit)
    except CodingError:
        return b""


def _pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Rendered header lines as pairs again, for a capture."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")) if name]


def _without_body(failure: Failure) -> bytes:
    """An error whose body breaks off, or does not come, is still what its status says."""
    if not isinstance(failure.value, UpstreamError | TimeoutError):
        failure.raiseException()
    return b""


def _never_whole(_: object, seconds: float) -> NoReturn:
    """Blanks may keep an answer alive, and its client waiting for ever."""
    raise IdleTimedOut(f"the answer was not whole within {seconds:g} seconds of its head")


def _request_id(response: Response) -> str:
    return value_of(response.headers, b"request-id").decode("latin-1")
