"""The hostile inputs of ``attack/``, for as long as a test may take."""

from __future__ import annotations

import sys

from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import ROOT, provider
from tests.integration.support.process import run
from tests.integration.support.upstream import Upstream

CLIENTS = '[[clients]]\nname = "mallory"\nkey = "mallorys-key"\n'


@ensureDeferred
async def test_attacks_harm_nobody(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Beside each of them healthy requests are answered in time; memory and all else are afterwards as before."""
    upstream.script(answers.error(400, "invalid_request_error", "prompt is too long"))
    daemon = await start_daemon(provider(upstream) + CLIENTS)
    options = ["--key", "mallorys-key", "--pid", str(daemon.pid), "--quick", "--seconds", "1", "--p99", "3000"]
    result = await run([sys.executable, "-m", "attack", daemon.url, *options], cwd=ROOT, within=120)
    print(result.out)
    assert result.code == 0, result.out + result.err
    upstream.requests.clear()
    upstream.exchanges.clear()
    figures = await daemon.metrics()
    assert figures["claudeproxyd_buffered_bytes{}"] == 0
    assert figures["claudeproxyd_pool_in_flight_attempts{}"] == 0
    assert (await wire.get(daemon.port, "/healthz")).status == 200
