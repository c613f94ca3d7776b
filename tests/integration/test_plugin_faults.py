"""A plugin's executor whose code has faults: the daemon goes on to the next candidate, and no credential is blamed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import ROOT, SANDBOX
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Upstream

MAKER = "from faulty_executor import FaultyMaker\n\nfaulty = FaultyMaker()\n"
EXECUTOR = '''
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, fail, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from claudeproxyd.plugin import ClaudeReader, HTTPExecutor, IExecutor, Maker, client_headers, setting


class FaultyReader(ClaudeReader):
    """Breaks on its first bytes, or on content, or at the end."""

    at = ""

    def feed(self, data):
        if self.at == "feed" or self.at == "content" and b"content_block_stop" in data:
            raise ZeroDivisionError("in feed")
        return super().feed(data)

    def end(self):
        raise ZeroDivisionError("in end")


@implementer(IExecutor)
class FaultyExecutor(HTTPExecutor):
    kind = "faulty"
    family = "anthropic"

    def client_headers(self, headers):
        return client_headers(headers)

    def prepare(self, request, route):
        if self.at == "prepare":
            raise ZeroDivisionError("in prepare")

    @property
    def at(self):
        return self.section.own.at

    def messages(self, attempt):
        if self.at == "call":
            raise ZeroDivisionError("in messages")
        if self.at == "deferred":
            return fail(ZeroDivisionError("in a Deferred"))
        if self.at == "cancelled":
            return fail(CancelledError())
        return self.sent(attempt)

    async def sent(self, attempt):
        await succeed(None)
        with self.outcomes(attempt):
            response = await self.send(attempt, b"/v1/messages", b"", attempt.request.envelope.body)
            if self.at == "head":
                raise ZeroDivisionError("behind the head")
            reader = FaultyReader(self.services.max_event_bytes)
            reader.at = self.at
            return await self.stream(response, attempt, reader, (b"text/event-stream",))

    def count_tokens(self, attempt):
        raise ZeroDivisionError("in count_tokens")

    async def models(self, credential):
        raise ZeroDivisionError("in models")


@dataclass(frozen=True, kw_only=True)
class FaultySettings:
    at: str = setting("", "Where it breaks.")


@implementer(IPlugin)
class FaultyMaker(Maker):
    kind = "faulty"
    settings = FaultySettings
    credential_schema = ("api_key",)

    def make(self, section, services):
        return FaultyExecutor(section, services)
'''

PLACES = ("prepare", "call", "deferred", "cancelled", "head", "feed", "end", "content")
ANSWERS = {
    "head": answers.then(answers.stream(end=False), answers.silent()),
    "end": answers.stream(answers.start_frames()),
    "content": answers.stream(apart=True),
}
"""What the upstream says where it matters; else a whole message."""


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """The plugin's files; the environment that has their folder on its path."""
    folder = tmp_path / "plugin" / "twisted" / "plugins"
    folder.mkdir(parents=True)
    (folder / "faulty_plugin.py").write_text(MAKER)
    (tmp_path / "plugin" / "faulty_executor.py").write_text(EXECUTOR)
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'plugin'}"}


def configured(upstream: Upstream) -> str:
    """A provider and two models for each fault: one that has the sandbox behind it, and one that has nobody."""
    text = SANDBOX
    for place in PLACES:
        text += f'[[providers]]\nname = "{place}"\nkind = "faulty"\nbase_url = "{upstream.url}"\nat = "{place}"\n'
        text += 'credentials = [{ name = "one", api_key = "sk-ant-api03-one" }]\n'
    for place in PLACES:
        alone = f'{{ provider = "{place}", model = "m" }}'
        text += f'[[models]]\nname = "claude-{place}"\nroutes = [{alone}, {{ provider = "sandbox" }}]\n'
        text += f'[[models]]\nname = "claude-{place}-alone"\nroutes = [{alone}]\n'
    return text


@ensureDeferred
async def test_faults(start_daemon: StartDaemon, plugin: dict[str, str], upstream: Upstream, tmp_path: Path) -> None:
    """Wherever it breaks another provider serves; where there is none it is a 503. Nothing cools."""
    captures = f'[capture]\nwhen = "always"\ndirectory = "{tmp_path / "captures"}"\n'
    daemon = await start_daemon(configured(upstream) + captures, env=plugin)
    for place in PLACES:
        upstream.script(ANSWERS.get(place, answers.stream()))
        for name, alone in ((f"claude-{place}", False), (f"claude-{place}-alone", True)):
            counted = await wire.post(daemon.port, wire.Message(name).encode(), "/v1/messages/count_tokens")
            streamed = await wire.post(daemon.port, wire.Message(name, stream=True).encode())
            daemon.faults += 2
            if place == "content":
                assert streamed.status == 200
                assert (streamed.events[-1]["type"], streamed.events[-1]["error"]["type"]) == ("error", "api_error")
            elif not alone:
                assert (streamed.headers["x-claudeproxyd-provider"], counted.status) == ("sandbox", 200), streamed.body
                assert streamed.events[-1]["type"] == "message_stop"
            else:
                for answer in (counted, streamed):
                    assert (answer.status, answer.json["error"]["type"]) == (503, "api_error"), (place, answer.body)
                    assert "The gateway failed" in answer.json["error"]["message"]
            assert b"ZeroDivision" not in streamed.body + counted.body
    assert daemon.log.count("Traceback") == daemon.faults
    for entry in (await daemon.pool())["credentials"]:
        failures = {} if entry["provider"] == "prepare" else {"internal": 2}
        assert (entry["state"], entry["in_flight"], entry["cooldowns"], entry["gates"]) == ("ready", 0, [], []), entry
        assert entry["provider"] == "sandbox" or entry["outcomes"] == failures, entry
    metrics = await daemon.metrics()
    for place in PLACES[1:]:
        label = f'claudeproxyd_attempts_total{{provider="{place}",model="m",outcome="internal"}}'
        assert metrics[label] == 4, place
    assert len(os.listdir(tmp_path / "captures")) == 4 * len(PLACES)
    await eventually("no answer is left that nobody reads", lambda: all(each.finished for each in upstream.exchanges))
