"""``count_tokens`` where the upstream cannot count: the estimate, and what its answers do to it."""

from __future__ import annotations

import json

from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import provider
from tests.integration.support.upstream import Answer, Exchange, Upstream

TEXT = "Nobody had told the lighthouse keeper that the boat would come. " * 200


class Uncounting(Upstream):
    """Speaks Claude's API, but for the counting of tokens."""

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        if exchange.request.path.endswith("/count_tokens"):
            return answers.whole(b'{"detail":"Not Found"}', 404)
        return super().answer_for(exchange)


async def counted(port: int, model: str) -> int:
    """Ask the daemon."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": TEXT}]}).encode()
    answer = await wire.post(port, body, "/v1/messages/count_tokens")
    assert (answer.status, answer.headers["x-claudeproxyd-estimate"]) == (200, "true")
    return int(answer.json["input_tokens"])


@ensureDeferred
async def test_what_an_answer_says_corrects_the_estimate(start_daemon: StartDaemon) -> None:
    """One answer of a provider's model, whole or streamed, and the next count for that model is near its own."""
    upstream = Uncounting()
    await upstream.start()
    usage = {"input_tokens": 1000, "cache_read_input_tokens": 4000, "output_tokens": 1}
    whole = answers.whole(json.dumps(answers.message(usage=usage)).encode())
    start = {"type": "message_start", "message": answers.message(usage=usage, content=[])}
    stream = answers.stream([answers.frame(start), answers.text_frame("hello"), *answers.end_frames()])
    upstream.script(answers.either(whole, stream))
    daemon = await start_daemon(provider(upstream))
    for streamed in (False, True):
        model = f"model-{streamed}"
        first = await counted(daemon.port, model)
        assert 2000 < first < 3500
        asked = {"model": model, "max_tokens": 9, "stream": streamed, "messages": [{"role": "user", "content": TEXT}]}
        assert (await wire.post(daemon.port, json.dumps(asked).encode())).status == 200
        assert abs(await counted(daemon.port, model) / 5000 - 1) < 0.05
    assert await counted(daemon.port, "another") == first
    assert (await daemon.metrics())["claudeproxyd_estimate_corrections{}"] == 2
    await upstream.stop()
