"""What an attempt came to that brought no response, as the outcome that dispatch acts on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from claudeproxyd.errors import type_in
from claudeproxyd.headers import Headers
from claudeproxyd.observe.scrub import redact_bytes
from claudeproxyd.outcomes.bodies import read_error
from claudeproxyd.outcomes.classify import classify, context_overflow
from claudeproxyd.outcomes.types import AttemptFailed, AttemptPhase, ErrorResponse, Evidence, Failure

if TYPE_CHECKING:
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.executors.services import Services
    from claudeproxyd.upstream.client import Response


class Judge:
    """Makes the failures of one executor, and of the streams that it hands out."""

    def __init__(self, family: str, services: Services, passing: Callable[[Headers], Headers]) -> None:
        """*passing* says which headers of an upstream's error its client gets."""
        self._family = family
        self._services = services
        self._passing = passing

    def failed(
        self,
        attempt: Attempt,
        *,
        phase: AttemptPhase,
        failure: Failure | None = None,
        status: int = 0,
        headers: Headers = (),
        body: bytes = b"",
        message_committed: bool = False,
        answer: ErrorResponse | None = None,
    ) -> AttemptFailed:
        """Classify it by these members of the evidence, as far as they are known; *answer* is what can be relayed."""
        evidence = self._evidence(
            attempt,
            phase=phase,
            failure=failure,
            status=status,
            headers=headers,
            body=redact_bytes(body),
            message_committed=message_committed,
        )
        return AttemptFailed(classify(evidence, self._services.rules), answer)

    def refused(
        self, attempt: Attempt, response: Response, body: bytes, *, phase: AttemptPhase, message_committed: bool = False
    ) -> AttemptFailed:
        """Classify an error that the upstream answered with, by its status or inside a stream.

        An error that is a Claude one already is relayed as it is, of others their sentence; of neither our keys.
        """
        body = redact_bytes(body)
        error = read_error(body, self._family)
        in_stream = phase is AttemptPhase.STREAM
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
        headers = list(self._passing(response.headers))
        if in_stream:
            headers = [pair for pair in headers if pair[0] != b"content-type"]
            headers.append((b"content-type", b"application/json"))
        answer = ErrorResponse(status, headers, body, verbatim, message)
        return AttemptFailed(classify(evidence, self._services.rules), answer)

    def _evidence(
        self,
        attempt: Attempt,
        *,
        phase: AttemptPhase,
        status: int,
        headers: Headers,
        body: bytes,
        message_committed: bool,
        failure: Failure | None = None,
    ) -> Evidence:
        return Evidence(
            family=self._family,
            phase=phase,
            status=status,
            headers=headers,
            body=body,
            failure=failure,
            message_committed=message_committed,
            count_tokens=attempt.request.count_tokens,
            refreshable=attempt.credential.source.refreshable,
            now=self._services.now(),
        )


class InputTooLongJudge(Judge):
    """The judge of Claude on other companies' clouds, whose clients know a context overflow by other words."""

    def refused(
        self, attempt: Attempt, response: Response, body: bytes, *, phase: AttemptPhase, message_committed: bool = False
    ) -> AttemptFailed:
        """Tell of a context overflow in these words."""
        failure = super().refused(attempt, response, body, phase=phase, message_committed=message_committed)
        answer = failure.answer
        if answer is None or not answer.message.startswith("prompt is too long"):
            return failure
        return AttemptFailed(failure.outcome, replace(answer, message="Input is too long."))
