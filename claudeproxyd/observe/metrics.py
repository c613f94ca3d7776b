"""What is counted of requests and attempts, and with it all that others register.

What happens on the data path is plain integers in dicts and lists: an increment of prometheus_client's own counters
costs some 1.6 µs, of these 0.1.

Names follow OpenTelemetry's GenAI conventions, as Prometheus spells them, where there is one; docs/observability.md
lists all. Label values are bounded: what a client can make up ends as ``other``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from zope.interface import implementer

from claudeproxyd.errors import Refusal
from claudeproxyd.interfaces import IUsageSink
from claudeproxyd.observe.exposition import Exemplar, Histogram, Labels
from claudeproxyd.observe.label_table import MAX_LABEL_CHARACTERS, OTHER, LabelTable
from claudeproxyd.observe.registry import MetricRegistry
from claudeproxyd.observe.scrub import redact
from claudeproxyd.observe.spending import Spending
from claudeproxyd.observe.usage import COUNT_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claudeproxyd.observe.access_log import AccessEntry
    from claudeproxyd.observe.usage import UsageRecord

#: Model names with a label of their own.
MAX_MODELS = 100
#: Clients with one: those of whom something was counted first.
MAX_CLIENTS = 1000

#: Seconds: the conventions' own boundaries, and three more for answers that take minutes.
DURATION_BUCKETS = tuple(2**n / 100 for n in range(17))
#: Seconds.
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
#: The conventions' own.
TOKEN_BUCKETS = tuple(4**n for n in range(14))

_STATUSES = {status: str(status) for status in range(100, 1000)}


class _Requests:
    """What is counted of one client, one model, one status."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class _Answers:
    """What is measured of one model, towards all clients."""

    __slots__ = ("duration", "first_byte", "first_content")

    def __init__(self) -> None:
        self.duration = Histogram(DURATION_BUCKETS)
        self.first_byte = Histogram(DURATION_BUCKETS)
        self.first_content = Histogram(DURATION_BUCKETS)


