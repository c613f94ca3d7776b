"""Claude on Amazon Bedrock: a daemon that signs, an upstream that checks, and clients that know of nothing."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_twisted
from anthropic import AnthropicBedrock
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, bedrock, sdks, wire
from tests.integration.support.bedrock import AS_OPUS, OPUS, SECRETS, Bedrock, pair, section
from tests.integration.support.claude_code import AS_LINES, lines, prompt
from tests.integration.support.clients import Client
from tests.integration.support.every_client import each_client, greet

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest_twisted.async_yield_fixture
async def aws() -> AsyncIterator[Bedrock]:
    """Bedrock, which refused nothing in the test unless that says so."""
    upstream = Bedrock(time.time)
    await upstream.start()
    yield upstream
    await upstream.stop()
    assert upstream.refused == []


def spoken(block: dict[str, Any], *deltas: dict[str, Any], index: int = 0) -> list[bytes]:
    """The frames of one block."""
    return [
        answers.frame({"type": "content_block_start", "index": index, "content_block": block}),
        *(answers.frame({"type": "content_block_delta", "index": index, "delta": each}) for each in deltas),
        answers.frame({"type": "content_block_stop", "index": index}),
    ]


def calling(name: str, **input: Any) -> list[bytes]:
    """A thought that is signed, and a call."""
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    call = {"type": "tool_use", "id": f"toolu_bdrk_01{name}", "name": name, "input": {}}
    return [
        answers.start_frames()[0],
        *spoken(
            thought,
            {"type": "thinking_delta", "thinking": "Look."},
            {"type": "signature_delta", "signature": "c2ln/+=="},
        ),
        *spoken(call, {"type": "input_json_delta", "partial_json": json.dumps(input)}, index=1),
        *answers.end_frames("tool_use")[1:],
    ]


@each_client
@ensureDeferred
async def test_clients(start_daemon: StartDaemon, aws: Bedrock, tmp_path: Path, client: Client) -> None:
    """Claude's models answer from Bedrock as from their own API, which is asked for nothing that it refuses."""
    aws.script(bedrock.usual())
    daemon = await start_daemon(section(aws.url))
    await greet(client, daemon.url, tmp_path)
    assert {bedrock.model_of(request) for request in aws.requests} == {OPUS}
    for request in aws.requests:
        assert request.header("x-api-key") is None
        assert request.header("anthropic-beta") is None
        assert (request.header("authorization") or "").startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")


@ensureDeferred
async def test_byte_exact(start_daemon: StartDaemon, aws: Bedrock) -> None:
    """The client gets the events that the model made, byte for byte; a message, too, and the request's id."""
    aws.script(bedrock.usual())
    daemon = await start_daemon(AS_OPUS + section(aws.url))
    answer = await wire.post(daemon.port, wire.Message(stream=True).encode())
    assert answer.body == b"".join(answers.frames())
    assert (answer.headers["request-id"], answer.headers["content-type"][:17]) == ("r-stream", "text/event-stream")
    answer = await wire.post(daemon.port, wire.Message().encode())
    assert answer.body == json.dumps(answers.message()).encode()
    assert answer.headers["request-id"] == "r-whole"
    assert not [name for name in answer.headers if name.startswith("x-amzn")]


