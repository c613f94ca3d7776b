"""Traces: one span for each request, and one for each of its attempts.

A span is made when what it is about is over, of what the access log and the usage records have anyway: so it costs
nothing before, and no span is ever left open. Attributes are named by OpenTelemetry's conventions for HTTP and GenAI;
those of our own begin with ``claudeproxyd.``. None holds a prompt or an answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from secrets import token_hex
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.observe.scrub import scrub
from claudeproxyd.observe.trace_context import TraceContext, header_lines, read_context
from claudeproxyd.observe.usage import COUNT_TOKENS, MAX_WORD_CHARACTERS, foreign

if TYPE_CHECKING:
    from claudeproxyd.headers import Headers
    from claudeproxyd.observe.access_log import AccessEntry
    from claudeproxyd.observe.usage import UsageRecord
    from claudeproxyd.outcomes.types import Outcome
    from claudeproxyd.principals import Principal

Attribute = str | int | float | bool | Sequence[str]

_NO_ERROR = ("ok", "cancelled")
"""Outcomes of which nobody is to blame: a client may leave when it likes."""


class _Message(msgspec.Struct):
    model: str = ""


class _MessageStart(msgspec.Struct):
    message: _Message


class SpanKind(Enum):
    """Which side of a call a span is."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that took time, and is over. Times are seconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    state: str = ""
    """As in :class:`~claudeproxyd.observe.trace_context.TraceContext`."""
    name: str
    kind: SpanKind
    start: float
    end: float
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    error: str | None = None
    """Why it failed, '' where nobody says; None: it did not."""


@dataclass(frozen=True, slots=True)
class TracedProvider:
    """How the conventions speak of a provider."""

    name: str
    """The conventions' own word for whose API it is."""
    address: str = ""
    """The host that requests go to."""
    port: int = 0


