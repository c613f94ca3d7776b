"""Upstreams that repeat our keys, in every place that they can write to; and every place that anybody can read."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, gemini, wire
from tests.integration.support.daemon import ADMIN_KEY, Daemon
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Answer, Exchange, Upstream

#: Of no known shape, and with what JSON, URLs and HTML may write otherwise.
KEY = "planted/key+of&the-house-01234"
TOKEN = "planted-token-of-the-house-56789"
REFRESH = "planted-refresh-of-the-house-4321"
CLIENT_SECRET = "planted-client-secret-of-the-house"
FETCHED = "planted-fetched-of-the-house-777"
CLIENT = "planted-client-key-of-the-tests"
PLANTED = (KEY, TOKEN, REFRESH, CLIENT_SECRET, FETCHED, CLIENT, ADMIN_KEY)
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

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        path = exchange.request.path
        if "/models?" in path or path == "/token":
            self.asked = path
        if path.startswith("/v1/models"):
            listed = {"id": "listed", "type": "model", "display_name": f"Listed for {KEY}", "key": KEY}
            return answers.whole(json.dumps({"data": [listed], "has_more": False, "of": KEY}).encode())
        if path.startswith(("/v1beta/models?", "/v1beta1/publishers/google/models?")):
            return googles(403, KEY)
        if path == "/token":
            told = f"{REFRESH} of {CLIENT_SECRET} is not good: {exchange.request.body.decode()}"
            body = json.dumps({"error": "invalid_grant", "error_description": told}).encode()
            return answers.whole(body, 400)
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
    place = 'project = "some-project"\nlocation = "us-east5"'
    return (
        f'[[clients]]\nname = "tests"\nkey = "{CLIENT}"\n'
        + section("claude-on-vertex", "vertex", f'bearer_token = "{TOKEN}"\n{place}')
        + section("l", "anthropic", f'api_key = "{KEY}"')
        + section("gemini", "gemini", f'api_key = "{KEY}"')
        + section("oauth", "anthropic", oauth)
        + "[pool]\nmax_attempts = 1\nmax_wait = 0.0\n"
        + f'[log]\nformat = "{form}"\nlevel = "debug"\naccess = "{folder}/access.log"\n'
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


def found_in(text: str) -> list[str]:
    """What of all that was planted is in *text*, however it is written."""
    forms = {json.dumps(key)[1:-1] for key in PLANTED} | {key.replace("/", "\\/") for key in PLANTED}
    forms |= set(PLANTED) | {key.replace("&", "&amp;") for key in PLANTED}
    return [form for form in sorted(forms) if form in text]


class Looker:
    """Looks wherever anybody can, and notes what was found where."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        self.leaks: list[str] = []

    def look(self, where: str, what: str, prose: bool = True) -> None:
        """At one text. *prose*: answers may not be in it either."""
        self.leaks += [f"{where}: {form}" for form in found_in(what)]
        if prose and "Dear diary" in what:
            self.leaks.append(f"{where}: {PROSE}")

    async def ask(self, where: str, model: str, stream: bool = False, path: str = "/v1/messages") -> None:
        """A client's question: what it got, and what the operator sees then."""
        body = wire.Message(stream=stream, model=model).encode()
        answer = await wire.post(self.daemon.port, body, path, {"x-api-key": CLIENT})
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
        for path in ("/metrics", "/admin/", "/admin/v1/pool"):
            self.look(path, (await daemon.admin_get(path)).body.decode())
        self.look("models", (await wire.get(daemon.port, "/v1/models", {"x-api-key": CLIENT})).body.decode())
        await daemon.stop()
        self.look("log", daemon.log)
        for path in self.folder.glob("access.log*"):
            self.look("access log", path.read_text())
        for path in self.folder.glob("state.db*"):
            self.look("state", path.read_bytes().decode("latin-1"))
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
    looker = Looker(daemon, tmp_path)
    await eventually("the models are listed", lambda: upstream.asked != "")
    for model, tried in (("l", on_claude(KEY)), ("claude-on-vertex", on_claude(TOKEN)), ("gemini", on_gemini(KEY))):
        for nth, (answer, stream) in enumerate(tried):
            upstream.script(answer)
            await looker.ask(f"{model} {nth}", f"{model}-{nth}", stream)
    await looker.ask("count_tokens", "l", path="/v1/messages/count_tokens")
    await looker.ask("oauth", "oauth")
    upstream.script(good(KEY))
    await looker.ask("a key as a model", f"l{KEY}")
    upstream.script(refused(429, KEY))
    await looker.ask("last", "l")
    await looker.everywhere()
    await upstream.stop()
    assert looker.leaks == []
