"""Claude in Microsoft Foundry: the kind ``anthropic`` with a key, or with tokens of Entra ID.

The stand-in takes what ``AnthropicFoundry`` of the official SDK sends it, and refuses the rest as Azure does.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, sdks, wire
from tests.integration.support.clients import PYTHON_SDK
from tests.integration.support.upstream import Answer, Exchange, Recorded, Upstream

KEY = "key-of-the-resource"
DEPLOYMENT = "opus-of-the-team"
TENANT = "8b7d6c5e-1234-4abc-8def-0123456789ab"
#: Those that say who asks; ``api-key`` is for older endpoints, which took no other.
SECRETS = ("x-api-key", "api-key", "authorization")
#: Of the connection, and of the daemon beside what a client sent.
BESIDE = ("host", "connection", "content-length", "accept-encoding", "x-claudeproxyd-hop")
CALLS: tuple[sdks.Call, ...] = (
    ("create", {**sdks.HELLO, "model": DEPLOYMENT}),
    ("stream", {**sdks.HELLO, "model": DEPLOYMENT}),
    ("count_tokens", {"model": DEPLOYMENT, "messages": sdks.HELLO["messages"]}),
)


def azure_error(status: int, code: str, told: str) -> Answer:
    """An error in Azure's words."""
    return answers.whole(json.dumps({"error": {"code": code, "message": told}}).encode(), status)


class Foundry(Upstream):
    """A Foundry resource with one deployment, and the tenant's token endpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[str] = []
        """Those that were given; the last one is good."""
        self.forms: list[dict[str, str]] = []

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        request = exchange.request
        if request.path == f"/{TENANT}/oauth2/v2.0/token":
            return self.token(request)
        self.requests.append(request)
        if not self.lets_in(request):
            return azure_error(401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
        path = request.path.partition("?")[0]
        if path not in ("/anthropic/v1/messages", "/anthropic/v1/messages/count_tokens"):
            return azure_error(404, "404", "Resource not found")
        if request.json["model"] != DEPLOYMENT:
            return azure_error(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
        if request.header("anthropic-version") is None:
            return azure_error(400, "BadRequest", "anthropic-version: header is required")
        if path.endswith("/count_tokens"):
            return answers.whole(b'{"input_tokens":11}')
        return answers.usual()

    def lets_in(self, request: Recorded) -> bool:
        bearer = request.header("authorization")
        if bearer is None:
            return KEY in (request.header("x-api-key"), request.header("api-key"))
        return bearer in [f"Bearer {token}" for token in self.tokens[-1:]] and request.header("x-api-key") is None

    def token(self, request: Recorded) -> Answer:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        self.forms.append(form)
        if form.get("client_secret") != "secret-of-the-app":
            told = "AADSTS7000215: Invalid client secret provided. Trace ID: 1f2e"
            return answers.whole(json.dumps({"error": "invalid_client", "error_description": told}).encode(), 401)
        self.tokens.append(f"eyJ0eXAi.{len(self.tokens)}.of-entra")
        given = {"token_type": "Bearer", "expires_in": 3599, "access_token": self.tokens[-1]}
        return answers.whole(json.dumps(given).encode())


@pytest_twisted.async_yield_fixture
async def foundry() -> AsyncIterator[Foundry]:
    stub = Foundry()
    await stub.start()
    yield stub
    await stub.stop()


def config(foundry: Foundry, secret: str) -> str:
    """A provider as the page for operators has it."""
    return (
        f'[[providers]]\nname = "foundry"\nkind = "anthropic"\nbase_url = "{foundry.url}/anthropic"\n'
        f'[[providers.credentials]]\nname = "team"\n{secret}\n'
        f'[[models]]\nname = "claude-opus-5-5"\nroutes = [{{ provider = "foundry", model = "{DEPLOYMENT}" }}]\n'
        f'[[models]]\nname = "{DEPLOYMENT}"\nroutes = [{{ provider = "foundry" }}]\n'
    )


def by_key(foundry: Foundry) -> str:
    return config(foundry, f'api_key = "{KEY}"')


def by_entra(foundry: Foundry, secret: str = "secret-of-the-app") -> str:
    return config(
        foundry,
        f'entra = {{ tenant_id = "{TENANT}", client_id = "app", client_secret = "{secret}", '
        f'authority = "{foundry.url}" }}',
    )


def told(request: Recorded) -> tuple[str, dict[str, str], Any]:
    """What a request says, but for secrets and what is the connection's."""
    beside = {name: value for name, value in request.headers if name not in (*SECRETS, *BESIDE)}
    return request.line, beside, request.json


