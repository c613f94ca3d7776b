"""A daemon without a file: the variables that clients of an upstream know are enough to start one."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.support import bedrock, wire
from tests.integration.support import chat as openai
from tests.integration.support.bedrock import OPUS, SECRETS, Bedrock
from tests.integration.support.chat import ChatServer
from tests.integration.support.daemon import NOISE, environment, free_port
from tests.integration.support.process import Child
from tests.integration.support.ready import until_ready

PROGRAM = Path(__file__).parent / "programs/without_file.py"


async def answered(home: Path, variables: Mapping[str, str], model: str) -> str:
    """What a client hears of a daemon that has these variables and nothing else."""
    port, admin = free_port(), free_port()
    child = Child([sys.executable, PROGRAM, str(port), str(admin)], environment(home / "none", variables), cwd=home)
    try:
        await until_ready(child, port, "/readyz")
        whole = await wire.post(port, wire.Message(model=model).encode())
        streamed = await wire.post(port, wire.Message(model=model, stream=True).encode())
    finally:
        if child.result is None:
            child.signal("TERM")
            await child.ended(60.0)
    assert not NOISE.search(child.output), child.output
    assert (whole.status, streamed.status) == (200, 200), (whole.body, streamed.body)
    assert b"event: message_stop" in streamed.body
    text: str = whole.json["content"][0]["text"]
    return text


@ensureDeferred
async def test_openai(chat: ChatServer, tmp_path: Path) -> None:
    """``OPENAI_API_KEY``; where its API is, OpenAI's clients are told by ``OPENAI_BASE_URL``."""
    chat.script(openai.usual(), openai.usual())
    variables = {"OPENAI_API_KEY": "o-key", "OPENAI_BASE_URL": f"{chat.url}/v1"}
    assert await answered(tmp_path, variables, "gpt-4.1") == "hello"
    assert {request.key for request in chat.requests} == {"o-key"}


@ensureDeferred
async def test_aws(tmp_path: Path) -> None:
    """A key pair; where Bedrock is, AWS's clients are told by ``AWS_ENDPOINT_URL_BEDROCK_RUNTIME``."""
    aws = Bedrock(time.time)
    await aws.start()
    aws.script(bedrock.usual(), bedrock.usual())
    (access, secret), *_ = SECRETS.items()
    variables = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
    try:
        variables["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] = aws.url
        assert await answered(tmp_path, variables, OPUS) == "hello"
    finally:
        await aws.stop()
    assert aws.refused == []
