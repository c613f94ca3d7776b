"""Other models on Bedrock behind the Claude API: clients and Claude Code, and an upstream that is as strict as AWS."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_twisted
from botocore.config import Config
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from tests.framing.event_messages import event, exception
from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, bedrock, wire
from tests.integration.support.bedrock import AS_GPT, AS_NOVA, NOVA, SECRETS, Bedrock, pair, section
from tests.integration.support.claude_code import AS_LINES, lines, prompt
from tests.integration.support.clients import Client
from tests.integration.support.every_client import each_client, greet
from tests.integration.test_bedrock import PIXEL

HELLO = {"text": "hello"}
STREAM = {"content-type": "application/vnd.amazon.eventstream"}


@pytest_twisted.async_yield_fixture
async def aws() -> AsyncIterator[Bedrock]:
    """Bedrock, which refused nothing in the test."""
    upstream = Bedrock(time.time)
    await upstream.start()
    yield upstream
    await upstream.stop()
    assert upstream.refused == []


def call(name: str, **input: Any) -> dict[str, Any]:
    """A block that calls a tool."""
    return {"toolUse": {"toolUseId": f"tooluse_{name}", "name": name, "input": input}}


@each_client
@ensureDeferred
async def test_clients(start_daemon: StartDaemon, aws: Bedrock, tmp_path: Path, client: Client) -> None:
    """Nova answers as Claude does."""
    aws.script(bedrock.conversed(HELLO))
    daemon = await start_daemon(AS_NOVA + section(aws.url))
    await greet(client, daemon.url, tmp_path)
    assert {bedrock.model_of(request) for request in aws.requests} == {NOVA}


@ensureDeferred
async def test_the_stub_is_bedrock(aws: Bedrock) -> None:
    """To boto3 it is Bedrock: Converse, streamed and not."""
    aws.script(bedrock.conversed(HELLO, call("t", a=1), reason="tool_use"))
    runtime = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=aws.url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key=SECRETS["AKIDEXAMPLE"],
        config=Config(retries={"total_max_attempts": 1}),
    )
    asked = {"modelId": NOVA, "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    whole = await deferToThread(lambda: runtime.converse(**asked))
    assert whole["output"]["message"]["content"] == [HELLO, call("t", a=1)]
    events = await deferToThread(lambda: list(runtime.converse_stream(**asked)["stream"]))
    assert [next(iter(each)) for each in events][-2:] == ["messageStop", "metadata"]
    deltas = [each["contentBlockDelta"]["delta"] for each in events if "contentBlockDelta" in each]
    assert "".join(delta.get("text", "") for delta in deltas) == "hello"


@pytest.mark.parametrize("models", [AS_NOVA, AS_GPT], ids=["nova", "gpt"])
@ensureDeferred
async def test_claude_code_works(start_daemon: StartDaemon, aws: Bedrock, tmp_path: Path, models: str) -> None:
    """A whole session: it reads an image, runs a command; what the model thought goes back to it where it takes it."""
    (tmp_path / "pixel.png").write_bytes(base64.b64decode(PIXEL))
    thought = {"reasoningContent": {"reasoningText": {"text": "Look.", "signature": "c2ln/+=="}}}
    first = [thought, call("Read", file_path=str(tmp_path / "pixel.png"))]
    second = [thought, call("Bash", command="echo one", description="Say one")]
    aws.script(
        bedrock.conversed(*first, reason="tool_use"),
        bedrock.conversed(*second, reason="tool_use"),
        bedrock.conversed(HELLO),
    )
    daemon = await start_daemon(models + section(aws.url))
    result = await prompt(daemon.url, "look at pixel.png", tmp_path, *AS_LINES, "--allowedTools", "Bash,Read")
    told = lines(result)
    assert (result.code, told[-1]["subtype"], told[-1]["result"]) == (0, "success", "hello"), result
    blocks = [block for message in aws.requests[-1].json["messages"] for block in message["content"]]
    assert [block["toolUse"]["name"] for block in blocks if "toolUse" in block] == ["Read", "Bash"]
    results = [block["toolResult"] for block in blocks if "toolResult" in block]
    assert "image" in json.dumps(results[0]["content"]) or any("image" in block for block in blocks)
    assert "one" in json.dumps(results[1]["content"])
    thoughts = [block for block in blocks if "reasoningContent" in block]
    assert thoughts == ([thought] * 2 if models is AS_GPT else [])


@ensureDeferred
async def test_counting(start_daemon: StartDaemon, aws: Bedrock) -> None:
    """Bedrock counts for Claude alone: the estimate is marked as one."""
    daemon = await start_daemon(AS_NOVA + section(aws.url))
    asked = json.dumps({"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "hi"}]}).encode()
    answer = await wire.post(daemon.port, asked, "/v1/messages/count_tokens")
    assert (answer.status, answer.headers.get("x-claudeproxyd-estimate")) == (200, "true")
    assert aws.requests == []


@ensureDeferred
async def test_failing(start_daemon: StartDaemon, aws: Bedrock) -> None:
    """Exceptions and cuts: before content another credential takes over, after it the stream ends with an error."""
    begun = [event("messageStart", {"role": "assistant"})]
    said = [*begun, event("contentBlockDelta", {"delta": HELLO, "contentBlockIndex": 0})]
    aws.script(
        answers.stream([exception("throttlingException", "Slow down")], headers=STREAM),
        bedrock.conversed(HELLO),
        answers.then(answers.stream(begun, headers=STREAM, end=False, apart=True), answers.cut(b"")),
        bedrock.conversed(HELLO),
        answers.stream([*said, exception("modelStreamErrorException", "The model")], headers=STREAM, apart=True),
        answers.then(answers.stream(said, headers=STREAM, end=False, apart=True), answers.cut(b"")),
    )
    daemon = await start_daemon(AS_NOVA + section(aws.url, pair(), pair("AKIDOTHER")))
    for _ in range(2):
        answer = await wire.post(daemon.port, wire.Message(stream=True).encode())
        assert (answer.status, answer.text, answer.whole) == (200, "hello", True)
        assert wire.types(answer.events)[-1] == "message_stop"
    for _ in range(2):
        answer = await wire.post(daemon.port, wire.Message(stream=True).encode())
        assert (answer.status, answer.text) == (200, "hello")
        assert wire.types(answer.events)[-1] == "error"
