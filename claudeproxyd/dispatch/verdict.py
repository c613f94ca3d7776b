"""What the client is told when nobody could serve: the table of ``docs/clients.md``, in one place. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from claudeproxyd.account_ids import without_accounts, without_accounts_data
from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError, Refusal, type_in
from claudeproxyd.leases import Exhaustion
from claudeproxyd.outcomes.bodies import error_message
from claudeproxyd.outcomes.types import AttemptFailed, ErrorResponse, Family, Kind, Scope

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Pool
    from claudeproxyd.leases import Exhausted

#: What is wrong with our credentials. Never a 401: the client's key was fine.
_CREDENTIAL_FAULTS = {
    Kind.AUTH: "were refused by the provider",
    Kind.BILLING: "have no credit left with the provider",
    Kind.PERMISSION: "may not use this model",
    Kind.LOCATION: "may not be used from this location",
}
#: The most useful to a client first; then the last failure …
_USEFUL = (Kind.CLIENT_FAULT, Kind.MODEL_FAULT, Kind.RECTIFY, Kind.QUOTA, Kind.OVERLOADED)
#: … that is not of these: they say something of one candidate, and count where there is nothing else.
_OF_ONE_CANDIDATE = (Kind.UNSUPPORTED, Kind.TOO_LARGE, Kind.MODEL_UNAVAILABLE)

#: By their names: it is the request that nobody can serve …
_BAD_REQUESTS = frozenset(
    (
        Kind.CLIENT_FAULT,
        Kind.TOO_LARGE,
        Kind.UNSUPPORTED,
        Kind.RECTIFY,
        Kind.MODEL_UNAVAILABLE,
        Exhaustion.NONE.value,
    )
)
#: … it is credentials, which will not serve the next one either …
_NOT_READY = frozenset((Kind.QUOTA, Kind.AUTH, Kind.BILLING, Kind.PERMISSION, Kind.LOCATION, Exhaustion.DISABLED.value))
#: … or they serve as many others as they can.
_CROWDED = (Exhaustion.BUSY, Exhaustion.QUEUE_FULL)

#: Bytes of an upstream's error that is relayed; of a longer one only the sentence is told.
MAX_RELAYED_BYTES = 65_536

_RETRY_AFTER = (b"retry-after", b"retry-after-ms", b"x-should-retry")


class RequestFailed(Exception):
    """The end of a request without a whole answer."""

    def __init__(self, error: ClaudeError, answer: ErrorResponse | None = None, kind: str = "") -> None:
        super().__init__(error, kind)
        self.error = error
        self.answer = answer
        """An upstream's own, to be relayed byte for byte as long as the head is not out."""
        self.kind = kind
        """The outcome's name, for the access log."""


def final_error(
    model: str, failures: Sequence[AttemptFailed], exhausted: Exhausted | None, ready_in: float | None, settings: Pool
) -> RequestFailed:
    """Return the most useful error after these *failures*, or after none, where the pool had nothing to offer.

    *ready_in* is in how many seconds something may be ready; None: unknown.
    """
    failed = _final_error(model, failures, exhausted, ready_in, settings)
    failed.error.refusal = _refusal(failed.kind, exhausted)
    return failed


def _final_error(
    model: str, failures: Sequence[AttemptFailed], exhausted: Exhausted | None, ready_in: float | None, settings: Pool
) -> RequestFailed:
    if not failures:
        assert exhausted is not None
        return _nothing_to_offer(model, exhausted, settings)
    failure = _most_useful(failures)
    if exhausted is not None and _others_may_have_it(failure.outcome.kind, exhausted):
        return _nothing_to_offer(model, exhausted, settings)
    return _presentable(_after_failure(failure, model, ready_in, settings), failure)


def _refusal(kind: str, exhausted: Exhausted | None) -> Refusal | None:
    """Return what the end of a request is counted as, by its outcome's name; None: as a failure of its attempts."""
    if kind in _BAD_REQUESTS:
        return Refusal.BAD_REQUEST
    if exhausted is not None and exhausted.reason in _CROWDED:
        return Refusal.OVERLOAD
    if exhausted is not None or kind in _NOT_READY:
        return Refusal.NO_CREDENTIAL
    return None