class Tracer:
    """Begins the traces of requests. Made for each configuration that has ``[traces]``."""

    def __init__(
        self,
        export: Callable[[Span], None],
        *,
        sample: float = 1.0,
        trusts_clients: bool = False,
        propagates: bool = True,
        providers: Mapping[str, TracedProvider] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """*export* takes each span. *sample*: the share of requests that are traced.

        *trusts_clients*: whether a request is traced that comes with a ``traceparent`` is said by that alone. Else it
        continues the client's trace, and *sample* says: a stranger could have everything traced otherwise.
        *propagates*: attempts go upstream with a ``traceparent``. *providers* are by their configured names.
        """
        self.export = export
        self.propagates = propagates
        self._sample = sample
        self._trusts_clients = trusts_clients
        self._providers = {} if providers is None else providers
        self._chance = chance

    def begin(self, headers: Headers, principal: Principal) -> RequestTrace | None:
        """Return the trace of a request that came with *headers*; None where nobody will ever hear of one."""
        parent = read_context(headers)
        sampled = parent.sampled if parent is not None and self._trusts_clients else self._chance() < self._sample
        if not sampled and not self.propagates:
            return None
        return RequestTrace(self, parent, principal, sampled)

    def provider(self, name: str) -> TracedProvider:
        """Return how a configured provider is spoken of."""
        return self._providers.get(name) or TracedProvider(name)


class RequestTrace:
    """The trace of one request, at the request's own span."""

    __slots__ = ("_context", "_parent_id", "_principal", "_tracer")

    def __init__(self, tracer: Tracer, parent: TraceContext | None, principal: Principal, sampled: bool) -> None:
        self._tracer = tracer
        self._principal = principal
        self._parent_id = "" if parent is None else parent.span_id
        trace_id, state = (token_hex(16), "") if parent is None else (parent.trace_id, parent.state)
        self._context = TraceContext(trace_id, token_hex(8), sampled, state)

    @property
    def exported_id(self) -> str:
        """The trace's id; '' where its spans are not exported, and nobody could look it up."""
        return self._context.trace_id if self._context.sampled else ""

    def attempt(self) -> AttemptTrace:
        """Begin the span of one attempt."""
        return AttemptTrace(self._tracer, self._context)

    def end(self, entry: AccessEntry, session: str) -> None:
        """Export the request's span: it is over, and *entry*, whose secrets are masked, says how it went."""
        context = self._context
        if not context.sampled:
            return
        attributes: dict[str, Attribute] = {
            "http.request.method": entry.method,
            "http.route": entry.path,
            "url.path": entry.path,
            "gen_ai.request.model": entry.model,
            "claudeproxyd.request_id": entry.request_id,
            "claudeproxyd.client": self._principal.name,
            "claudeproxyd.outcome": entry.outcome,
            "claudeproxyd.attempts": entry.attempts,
            "claudeproxyd.stream": entry.stream,
        }
        attributes.update({f"claudeproxyd.label.{name}": value for name, value in self._principal.labels.items()})
        if session:
            attributes["gen_ai.conversation.id"] = _told(session)
        if entry.status:
            attributes["http.response.status_code"] = entry.status
        if entry.overhead is not None:
            attributes["claudeproxyd.overhead"] = entry.overhead
        # By the conventions a server has not failed where it says that the client did.
        failed = entry.outcome not in _NO_ERROR and not 400 <= entry.status < 500
        if failed:
            attributes["error.type"] = entry.outcome
        self._tracer.export(
            Span(
                trace_id=context.trace_id,
                span_id=context.span_id,
                parent_id=self._parent_id,
                state=context.state,
                name=f"{entry.method} {entry.path}",
                kind=SpanKind.SERVER,
                start=entry.time,
                end=entry.time + entry.duration,
                attributes=attributes,
                error=scrub(entry.error) if failed else None,
            )
        )


class AttemptTrace:
    """The span of one attempt."""

    __slots__ = ("_answered_by", "_context", "_parent_id", "_tracer", "lines")

    def __init__(self, tracer: Tracer, request: TraceContext) -> None:
        self._tracer = tracer
        self._parent_id = request.span_id
        self._context = TraceContext(request.trace_id, token_hex(8), request.sampled, request.state)
        self.lines = header_lines(self._context) if tracer.propagates else b""
        """The header lines that the attempt goes upstream with."""
        self._answered_by = ""
        """The model that the answer names."""

    @property
    def exported_id(self) -> str:
        """As of :class:`RequestTrace`."""
        return self._context.trace_id if self._context.sampled else ""

    def answered(self, data: bytes) -> None:
        """Note which model an answer of Claude's own API names: *data* is a message, or how its stream begins."""
        if self._context.sampled:
            self._answered_by = foreign(_model_in(data))

    def end(self, records: Sequence[UsageRecord], outcome: Outcome, max_tokens: int | None) -> None:
        """Export the attempt's span: it is over. *records* are as ``completed_records`` makes them.

        The last is of what *outcome* came of; one ahead of it of a first sending that met a closed connection.
        """
        if not self._context.sampled:
            return
        *stale, last = records
        for record in stale:
            self._export(record, token_hex(8), {}, "")
        more: dict[str, Attribute] = {}
        if max_tokens is not None:
            more["gen_ai.request.max_tokens"] = max_tokens
        if self._answered_by:
            more["gen_ai.response.model"] = self._answered_by
        if outcome.base or outcome.until_hint is not None:
            more["claudeproxyd.cooldown.scope"] = outcome.scope.value
            more["claudeproxyd.cooldown.seconds"] = outcome.base if outcome.until_hint is None else outcome.until_hint
        self._export(last, self._context.span_id, more, outcome.reason)

    def _export(self, record: UsageRecord, span_id: str, more: Mapping[str, Attribute], reason: str) -> None:
        context = self._context
        operation = COUNT_TOKENS if record.operation == COUNT_TOKENS else "chat"
        failed = record.outcome not in _NO_ERROR
        attributes = _attributes(record, self._tracer.provider(record.provider))
        attributes["gen_ai.operation.name"] = operation
        attributes.update(more)
        if failed:
            attributes["error.type"] = record.outcome
        self._tracer.export(
            Span(
                trace_id=context.trace_id,
                span_id=span_id,
                parent_id=self._parent_id,
                state=context.state,
                name=f"{operation} {record.model_served}",
                kind=SpanKind.CLIENT,
                start=record.time - record.duration,
                end=record.time,
                attributes=attributes,
                error=scrub(reason) if failed else None,
            )
        )


def _attributes(record: UsageRecord, provider: TracedProvider) -> dict[str, Attribute]:
    """Return what a usage record says, by the names of the conventions. What it does not know is left out."""
    given: dict[str, Attribute | None] = {
        "gen_ai.provider.name": provider.name,
        "gen_ai.request.model": record.model_served,
        "gen_ai.conversation.id": _told(record.session) or None,
        "gen_ai.response.finish_reasons": None if record.stop_reason is None else [record.stop_reason],
        "gen_ai.response.time_to_first_chunk": record.time_to_first_content,
        "gen_ai.usage.input_tokens": _whole_input(record),
        "gen_ai.usage.output_tokens": record.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": record.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": record.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": record.thinking_tokens,
        "http.response.status_code": record.status or None,
        "server.address": provider.address or None,
        "server.port": provider.port or None,
        "claudeproxyd.request_id": record.request_id,
        "claudeproxyd.upstream_request_id": _told(record.upstream_request_id) or None,
        "claudeproxyd.provider": record.provider,
        "claudeproxyd.credential": record.credential,
        "claudeproxyd.route": f"{record.provider}/{record.model_served}",
        "claudeproxyd.attempt": record.attempt,
        "claudeproxyd.outcome": record.outcome,
        "claudeproxyd.cost_usd": None if record.nano_usd is None else record.nano_usd / 1e9,
        "claudeproxyd.usage_estimated": record.estimated or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _told(word: str) -> str:
    """Return what a client or an upstream has chosen, as a span may have it."""
    return scrub(word)[:MAX_WORD_CHARACTERS]


def _whole_input(record: UsageRecord) -> int | None:
    """Return the tokens of the input with what caches had of it, as the conventions have it."""
    if record.input_tokens is None:
        return None
    return record.input_tokens + (record.cache_read_tokens or 0) + (record.cache_write_tokens or 0)


def _model_in(data: bytes) -> str:
    """Return the model that a message names, or the ``message_start`` among frames; '' where it cannot be read."""
    try:
        if data.lstrip().startswith(b"{"):
            return msgspec.json.decode(data, type=_Message).model
        at = data.find(b'"message_start"')
        line = data[data.rfind(b"\n", 0, at) + 1 : data.find(b"\n", at)]
        return msgspec.json.decode(line.removeprefix(b"data:"), type=_MessageStart).message.model
    except UNREADABLE:
        return ""
