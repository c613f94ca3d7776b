"""Spans of a whole daemon, as a collector gets them."""

from __future__ import annotations

from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.collector import Collector
from tests.integration.support.daemon import ADMIN_KEY, Daemon, free_port, provider
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Upstream

SERVER, CLIENT = 2, 3
ERROR = 2
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
KEY = "key-of-a-client-that-is-long"
CLIENTS = f'[[clients]]\nname = "laptop"\nkey = "{KEY}"\nlabels = {{ team = "search" }}\n'
COLLECTOR_KEY = "key-of-the-collector"


def traces(collector: Collector | str, more: str = "") -> str:
    """A ``[traces]`` section."""
    url = collector if isinstance(collector, str) else collector.url
    return f'[traces]\nendpoint = "{url}"\nheaders = {{ x-token = "{COLLECTOR_KEY}" }}\n{more}\n'


async def end(daemon: Daemon) -> None:
    """Have it end, which sends what waits."""
    daemon.signal("TERM")
    await daemon.ended()


def by_kind(collector: Collector) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The spans of requests, and those of attempts in their order."""
    spans = collector.spans
    return (
        [span for span in spans if span["kind"] == SERVER],
        sorted((span for span in spans if span["kind"] == CLIENT), key=lambda span: span["start"]),
    )


def post(prompt: str = "hi", **headers: str) -> tuple[bytes, dict[str, str]]:
    """A request's body and headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wire.Message(prompt=prompt).encode(), {"x-api-key": KEY, **named}


@ensureDeferred
async def test_failover_in_a_clients_trace(start_daemon: StartDaemon, upstream: Upstream, collector: Collector) -> None:
    """The client's trace goes on: its span is the parent of the request's, and that of two attempts, of which one
    failed; each went upstream with a ``traceparent`` of its own. Neither prompts nor secrets are in what is sent."""
    upstream.script(
        answers.error(429, "rate_limit_error", "slow down, secret-of-key-a", retry_after="7"), answers.usual()
    )
    pool = provider(upstream, "key-a", "key-b").replace('api_key = "key', 'api_key = "secret-of-key')
    daemon = await start_daemon(CLIENTS + traces(collector) + pool)
    body, headers = post(
        "PROMPT", traceparent=TRACEPARENT, tracestate="vendor=1,other=2", x_claude_code_session_id="s1"
    )
    answer = await wire.post(daemon.port, body, headers=headers)
    assert answer.status == 200
    accept = {"authorization": f"Bearer {ADMIN_KEY}", "accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"}
    scraped = await wire.get(daemon.admin, "/metrics", accept)
    assert scraped.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    samples = [sample for family in text_string_to_metric_families(scraped.body.decode()) for sample in family.samples]
    found = [sample for sample in samples if sample.exemplar]
    assert {sample.exemplar.labels["trace_id"] for sample in found} == {TRACE}
    assert "gen_ai_server_request_duration_seconds_bucket" in {sample.name for sample in found}
    await end(daemon)

    (request,), (failed, served) = by_kind(collector)
    assert {span["trace_id"] for span in (request, failed, served)} == {TRACE}
    assert (request["parent_id"], request["name"], request["status"]) == (PARENT, "POST /v1/messages", 0)
    assert failed["parent_id"] == served["parent_id"] == request["span_id"]
    assert [sent.header("traceparent") for sent in upstream.requests] == [
        f"00-{TRACE}-{span['span_id']}-01" for span in (failed, served)
    ]
    assert {sent.header("tracestate") for sent in upstream.requests} == {"vendor=1,other=2"}
    assert {span["state"] for span in (request, failed, served)} == {"vendor=1,other=2"}

    assert (failed["status"], failed["attributes"]["error.type"]) == (ERROR, "quota")
    assert failed["attributes"]["claudeproxyd.cooldown.seconds"] == 7
    assert failed["attributes"]["http.response.status_code"] == 429
    assert failed["attributes"]["claudeproxyd.credential"] != served["attributes"]["claudeproxyd.credential"]
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-opus-5-5",
        "gen_ai.response.model": "claude-opus-5-5",
        "gen_ai.response.finish_reasons": ["end_turn"],
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.conversation.id": "s1",
        "server.address": "127.0.0.1",
        "claudeproxyd.provider": "up",
        "claudeproxyd.attempt": 2,
        "claudeproxyd.outcome": "ok",
    }
    assert {name: served["attributes"].get(name) for name in expected} == expected
    assert request["attributes"]["claudeproxyd.client"] == "laptop"
    assert request["attributes"]["claudeproxyd.label.team"] == "search"
    assert request["attributes"]["http.response.status_code"] == 200
    assert request["start"] <= failed["start"] <= failed["end"] <= served["end"] <= request["end"] + 1_000_000

    (posted,) = collector.posted
    assert posted.path == "/v1/traces"
    assert posted.headers["x-token"] == COLLECTOR_KEY
    assert posted.headers["content-type"] == "application/x-protobuf"
    for hidden in (b"PROMPT", b"secret-of-key", KEY.encode(), COLLECTOR_KEY.encode()):
        assert hidden not in posted.body, hidden
    assert COLLECTOR_KEY not in daemon.log
    assert f"trace={TRACE}" in daemon.log
    assert "HTTP11ClientFactory" not in daemon.log  # a line for each connection would be two every few seconds


