"""Vertex AI with a service account: tokens are fetched, renewed and used unseen, for Google's models and Claude's."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support import gemini as google
from tests.integration.support.clients import Client
from tests.integration.support.every_client import each_client, greet
from tests.integration.support.gemini import Gemini
from tests.integration.support.upstream import Exchange

PLACE = "/projects/some-project/locations/us-east5/publishers/"


class Account:
    """A service account, and the place that gives tokens to whoever shows to have its key."""

    def __init__(self, vertex: Gemini, folder: Path) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self.given = 0
        self.expired: set[str] = set()
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        key = {
            "type": "service_account",
            "client_email": "tests@some-project.iam.gserviceaccount.com",
            "private_key": self._key.private_bytes(*pem).decode(),
            "private_key_id": "1",
            "token_uri": f"{vertex.url}/token",
            "project_id": "some-project",
        }
        path = folder / "sa.json"
        path.write_text(json.dumps(key))
        self.section = f'[[providers]]\nname = "up"\nkind = "vertex"\nbase_url = "{vertex.url}"\n'
        self.section += f'[[providers.credentials]]\nname = "sa"\nservice_account = {{ file = "{path}" }}\n'
        self.section += 'location = "us-east5"\n'

    async def answer(self, exchange: Exchange) -> None:
        """As Google does: a token for a signed assertion, an answer for a token that is still good."""
        request = exchange.request
        if request.path == "/token":
            await google.whole(self._token(request.body.decode()))(exchange)
        elif request.key in self.expired or request.key != f"token-{self.given}":
            told = "Request had invalid authentication credentials."
            await google.error(401, "UNAUTHENTICATED", told)(exchange)
        elif "/publishers/anthropic/" in request.path:
            await (answers.stream() if ":stream" in request.path else answers.whole())(exchange)
        else:
            await google.usual()(exchange)

    def _token(self, form: str) -> dict[str, Any]:
        (assertion,) = parse_qs(form)["assertion"]
        signed, _, signature = assertion.rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        self._key.public_key().verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        self.given += 1
        return {"access_token": f"token-{self.given}", "expires_in": 3600, "token_type": "Bearer"}


@ensureDeferred
async def test_service_account(start_daemon: StartDaemon, gemini: Gemini, tmp_path: Path) -> None:
    """One token serves many requests; when Google takes it no more, the next one is fetched and no client knows."""
    account = Account(gemini, tmp_path)
    gemini.script(account.answer)
    daemon = await start_daemon(account.section)
    asked = wire.Message(model="gemini-2.5-pro", stream=True).encode()
    assert [(await wire.post(daemon.port, asked)).text for _ in range(3)] == ["hello"] * 3
    assert account.given == 1
    account.expired.add("token-1")
    answer = await wire.post(daemon.port, asked)
    assert (answer.status, answer.text) == (200, "hello")
    assert account.given == 2
    assert f"/v1beta1{PLACE}google/models/gemini-2.5-pro:streamGenerateContent?alt=sse" in {
        request.path for request in gemini.requests
    }


@each_client
@ensureDeferred
async def test_claude_on_vertex(start_daemon: StartDaemon, gemini: Gemini, tmp_path: Path, client: Client) -> None:
    """Claude's models answer from Vertex AI as from their own API, and it is asked for nothing that it refuses."""
    account = Account(gemini, tmp_path)
    gemini.script(account.answer)
    daemon = await start_daemon(account.section)
    await greet(client, daemon.url, tmp_path)
    sent = [request for request in gemini.requests if "/publishers/anthropic/" in request.path]
    assert sent
    for request in sent:
        assert request.path.startswith(f"/v1{PLACE}anthropic/models/claude-opus-5-5:")
        assert request.json["anthropic_version"] in ("vertex-2023-10-16", "2026-10-21")
        assert not {"model", "service_tier", "diagnostics"} & set(request.json)
        assert request.header("x-api-key") is None
        assert request.header("anthropic-version") is None
