"""Every family's upstream repeats our keys in all that it can write; nobody can read one, wherever anybody can look."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest_twisted
from pytest_twisted import ensureDeferred

from tests.framing.event_messages import event, exception, message
from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, bedrock, chat, gemini, responses, wire
from tests.integration.support.collector import Collector
from tests.integration.support.daemon import ADMIN_KEY
from tests.integration.support.upstream import Answer, Exchange, Upstream
from tests.integration.test_secrets import CLIENT, PROSE, Looker, echoed

KEY = "planted/key+of&the-house-01234"
#: So long that it is cut where words are short; and such as is taken for an id.
LONG_KEY = "planted-long" + "0123456789abcdef" * 4
PLAIN_KEY = "planted_plain_0123456789abcdef"
AWS_SECRET = "planted/secret+of-an-aws-pair-555"
AWS_SESSION = "planted//session-of-an-aws-pair=="
ROLE_SECRET, ROLE_SESSION = "planted-secret-of-a-role-of-aws", "planted//session-of-a-role=="
SIGNS = "planted-to-sign-webhooks-with-9"
HOOK = "planted-in-the-path-of-a-webhook"
COLLECTOR = "planted-token-of-a-collector-44"
SECRETS = (
    *(KEY, LONG_KEY, PLAIN_KEY, AWS_SECRET, AWS_SESSION, ROLE_SECRET, ROLE_SESSION),
    *(SIGNS, HOOK, COLLECTOR, CLIENT, ADMIN_KEY),
)
#: As a whole, or the half of it.
PLANTED = (*SECRETS, *(each[:16] for each in SECRETS))
#: No prompt may be anywhere but in captures.
PROMPT = "Dear diary, this is what I asked it."

Asked = tuple[Answer, bool, bool]
"""An answer, whether it is streamed, and whether it is a good one, whose own words pass as they are."""


def raw(status: int, body: bytes, secret: str, phrase: str = "Scripted", **headers: str) -> Answer:
    """An answer with *secret* in its headers, its reason and its trailers."""
    lines = {**answers.JSON, **echoed(secret), "x-amzn-requestid": secret, "trailer": "x-late", **headers}
    head = answers.head(status, {**lines, "transfer-encoding": "chunked"}).replace(b"Scripted", phrase.encode())
    end = f"0\r\nx-late: {secret}\r\nx-api-key: {secret}\r\n\r\n".encode()

    async def answer(exchange: Exchange) -> None:
        await exchange.write(head + (answers.chunk(body) if body else b"") + end)

    return answer


def refusals(secret: str, body: Mapping[str, Any], *statuses: int) -> Iterator[Asked]:
    """That body by each status, and what is none of the family's."""
    told = json.dumps(body).encode()
    for status in statuses:
        yield raw(status, told, secret, f"No way for {secret}"), False, False
        yield raw(status, told, secret), True, False
    for status, prose in ((200, PROSE), (400, "Not so"), (503, "Not now")):
        # What is no error object of a provider's is not told; what is one may be.
        yield raw(status, f"{PROSE} {secret}".encode(), secret), status == 200, False
        yield raw(status, f"<html><title>No way for {secret}</title>{PROSE}</html>".encode(), secret), False, False
        yield raw(status, json.dumps({"message": f"{prose} {secret}"}).encode(), secret), False, False
    yield raw(302, b"", secret, location=f"http://127.0.0.1:9/{secret}"), False, False
    yield raw(200, told, secret), False, False


def streamed(secret: str, error: Iterable[bytes], before: Iterable[bytes]) -> Iterator[Asked]:
    """Errors within a stream: first and late, and a status line of another answer behind it."""
    for each in error:
        for ahead in ((), before):
            yield answers.stream([*ahead, each], headers=echoed(secret)), True, False


def of_chat(secret: str) -> Iterator[Asked]:
    """Chat completions."""
    error = {"message": f"{secret} is wrong", "type": secret, "param": secret, "code": secret}
    yield from refusals(secret, {"error": error}, 400, 401, 404, 413, 429, 500)
    before = [chat.frame(chat.delta(role="assistant", content=PROSE))]
    yield from streamed(secret, [chat.frame({"error": error}), b"data: %b\n\n" % secret.encode()], before)
    named = {"id": secret, "model": secret, "system_fingerprint": secret, "service_tier": secret}
    said = {"role": "assistant", "content": PROSE, "tool_calls": [chat.call(secret, {secret: secret}, secret)]}
    for finish in ("stop", secret):
        choice = {"index": 0, "message": said, "finish_reason": finish, "logprobs": None}
        whole = {**chat.delta(), **named, "choices": [choice], "usage": {**chat.USAGE, "of": secret}}
        yield raw(200, json.dumps(whole).encode(), secret), False, True
        yield answers.stream([chat.frame({**chat.delta(finish, **said), **named}), chat.frame("[DONE]")]), True, True


