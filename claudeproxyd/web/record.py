"""Records what became of a request, for the access log and the metrics; the only caller of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.observe.access_log import API, AccessEntry, mask

if TYPE_CHECKING:
    from claudeproxyd.dispatch.request_log import RequestLog
    from claudeproxyd.web.downlink import Downlink
    from claudeproxyd.web.request import GatewayRequest


def record(
    request: GatewayRequest, log: RequestLog | None = None, downlink: Downlink | None = None, *, stream: bool = False
) -> None:
    """Record a request that is over. Called once for each.

    *log* and *downlink* are there where dispatch had it. The request does not hold them: that would be a cycle.
    """
    gateway = request.gateway
    entry = AccessEntry(
        time=request.time,
        request_id=request.request_id,
        client="" if request.principal is None else request.principal.name,
        remote=request.address,
        method=request.method.decode("latin-1"),
        path=request.path.decode("latin-1"),
        model=request.model,
        status=request.code if request.startedWriting else 0,
        outcome="" if request.startedWriting else "cancelled",
        duration=request.site.clock.seconds() - request.started,
        bytes_in=request.received,
        bytes_out=request.sentLength,
        error=request.error,
        refusal=request.refusal,
    )
    if log is not None and downlink is not None:
        entry.stream = stream
        _add_log(entry, log, request.started)
        entry.status = downlink.status or entry.status
        entry.bytes_out = downlink.sent or entry.bytes_out
        if log.trace is not None:
            entry.trace_id = log.trace.exported_id
    mask(entry)
    if gateway.counts and entry.path[:4] == API:
        gateway.metrics.request(entry)
    gateway.access_log(entry)
    if log is not None and log.trace is not None:
        log.trace.end(entry, log.session)


def _add_log(entry: AccessEntry, log: RequestLog, started: float) -> None:
    entry.provider = log.provider
    entry.credential = log.credential
    entry.attempts = log.attempts
    entry.outcome = log.outcome
    entry.stop_reason = log.stop_reason
    entry.events = log.events
    entry.overhead = entry.duration - log.upstream_time
    entry.error = entry.error or log.error
    entry.refusal = entry.refusal or log.refusal
    if log.usage is not None:
        entry.input_tokens = log.usage.input
        entry.output_tokens = log.usage.output
    if log.first_byte is not None:
        entry.time_to_first_byte = log.first_byte - started
    if log.first_content is not None:
        entry.time_to_first_content = log.first_content - started