@ensureDeferred
@pytest.mark.parametrize("secret", ["key", "token"])
async def test_as_the_sdk_of_foundry(start_daemon: StartDaemon, foundry: Foundry, secret: str) -> None:
    """What goes up is what Anthropic's client of Foundry sends there itself: path, headers, body, and who asks."""
    daemon = await start_daemon(by_key(foundry) if secret == "key" else by_entra(foundry))
    results = await sdks.use(PYTHON_SDK, daemon.url, CALLS, "any", secret)
    passed = foundry.requests[:]
    assert [results[0]["text"], results[1]["text"], results[2]["input_tokens"]] == ["hello", "hello", 11]
    foundry.requests.clear()
    good = KEY if secret == "key" else foundry.tokens[-1]
    for direct, through in zip(
        await sdks.use(PYTHON_SDK, f"{foundry.url}/anthropic", CALLS, good, secret), results, strict=True
    ):
        assert {**direct, "request_id": ""} == {**through, "request_id": ""}
    for ours, theirs in zip(passed, foundry.requests, strict=True):
        assert told(ours) == told(theirs)
        for name in ("x-api-key", "authorization"):
            assert ours.header(name) == theirs.header(name), name
    assert [request.path.partition("?")[0] for request in passed] == [
        "/anthropic/v1/messages",
        "/anthropic/v1/messages",
        "/anthropic/v1/messages/count_tokens",
    ]


@ensureDeferred
async def test_a_token_that_is_taken_back(start_daemon: StartDaemon, foundry: Foundry) -> None:
    """A 401 fetches another token and repeats the request; the client sees neither. One token serves many requests."""
    daemon = await start_daemon(by_entra(foundry))
    body = wire.Message(model="claude-opus-5-5").encode()
    for _ in range(3):
        assert (await wire.post(daemon.port, body)).status == 200
    assert len(foundry.tokens) == 1
    form = {"grant_type": "client_credentials", "client_id": "app", "client_secret": "secret-of-the-app"}
    assert foundry.forms == [{**form, "scope": "https://cognitiveservices.azure.com/.default"}]
    foundry.tokens.append("given to somebody else")
    assert (await wire.post(daemon.port, body)).status == 200
    assert len(foundry.tokens) == 3


@ensureDeferred
async def test_a_wrong_secret(start_daemon: StartDaemon, foundry: Foundry) -> None:
    """The client is told that it is the gateway's affair, and the log which credential is wrong and what mends it."""
    daemon = await start_daemon(by_entra(foundry, "its-id-and-not-its-value"))
    answer = await wire.post(daemon.port, wire.Message(model="claude-opus-5-5").encode())
    assert (answer.status, answer.json["error"]["type"]) == (503, "api_error")
    assert foundry.requests == []
    await daemon.stop()
    assert "foundry/team: no new token (Entra ID says AADSTS7000215: client_secret is wrong" in daemon.log
    assert "its-id-and-not-its-value" not in daemon.log
    assert "Trace ID" not in daemon.log


@ensureDeferred
async def test_a_missing_deployment(start_daemon: StartDaemon, foundry: Foundry) -> None:
    """A deployment that the resource does not have is no model: 404, as the API says it."""
    daemon = await start_daemon(by_key(foundry).replace(f'model = "{DEPLOYMENT}"', 'model = "no-such"'))
    answer = await wire.post(daemon.port, wire.Message(model="claude-opus-5-5").encode())
    assert (answer.status, answer.json["error"]["type"]) == (404, "not_found_error")