def of_responses(secret: str) -> Iterator[Asked]:
    """The Responses API."""
    error = {"message": f"{secret} is wrong", "type": secret, "param": secret, "code": secret}
    yield from refusals(secret, {"error": error}, 400, 401, 429, 500)
    items = responses.numbered([PROSE])
    before = [responses.frame(each) for each in responses.events(items)]
    failed = responses.response("failed", error={"code": secret, "message": f"no more for {secret}"})
    late = [{"type": "error", **error}, {"type": "response.failed", "response": failed}, {"type": secret}]
    yield from streamed(secret, map(responses.frame, late), before)
    for status, more in (("completed", {}), ("incomplete", {"incomplete_details": {"reason": secret}}), (secret, {})):
        called = responses.call(secret, {secret: secret}, secret)
        told = {"id": secret, "model": secret, "service_tier": secret, "metadata": {secret: secret}, **more}
        whole = responses.response(status, responses.numbered([PROSE, called]), **told)
        yield raw(200, json.dumps(whole).encode(), secret), False, True
        ended = responses.frame({"type": f"response.{status}", "response": whole})
        yield answers.stream([*before, ended]), True, True


def of_bedrock(secret: str) -> Iterator[Asked]:
    """What is the same in both of Bedrock's APIs."""
    body = {"message": f"{secret} is wrong", "__type": secret, "code": secret}
    yield from refusals(secret, body, 400, 403, 424, 429, 500)
    headers = {"x-amzn-errortype": f"{secret}:http://internal.amazon.com/"}
    yield raw(400, json.dumps(body).encode(), secret, **headers), False, False


def amiss(secret: str) -> Iterator[bytes]:
    """Messages of an event stream that end it."""
    for kind in ("throttlingException", "validationException", "modelStreamErrorException", secret):
        yield exception(kind, f"no more for {secret}")
    yield message({":message-type": "error", ":error-code": secret, ":error-message": f"no {secret}"}, b"")
    yield message({":message-type": secret, ":event-type": secret}, secret.encode())


def of_invoke_model(secret: str) -> Iterator[Asked]:
    """Claude on Bedrock."""
    yield from of_bedrock(secret)
    before = bedrock.packed([*answers.start_frames(), answers.text_frame(PROSE)])
    for each in (*amiss(secret), *bedrock.packed([answers.error_frame("api_error", f"no more for {secret}")])):
        for ahead in ((), before):
            yield answers.stream([*ahead, each], headers={**bedrock._STREAM, **echoed(secret)}), True, False
    yield from of_claude_well(secret)


def of_converse(secret: str) -> Iterator[Asked]:
    """Other models on Bedrock."""
    yield from of_bedrock(secret)
    before = [
        event("messageStart", {"role": "assistant"}),
        event("contentBlockDelta", {"delta": {"text": PROSE}, "contentBlockIndex": 0}),
    ]
    for each in amiss(secret):
        for ahead in ((), before):
            yield answers.stream([*ahead, each], headers={**bedrock._STREAM, **echoed(secret)}), True, False
    call = {"toolUse": {"toolUseId": secret, "name": secret, "input": {secret: secret}}}
    for reason in ("end_turn", secret):
        yield bedrock.conversed({"text": PROSE}, call, reason=reason), False, True
        yield bedrock.conversed({"text": PROSE}, call, reason=reason), True, True


def of_gemini(secret: str) -> Iterator[Asked]:
    """Gemini, on either of Google's APIs."""
    error = {"code": 400, "status": secret, "message": f"{secret} is wrong", "details": [{"reason": secret}]}
    yield from refusals(secret, {"error": error}, 400, 403, 429, 500)
    yield from streamed(secret, [gemini.frame({"error": error})], [gemini.frame(gemini.said(PROSE))])
    call = {"functionCall": {"name": secret, "args": {secret: secret}, "id": secret}, "thoughtSignature": secret}
    for finish in ("STOP", secret):
        told = gemini.said(PROSE, call, finish=finish)
        told |= {"responseId": secret, "modelVersion": secret}
        told["candidates"][0]["finishMessage"] = f"{PROSE} {secret}"
        yield raw(200, json.dumps(told).encode(), secret), False, True
        yield answers.stream([gemini.frame(told)]), True, True