class _Attempts:
    """What is counted of one provider, one model, one outcome."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "cache_read",
        "cache_write",
        "duration",
        "first_content",
        "input",
        "inputs",
        "output",
        "outputs",
        "thinking",
    )

    def __init__(self) -> None:
        self.duration = Histogram(DURATION_BUCKETS)
        self.first_content = Histogram(DURATION_BUCKETS)
        self.inputs = Histogram(TOKEN_BUCKETS)
        self.outputs = Histogram(TOKEN_BUCKETS)
        self.input = self.output = self.cache_read = self.cache_write = self.thinking = 0
        self.bytes_in = self.bytes_out = 0


@implementer(IUsageSink)
class Metrics(MetricRegistry):
    """All metrics of one daemon. Told of requests by web, of attempts by dispatch; rendered for the admin listener."""

    def __init__(self) -> None:
        super().__init__()
        self._models: dict[str, str] = {}
        """Labels of models that have one of their own, by their names."""
        self._clients: dict[str, str] = {}
        """Labels of clients, by their names."""
        self._named: set[str] = set()
        """The labels of those that the operator named."""
        self._requests = LabelTable(_Requests, self._named)
        self._answers = LabelTable(_Answers, self._named)
        self._attempts = LabelTable(_Attempts, self._named)
        self._counts = LabelTable(_Attempts, self._named)
        """Attempts to count tokens, by the same labels: only attempts and bytes are counted."""
        self._spending = Spending(self._named)
        self._refused: Counter[Labels] = Counter()
        """Requests by client and why they were refused."""
        self._overhead = Histogram(OVERHEAD_BUCKETS)
        self._events = self._client_in = self._client_out = 0
        self._register_requests()
        self._register_attempts()
        self._spending.register(self)

    def name_models(self, names: Iterable[str]) -> None:
        """Give the configuration's models labels of their own, whatever else clients ask for."""
        for name in names:
            self._models[name] = label = model_label(name)
            self._named.add(label)

    # -- the data path

    def request(self, entry: AccessEntry) -> None:
        """Count a client's request that is over. Called by web with what the access log gets."""
        status = entry.status
        model = self._models.get(entry.model) or self._new_model(entry.model, status == 200)
        client = self._clients.get(entry.client) or self._new_client(entry.client)
        self._requests[client, model, _STATUSES.get(status, "none")].count += 1
        if entry.refusal:
            self._refused[client, entry.refusal] += 1
        self._events += entry.events
        self._client_in += entry.bytes_in
        self._client_out += entry.bytes_out
        if entry.path == "/v1/messages" and model:
            answers = self._answers["chat", model]
            answers.duration.observe(entry.duration)
            if entry.time_to_first_byte is not None:
                answers.first_byte.observe(entry.time_to_first_byte)
            if entry.time_to_first_content is not None:
                answers.first_content.observe(entry.time_to_first_content)
            if entry.overhead is not None:
                self._overhead.observe(entry.overhead)
            if entry.trace_id:
                self._note(entry, answers)

    def record(self, record: UsageRecord) -> None:
        """See :class:`~claudeproxyd.interfaces.IUsageSink`."""
        outcome = record.outcome
        model = self._models.get(record.model_served) or self._new_model(record.model_served, outcome == "ok")
        counts_tokens = record.operation == COUNT_TOKENS
        attempts = (self._counts if counts_tokens else self._attempts)[record.provider, model, outcome]
        attempts.duration.observe(record.duration)
        attempts.bytes_in += record.bytes_in
        attempts.bytes_out += record.bytes_out
        if counts_tokens:
            return
        if record.trace_id:
            attempts.duration.note(Exemplar(record.trace_id, record.duration, record.time))
        if record.time_to_first_content is not None:
            attempts.first_content.observe(record.time_to_first_content)
            if record.trace_id:
                attempts.first_content.note(Exemplar(record.trace_id, record.time_to_first_content, record.time))
        fresh, output = record.input_tokens, record.output_tokens
        if fresh is None and output is None:
            return
        fresh, output = fresh or 0, output or 0
        read, written = record.cache_read_tokens or 0, record.cache_write_tokens or 0
        attempts.inputs.observe(fresh + read + written)
        attempts.outputs.observe(output)
        attempts.input += fresh
        attempts.output += output
        attempts.cache_read += read
        attempts.cache_write += written
        attempts.thinking += record.thinking_tokens or 0
        client = self._clients.get(record.client) or self._new_client(record.client)
        self._spending.add(record, client, model)

    def _note(self, entry: AccessEntry, answers: _Answers) -> None:
        """Have a request that is traced be an example of its figures."""
        now = entry.time + entry.duration
        for histogram, value in (
            (answers.duration, entry.duration),
            (answers.first_byte, entry.time_to_first_byte),
            (answers.first_content, entry.time_to_first_content),
            (self._overhead, entry.overhead),
        ):
            if value is not None:
                histogram.note(Exemplar(entry.trace_id, value, now))

    def client_label(self, name: str) -> str:
        """Return the label of a client: its name, or ``other`` where there are too many."""
        return self._clients.get(name) or self._new_client(name)

    def _new_client(self, name: str) -> str:
        """Return the label of a client that has none yet: of the issuers of tokens there may come any number."""
        if not name:
            return ""
        if len(self._clients) >= MAX_CLIENTS:
            return OTHER
        self._clients[name] = name
        return name

    def _new_model(self, name: str, served: bool) -> str:
        """Return the label of a name that has none yet: its own once it is served, for a client can make up any."""
        if not name:
            return ""
        if not served or len(self._models) - len(self._named) >= MAX_MODELS:
            return OTHER
        self._models[name] = label = model_label(name)
        return label

    # -- the scrape

    def _of_both(self, figure: Callable[[_Attempts], int]) -> dict[Labels, int]:
        """Return one figure of all attempts, for messages and for counts."""
        total = self._attempts.each(figure)
        for key, more in self._counts.each(figure).items():
            total[key] = total.get(key, 0) + more
        return total

    def _refused_by_reason(self) -> dict[Labels, int]:
        """Return how many requests were refused: for each reason, so that no series begins with its first count."""
        total: dict[Labels, int] = {(reason.value,): 0 for reason in Refusal}
        for (_, reason), count in self._refused.items():
            total[reason,] += count
        return total

    def _register_requests(self) -> None:
        model = ("gen_ai_operation_name", "gen_ai_request_model")
        self.counter(
            "claudeproxyd_requests_total",
            "Requests to the API that are over, probes and operators apart.",
            lambda: self._requests.each(lambda row: row.count),
            ("client", "model", "status"),
        )
        self.counter("claudeproxyd_refused_total", "Requests refused, by why.", self._refused_by_reason, ("reason",))
        self.counter(
            "claudeproxyd_client_refused_total",
            "Requests refused, by client and why; without a client where no key was known.",
            lambda: self._refused,
            ("client", "reason"),
        )
        self.histogram(
            "gen_ai_server_request_duration_seconds",
            "From a request's arrival to the end of its answer.",
            lambda: self._answers.each(lambda row: row.duration),
            model,
        )
        self.histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request's arrival to the first content event towards the client.",
            lambda: self._answers.each(lambda row: row.first_content),
            model,
        )
        self.histogram(
            "claudeproxyd_time_to_first_byte_seconds",
            "From a request's arrival to the head of its answer.",
            lambda: self._answers.each(lambda row: row.first_byte),
            model,
        )
        self.histogram(
            "claudeproxyd_overhead_seconds", "What the daemon itself added to a request.", lambda: self._overhead
        )
        self.counter("claudeproxyd_events_total", "Stream events sent to clients.", lambda: self._events)
        self.counter("claudeproxyd_client_received_bytes_total", "Bodies from clients.", lambda: self._client_in)
        self.counter("claudeproxyd_client_sent_bytes_total", "Bodies to clients.", lambda: self._client_out)

    def _register_attempts(self) -> None:
        attempt = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type")
        self.counter(
            "claudeproxyd_attempts_total",
            "Upstream attempts.",
            lambda: self._of_both(lambda row: row.duration.count),
            ("provider", "model", "outcome"),
        )
        self.counter(
            "claudeproxyd_tokens_total",
            "Tokens of upstream answers by kind; output with thinking.",
            lambda: {
                (*key, kind): getattr(row, kind)
                for key, row in self._attempts.items()
                for kind in ("input", "output", "cache_read", "cache_write", "thinking")
            },
            ("provider", "model", "outcome", "kind"),
        )
        self.counter(
            "claudeproxyd_upstream_received_bytes_total",
            "Bodies from upstreams.",
            lambda: self._of_both(lambda row: row.bytes_in),
            ("provider", "model", "outcome"),
        )
        self.counter(
            "claudeproxyd_upstream_sent_bytes_total",
            "Bodies to upstreams.",
            lambda: self._of_both(lambda row: row.bytes_out),
            ("provider", "model", "outcome"),
        )
        self.histogram(
            "gen_ai_client_operation_duration_seconds",
            "From the start of an upstream attempt to its end.",
            lambda: {_attempt(*key): row.duration for key, row in self._attempts.items()},
            attempt,
        )
        self.histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "From the start of an upstream attempt to its first content event.",
            lambda: {_attempt(*key): row.first_content for key, row in self._attempts.items()},
            attempt,
        )
        self.histogram(
            "gen_ai_client_token_usage",
            "Tokens of an upstream answer; input with what was read from and written to a cache.",
            lambda: {
                (*_attempt(*key), kind): histogram
                for key, row in self._attempts.items()
                for kind, histogram in (("input", row.inputs), ("output", row.outputs))
            },
            (*attempt, "gen_ai_token_type"),
        )


def model_label(name: str) -> str:
    """Return a model's label: its name, which a client may have chosen, with secrets masked."""
    return redact(name)[:MAX_LABEL_CHARACTERS]


def _attempt(provider: str, model: str, outcome: str) -> Labels:
    """Return an attempt's labels, as the conventions have them: no ``error_type`` where there was no error."""
    return ("chat", provider, model, "" if outcome == "ok" else outcome)
