"""Metrics, as a scraper sees them."""

from __future__ import annotations

import ast
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

import claudeproxyd
from claudeproxyd.interfaces import IUsageSink
from claudeproxyd.observe.access_log import AccessEntry
from claudeproxyd.observe.exposition import wants_open_metrics
from claudeproxyd.observe.label_table import MAX_ROWS
from claudeproxyd.observe.metrics import MAX_CLIENTS, MAX_MODELS, Metrics
from claudeproxyd.observe.spending import MAX_LABELS
from claudeproxyd.observe.usage import UsageRecord
from tests.speed import slowness

verifyClass(IUsageSink, Metrics)

ROOT = Path(claudeproxyd.__file__).parent


def scrape(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What a scraper reads: (name, labels) to value."""
    text = metrics.render().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def at(samples: dict[Any, float], name: str, **labels: str) -> float | None:
    """One sample's value."""
    return samples.get((name, frozenset(labels.items())))


def entry(**fields: Any) -> AccessEntry:
    """A request that went well."""
    usual = {
        "time": 1.0,
        "request_id": "req_1",
        "client": "laptop",
        "path": "/v1/messages",
        "model": "sonnet",
        "status": 200,
        "duration": 3.0,
        "time_to_first_byte": 0.5,
        "time_to_first_content": 0.02,
        "overhead": 0.0003,
        "events": 7,
        "bytes_in": 100,
        "bytes_out": 900,
    }
    return AccessEntry(**{**usual, **fields})


def record(**fields: Any) -> UsageRecord:
    """An attempt that went well."""
    usual = {
        "time": 1.0,
        "request_id": "req_1",
        "model_served": "sonnet",
        "provider": "anthropic",
        "outcome": "ok",
        "status": 200,
        "input_tokens": 10,
        "output_tokens": 300,
        "cache_read_tokens": 1000,
        "cache_write_tokens": 14,
        "thinking_tokens": 5,
        "time_to_first_content": 0.8,
        "duration": 12.0,
        "bytes_in": 900,
        "bytes_out": 100,
    }
    return UsageRecord(**{**usual, **fields})


class MetricsTests(SynchronousTestCase):
    """What is counted comes out as Prometheus reads it."""

    def setUp(self) -> None:
        self.metrics = Metrics()

    def test_requests(self) -> None:
        """Requests are counted by client, model and status, with bytes and events."""
        self.metrics.request(entry())
        self.metrics.request(entry(status=429))
        self.metrics.request(entry(status=0))
        samples = scrape(self.metrics)
        for status, count in (("200", 1), ("429", 1), ("none", 1)):
            self.assertEqual(
                at(samples, "claudeproxyd_requests_total", client="laptop", model="sonnet", status=status), count
            )
        self.assertEqual(at(samples, "claudeproxyd_events_total"), 21)
        self.assertEqual(at(samples, "claudeproxyd_client_received_bytes_total"), 300)
        self.assertEqual(at(samples, "claudeproxyd_client_sent_bytes_total"), 2700)

    def test_refusals(self) -> None:
        """Each reason is a row from the start, so that the first refusals are an increase; and who was refused."""
        samples = scrape(self.metrics)
        for reason in ("no_credential", "client_limit", "budget", "unknown_key", "bad_request", "overload"):
            self.assertEqual(at(samples, "claudeproxyd_refused_total", reason=reason), 0)
        for client, reason in (("laptop", "client_limit"), ("desk", "client_limit"), ("", "unknown_key")):
            self.metrics.request(entry(client=client, status=429, refusal=reason))
        samples = scrape(self.metrics)
        self.assertEqual(at(samples, "claudeproxyd_refused_total", reason="client_limit"), 2)
        self.assertEqual(at(samples, "claudeproxyd_refused_total", reason="unknown_key"), 1)
        self.assertEqual(at(samples, "claudeproxyd_client_refused_total", client="desk", reason="client_limit"), 1)
        self.assertEqual(at(samples, "claudeproxyd_client_refused_total", client="", reason="unknown_key"), 1)

    def test_money(self) -> None:
        """What clients spent, to the nano-dollar; what has no price is told as tokens."""
        for nano in (1, 2, None):
            self.metrics.record(record(client="laptop", nano_usd=nano))
        samples = scrape(self.metrics)
        key = {"client": "laptop", "model": "sonnet"}
        self.assertEqual(at(samples, "claudeproxyd_cost_usd_total", **key), 3e-9)
        self.assertEqual(at(samples, "claudeproxyd_unpriced_tokens_total", **key), 1324)
        for kind, count in (("input", 30), ("output", 900), ("cache_read", 3000), ("cache_write", 42)):
            self.assertEqual(at(samples, "claudeproxyd_client_tokens_total", kind=kind, **key), count)

    def test_labels(self) -> None:
        """The same by each label that a client has, and by client still, whatever its labels are by then."""
        for client, labels in (
            ("ann", {"team": "ads", "site": "oslo"}),
            ("bob", {"team": "ads"}),
            ("ann", {"team": "search"}),
            ("carl", {}),
        ):
            for nano in (1, None):
                self.metrics.record(record(client=client, labels=labels, nano_usd=nano))
        samples = scrape(self.metrics)
        for label, value, times in (("team", "ads", 2), ("team", "search", 1), ("site", "oslo", 1)):
            key = {"label": label, "value": value, "model": "sonnet"}
            self.assertEqual(at(samples, "claudeproxyd_label_cost_usd_total", **key), times / 1e9)
            self.assertEqual(at(samples, "claudeproxyd_label_unpriced_tokens_total", **key), times * 1324)
            for kind, count in (("input", 20), ("output", 600), ("cache_read", 2000), ("cache_write", 28)):
                self.assertEqual(at(samples, "claudeproxyd_label_tokens_total", kind=kind, **key), times * count)
        self.assertEqual(sum(name == "claudeproxyd_label_cost_usd_total" for name, _ in samples), 3)
        for client, times in (("ann", 2), ("bob", 1), ("carl", 1)):
            self.assertEqual(at(samples, "claudeproxyd_cost_usd_total", client=client, model="sonnet"), times / 1e9)

    def test_too_many_labels(self) -> None:
        """Values that tokens bring are told apart up to a bound; what the rest spends is in the sums."""
        for n in range(MAX_LABELS + 7):
            self.metrics.record(record(client="ci", labels={"mail": f"m{n}", "team": "ads"}, nano_usd=1))
        spent: Counter[str] = Counter()
        for (name, labels), value in scrape(self.metrics).items():
            if name == "claudeproxyd_label_cost_usd_total":
                told = dict(labels)
                spent[told["label"]] += round(value * 1e9)
                spent[f"{told['label']}={told['value']}"] += 1
        self.assertEqual((spent["mail"], spent["team"]), (MAX_LABELS + 7, MAX_LABELS + 7))
        self.assertLessEqual(len(spent), MAX_LABELS + 4)
        self.assertEqual((spent["mail=other"], spent["team=ads"]), (1, 1))

    def test_histogram(self) -> None:
        """Buckets are cumulative, limits inclusive, and sum and count agree with what was observed."""
        for duration in (0.01, 0.010001, 5000.0):
            self.metrics.request(entry(duration=duration))
        samples = scrape(self.metrics)
        name = "gen_ai_server_request_duration_seconds"
        labels = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "sonnet"}
        self.assertEqual(at(samples, name + "_bucket", le="0.01", **labels), 1)
        self.assertEqual(at(samples, name + "_bucket", le="0.02", **labels), 2)
        self.assertEqual(at(samples, name + "_bucket", le="655.36", **labels), 2)
        self.assertEqual(at(samples, name + "_bucket", le="+Inf", **labels), 3)
        self.assertEqual(at(samples, name + "_count", **labels), 3)
        self.assertAlmostEqual(at(samples, name + "_sum", **labels) or 0, 5000.020001)

    def test_other_paths(self) -> None:
        """Token counts and lists of models do not distort the times of answers."""
        self.metrics.request(entry(path="/v1/messages/count_tokens"))
        self.metrics.request(entry(path="/v1/models", model=""))
        samples = scrape(self.metrics)
        self.assertFalse([name for name, _ in samples if name.startswith("gen_ai_server")])
        self.assertEqual(at(samples, "claudeproxyd_requests_total", client="laptop", model="", status="200"), 1)

    def test_counts_are_no_usage(self) -> None:
        """Attempts to count tokens are attempts, with bytes; their tokens and times are nobody's usage."""
        self.metrics.record(record())
        for _ in range(24):
            self.metrics.record(record(operation="count_tokens", input_tokens=1000, output_tokens=None))
        self.metrics.record(record(operation="count_tokens", outcome="quota", input_tokens=None, output_tokens=None))
        samples = scrape(self.metrics)
        key = {"provider": "anthropic", "model": "sonnet"}
        self.assertEqual(at(samples, "claudeproxyd_attempts_total", outcome="ok", **key), 25)
        self.assertEqual(at(samples, "claudeproxyd_attempts_total", outcome="quota", **key), 1)
        self.assertEqual(at(samples, "claudeproxyd_upstream_sent_bytes_total", outcome="ok", **key), 2500)
        self.assertEqual(at(samples, "claudeproxyd_upstream_received_bytes_total", outcome="ok", **key), 22500)
        self.assertEqual(at(samples, "claudeproxyd_tokens_total", outcome="ok", kind="input", **key), 10)
        counts = [
            value for (name, _), value in samples.items() if name.startswith("gen_ai_client_") and "_count" in name
        ]
        self.assertEqual(set(counts), {1})

    def test_attempts(self) -> None:
        """Attempts are counted by provider, model and outcome, with all five kinds of tokens."""
        self.metrics.record(record())
        self.metrics.record(record(outcome="quota", input_tokens=None, output_tokens=None))
        samples = scrape(self.metrics)
        key = {"provider": "anthropic", "model": "sonnet"}
        for outcome in ("ok", "quota"):
            self.assertEqual(at(samples, "claudeproxyd_attempts_total", outcome=outcome, **key), 1)
        tokens = {"input": 10, "output": 300, "cache_read": 1000, "cache_write": 14, "thinking": 5}
        for kind, count in tokens.items():
            self.assertEqual(at(samples, "claudeproxyd_tokens_total", outcome="ok", kind=kind, **key), count)
            self.assertEqual(at(samples, "claudeproxyd_tokens_total", outcome="quota", kind=kind, **key), 0)
        self.assertEqual(at(samples, "claudeproxyd_upstream_received_bytes_total", outcome="ok", **key), 900)
        self.assertEqual(at(samples, "claudeproxyd_upstream_sent_bytes_total", outcome="ok", **key), 100)

    def test_conventions(self) -> None:
        """A dashboard for the GenAI conventions finds durations with error_type, and input tokens with the cached."""
        self.metrics.record(record())
        self.metrics.record(record(outcome="overloaded", input_tokens=None, output_tokens=None))
        samples = scrape(self.metrics)
        key = {
            "gen_ai_operation_name": "chat",
            "gen_ai_provider_name": "anthropic",
            "gen_ai_request_model": "sonnet",
            "error_type": "",
        }
        failed = {**key, "error_type": "overloaded"}
        self.assertEqual(at(samples, "gen_ai_client_operation_duration_seconds_count", **key), 1)
        self.assertEqual(at(samples, "gen_ai_client_operation_duration_seconds_count", **failed), 1)
        self.assertEqual(at(samples, "gen_ai_client_operation_time_to_first_chunk_seconds_sum", **key), 0.8)
        self.assertEqual(at(samples, "gen_ai_client_token_usage_sum", gen_ai_token_type="input", **key), 1024)
        self.assertEqual(
            at(samples, "gen_ai_client_token_usage_bucket", gen_ai_token_type="input", le="1024", **key), 1
        )
        self.assertEqual(at(samples, "gen_ai_client_token_usage_sum", gen_ai_token_type="output", **key), 300)

    def test_unserved_models(self) -> None:
        """Names that a client makes up do not get rows of their own."""
        for n in range(50):
            self.metrics.request(entry(model=f"made-up-{n}", status=404))
            self.metrics.record(record(model_served=f"made-up-{n}", outcome="model_unavailable"))
        self.assertNotIn(b"made-up", self.metrics.render())
        samples = scrape(self.metrics)
        self.assertEqual(at(samples, "claudeproxyd_requests_total", client="laptop", model="other", status="404"), 50)

    def test_too_many_models(self) -> None:
        """Beyond a number of names that were served, the rest is one row."""
        for n in range(MAX_MODELS + 7):
            self.metrics.request(entry(model=f"m{n}"))
        samples = scrape(self.metrics)
        self.assertEqual(at(samples, "claudeproxyd_requests_total", client="laptop", model="other", status="200"), 7)
        self.assertEqual(at(samples, "claudeproxyd_requests_total", client="laptop", model="m0", status="200"), 1)

    def test_too_many_clients(self) -> None:
        """So it is with clients: what the rest asks and spends is in the sums."""
        for n in range(MAX_CLIENTS + 7):
            self.metrics.request(entry(client=f"c{n}"))
            self.metrics.record(record(client=f"c{n}", input_tokens=1, output_tokens=0))
        for _ in range(2):
            self.metrics.request(entry(client="c0", status=429, refusal="client_limit"))
            self.metrics.request(entry(client="late", status=429, refusal="client_limit"))
        self.assertEqual(len(self.metrics._clients), MAX_CLIENTS)
        samples = scrape(self.metrics)
        asked: Counter[str] = Counter()
        for (name, labels), value in samples.items():
            if name == "claudeproxyd_requests_total":
                asked[dict(labels)["client"]] += int(value)
        self.assertEqual((len(asked), asked["other"]), (MAX_CLIENTS + 1, 7 + 2))
        self.assertEqual(at(samples, "claudeproxyd_client_refused_total", client="other", reason="client_limit"), 2)
        self.assertEqual(at(samples, "claudeproxyd_client_refused_total", client="c0", reason="client_limit"), 2)
        spent = [
            value
            for (name, labels), value in samples.items()
            if name == "claudeproxyd_client_tokens_total" and dict(labels)["kind"] == "input"
        ]
        self.assertEqual((len(spent), sum(spent)), (MAX_CLIENTS + 1, MAX_CLIENTS + 7))

    def test_full_table(self) -> None:
        """A full table folds models and loses no count."""
        for client in range(10):
            for n in range(MAX_MODELS):
                self.metrics.request(entry(model=f"m{n}", client=f"c{client}"))
        rows = {key: value for key, value in scrape(self.metrics).items() if key[0] == "claudeproxyd_requests_total"}
        self.assertEqual(sum(rows.values()), 10 * MAX_MODELS)
        self.assertLessEqual(len(rows), MAX_ROWS + 10)

    def test_named_models(self) -> None:
        """What the operator named has a row of its own from its first request, whatever was made up before it."""
        for n in range(MAX_MODELS + 7):
            self.metrics.request(entry(model=f"m{n}"))
            for client in range(10):
                self.metrics.request(entry(model=f"m{n}", client=f"c{client}"))
        self.metrics.name_models(["the-real-one", "its-upstreams-name"])
        self.metrics.request(entry(model="the-real-one", status=429))
        self.metrics.record(record(model_served="its-upstreams-name", outcome="quota"))
        samples = scrape(self.metrics)
        row = {"client": "laptop", "model": "the-real-one", "status": "429"}
        self.assertEqual(at(samples, "claudeproxyd_requests_total", **row), 1)
        row = {"provider": "anthropic", "model": "its-upstreams-name", "outcome": "quota"}
        self.assertEqual(at(samples, "claudeproxyd_attempts_total", **row), 1)

    def test_names_that_clients_make_up(self) -> None:
        """A name that is served may hold a key, or what moves a terminal's cursor, or be no text, or be long."""
        for name, label in (
            ("sk-ant-api03-AbCdEf_123-x", "***"),
            ("a\x1b[31m\r\x00b", "a\\x1b[31m\\x0d\\x00b"),
            ("\ud800\u202e", "\\xd800\\x202e"),
            ("x" * 5_000, "x" * 200),
        ):
            self.metrics.request(entry(model=name))
            samples = scrape(self.metrics)
            row = {"client": "laptop", "model": label, "status": "200"}
            self.assertEqual(at(samples, "claudeproxyd_requests_total", **row), 1)

    def test_gauges(self) -> None:
        """A registered callable is read at each scrape, plain or by labels."""
        size = [3]
        self.metrics.gauge("claudeproxyd_x", "X.", lambda: size[0])
        self.metrics.gauge("claudeproxyd_y", "Y.", lambda: {("a", "b"): 1.5}, ("one", "two"))
        self.assertEqual(at(scrape(self.metrics), "claudeproxyd_x"), 3)
        size[0] = 4
        samples = scrape(self.metrics)
        self.assertEqual(at(samples, "claudeproxyd_x"), 4)
        self.assertEqual(at(samples, "claudeproxyd_y", one="a", two="b"), 1.5)
        self.assertRaises(ValueError, self.metrics.gauge, "claudeproxyd_x", "X.", lambda: 0)

    def test_broken_gauge(self) -> None:
        """A reader that fails, or gives the wrong labels, costs its own metric and no other, and is logged once."""
        self.metrics.gauge("claudeproxyd_a", "A.", lambda: 1 // 0)
        self.metrics.gauge("claudeproxyd_b", "B.", lambda: {("one",): 1}, ("x", "y"))
        self.metrics.gauge("claudeproxyd_c", "C.", lambda: 5)
        for _ in range(2):
            samples = scrape(self.metrics)
            self.assertEqual(at(samples, "claudeproxyd_c"), 5)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_odd_label_values(self) -> None:
        """Quotes, backslashes and newlines in a name neither break the page nor forge a row."""
        odd = 'a"} 1\nforged 2\n\\x{é'
        self.metrics.request(entry(client=odd))
        samples = scrape(self.metrics)
        self.assertEqual(at(samples, "claudeproxyd_requests_total", client=odd, model="sonnet", status="200"), 1)
        self.assertNotIn("forged", {name for name, _ in samples})

    def test_process(self) -> None:
        """The process's own figures are on the same page."""
        self.assertIsNotNone(at(scrape(self.metrics), "process_resident_memory_bytes"))

    def test_large_scrape(self) -> None:
        """Ten thousand rows do not hold the reactor for longer than 50 ms; the best of five, on a shared machine."""
        rows = {(str(n), "provider"): float(n) for n in range(10_000)}
        self.metrics.gauge("claudeproxyd_x", "X.", lambda: rows, ("a", "b"))
        took = []
        for _ in range(5):
            began = time.process_time()
            self.metrics.render()
            took.append(time.process_time() - began)
        self.assertLess(min(took), 0.05 * slowness())


def registered() -> Iterator[tuple[str, str]]:
    """The kinds and names of all metrics that the daemon's source registers."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="gauge" | "counter" | "histogram" as kind)
                    | ast.Name(id="gauge" | "counter" | "histogram" as kind),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    yield kind, name


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def open_metrics(metrics: Metrics) -> list[Any]:
    """Every sample of that format, read by Prometheus' own parser."""
    text = b"".join(metrics.pieces(open_metrics=True)).decode()
    return [sample for family in parse_open_metrics(text) for sample in family.samples]


class OpenMetricsTests(SynchronousTestCase):
    """The other format, and what it alone can say."""

    def test_same_figures(self) -> None:
        """Names of counters, values and buckets are those of the text format."""
        metrics = Metrics()
        metrics.request(entry())
        metrics.record(record())
        text = {name for name, _ in scrape(metrics)}
        samples = open_metrics(metrics)
        self.assertEqual({sample.name for sample in samples}, text)
        found = {sample.name: sample.value for sample in samples}
        self.assertEqual(found["claudeproxyd_requests_total"], 1)
        self.assertFalse(any(sample.exemplar for sample in samples))

    def test_exemplars(self) -> None:
        """A traced request is the example of its buckets, until another is; what is not traced changes nothing."""
        metrics = Metrics()
        metrics.request(entry(trace_id=TRACE, duration=3.0))
        metrics.request(entry(duration=3.1))
        metrics.request(entry(trace_id="ab" * 16, duration=0.003))
        metrics.record(record(trace_id=TRACE, duration=12.0))
        found = {
            (sample.name, sample.labels["le"]): sample.exemplar for sample in open_metrics(metrics) if sample.exemplar
        }
        exemplar = found["gen_ai_server_request_duration_seconds_bucket", "5.12"]
        self.assertEqual((exemplar.labels, exemplar.value), ({"trace_id": TRACE}, 3.0))
        self.assertEqual(float(exemplar.timestamp), 4.0)
        self.assertEqual(found["gen_ai_server_request_duration_seconds_bucket", "0.01"].labels, {"trace_id": "ab" * 16})
        for name in (
            "gen_ai_server_time_to_first_token_seconds",
            "claudeproxyd_time_to_first_byte_seconds",
            "claudeproxyd_overhead_seconds",
            "gen_ai_client_operation_duration_seconds",
            "gen_ai_client_operation_time_to_first_chunk_seconds",
        ):
            self.assertTrue(any(key[0] == f"{name}_bucket" for key in found), name)
        self.assertNotIn("trace_id", metrics.render().decode())

    def test_who_gets_it(self) -> None:
        """A scraper that prefers it; whoever takes anything gets the text."""
        prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
        for accept, wanted in (
            (prometheus, True),
            ("application/openmetrics-text", True),
            ("text/plain, application/openmetrics-text;q=0.5", False),
            ("application/openmetrics-text;q=0", False),
            ("application/openmetrics-text;q=much", False),
            ("*/*", False),
            ("", False),
        ):
            self.assertEqual(wants_open_metrics(accept), wanted, accept)


class DocumentationTests(SynchronousTestCase):
    """docs/observability.md says what there is."""

    def test_table(self) -> None:
        """Every metric of the daemon is in the table of metrics, and no other."""
        text = (ROOT.parent / "docs" / "observability.md").read_text()
        documented = re.findall(r"^\| `((?:claudeproxyd|gen_ai)_[a-z0-9_]+)` \|", text, re.MULTILINE)
        self.assertEqual(sorted(documented), sorted({name for _, name in registered()}))

    def test_names(self) -> None:
        """Names are the house's or the conventions'; counters end in _total, and nothing else does."""
        for kind, name in registered():
            self.assertRegex(name, r"^(claudeproxyd|gen_ai)_[a-z0-9_]+$")
            self.assertEqual(name.endswith("_total"), kind == "counter", name)