@ensureDeferred
async def test_stream_that_its_client_leaves(
    start_daemon: StartDaemon, upstream: Upstream, collector: Collector
) -> None:
    """Both spans end, with what was used, and nobody is to blame."""
    upstream.script(answers.stream(answers.frames(*["word "] * 1000), pace=0.05))
    daemon = await start_daemon(traces(collector, "propagate = false") + provider(upstream))
    client = await wire.stream(daemon.port)
    await client.until(b"word")
    client.reset()
    await eventually("the upstream's connection is closed", lambda: upstream.exchanges[0].gone, 5.0)
    await end(daemon)
    (request,), (attempt,) = by_kind(collector)
    assert attempt["parent_id"] == request["span_id"]
    for span in (request, attempt):
        assert span["attributes"]["claudeproxyd.outcome"] == "cancelled"
        assert (span["status"], "error.type" in span["attributes"]) == (0, False)
        assert span["start"] < span["end"]
    assert attempt["attributes"]["gen_ai.response.model"] == "claude-opus-5-5"
    assert attempt["attributes"]["gen_ai.usage.input_tokens"] == 11
    assert upstream.requests[0].header("traceparent") is None


@ensureDeferred
async def test_whose_flag_counts(start_daemon: StartDaemon, upstream: Upstream, collector: Collector) -> None:
    """Where nobody shows a key, what a client says of sampling costs nothing: the share of the setting holds. Without
    ``[traces]`` its headers stay here, as all that an upstream has no use for."""
    upstream.script(answers.usual())
    daemon = await start_daemon(provider(upstream))
    await wire.post(daemon.port, wire.Message().encode(), headers={"traceparent": TRACEPARENT, "tracestate": "a=1"})
    sent = upstream.requests.pop()
    assert (sent.header("traceparent"), sent.header("tracestate")) == (None, None)
    section = traces(collector, "sample = 0.0")
    for number, config in enumerate((section, CLIENTS + section), 1):
        daemon.rewrite(config + provider(upstream))
        daemon.signal("HUP")
        await eventually("it is reloaded", lambda number=number: daemon.log.count("reloaded: ") == number)
        if config == section:
            await wire.post(daemon.port, wire.Message().encode(), headers={"traceparent": TRACEPARENT})
    for flags in ("01", "00"):
        body, headers = post(traceparent=f"00-{TRACE}-{PARENT}-{flags}")
        assert (await wire.post(daemon.port, body, headers=headers)).status == 200
    await end(daemon)
    assert len(collector.spans) == 2
    flags = [sent.header("traceparent")[-2:] for sent in upstream.requests]
    assert flags == ["00", "01", "00"]
    assert all(TRACE in sent.header("traceparent") for sent in upstream.requests)


@ensureDeferred
async def test_collector_is_away(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Requests do not notice; the log says so once, the metrics how many spans are lost; and the end does not wait."""
    upstream.script(answers.usual())
    daemon = await start_daemon(traces(f"http://127.0.0.1:{free_port()}") + provider(upstream))
    for _ in range(20):
        assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    await eventually("it is told", lambda: "traces do not reach" in daemon.log)
    metrics = await daemon.metrics()
    assert metrics["claudeproxyd_spans_exported_total{}"] == 0
    await end(daemon)
    assert daemon.log.count("traces do not reach") == 1


@ensureDeferred
async def test_collector_that_is_busy(start_daemon: StartDaemon, upstream: Upstream, collector: Collector) -> None:
    """It gets the same spans again, and garbage of clients begins a trace of its own and goes no further."""
    collector.statuses = [503, 200]
    collector.headers = {"retry-after": "1"}
    upstream.script(answers.usual())
    daemon = await start_daemon(traces(collector) + provider(upstream))
    garbage = {"traceparent": "00-GARBAGE", "tracestate": "garbage=1"}
    assert (await wire.post(daemon.port, wire.Message().encode(), headers=garbage)).status == 200
    await eventually("it is sent again", lambda: len(collector.posted) == 2)
    first, again = collector.posted
    assert first.body == again.body
    sent = upstream.requests[0]
    assert sent.header("traceparent").endswith("-01")
    assert "GARBAGE" not in sent.header("traceparent")
    assert sent.header("tracestate") is None

    async def counted() -> bool:
        return (await daemon.metrics())["claudeproxyd_spans_exported_total{}"] == 2

    await eventually("they are counted", counted)
