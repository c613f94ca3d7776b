"""Upstreams that repeat our keys, in every place that they can write to; and every place that anybody can read."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, gemini, wire
from tests.integration.support.daemon import ADMIN_KEY, Daemon, provider
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Answer, Exchange, Upstream

#: Of no known shape, and with what JSON, URLs and HTML may write otherwise.
KEY = "planted/key+of&the-house-01234"
TOKEN = "planted-token-of-the-house-56789"
REFRESH = "planted-refresh-of-the-house-4321"
CLIENT_SECRET = "planted-client-secret-of-the-house"
FETCHED = "planted-fetched-of-the-house-777"
CLIENT = "planted-client-key-of-the-tests"
USERS_REFRESH = "1//planted-refresh-of-a-user-88"
USERS_SECRET = "planted-secret-of-a-user-9876"
ENTRA_SECRET = "planted~secret-of-an-application"
PASSWORD = "planted-password-of-the-proxy"
OWN_HEADER = "planted-value-of-a-header"
PLANTED = (
    *(KEY, TOKEN, REFRESH, CLIENT_SECRET, FETCHED, CLIENT, ADMIN_KEY),
    *(USERS_REFRESH, USERS_SECRET, ENTRA_SECRET, PASSWORD, OWN_HEADER),
)
STATUSES = (400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504, 529)
#: No answer's text may be in the log or on the page.
PROSE = "Dear diary, this is what the model said."


def echoed(secret: str) -> dict[str, str]:
    """Headers that repeat it."""
    return {
        "x-echo": f"key={secret}",
        "x-api-key": secret,
        "authorization": f"Bearer {secret}",
        "x-goog-api-key": secret,
        "x-amz-security-token": secret,
        "request-id": secret,
        "x-should-retry": "false",
    }


def refused(status: int, secret: str) -> Answer:
    """Claude's error."""
    told = f"The key {secret} did something"
    body = {"type": "error", "error": {"type": "api_error", "message": told, "of": secret}, "request_id": secret}
    return answers.whole(json.dumps(body).replace("/", "\\/").encode(), status, echoed(secret))


def page(status: int, secret: str) -> Answer:
    """A page of a proxy's."""
    body = f"<html><title>No way for {secret.replace('&', '&amp;')}</title>{PROSE}</html>".encode()
    return answers.whole(body, status, {**echoed(secret), "content-type": "text/html"})


def text(status: int, secret: str) -> Answer:
    """What is not even JSON."""
    return answers.whole(f"{PROSE} {secret}".encode(), status, {**echoed(secret), "content-type": "text/plain"})


def good(secret: str) -> Answer:
    """An answer that is well, but for its headers."""
    return answers.either(answers.whole(headers=echoed(secret)), answers.stream(headers=echoed(secret)))


def packed(status: int, secret: str) -> Answer:
    """A refusal that is gzip."""
    body = json.dumps({"type": "error", "error": {"type": "api_error", "message": f"{secret} is wrong"}}).encode()
    return answers.whole(gzip.compress(body), status, {"content-encoding": "gzip", **echoed(secret)})


def in_band(secret: str, *before: bytes) -> Answer:
    """An error in a stream."""
    return answers.stream([*before, answers.error_frame("api_error", f"no more for {secret}")])


def googles(code: int, secret: str) -> Answer:
    """Google's error."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "X", "metadata": {"key": secret}}
    return gemini.error(code, "INTERNAL", f"API key {secret} not valid", info)


def on_claude(secret: str) -> Iterator[tuple[Answer, bool]]:
    """What an upstream that speaks Claude's API can do, and whether it is asked for a stream."""
    for status in STATUSES:
        yield refused(status, secret), False
        yield refused(status, secret), True
    for status in (200, 400, 403, 503):
        yield page(status, secret), False
        yield text(status, secret), False
        yield text(status, secret), True
    yield answers.whole(json.dumps({"error": {"message": f"bad {secret}"}}).encode()), False
    yield answers.whole(json.dumps({"message": f"{PROSE} bad {secret}"}).encode()), False
    yield answers.whole(json.dumps(f"{PROSE} bad {secret}").encode()), False
    yield packed(400, secret), False
    yield packed(503, secret), False
    yield in_band(secret), True
    yield in_band(secret, *answers.start_frames(), answers.text_frame("hello")), True
    yield good(secret), False
    yield good(secret), True


