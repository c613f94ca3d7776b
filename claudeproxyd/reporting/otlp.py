"""Spans as the messages of OTLP. Needs the package ``opentelemetry-proto``: the extra ``claudeproxyd[traces]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

import claudeproxyd
from claudeproxyd.observe.tracing import Attribute, Span, SpanKind

CONTENT_TYPE = "application/x-protobuf"

_SCOPE = "claudeproxyd"
_LARGEST = 2**63 - 1
_KINDS = {SpanKind.SERVER: WireSpan.SPAN_KIND_SERVER, SpanKind.CLIENT: WireSpan.SPAN_KIND_CLIENT}


def encode_spans(resource: Mapping[str, Attribute], spans: Sequence[Span]) -> bytes:
    """Return the body of a request that exports *spans*; *resource* is who made them."""
    scope = ScopeSpans(spans=[_span(span) for span in spans])
    scope.scope.name, scope.scope.version = _SCOPE, claudeproxyd.__version__
    whole = ResourceSpans(resource=Resource(attributes=_attributes(resource)), scope_spans=[scope])
    body: bytes = ExportTraceServiceRequest(resource_spans=[whole]).SerializeToString()
    return body


def rejected(body: bytes) -> tuple[int, str]:
    """Return how many of the spans a collector did not take that has answered with *body*, and what it says."""
    response = ExportTraceServiceResponse()
    try:
        response.ParseFromString(body)
    except Exception:  # protobuf's DecodeError: some answer a 200 with JSON, or with a page
        return 0, ""
    return response.partial_success.rejected_spans, response.partial_success.error_message


def _span(span: Span) -> WireSpan:
    made = WireSpan(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        trace_state=span.state,
        name=_text(span.name),
        kind=_KINDS[span.kind],
        start_time_unix_nano=max(0, int(span.start * 1e9)),
        end_time_unix_nano=max(0, int(span.end * 1e9)),
        attributes=_attributes(span.attributes),
    )
    if span.error is not None:
        made.status.code, made.status.message = Status.STATUS_CODE_ERROR, _text(span.error)
    return made


def _attributes(attributes: Mapping[str, Attribute]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: Attribute) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=_text(value))
    if isinstance(value, int):
        return AnyValue(int_value=min(value, _LARGEST))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=_text(item)) for item in value]))


def _text(value: str) -> str:
    """Return what can be encoded of a text: half a character of a client's would cost its whole batch."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
