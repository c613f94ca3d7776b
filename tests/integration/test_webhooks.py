"""Events of a whole daemon, as a webhook gets them."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.collector import Collector, Posted
from tests.integration.support.daemon import ADMIN_KEY, provider
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Upstream

SECRET = "a-secret-to-sign-with"
PATH = "/path-that-nobody-else-knows"


def hook(collector: Collector, more: str = "") -> str:
    """A ``[[webhooks]]`` section."""
    return f'[[webhooks]]\nname = "chat"\nurl = "{collector.url}{PATH}"\nsecret = "{SECRET}"\n{more}\n'


def events(collector: Collector) -> list[dict[str, Any]]:
    """What it was told, in order."""
    return [json.loads(posted.body) for posted in collector.posted]


def is_signed(posted: Posted) -> bool:
    """Whether it is of somebody who knows the secret."""
    signed = f"{posted.headers['webhook-id']}.{posted.headers['webhook-timestamp']}.".encode() + posted.body
    signature = base64.b64encode(hmac.digest(SECRET.encode(), signed, "sha256")).decode()
    return posted.headers["webhook-signature"] == f"v1,{signature}"


@ensureDeferred
async def test_what_happens(start_daemon: StartDaemon, upstream: Upstream, collector: Collector) -> None:
    """A key that is refused, and a reload that fails: each once, signed, though the receiver is busy at first; neither
    secrets nor prompts are in it, and the log does not have its URL."""
    collector.statuses = [500, 200]
    upstream.script(answers.error(401, "authentication_error", "invalid x-api-key secret-of-key"))
    pool = provider(upstream, "key").replace('api_key = "key"', 'api_key = "secret-of-key"')
    daemon = await start_daemon(hook(collector, 'events = ["credential.refused", "reload.failed"]') + pool)
    for _ in range(3):
        answer = await wire.post(daemon.port, wire.Message(prompt="PROMPT").encode())
        assert answer.status == 503
    await eventually("it is sent again", lambda: len(collector.posted) == 2)
    for word in ("nonsense", "rubbish"):
        daemon.rewrite(f"{word} = 1")
        daemon.signal("HUP")
        await eventually("it is refused", lambda word=word: f"{word} is no setting" in daemon.log)
    await eventually("it is told", lambda: len(collector.posted) == 3)
    first, again, _ = collector.posted
    assert first.body == again.body
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert all(map(is_signed, collector.posted))
    assert [event["event"] for event in events(collector)[1:]] == ["credential.refused", "reload.failed"]
    assert events(collector)[1]["subject"] == {"provider": "up", "credential": "key"}
    assert "nonsense" in events(collector)[2]["message"]
    for posted in collector.posted:
        assert b"secret-of-key" not in posted.body
        assert b"PROMPT" not in posted.body
    metrics = await daemon.metrics()
    assert metrics['claudeproxyd_webhook_events_total{webhook="chat",result="sent"}'] == 2
    daemon.signal("TERM")
    await daemon.ended()
    assert len(collector.posted) == 3
    assert PATH not in daemon.log


@ensureDeferred
async def test_model_that_nobody_serves(start_daemon: StartDaemon, upstream: Upstream, collector: Collector) -> None:
    """Its outage is told once, and once that it is over, in that order."""
    upstream.script(answers.error(429, "rate_limit_error", retry_after="3600"), answers.usual())
    daemon = await start_daemon(hook(collector) + provider(upstream))
    for _ in range(3):
        assert (await wire.post(daemon.port, wire.Message().encode())).status == 429
    key = {"authorization": f"Bearer {ADMIN_KEY}"}
    assert (await wire.post(daemon.admin, b"{}", "/admin/v1/pool/clear", key)).status == 200
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    await eventually("both are told", lambda: len(collector.posted) == 2)
    assert [(event["event"], event["subject"]) for event in events(collector)] == [
        ("model.unserved", {"model": "claude-opus-5-5"}),
        ("model.served", {"model": "claude-opus-5-5"}),
    ]