def on_gemini(secret: str) -> Iterator[tuple[Answer, bool]]:
    """The same of one that speaks Google's."""
    for status in (400, 403, 404, 429, 500, 503):
        yield googles(status, secret), False
        yield googles(status, secret), True
    yield page(200, secret), False
    yield page(503, secret), False
    yield text(200, secret), False
    failure = gemini.frame(gemini.failure(500, "INTERNAL", f"broke at {secret}"))
    yield answers.stream([failure]), True
    yield answers.stream([gemini.frame(gemini.said("hello")), failure]), True
    yield answers.whole(json.dumps(gemini.said("hello", finish="STOP")).encode(), headers=echoed(secret)), False
    malformed = gemini.said(finish="MALFORMED_FUNCTION_CALL")
    malformed["candidates"][0]["finishMessage"] = f"Malformed function call: {PROSE} {secret}"
    yield answers.whole(json.dumps(malformed).encode()), False


class Parrot(Upstream):
    """Repeats a key wherever it can, also where the daemon asks on its own account."""

    asked = ""
    """The path of the last question that is of no script."""
    gives = True
    """The token endpoint gives one."""

    def __init__(self) -> None:
        super().__init__()
        self.assertions: list[str] = []

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        path = exchange.request.path
        if "/models?" in path or path.endswith("/token"):
            self.asked = path
        if path.startswith("/v1/models"):
            listed = {"id": "listed", "type": "model", "display_name": f"Listed for {KEY}", "key": KEY}
            return answers.whole(json.dumps({"data": [listed], "has_more": False, "of": KEY}).encode())
        if path.startswith(("/v1beta/models?", "/v1beta1/publishers/google/models?")):
            return googles(403, KEY)
        if path.endswith("/token"):
            form = parse_qs(exchange.request.body.decode())
            self.assertions += form.get("assertion", [])
            if self.gives:
                return answers.whole(json.dumps({"access_token": FETCHED, "expires_in": 3600}).encode())
            said = next(iter(form.get("assertion") or form.get("refresh_token") or form["client_id"]))
            told = f"{said} of {form.get('client_secret')} is not good: {exchange.request.body.decode()}"
            return answers.whole(json.dumps({"error": "invalid_grant", "error_description": told}).encode(), 400)
        if path.endswith("/count_tokens"):
            return answers.whole(json.dumps({"input_tokens": 11, "of": KEY}).encode(), headers=echoed(KEY))
        return super().answer_for(exchange)


def config(upstream: Upstream, folder: Path, form: str) -> str:
    """Every kind of provider on the one upstream, and everything that writes anything."""

    def section(name: str, kind: str, credential: str) -> str:
        return (
            f'[[providers]]\nname = "{name}"\nkind = "{kind}"\nbase_url = "{upstream.url}"\nmodels = ["{name}*"]\n'
            f'[[providers.credentials]]\nname = "{name}-a"\n{credential}\n'
        )

    oauth = (
        f'oauth = {{ token_url = "{upstream.url}/token", client_id = "me", client_secret = "{CLIENT_SECRET}", '
        f'refresh_token = "{REFRESH}" }}'
    )
    entra = (
        f'entra = {{ tenant_id = "contoso.example", client_id = "app", client_secret = "{ENTRA_SECRET}", '
        f'authority = "{upstream.url}" }}'
    )
    place = 'project = "some-project"\nlocation = "us-east5"'
    user = {"refresh_token": USERS_REFRESH, "client_secret": USERS_SECRET, "client_id": "me"}
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private_key = rsa.generate_private_key(65537, 2048).private_bytes(*pem).decode()
    robot = {"client_email": "robot@some-project.iam.gserviceaccount.com", "private_key": private_key}
    for name, key in (("authorized_user", user), ("service_account", robot)):
        (folder / f"{name}.json").write_text(json.dumps({"type": name, "token_uri": f"{upstream.url}/token", **key}))
    beside = f'proxy = "http://me:{PASSWORD}@127.0.0.1:9"\nheaders = {{ x-gateway-token = "{OWN_HEADER}" }}\n'
    return (
        f'[[clients]]\nname = "tests"\nkey = "{CLIENT}"\n'
        + section("claude-on-vertex", "vertex", f'bearer_token = "{TOKEN}"\n{place}')
        + section("l", "anthropic", f'api_key = "{KEY}"')
        + section("gemini", "gemini", f'api_key = "{KEY}"')
        + section("oauth", "anthropic", oauth)
        + section("entra", "anthropic", entra)
        + section("claude-of-user", "vertex", f'service_account = {{ file = "authorized_user.json" }}\n{place}')
        + section("claude-of-robot", "vertex", f'service_account = {{ file = "service_account.json" }}\n{place}')
        + section("beside", "anthropic", 'api_key = "short"').replace("[[providers.", f"{beside}[[providers.")
        + "[pool]\nmax_attempts = 1\nmax_wait = 0.0\n"
        + f'[log]\nformat = "{form}"\nlevel = "debug"\naccess = "{folder}/access.log"\naudit = "{folder}/audit.log"\n'
        + f'[capture]\nwhen = "always"\ndirectory = "{folder}/captures"\nkeep = 1000\n'
    )


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, those in base64 also as what they stand for, be it compressed."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            yield from strings(member)
            if name == "base64":
                data = base64.b64decode(member)
                data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
                yield data.decode("utf-8", "replace")
    elif isinstance(value, list):
        for member in value:
            yield from strings(member)
    elif isinstance(value, str):
        yield value


