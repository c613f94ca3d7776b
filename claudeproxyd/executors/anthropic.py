"""The Messages API itself, and everything that speaks it: the client's own bytes up, the upstream's own frames down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from claudeproxyd.classification import classify
from claudeproxyd.errors import type_in
from claudeproxyd.executors.answers import NotClaude, StreamAnswer, WholeAnswer
from claudeproxyd.executors.services import Services
from claudeproxyd.framing.coding import CodingError, Decoder, decode_whole, sniff
from claudeproxyd.hints import foreseen
from claudeproxyd.interfaces import IExecutor, IExecutorMaker
from claudeproxyd.messages.headers import client_headers, upstream_lines, value_of
from claudeproxyd.messages.members import without_members
from claudeproxyd.outcomes import AttemptFailed, ErrorAnswer, Evidence, Outcome, Phase
from claudeproxyd.upstream.errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.python.failure import Failure

    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.leases import Credential
    from claudeproxyd.upstream.client import Origin, Response

#: No whole answer is larger: 128,000 tokens are some 2 MB, images in tool results some 30.
MAX_WHOLE_ANSWER = 67_108_864
MAX_ERROR_ANSWER = 1_048_576

_EVENT_STREAM = b"text/event-stream"


class _ModelPage(msgspec.Struct):
    data: list[dict[str, Any]]
    has_more: bool = False
    last_id: str | None = None


_decode_page = msgspec.json.Decoder(_ModelPage).decode


@implementer(IExecutor)
class AnthropicExecutor:
    """One Anthropic-compatible provider."""

    kind = "anthropic"
    family = "anthropic"

    def __init__(self, section: Provider, services: Services) -> None:
        self._section = section
        self._services = services
        self._origin: Origin = services.origin(section.base_url)
        self._target = self._origin.base_path + b"/v1/messages"
        self._add_betas = [beta.encode() for beta in section.betas.add]
        self._own_names = frozenset(name.lower().encode() for name in section.headers)
        self._drop_betas = frozenset(beta.encode() for beta in section.betas.drop)
        self._drop_fields = frozenset(section.drop_fields)

    def cannot_carry(self, envelope: Any, route: Any) -> str | None:
        """Everything passes: this is the API that the client speaks."""
        return None

    def messages(self, attempt: Attempt) -> Deferred[Any]:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        return self._send(attempt, self._target, self._stream if attempt.call.envelope.stream else self._whole)

    def count_tokens(self, attempt: Attempt) -> Deferred[Any]:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        return self._send(attempt, self._target + b"/count_tokens", self._whole)

    def models(self, credential: Credential) -> Deferred[list[dict[str, Any]]]:
        """See :meth:`IExecutor.models <claudeproxyd.interfaces.IExecutor.models>`."""
        return Deferred.fromCoroutine(self._models(credential))

    async def _models(self, credential: Credential) -> list[dict[str, Any]]:
        secret = credential.source.present() or await credential.source.refresh()
        timeouts = self._services.timeouts
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            response = await self._origin.request(
                b"GET",
                self._origin.base_path + f"/v1/models?limit=1000{after}".encode(),
                upstream_lines(()) + authorization(secret) + b"accept-encoding: gzip\r\n",
                b"",
                first_byte=timeouts.first_byte,
                idle=timeouts.idle,
            )
            body = _decoded(await response.read(MAX_ERROR_ANSWER), response, MAX_ERROR_ANSWER)
            if response.status != 200:
                raise AttemptFailed(
                    classify(
                        Evidence(
                            family=self.family,
                            phase=Phase.ANSWER,
                            status=response.status,
                            headers=response.headers,
                            body=body,
                            now=self._services.now(),
                        )
                    )
                )
            page = _decode_page(body)
            found += page.data
            if not page.has_more or not page.last_id or not page.data:
                return found
            after = f"&after_id={quote(page.last_id, safe='')}"

    # -- up

    def _send(self, attempt: Attempt, target: bytes, then: Callable[[Response, Attempt], Any]) -> Deferred[Any]:
        call = attempt.call
        if call.query:
            target = b"%b?%b" % (target, call.query)
        streamed = call.envelope.stream and not call.count_tokens
        lines = self._lines(attempt, streamed)
        body = self._body(attempt)
        attempt.bytes_out = len(body)
        if call.capture is not None:
            attempt.capture = call.capture.attempt(self._section.name, attempt.credential.name)
            attempt.capture.request("POST", target.decode("latin-1"), _pairs(lines), body)
        timeouts = self._services.timeouts
        sent = self._origin.request(
            b"POST",
            target,
            lines,
            body,
            first_byte=timeouts.first_byte if streamed else timeouts.first_byte_whole,
            idle=timeouts.idle,
        )
        sent.addCallback(self._answered, attempt, then)
        sent.addErrback(self._failed, attempt)
        return sent

    def _lines(self, attempt: Attempt, streamed: bool) -> bytes:
        call = attempt.call
        return b"%b%bcontent-type: application/json\r\naccept-encoding: %b\r\n%b" % (
            upstream_lines(
                call.headers, add_betas=self._add_betas, drop_betas=self._drop_betas, without=self._own_names
            ),
            own_lines(self._section.headers, call.principal.name) if self._section.headers else b"",
            b"identity" if streamed else b"gzip",
            authorization(attempt.secret),
        )

    def _body(self, attempt: Attempt) -> bytes:
        body = attempt.body or attempt.call.envelope.with_model(attempt.model)
        return without_members(body, self._drop_fields) if self._drop_fields else body

    # -- down

    def _answered(self, response: Response, attempt: Attempt, then: Callable[[Response, Attempt], Any]) -> Any:
        attempt.head_at = self._services.clock.seconds()
        attempt.status = response.status
        if attempt.capture is not None:
            attempt.capture.answer(response.status, response.headers)
        if response.status == 200:
            return then(response, attempt)
        body = response.read(MAX_ERROR_ANSWER).addErrback(_without_body)
        return body.addCallback(self._refused, response, attempt)

    def _stream(self, response: Response, attempt: Attempt) -> Any:
        if not value_of(response.headers, b"content-type").lower().startswith(_EVENT_STREAM):
            return response.read(MAX_ERROR_ANSWER).addCallback(self._not_claude, response, attempt)
        encoding = value_of(response.headers, b"content-encoding").decode("latin-1")
        try:
            decoder = Decoder(encoding, self._services.max_event_bytes) if encoding else None
        except CodingError:
            response.stopProducing()
            return self._not_claude(b"", response, attempt)
        return StreamAnswer(
            response,
            self._client_headers(response),
            classify=lambda **seen: self._classify(attempt, **seen),
            max_event_bytes=self._services.max_event_bytes,
            decoder=decoder,
            exhausted=foreseen(response.headers, self.family, self._services.now()),
            request_id=_request_id(response),
            capture=attempt.capture,
            hold=self._services.hold,
        )

    def _whole(self, response: Response, attempt: Attempt) -> Any:
        if response.whole is not None:
            return self._read_whole(response.whole, response, attempt)
        return response.read(MAX_WHOLE_ANSWER).addCallback(self._read_whole, response, attempt)

    def _read_whole(self, body: bytes, response: Response, attempt: Attempt) -> WholeAnswer:
        if attempt.capture is not None:
            attempt.capture.data(body)
        try:
            return WholeAnswer(
                self._client_headers(response),
                _decoded(body, response, MAX_WHOLE_ANSWER),
                exhausted=foreseen(response.headers, self.family, self._services.now()),
                request_id=_request_id(response),
                count_tokens=attempt.call.count_tokens,
            )
        except NotClaude:
            self._not_claude(body, response, attempt)
            raise

    def _not_claude(self, body: bytes, response: Response, attempt: Attempt) -> None:
        """A 200 that is HTML, empty, of the wrong type, or an error object."""
        body = _decoded(body, response, MAX_WHOLE_ANSWER)
        raise AttemptFailed(
            self._classify(
                attempt,
                phase=Phase.ANSWER,
                status=200,
                headers=response.headers,
                body=body[:MAX_ERROR_ANSWER],
                failure="not_claude",
            )
        )

    def _refused(self, body: bytes, response: Response, attempt: Attempt) -> None:
        """Any status but 200."""
        if attempt.capture is not None:
            attempt.capture.data(body)
        body = _decoded(body, response, MAX_ERROR_ANSWER)
        outcome = self._classify(
            attempt, phase=Phase.ANSWER, status=response.status, headers=response.headers, body=body
        )
        answer = ErrorAnswer(response.status, self._client_headers(response), body, verbatim=type_in(body) is not None)
        raise AttemptFailed(outcome, answer)

    def _failed(self, failure: Failure, attempt: Attempt) -> Failure:
        """The HTTP client's errors become outcomes; all else, a cancellation above all, stays what it is."""
        reason = failure.value
        if not isinstance(reason, UpstreamError):
            return failure
        if attempt.capture is not None:
            attempt.capture.failed(str(reason))
        raise AttemptFailed(
            self._classify(attempt, phase=reason.phase, failure=reason.failure, body=str(reason).encode())
        )

    def _client_headers(self, response: Response) -> Sequence[tuple[bytes, bytes]]:
        return client_headers(response.headers, strip_rate_limits=self._services.strip_rate_limits)

    def _classify(self, attempt: Attempt, **seen: Any) -> Outcome:
        evidence = Evidence(
            family=self.family,
            count_tokens=attempt.call.count_tokens,
            refreshable=attempt.credential.source.refreshable,
            now=self._services.now(),
            **seen,
        )
        return classify(evidence, self._services.rules)


def authorization(secret: Mapping[str, str]) -> bytes:
    """The header line for an API key or a bearer token."""
    key = secret.get("api_key")
    if key is not None:
        return b"x-api-key: %b\r\n" % key.encode()
    return b"authorization: Bearer %b\r\n" % secret["bearer_token"].encode()


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
    """An error whose body breaks off is still what its status says."""
    if not isinstance(failure.value, UpstreamError):
        failure.raiseException()
    return b""


def _request_id(response: Response) -> str:
    return value_of(response.headers, b"request-id").decode("latin-1")


@implementer(IExecutorMaker)
class AnthropicMaker:
    """Makes :class:`AnthropicExecutor`; ``anthropic`` in a configuration."""

    kind = "anthropic"
    default_base_url = "https://api.anthropic.com"
    credential_schema = ("api_key", "bearer_token")

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """Nothing beyond the schema."""
        return ()

    def make(self, section: Provider, services: Services) -> AnthropicExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return AnthropicExecutor(section, services)