def _after_failure(failure: AttemptFailed, model: str, ready_in: float | None, settings: Pool) -> RequestFailed:
    """Return the error for one failure, by its outcome's kind."""
    kind = failure.outcome.kind
    match kind:
        case Kind.CLIENT_FAULT | Kind.TOO_LARGE | Kind.UNSUPPORTED | Kind.MODEL_FAULT | Kind.RECTIFY:
            return _request_fault(failure)
        case Kind.MODEL_UNAVAILABLE:
            return _without_wait(kind, 404, _upstreams_words(failure) or f"model: {model}")
        case Kind.QUOTA:
            return _with_wait(kind, 429, f"All credentials for {model} have used up their quota", ready_in, settings)
        case Kind.AUTH | Kind.BILLING | Kind.PERMISSION | Kind.LOCATION:
            return _credential_fault(kind, model, ready_in, settings)
        case Kind.INTERNAL:
            return _with_wait(kind, 503, f"The gateway failed: {failure.outcome.reason}", 1.0, settings)
        case Kind.OVERLOADED:
            failed = _with_wait(kind, 529, _upstreams_words(failure) or "Overloaded", ready_in, settings)
            return RequestFailed(failed.error, _without_retry_after(failure.answer, failed.error.status), kind.value)
        case Kind.TRANSIENT | Kind.BROKEN_STREAM | Kind.STALE | Kind.CONFIGURATION | Kind.CANCELLED | Kind.OK:
            return _upstream_fault(failure, ready_in, settings)
        case _:
            assert_never(kind)


def broken_off(failure: AttemptFailed) -> RequestFailed:
    """Return the error for a stream that failed after message commit: no other credential can continue it."""
    outcome, answer = failure.outcome, failure.answer
    if answer is not None:
        words = _upstreams_words(failure) or "The upstream failed"
        error = ClaudeError(answer.status, words, type=type_in(answer.body))
    else:
        error = ClaudeError(504 if outcome.timed_out else 502, outcome.reason or "The stream broke off")
    error.refusal = None
    return _presentable(RequestFailed(error, kind=outcome.kind.value), failure)


def _most_useful(failures: Sequence[AttemptFailed]) -> AttemptFailed:
    """Return the failure that the client is told of."""
    for kind in _USEFUL:
        for failure in failures:
            if failure.outcome.kind is kind:
                return failure
    others = [failure for failure in failures if failure.outcome.kind not in _OF_ONE_CANDIDATE]
    return (others or failures)[-1]


def _others_may_have_it(kind: Kind, exhausted: Exhausted) -> bool:
    """Return whether a candidate that is cooling, and so was not asked, might still have the model."""
    return kind is Kind.MODEL_UNAVAILABLE and exhausted.ready_in is not None and exhausted.reason is not kind


def _request_fault(failure: AttemptFailed) -> RequestFailed:
    """Return the upstream's error as it is where it is Claude-shaped; else its words under our status."""
    kind, answer = failure.outcome.kind, failure.answer
    if answer is None:
        status = {Kind.TOO_LARGE: 413, Kind.MODEL_FAULT: 502}.get(kind, 400)
        return _without_wait(kind, status, failure.outcome.reason or kind.value)
    status = 413 if kind is Kind.TOO_LARGE else answer.status
    error = ClaudeError(status, _upstreams_words(failure) or f"The upstream answered {answer.status}")
    return RequestFailed(error, answer if answer.verbatim else None, kind.value)


def _upstream_fault(failure: AttemptFailed, ready_in: float | None, settings: Pool) -> RequestFailed:
    """Return the error for a transient failure or a broken response."""
    outcome, answer = failure.outcome, failure.answer
    if outcome.timed_out:
        status = 504
    elif answer is not None and 500 <= answer.status < 600:
        status = answer.status
    else:
        status = 502
    # Where a provider or a token endpoint is, and why it cannot be reached, is for operators.
    own = "" if outcome.scope in (Scope.PROVIDER, Scope.CREDENTIAL) else outcome.reason
    words = _upstreams_words(failure) or own or "no answer"
    return _with_wait(outcome.kind, status, f"The upstream failed: {words}", ready_in, settings)