def found_in(text: str, planted: Sequence[str]) -> list[str]:
    """What of all that was *planted* is in *text*, however it is written."""
    forms = {json.dumps(key)[1:-1] for key in planted} | {key.replace("/", "\\/") for key in planted}
    forms |= set(planted) | {key.replace("&", "&amp;") for key in planted}
    return [form for form in sorted(forms) if form in text]


class Looker:
    """Looks wherever anybody can, and notes what was found where."""

    def __init__(self, daemon: Daemon, folder: Path, minted: str, planted: Sequence[str] = PLANTED) -> None:
        self.daemon = daemon
        self.planted = planted
        self.minted = minted
        self.folder = folder
        self.leaks: list[str] = []

    def look(self, where: str, what: str, prose: bool = True) -> None:
        """At one text. *prose*: answers may not be in it either."""
        self.leaks += [f"{where}: {form}" for form in found_in(what, self.planted)]
        if self.minted in what:
            self.leaks.append(f"{where}: the minted key")
        if prose and "Dear diary" in what:
            self.leaks.append(f"{where}: {PROSE}")

    async def ask(self, where: str, model: str, stream: bool = False, path: str = "/v1/messages") -> None:
        """A client's question: what it got, and what the operator sees then."""
        body = wire.Message(stream=stream, model=model).encode()
        keys = {"x-api-key": CLIENT, "authorization": f"Bearer {self.minted}", "x-custom": self.minted}
        answer = await wire.post(self.daemon.port, body, path, keys)
        self.look(f"{where}: body", answer.body.decode("utf-8", "replace"), prose=False)
        for name, value in answer.headers.items():
            self.look(f"{where}: {name}", value)
            if name in ("x-api-key", "authorization", "x-goog-api-key", "x-amz-security-token"):
                self.leaks.append(f"{where}: {name} passes")
        self.look(f"{where}: pool", (await self.daemon.admin_get("/admin/v1/pool")).body.decode())
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        await wire.post(self.daemon.admin, b"{}", "/admin/v1/pool/clear", headers)

    async def everywhere(self) -> None:
        """What is left over: pages and files."""
        daemon = self.daemon
        for path in (
            "/metrics",
            "/admin/",
            "/admin/v1/pool",
            "/admin/v1/keys",
            "/admin/v1/requests",
            "/admin/v1/usage",
        ):
            self.look(path, (await daemon.admin_get(path)).body.decode())
        for key in (CLIENT, self.minted):
            headers = {"authorization": f"Bearer {key}"}
            refused = await wire.post(daemon.admin, b"{}", f"/admin/v1/keys/{self.minted}/rotate?{key}", headers)
            assert refused.status == 401
            self.look("refused", refused.body.decode())
        self.look("models", (await wire.get(daemon.port, "/v1/models", {"x-api-key": CLIENT})).body.decode())
        await daemon.stop()
        self.look("log", daemon.log)
        for path in self.folder.glob("access.log*"):
            self.look("access log", path.read_text())
        for path in (*self.folder.glob("state.db*"), *self.folder.rglob("accounts.db*")):
            if path.is_file():
                self.look(path.name, path.read_bytes().decode("latin-1"))
        audit = (self.folder / "audit.log").read_text()
        assert "key.mint" in audit
        self.look("audit", audit)
        captures = list(self.folder.glob("captures/*.json"))
        assert captures
        for path in captures:
            for each in strings(json.loads(path.read_text())):
                self.look(f"capture {path.name}", each, prose=False)


