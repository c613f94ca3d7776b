"""The usage records of one attempt: made when it begins, and completed when it is over. And of none."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from claudeproxyd.dispatch.limiting import BYTES_PER_TOKEN
from claudeproxyd.observe.usage import COUNT_TOKENS, LOST, MESSAGES, UsageRecord, foreign
from claudeproxyd.outcomes.tables import STALE
from claudeproxyd.outcomes.types import Kind

if TYPE_CHECKING:
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.dispatch.request_log import RequestLog
    from claudeproxyd.interfaces import IUpstreamResponse
    from claudeproxyd.outcomes.types import Outcome


def begun_record(attempt: Attempt, log: RequestLog, model_asked: str, wall: float) -> UsageRecord:
    """Return the record of an attempt that begins now, as it stays should nothing more be heard of it."""
    request = attempt.request
    counts = request.count_tokens
    return UsageRecord(
        time=wall,
        request_id=request.request_id,
        client=request.principal.name,
        labels=request.principal.labels,
        session=log.session,
        model_asked=foreign(model_asked),
        model_served=foreign(attempt.model),
        provider=attempt.credential.provider,
        credential=attempt.credential.name,
        attempt=attempt.number,
        operation=COUNT_TOKENS if counts else MESSAGES,
        outcome=LOST,
        input_tokens=None if counts else len(request.envelope.body) // BYTES_PER_TOKEN,
        estimated=not counts,
    )


def unsent_record(
    request: ApiRequest, model: str, session: str, outcome: str, status: int, duration: float, wall: float
) -> UsageRecord:
    """Return the record of a request that ended without an attempt; *status* is what the client was told, or 0.

    *model*: what it asked for, or '' where there is none of that name: clients may make any up, and the ledger never
    forgets one.
    """
    return UsageRecord(
        time=wall,
        request_id=request.request_id,
        client=request.principal.name,
        labels=request.principal.labels,
        session=session,
        model_asked=foreign(model),
        attempt=0,
        operation=COUNT_TOKENS if request.count_tokens else MESSAGES,
        outcome=outcome,
        status=status,
        duration=duration,
    )


def completed_records(
    record: UsageRecord,
    attempt: Attempt,
    response: IUpstreamResponse | None,
    outcome: Outcome,
    log: RequestLog,
    now: float,
    wall: float,
) -> list[UsageRecord]:
    """Return an attempt's *record* when it is over; ahead of it one for a first sending that met a closed connection.

    *now* is on the reactor's clock, and *wall* the same moment since the epoch.
    """
    records = []
    began, estimate = attempt.started, record.input_tokens
    record.time = wall
    record.bytes_out = attempt.bytes_out
    record.input_tokens, record.estimated = None, False
    if attempt.stale_at is not None:
        stale = copy(record)
        stale.outcome, stale.duration = STALE.kind, attempt.stale_at - began
        records.append(stale)
        record.attempt, began = attempt.number, attempt.stale_at
    record.outcome, record.duration = outcome.kind, now - began
    record.status = attempt.status
    if attempt.head_at is not None:
        record.time_to_first_byte = attempt.head_at - began
    usage = attempt.usage if response is None else response.usage
    if usage is not None and not attempt.request.count_tokens:
        record.input_tokens = usage.input
        record.output_tokens = usage.output
        record.cache_read_tokens = usage.cache_read
        record.cache_write_tokens = usage.cache_write
        record.cache_write_1h_tokens = usage.cache_write_1h
        record.thinking_tokens = usage.thinking
        record.estimated = usage.estimated or usage.guessed
    if record.input_tokens is None and attempt.bytes_out and (attempt.paid or outcome.kind is Kind.CANCELLED):
        record.input_tokens = estimate  # it was sent, and nobody has told what it came to
        record.estimated = estimate is not None
    if response is not None:
        record.upstream_request_id = foreign(response.request_id)
        record.stop_reason = log.stop_reason
        record.bytes_in = response.bytes_in
        if log.first_content is not None:
            record.time_to_first_content = log.first_content - began
    records.append(record)
    return records
