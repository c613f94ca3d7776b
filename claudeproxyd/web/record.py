"""What a request came to, for the access log and the metrics: the one place that tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.observe.access_log import AccessEntry, mask

if TYPE_CHECKING:
    from claudeproxyd.dispatch.call import Call
    from claudeproxyd.web.downlink import Downlink
    from claudeproxyd.web.request import GatewayRequest


def record(request: GatewayRequest, call: Call | None = None, downlink: Downlink | None = None) -> None:
    """Tell of a request that is over. Called once for each.

    *call* and *downlink* are there where dispatch had it. The request does not hold them: that would be a cycle.
    """
    gateway = request.gateway
    entry = AccessEntry(
        time=request.time,
        request_id=request.request_id,
        client="" if request.principal is None else request.principal.name,
        remote=gateway.proxies.client(getattr(request.client, "host", "unix"), request.headers),
        method=request.method.decode("latin-1"),
        path=request.path.decode("latin-1"),
        model=request.model,
        status=request.code if request.startedWriting else 0,
        outcome="" if request.startedWriting else "cancelled",
        duration=request.site.clock.seconds() - request.started,
        bytes_in=request.received,
        bytes_out=request.sentLength,
        error=request.error,
    )
    if call is not None and downlink is not None:
        _add_call(entry, call)
        entry.status = downlink.status or entry.status
        entry.bytes_out = downlink.sent or entry.bytes_out
    mask(entry)
    gateway.metrics.request(entry)
    gateway.access_log(entry)


def _add_call(entry: AccessEntry, call: Call) -> None:
    envelope, usage = call.envelope, call.usage
    entry.stream = envelope.stream
    entry.provider = call.provider
    entry.credential = call.credential
    entry.attempts = call.attempts
    entry.outcome = call.outcome
    entry.stop_reason = call.stop_reason
    entry.events = call.events
    entry.overhead = entry.duration - call.upstream_time
    entry.error = entry.error or call.error
    if usage is not None:
        entry.input_tokens = usage.input
        entry.output_tokens = usage.output
    if call.first_byte is not None:
        entry.time_to_first_byte = call.first_byte - call.started
    if call.first_content is not None:
        entry.time_to_first_content = call.first_content - call.started