@ensureDeferred
async def test_the_stub_is_bedrock(aws: Bedrock) -> None:
    """To boto3 and to Anthropic's own client this upstream is Bedrock: signatures, frames, errors."""
    aws.script(bedrock.usual())
    runtime = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=aws.url,
        aws_access_key_id="AKIDOTHER",
        aws_secret_access_key=SECRETS["AKIDOTHER"],
        config=Config(retries={"total_max_attempts": 1}),
    )
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    asked = {"modelId": OPUS + "-v1:0", "body": json.dumps(body)}

    def streamed() -> list[dict[str, Any]]:
        events = runtime.invoke_model_with_response_stream(**asked)["body"]
        return [json.loads(event["chunk"]["bytes"]) for event in events]

    whole = await deferToThread(lambda: json.loads(runtime.invoke_model(**asked)["body"].read()))
    assert whole == answers.message()
    events = await deferToThread(streamed)
    assert wire.types(events) == sdks.EVENTS
    assert events[-1]["amazon-bedrock-invocationMetrics"] == bedrock.METRICS
    count = await deferToThread(
        lambda: runtime.count_tokens(modelId=OPUS, input={"invokeModel": {"body": json.dumps(body).encode()}})
    )
    assert count["inputTokens"] == 21

    client = AnthropicBedrock(
        aws_access_key="AKIDEXAMPLE",
        aws_secret_key=SECRETS["AKIDEXAMPLE"],
        aws_region="eu-west-1",
        base_url=aws.url,
        max_retries=0,
    )

    def by_the_sdk() -> str:
        with client.messages.stream(model=OPUS, max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream:
            return "".join(stream.text_stream)

    assert await deferToThread(by_the_sdk) == "hello"
    aws.script(bedrock.failing("throttlingException", "Slow down", answers.frames()[:3]))
    with pytest.raises(EventStreamError, match=r"throttlingException.*Slow down"):
        await deferToThread(streamed)
    aws.script(bedrock.refusal(400, "ValidationException", "Input is too long for requested model."))
    with pytest.raises(ClientError, match=r"ValidationException.*Input is too long"):
        await deferToThread(streamed)


@ensureDeferred
async def test_what_the_stub_refuses(aws: Bedrock) -> None:
    """It is as strict as Bedrock: about a key that it does not know, and members and betas that it does not take."""
    aws.script(bedrock.usual())
    body: dict[str, Any] = {"anthropic_version": "x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    tool = {"name": "a", "input_schema": {}}

    def refusal(access: str, **members: Any) -> str:
        runtime = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=aws.url,
            aws_access_key_id=access,
            aws_secret_access_key=SECRETS["AKIDEXAMPLE"],
            config=Config(retries={"total_max_attempts": 1}),
        )
        try:
            runtime.invoke_model(modelId=OPUS, body=json.dumps({**body, **members}))
        except ClientError as e:
            return str(e)
        return ""

    for access, members in (
        ("AKIDNOBODY", {}),
        ("AKIDOTHER", {}),
        ("AKIDEXAMPLE", {"model": "m"}),
        ("AKIDEXAMPLE", {"stream": True}),
        ("AKIDEXAMPLE", {"service_tier": "auto"}),
        ("AKIDEXAMPLE", {"anthropic_beta": ["claude-code-20250219"]}),
        ("AKIDEXAMPLE", {"context_management": {}}),
        ("AKIDEXAMPLE", {"tools": [{**tool, "defer_loading": True}]}),
        ("AKIDEXAMPLE", {"tools": [{**tool, "eager_input_streaming": True}]}),
        ("AKIDEXAMPLE", {"tools": [{**tool, "cache_control": {"type": "ephemeral", "scope": "x"}}]}),
    ):
        assert await deferToThread(refusal, access, **members), members
    assert not await deferToThread(refusal, "AKIDEXAMPLE", tools=[tool])
    aws.refused.clear()


@ensureDeferred
async def test_claude_code_works(start_daemon: StartDaemon, aws: Bedrock, tmp_path: Path) -> None:
    """A whole session: it reads an image, runs a command, thinks, and Bedrock refuses nothing of it."""
    (tmp_path / "pixel.png").write_bytes(base64.b64decode(PIXEL))
    command = {"command": "echo one", "description": "Say one"}
    aws.script(
        bedrock.stream(calling("Read", file_path=str(tmp_path / "pixel.png"))),
        bedrock.stream(calling("Bash", **command)),
        bedrock.usual(),
    )
    daemon = await start_daemon(section(aws.url))
    result = await prompt(daemon.url, "look at pixel.png", tmp_path, *AS_LINES, "--allowedTools", "Bash,Read")
    told = lines(result)
    assert (result.code, told[-1]["subtype"], told[-1]["result"]) == (0, "success", "hello"), result
    first, second, third = (bedrock.invoked(request) for request in aws.requests)
    assert "tool-search-tool-2025-10-19" in first["anthropic_beta"]
    blocks = [b for m in third["messages"] if isinstance(m["content"], list) for b in m["content"]]
    assert [b["signature"] for b in blocks if b["type"] == "thinking"] == ["c2ln/+=="] * 2
    results = [b["content"] for b in blocks if b["type"] == "tool_result"]
    assert results[0][0]["type"] == "image"
    assert "one" in str(results[1])
    assert "output_config" in second
    assert not [m for m in second["messages"] if m.keys() - {"role", "content"}]


@ensureDeferred
async def test_counting(start_daemon: StartDaemon, aws: Bedrock) -> None:
    """Tokens are counted by Bedrock, of a body that it takes; where it does not count, they are estimated."""
    aws.script(bedrock.usual())
    daemon = await start_daemon(AS_OPUS + section(aws.url))
    asked = json.dumps({"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "hi"}], "tools": []})
    answer = await wire.post(daemon.port, asked.encode(), "/v1/messages/count_tokens")
    assert answer.json == {"input_tokens": 21}
    assert bedrock.invoked(aws.requests[0])["max_tokens"] == 1
    aws.script(bedrock.refusal(400, "ValidationException", "The provided model doesn't support counting tokens."))
    answer = await wire.post(daemon.port, asked.encode(), "/v1/messages/count_tokens")
    assert (answer.status, answer.headers.get("x-claudeproxyd-estimate")) == (200, "true")


@pytest.mark.parametrize(
    "fails",
    [
        lambda: bedrock.refusal(429, "ThrottlingException", "Too many requests"),
        lambda: bedrock.refusal(400, "ServiceQuotaExceededException", "Too many tokens"),
        lambda: bedrock.refusal(403, "AccessDeniedException", "arn:aws:iam::123456789012:user/x is not authorized"),
        lambda: bedrock.refusal(403, "UnrecognizedClientException", "The security token is invalid"),
        lambda: bedrock.refusal(424, "ModelErrorException", "The model"),
        lambda: bedrock.refusal(503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
        lambda: bedrock.failing("throttlingException", "Slow down"),
        lambda: bedrock.failing("modelStreamErrorException", "The model"),
        lambda: bedrock.failing("internalServerException", "Sorry", answers.start_frames()),
        lambda: bedrock.broken(answers.start_frames()),
        lambda: answers.whole(b"<html>", headers={"content-type": "text/html"}),
    ],
)
@ensureDeferred
async def test_failing_over(start_daemon: StartDaemon, aws: Bedrock, fails: Callable[[], answers.Answer]) -> None:
    """What fails before content is another credential's to do, and no client knows."""
    aws.script(fails(), bedrock.usual())
    daemon = await start_daemon(AS_OPUS + section(aws.url, pair(), pair("AKIDOTHER")))
    answer = await wire.post(daemon.port, wire.Message(stream=True).encode())
    assert (answer.status, answer.text, answer.whole) == (200, "hello", True)
    keys = [(request.header("authorization") or "").split("/")[0].rpartition("=")[2] for request in aws.requests]
    assert len(keys) == 2


@ensureDeferred
async def test_failing_late(start_daemon: StartDaemon, aws: Bedrock) -> None:
    """After content there is no second try: an error ends the stream, in Claude's shape, and never a clean end."""
    said = answers.frames()[:3]
    aws.script(
        bedrock.failing(
            "throttlingException", "Of arn:aws:bedrock:us-east-1:123456789012:x too much", said, apart=True
        ),
        bedrock.broken(said),
        bedrock.broken(said, answers.rest([b"\0" * 40])),
    )
    daemon = await start_daemon(AS_OPUS + section(aws.url))
    for _ in range(3):
        answer = await wire.post(daemon.port, wire.Message(stream=True).encode())
        assert answer.status == 200
        assert wire.types(answer.events) == [*sdks.EVENTS[:3], "error"]
        assert answer.events[-1]["error"].keys() <= {"type", "message"}
        assert "123456789012" not in answer.body.decode()


@ensureDeferred
async def test_what_is_told(start_daemon: StartDaemon, aws: Bedrock) -> None:
    """Errors are Claude's: a fault of the request in its words, one of ours never as the client's."""
    daemon = await start_daemon(AS_OPUS + section(aws.url))
    for answer, status, words in (
        (bedrock.refusal(400, "ValidationException", "messages: odd"), 400, "messages: odd"),
        (
            bedrock.refusal(400, "ValidationException", "Input is too long for requested model."),
            400,
            "Input is too long.",
        ),
        (bedrock.refusal(403, "ExpiredTokenException", "Of arn:aws:iam::123456789012:x"), 503, ""),
    ):
        aws.script(answer)
        told = await wire.post(daemon.port, wire.Message().encode())
        assert told.status == status
        assert told.json["error"]["message"].startswith(words)
        assert "123456789012" not in told.body.decode()


@ensureDeferred
async def test_keys_of_bedrock(start_daemon: StartDaemon, aws: Bedrock) -> None:
    """A Bedrock API key is sent as it is, and not signed with."""
    aws.script(bedrock.usual())
    daemon = await start_daemon(AS_OPUS + section(aws.url, 'bearer_token = "bedrock-api-key-1"'))
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    assert aws.requests[0].key == "bedrock-api-key-1"
    assert aws.requests[0].header("x-amz-date") is None


@pytest.mark.parametrize("where", ["web identity", "container", "machine"])
@ensureDeferred
async def test_roles(start_daemon: StartDaemon, aws: Bedrock, tmp_path: Path, where: str) -> None:
    """The chain brings keys of a role; when AWS takes them no more, the next come, and no client knows."""
    (tmp_path / "token").write_text("the-jwt")
    env, asked = {
        "web identity": (
            {
                "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
                "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/claude",
                "AWS_ENDPOINT_URL_STS": aws.url,
            },
            "the-jwt",
        ),
        "container": (
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{aws.url}/container",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": "pod-token",
            },
            "pod-token",
        ),
        "machine": ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": aws.url}, "imds-token"),
    }[where]
    aws.script(bedrock.usual())
    daemon = await start_daemon(AS_OPUS + section(aws.url, 'aws = "chain"'), env=env)
    for _ in range(2):
        assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    assert [form.get("WebIdentityToken", form.get("token")) for form in aws.roles] == [asked]
    del aws.secrets["ASIAROLE1"]
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    assert len(aws.roles) == 2
    assert len(aws.refused) == 1
    assert asked not in daemon.log
    assert bedrock.ROLE_SECRET not in daemon.log
    aws.refused.clear()