def _nothing_to_offer(model: str, exhausted: Exhausted, settings: Pool) -> RequestFailed:
    """Return the error for a request that the pool had no candidate for."""
    reason, ready_in = exhausted.reason, exhausted.ready_in
    match reason:
        case Exhaustion.NONE:
            return _without_wait(reason, 404, f"No credential is configured for model {model}")
        case Exhaustion.QUEUE_FULL:
            return _with_wait(reason, 529, "Too many requests are waiting for a credential", ready_in or 1.0, settings)
        case Exhaustion.BUSY:
            # A limit that was configured, or a cooldown that is half open.
            message = f"All credentials for {model} have as many requests as they may now"
            return _with_wait(reason, 429, message, 1.0, settings)
        case Kind.QUOTA:
            return _with_wait(reason, 429, f"All credentials for {model} have used up their quota", ready_in, settings)
        case Kind.MODEL_UNAVAILABLE:
            return _without_wait(reason, 404, f"model: {model}")
        case Kind.AUTH | Kind.BILLING | Kind.PERMISSION | Kind.LOCATION:
            return _credential_fault(reason, model, ready_in, settings)
        case Exhaustion.DISABLED | Kind():
            message = f"No credential for {model} is ready ({reason.value})"
            return _with_wait(reason, 503, message, ready_in, settings)
        case _:
            assert_never(reason)


def _credential_fault(kind: Kind, model: str, ready_in: float | None, settings: Pool) -> RequestFailed:
    """Return the error for credentials of ours that are refused: a client cannot mend that by another try."""
    message = f"The gateway's credentials for {model} {_CREDENTIAL_FAULTS[kind]}; its operator can see which and why"
    return _with_wait(kind, 503, message, ready_in, settings, give_up=True)


def _without_wait(kind: Kind | Exhaustion, status: int, message: str) -> RequestFailed:
    """Return an error that no wait will mend."""
    return RequestFailed(ClaudeError(status, message), kind=kind.value)


def _with_wait(
    kind: Kind | Exhaustion,
    status: int,
    message: str,
    ready_in: float | None,
    settings: Pool,
    *,
    give_up: bool = False,
) -> RequestFailed:
    """Return an error that says when to come back, if it is known: the true time in words, a bounded one in the header.

    Claude Code waits for up to 60 seconds and gives up at once above that; SDKs sleep as long as they are told.
    """
    headers: list[tuple[bytes, bytes]] = []
    if ready_in is not None:
        seconds = max(1, math.ceil(ready_in))
        ready = " Ready" if message.endswith(".") else "; ready"
        message = f"{message}{ready} again in {_spoken(seconds)}"
        if seconds > settings.give_up_after:
            give_up = True
        else:
            seconds = min(seconds, settings.retry_after_max)
        headers.append((b"retry-after", b"%d" % seconds))
    if give_up:
        headers.append(DO_NOT_RETRY)
    return RequestFailed(ClaudeError(status, message, headers=headers), kind=kind.value)


def _spoken(seconds: int) -> str:
    """Return *seconds* in words: "90 s", "5 min", "2 h 0 min"."""
    if seconds < 120:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _upstreams_words(failure: AttemptFailed) -> str:
    """Return the upstream's sentence, where it may be shown: a Claude-shaped error's, or what the executor let pass."""
    answer = failure.answer
    if answer is None:
        return ""
    if answer.message:
        return answer.message
    return error_message(answer.body, Family.ANTHROPIC) if answer.verbatim else ""


def _presentable(refused: RequestFailed, failure: AttemptFailed) -> RequestFailed:
    """Return *refused* without what names our accounts; the log gets the words as the pool's page has them."""
    words, answer = _upstreams_words(failure) or failure.outcome.reason, failure.answer
    if not words:
        return refused
    # In what the API says of a request, a number that nothing calls an account's is the client's own.
    bare = answer is None or not (answer.verbatim and answer.status in (400, 413))
    error = refused.error
    error.logged = error.message.replace(words, failure.outcome.reason)
    error.message = error.message.replace(words, without_accounts(words, bare=bare))
    if refused.answer is not None and len(refused.answer.body) > MAX_RELAYED_BYTES:
        refused.answer = None
    if refused.answer is not None:
        refused.answer = _without_accounts(refused.answer, bare=bare)
    return refused


def _without_accounts(answer: ErrorResponse, *, bare: bool) -> ErrorResponse:
    """Return *answer*, or a copy where there is something to cut. Of headers only what is called an account's goes."""
    body = without_accounts_data(answer.body, bare=bare)
    headers = [(name, without_accounts_data(value, bare=False)) for name, value in answer.headers]
    if body == answer.body and headers == list(answer.headers):
        return answer
    return replace(answer, headers=headers, body=body)


def _without_retry_after(answer: ErrorResponse | None, status: int) -> ErrorResponse | None:
    """Return an upstream's own 529 without its retry headers, or None: the pool says when to come back."""
    if answer is None or not answer.verbatim or answer.status != status:
        return None
    headers = [pair for pair in answer.headers if pair[0] not in _RETRY_AFTER]
    return ErrorResponse(answer.status, headers, answer.body, verbatim=True)
