"""What the daemon reports to: a collector of spans, and whoever waits for events. Keeps what it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.support.loopback import LoopbackServer


@dataclass
class Posted:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


class Collector(LoopbackServer):
    """An HTTP server that answers each POST as it is told; the last answer stays in force."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: list[Posted] = []
        self.statuses = [200]
        self.headers: dict[str, str] = {}
        """Of its answers."""

    def render_POST(self, request: Any) -> bytes:
        headers = {
            name.decode().lower(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.posted.append(Posted(request.path.decode(), headers, request.content.read()))
        request.setResponseCode(self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])
        for name, value in self.headers.items():
            request.setHeader(name, value)
        return b""

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Every span that it was sent, its attributes as ``attributes``."""
        return [
            _plain(span)
            for posted in self.posted
            for whole in ExportTraceServiceRequest.FromString(posted.body).resource_spans
            for scope in whole.scope_spans
            for span in scope.spans
        ]


def _plain(span: Any) -> dict[str, Any]:
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex(),
        "state": span.trace_state,
        "name": span.name,
        "kind": span.kind,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "status": span.status.code,
        "message": span.status.message,
        "attributes": {each.key: _value(each.value) for each in span.attributes},
    }


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