def of_claude_well(secret: str) -> Iterator[Asked]:
    """Claude's own answers that are well."""
    for reason in ("end_turn", secret):
        told = answers.message(PROSE, secret, stop_reason=reason, id=secret, stop_sequence=secret)
        told["usage"] |= {"service_tier": secret}
        yield raw(200, json.dumps(told).encode(), secret), False, True


def of_foundry(secret: str) -> Iterator[Asked]:
    """Claude behind a gateway that has words of its own for errors."""
    error = {
        "code": secret,
        "message": f"{secret} is wrong",
        "innererror": {"code": secret},
        "details": {"error_code": secret},
    }
    yield from refusals(secret, {"error": error}, 400, 403, 404, 529)
    before = [*answers.start_frames(secret), answers.text_frame(PROSE)]
    yield from streamed(secret, [answers.error_frame(secret, f"no more for {secret}")], before)
    yield answers.stream([b"data: %b\n\n" % secret.encode()]), True, False
    yield from of_claude_well(secret)
    yield answers.stream([*before, *answers.end_frames(secret)], headers=echoed(secret)), True, True


FAMILIES = {
    "chat": (of_chat, LONG_KEY),
    "responses": (of_responses, LONG_KEY),
    "invoke": (of_invoke_model, KEY),
    "converse": (of_converse, AWS_SECRET),
    "pair": (of_converse, AWS_SESSION),
    "gemini": (of_gemini, KEY),
    "vertex": (of_gemini, PLAIN_KEY),
    "foundry": (of_foundry, KEY),
}


class Parrot(Upstream):
    """Lists models, counts tokens and gives keys of a role, with ours in all of that."""

    role: Answer | None = None
    """What STS says; None: keys."""

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        path = exchange.request.path.partition("?")[0]
        if path == "/sts/":
            return self.role or answers.whole(
                "<R><Credentials><AccessKeyId>ASIAROLE1</AccessKeyId>"
                f"<SecretAccessKey>{ROLE_SECRET}</SecretAccessKey><SessionToken>{ROLE_SESSION}</SessionToken>"
                "<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></R>".encode()
            )
        if exchange.request.line.startswith("GET "):
            data = [{"id": f"{KEY}-listed", "name": f"models/{KEY}-listed", "display_name": KEY, "object": "model"}]
            return answers.whole(json.dumps({"data": data, "models": data, "has_more": False}).encode())
        if path.endswith(("/count_tokens", ":countTokens", "/input_tokens", "/count-tokens")):
            return raw(400, json.dumps({"error": {"message": f"{KEY} cannot count", "code": 400}}).encode(), KEY)
        return super().answer_for(exchange)


class Echo(Collector):
    """Refuses what it is sent, and quotes by what."""

    def render_POST(self, request: Any) -> bytes:
        super().render_POST(request)
        return f"Cannot POST {request.uri.decode()}: {COLLECTOR} {SIGNS}".encode()


@pytest_twisted.async_yield_fixture
async def receivers() -> AsyncIterator[tuple[Echo, Echo]]:
    """Of spans, and of events; each refuses the first and takes what comes then."""
    both = Echo(), Echo()
    for each in both:
        each.statuses = [500, 200]
        each.start()
    yield both
    for each in both:
        await each.stop()


def config(upstream: Upstream, folder: Path, spans: Collector, events: Collector) -> str:
    """Every family on the one upstream, and everything that is told of it."""
    pair = f'access_key_id = "AKIDEXAMPLE", secret_access_key = "{AWS_SECRET}", session_token = "{AWS_SESSION}"'
    region = 'region = "us-east-1"'
    sections = [
        ("chat", "openai-chat", "/v1", f'api_key = "{LONG_KEY}"'),
        ("responses", "openai-responses", "/v1", f'api_key = "{LONG_KEY}"'),
        ("invoke", "bedrock", "", f'api_key = "{KEY}"\n{region}'),
        ("converse", "bedrock", "", f"aws = {{ {pair} }}\n{region}"),
        ("pair", "bedrock", "", f"aws = {{ {pair} }}\n{region}"),
        ("role", "bedrock", "", f'aws = {{ {pair}, role_arn = "arn:aws:iam::123456789012:role/r" }}\n{region}'),
        ("gemini", "gemini", "", f'api_key = "{KEY}"'),
        ("vertex", "vertex", "", f'bearer_token = "{PLAIN_KEY}"\nproject = "some-project"\nlocation = "us-east5"'),
        ("foundry", "anthropic", "/anthropic", f'api_key = "{KEY}"'),
    ]
    models = {"invoke": bedrock.OPUS, "converse": bedrock.NOVA, "pair": bedrock.NOVA, "role": bedrock.NOVA}
    models |= dict.fromkeys(("gemini", "vertex"), "gemini-3-pro-preview") | dict.fromkeys(
        ("chat", "responses"), "gpt-5.2"
    )
    return (
        f'[[clients]]\nname = "tests"\nkey = "{CLIENT}"\n'
        + "".join(
            f'[[models]]\nname = "{name}*"\nroutes = [{{ provider = "{name}", model = "{model}" }}]\n'
            for name, model in (models | {"foundry": "claude-opus-5-5"}).items()
        )
        + "".join(
            f'[[providers]]\nname = "{name}"\nkind = "{kind}"\nbase_url = "{upstream.url}{path}"\n'
            f'[[providers.credentials]]\nname = "{name}-a"\n{credential}\n'
            for name, kind, path, credential in sections
        )
        + "[pool]\nmax_attempts = 1\nmax_wait = 0.0\n"
        + f'[traces]\nendpoint = "{spans.url}"\nheaders = {{ authorization = "Bearer {COLLECTOR}" }}\n'
        + f'[[webhooks]]\nname = "hook"\nurl = "{events.url}/{HOOK}"\nsecret = "{SIGNS}"\n'
        + f'[log]\nformat = "json"\nlevel = "debug"\naccess = "{folder}/access.log"\naudit = "{folder}/audit.log"\n'
        + f'[capture]\nwhen = "always"\ndirectory = "{folder}/captures"\nkeep = 2000\n'
    )


