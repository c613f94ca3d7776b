"""The usage records of one attempt, made when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.observe.usage import COUNT_TOKENS, MESSAGES, UsageRecord, foreign
from claudeproxyd.outcomes.tables import STALE

if TYPE_CHECKING:
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request_log import RequestLog
    from claudeproxyd.interfaces import IUpstreamResponse
    from claudeproxyd.outcomes.types import Outcome


def records_of(
    attempt: Attempt,
    response: IUpstreamResponse | None,
    outcome: Outcome,
    log: RequestLog,
    model_asked: str,
    now: float,
    wall: float,
) -> list[UsageRecord]:
    """Return the record of an attempt; ahead of it one for a first sending that met a closed connection.

    *now* is on the reactor's clock, and *wall* the same moment since the epoch.
    """
    records = []
    began = attempt.started
    if attempt.stale_at is not None:
        began = attempt.stale_at
        records.append(_begun(attempt, attempt.number - 1, STALE, log, model_asked, wall, began - attempt.started))
    record = _begun(attempt, attempt.number, outcome, log, model_asked, wall, now - began)
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
    if response is not None:
        record.upstream_request_id = foreign(response.request_id)
        record.stop_reason = log.stop_reason
        record.bytes_in = response.bytes_in
        if log.first_content is not None:
            record.time_to_first_content = log.first_content - began
    records.append(record)
    return records


def _begun(
    attempt: Attempt, number: int, outcome: Outcome, log: RequestLog, model_asked: str, wall: float, duration: float
) -> UsageRecord:
    """Return a record with what is known of an attempt without its response."""
    request = attempt.request
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
        attempt=number,
        operation=COUNT_TOKENS if request.count_tokens else MESSAGES,
        outcome=outcome.kind,
        duration=duration,
        bytes_out=attempt.bytes_out,
    )