@ensureDeferred
@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_planted_key_is_found_anywhere(start_daemon: StartDaemon, tmp_path: Path, form: str) -> None:
    """Whatever an upstream writes our keys into, no client, log, page, capture, metric or state shows them.

    Nor does a log, page or state show an answer's text where an upstream answers with that alone.
    """
    upstream = Parrot()
    await upstream.start()
    daemon = await start_daemon(config(upstream, tmp_path, form), state=f"sqlite:{tmp_path}/state.db")
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    minted = await wire.post(daemon.admin, b'{"name":"minted"}', "/admin/v1/keys", headers)
    looker = Looker(daemon, tmp_path, minted.json["key"])
    await eventually("the models are listed", lambda: upstream.asked != "")
    for model, tried in (("l", on_claude(KEY)), ("claude-on-vertex", on_claude(TOKEN)), ("gemini", on_gemini(KEY))):
        for nth, (answer, stream) in enumerate(tried):
            upstream.script(answer)
            await looker.ask(f"{model} {nth}", f"{model}-{nth}", stream)
    await looker.ask("count_tokens", "l", path="/v1/messages/count_tokens")
    for nth, model in enumerate(("oauth", "entra", "claude-of-user", "claude-of-robot")):
        upstream.gives = True
        for answer, stream in ((refused(400, FETCHED), False), (in_band(FETCHED), True), (good(FETCHED), False)):
            upstream.script(answer)
            await looker.ask(f"{model} {nth}", model, stream)
        upstream.gives = False
        upstream.script(refused(401, FETCHED))
        await looker.ask(f"{model}, refused", model)
    assert upstream.assertions
    for secret in (OWN_HEADER, PASSWORD):
        upstream.script(refused(400, secret))
        await looker.ask("beside", "beside")
    upstream.script(good(KEY))
    await looker.ask("a key as a model", f"l{KEY}")
    upstream.script(refused(429, KEY))
    await looker.ask("last", "l")
    await looker.everywhere()
    await upstream.stop()
    looker.leaks += [
        f"an assertion in {path}"
        for path in tmp_path.rglob("*.json")
        if any(assertion in path.read_text() for assertion in upstream.assertions)
    ]
    assert looker.leaks == []
    assert not any(assertion in daemon.log for assertion in upstream.assertions)


UUID = "8b7d6c5e-1234-4abc-8def-0123456789ab"


@ensureDeferred
async def test_a_refusal_of_fast_mode_is_told(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """Its words, its status, its retry-after and its headers go out, less the organization; and nothing cools."""
    words = "This request would exceed your organization's rate limit of 0 fast mode input tokens per minute"
    told = f"{words} (org: {UUID}, model: claude-opus-5-5)"
    limits = {"anthropic_fast_input_tokens_limit": "0", "x_should_retry": "true"}
    upstream.script(answers.error(429, "rate_limit_error", told, retry_after="37", **limits), answers.usual())
    daemon = await start_daemon(provider(upstream))
    answer = await wire.post(daemon.port, wire.Message().encode())
    assert (answer.status, answer.headers["retry-after"], answer.headers["request-id"]) == (429, "37", "req_upstream")
    assert answer.headers["anthropic-fast-input-tokens-limit"] == "0"
    assert answer.json["error"]["message"] == f"{words} (org: ***, model: claude-opus-5-5)"
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    assert [each["cooldowns"] for each in (await daemon.pool())["credentials"]] == [[]]


@ensureDeferred
async def test_no_account_is_named(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """Of no family, by no status, whole or in a stream; the rest of the sentence is told where it is told at all."""
    accounts = ("arn:aws:iam::123456789012:user/x", UUID, "projects/my-team-42", "123456789012")
    told = "Not for arn:aws:iam::123456789012:user/x, org " + UUID + ", projects/my-team-42, account 123456789012"
    left = "Not for ***, org ***, projects/***, account ***"
    daemon = await start_daemon(
        provider(upstream, name="c", more='models = ["c*"]')
        + provider(upstream, name="g", kind="gemini", more='models = ["g*"]')
        + "[pool]\nmax_attempts = 1\nmax_wait = 0.0\n"
    )
    for nth, status in enumerate(STATUSES):
        for model, refusal in (("c", answers.error(status, told=told)), ("g", gemini.error(status, "X", told))):
            upstream.script(refusal)
            answer = await wire.post(daemon.port, wire.Message(model=f"{model}-{nth}").encode())
            assert [each for each in accounts if each.encode() in answer.body] == []
            if status not in (401, 402, 403, 429) and not (model == "g" and status == 404):
                assert left in answer.json["error"]["message"], (model, status, answer.body)
            await wire.post(daemon.admin, b"{}", "/admin/v1/pool/clear", {"authorization": f"Bearer {ADMIN_KEY}"})
    for before in ((), (*answers.start_frames(), answers.text_frame("hello"))):
        upstream.script(answers.stream([*before, answers.error_frame("api_error", told)]))
        answer = await wire.post(daemon.port, wire.Message(model="c", stream=True).encode())
        assert left.encode() in answer.body
        assert [each for each in accounts if each.encode() in answer.body] == []