class Everywhere(Looker):
    """Looks at what the daemon tells by itself too."""

    async def try_all(self, name: str, upstream: Upstream, asked: Iterable[Asked], *, model: str = "") -> None:
        """Have *upstream* give each answer."""
        for number, (answer, stream, well) in enumerate(asked):
            upstream.script(answer)
            body = wire.Message(stream=stream, model=model or f"{name}-{number}", prompt=PROMPT).encode()
            got = await wire.post(self.daemon.port, body, headers={"x-api-key": CLIENT})
            self.look(f"{name} {number}: headers", json.dumps(got.headers))
            if not well:
                self.look(f"{name} {number}: body", got.body.decode("utf-8", "replace"), prose=False)
                self.look(f"{name} {number}: pool", (await self.daemon.admin_get("/admin/v1/pool")).body.decode())
                await self.act("/admin/v1/pool/clear")

    async def act(self, path: str) -> None:
        """Do something as an operator, and look at what comes of it."""
        told = await wire.post(self.daemon.admin, b"{}", path, {"authorization": f"Bearer {ADMIN_KEY}"})
        self.look(path, told.body.decode())

    async def tellings(self, *receivers: Collector) -> None:
        """What collectors and webhooks were sent, and pages that the others have not looked at."""
        for path in ("clients", "status", "limits", "labels", "usage?format=csv&by=model,model_served,provider"):
            self.look(path, (await self.daemon.admin_get(f"/admin/v1/{path}")).body.decode())
        await self.everywhere()
        for receiver in receivers:
            assert receiver.posted
            for posted in receiver.posted:
                self.look("told", posted.body.decode("latin-1"))


@ensureDeferred
async def test_no_family_shows_a_key(start_daemon: StartDaemon, tmp_path: Path, receivers: tuple[Echo, Echo]) -> None:
    """Neither do STS, collectors and receivers of webhooks; and what people ask and models answer is told nobody."""
    upstream = Parrot()
    await upstream.start()
    options = {"state": f"sqlite:{tmp_path}/state.db", "env": {"AWS_ENDPOINT_URL_STS": f"{upstream.url}/sts"}}
    daemon = await start_daemon(config(upstream, tmp_path, *receivers), server="workers = 2", **options)
    minted = await wire.post(
        daemon.admin, b'{"name":"minted"}', "/admin/v1/keys", {"authorization": f"Bearer {ADMIN_KEY}"}
    )
    looker = Everywhere(daemon, tmp_path, minted.json["key"], PLANTED)
    for name, (answers_of, secret) in FAMILIES.items():
        await looker.try_all(name, upstream, answers_of(secret))
    for secret in (ROLE_SECRET, ROLE_SESSION):
        await looker.try_all("role", upstream, of_bedrock(secret))
    upstream.role = raw(
        403, f"<E><Code>{AWS_SESSION}</Code><Message>No {AWS_SESSION}</Message></E>".encode(), AWS_SESSION
    )
    await looker.try_all("role", upstream, [(raw(401, b"", ROLE_SECRET), False, False)] * 2)
    await looker.act("/admin/v1/pool/check")
    await looker.tellings(*receivers)
    await upstream.stop()
    assert not looker.leaks, "\n".join(sorted(set(looker.leaks)))
