"""The Vertex AI executor on an upstream in memory: where each model is, what goes up, what comes down."""

from __future__ import annotations

import gzip
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx2
from anthropic import AnthropicVertex, InternalServerError
from google import genai
from google.genai import types
from google.genai.errors import ServerError
from google.oauth2.credentials import Credentials
from twisted.internet.defer import ensureDeferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.config.schema import CredentialSection, Provider
from claudeproxyd.config.secret import Secret
from claudeproxyd.executors.messages_api import Betas
from claudeproxyd.executors.vertex.claude import vertex_name
from claudeproxyd.executors.vertex.dialect import REFUSED_FIELDS
from claudeproxyd.executors.vertex.executor import VertexExecutor
from claudeproxyd.executors.vertex.locations import GLOBAL, VertexCredential
from claudeproxyd.executors.vertex.maker import VertexMaker, VertexSettings
from claudeproxyd.interfaces import IExecutor, IExecutorMaker
from claudeproxyd.leases import Credential as Leased
from claudeproxyd.leases import Route
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Scope
from claudeproxyd.secrets.static import StaticSecret
from claudeproxyd.testing import EVENT_STREAM, EventRecorder, chunk
from tests.executors.anthropic.test_executor import MESSAGE, WHOLE
from tests.executors.support import PlacedTestCase
from tests.secrets.test_google import key_file

verifyClass(IExecutor, VertexExecutor)
verifyClass(IExecutorMaker, VertexMaker)
verifyObject(IExecutorMaker, VertexMaker())

CAPTURES = Path(__file__).parents[2] / "data" / "captures" / "requests.jsonl.gz"

BASE = "http://127.0.0.1:8080/base"
PROJECT = "/base/v1/projects/p1/locations/us-east5/publishers/anthropic/models/"
GEMINI = "gemini-3-pro"
PAYER = "x-goog-user-project"
CLAUDE = "claude-sonnet-4-5@20250929"
BODY = b'{"model": "claude-x","max_tokens": 9,"messages":[ {"role":"user","content":"hi"}]}'


def credential(name: str, **members: Any) -> CredentialSection:
    """A credential with these settings, the kind's own among them."""
    own = {each: members.pop(each) for each in ("project", "location") if each in members}
    return CredentialSection(name=name, own=VertexCredential(**own), **members)


def account(name: str = "a", **changes: Any) -> CredentialSection:
    """A credential of a project, by a bearer token."""
    members: dict[str, Any] = {"bearer_token": Secret("ya29"), "project": "p1", "location": "us-east5"}
    return credential(name, **(members | changes))


def key(name: str = "k", **changes: Any) -> CredentialSection:
    """An API key."""
    return credential(name, api_key=Secret("AQ.key"), **changes)


def section(*credentials: CredentialSection, base_url: str = BASE, **members: Any) -> Provider:
    """A provider's settings."""
    own = {each.name: members.pop(each.name) for each in fields(VertexSettings) if each.name in members}
    return Provider(
        name="v",
        kind="vertex",
        base_url=base_url,
        credentials=[*credentials] or [account()],
        own=VertexSettings(**own),
        **members,
    )


class VertexTestCase(PlacedTestCase):
    """An executor, its upstream, and requests."""

    maker = VertexMaker()
    section = staticmethod(section)
    model = CLAUDE
    body = BODY


class Places(VertexTestCase):
    """Which host has what."""

    def test_hosts(self) -> None:
        """Each location has its host, and each host one set of connections, whichever models are asked there."""
        locations = ("global", "us", "eu", "us-east5", "us-east5")
        credentials = [account(f"{number}", location=location) for number, location in enumerate(locations)]
        self.make(*credentials, key(), base_url=GLOBAL)
        hosts = [
            "https://aiplatform.eu.rep.googleapis.com",
            "https://aiplatform.googleapis.com",
            "https://aiplatform.us.rep.googleapis.com",
            "https://us-east5-aiplatform.googleapis.com",
        ]
        self.assertEqual(sorted(self.hosts), hosts)
        self.assertEqual(self.maker.base_urls(section(*credentials, key(), base_url=GLOBAL)), hosts)

    def test_base_url(self) -> None:
        """An operator's own gateway takes the place of every host; the path says the location."""
        self.make(account(), account("b", location="global", project="p2"))
        self.assertEqual(self.hosts, [BASE])
        target, *_ = self.up(credential="b")
        self.assertEqual(
            target, f"/base/v1/projects/p2/locations/global/publishers/anthropic/models/{CLAUDE}:rawPredict"
        )


class ClaudeUp(VertexTestCase):
    """What goes up for Claude's models."""

    def test_like_the_official_client(self) -> None:
        """URL, body and authorization are those of Anthropic's own client for Vertex AI, for all that it can ask."""
        seen: list[httpx2.Request] = []

        def note(request: httpx2.Request) -> httpx2.Response:
            seen.append(request)
            return httpx2.Response(500)

        client = AnthropicVertex(
            region="us-east5",
            project_id="p1",
            access_token="ya29",
            base_url="http://127.0.0.1:8080/base/v1",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(note)),
        )
        asked: dict[str, Any] = {"model": CLAUDE, "messages": [{"role": "user", "content": "hi"}]}
        versions = [(b"anthropic-version", b"2026-10-21"), (b"x-api-key", b"the client's")]
        for ask, more, count_tokens in (
            (client.messages.create, {"max_tokens": 64}, False),
            (client.messages.create, {"max_tokens": 64, "stream": True}, False),
            (client.messages.count_tokens, {"extra_body": {"max_tokens": 64}}, True),
        ):
            with self.assertRaises(InternalServerError):
                ask(**asked, **more)
            theirs = seen.pop()
            body = json.dumps({**asked, "max_tokens": 64, **more}).encode()
            target, headers, ours = self.up(headers=versions, body=body, count_tokens=count_tokens)
            self.assertEqual(target, theirs.url.raw_path.decode())
            self.assertEqual({**json.loads(theirs.content), **more}, json.loads(ours))
            for name in ("authorization", "anthropic-version", "anthropic-beta", "x-api-key"):
                self.assertEqual(headers.get(name), theirs.headers.get(name))

    def test_bytes(self) -> None:
        """The model leaves the body, the version comes into it; every other byte is the client's."""
        target, _, body = self.up()
        self.assertEqual(target, PROJECT + CLAUDE + ":rawPredict")
        rest = b'"max_tokens": 9,"messages":[ {"role":"user","content":"hi"}]}'
        self.assertEqual(body, b'{"anthropic_version":"vertex-2023-10-16",' + rest)

    def test_half_a_character(self) -> None:
        """Half a surrogate pair goes up as it came."""
        *_, up = self.up(body=BODY.replace(b'"hi"', b'"\\ud83d"'))
        self.assertIn(b'"messages":[ {"role":"user","content":"\\ud83d"}]', up)
        self.assertNotIn(b"claude-x", up)

    def test_versions(self) -> None:
        """The API's first version has another name here; later ones, known or not, keep theirs; the client's body is
        not believed."""
        for given, sent in ((b"2023-06-01", "vertex-2023-10-16"), (b"2026-10-21", "2026-10-21"), (b'9"', '9"')):
            body = BODY.replace(b'"max_tokens"', b'"anthropic_version":"x","max_tokens"')
            *_, body = self.up(headers=[(b"anthropic-version", given)], body=body)
            self.assertEqual(json.loads(body)["anthropic_version"], sent)
            self.assertEqual(body.count(b"anthropic_version"), 1)

    def test_real_requests(self) -> None:
        """Of what Claude Code and the SDKs send, everything goes up but what is listed as refused."""
        with gzip.open(CAPTURES, "rt", encoding="utf-8") as lines:
            bodies = [json.loads(line)["body"] for line in lines]
        self.assertTrue(any("diagnostics" in body or "output_config" in body for body in bodies))
        for asked in bodies:
            count_tokens = "max_tokens" not in asked
            body = json.dumps(asked if not count_tokens else {**asked, "max_tokens": 1}).encode()
            *_, sent = self.up(count_tokens, body=body, model="claude-opus-5-5")
            expected = {name: value for name, value in json.loads(body).items() if name not in REFUSED_FIELDS}
            expected |= {"anthropic_version": "vertex-2023-10-16", "model": "claude-opus-5-5"}
            if not count_tokens:
                del expected["model"]
            self.assertEqual(json.loads(sent), expected)

    def test_system_in_mid_conversation(self) -> None:
        """Models before Opus 4.8 refuse it, whoever asks for them: they get a user's turn in its place."""
        said = [{"role": "user", "content": "hi"}, {"role": "system", "content": "Be quick."}]
        body = json.dumps({"model": "claude-opus-4-6", "max_tokens": 9, "messages": said}).encode()
        for count_tokens in (False, True):
            *_, sent = self.up(count_tokens, body=body, model="claude-opus-4-6")
            first, second = json.loads(sent)["messages"]
            self.assertEqual((first, second["role"]), (said[0], "user"))
            self.assertEqual(second["content"][0]["text"], "<system-reminder>\nBe quick.\n</system-reminder>")
            *_, sent = self.up(count_tokens, body=body, model="claude-opus-4-8")
            self.assertEqual(json.loads(sent)["messages"], said)

    def test_stream(self) -> None:
        """A stream has a method of its own, and says so in the body too; the client's query is not for Google."""
        target, _, body = self.up(body=BODY.replace(b"{", b'{"stream":true,', 1))
        self.assertEqual(target, PROJECT + CLAUDE + ":streamRawPredict")
        self.assertIs(json.loads(body)["stream"], True)

    def test_names(self) -> None:
        """The API's dated names are understood; a name can reach nothing but a model."""
        self.assertEqual(vertex_name("claude-haiku-4-5-20251001"), "claude-haiku-4-5@20251001")
        for name in ("claude-haiku-4-5@20251001", "claude-opus-4-6", "claude-x-1234567", "claude-20250101"):
            self.assertEqual(vertex_name(name), name)
        target, *_ = self.up(model="claude-../../x?y#z:w;é \r\n")
        self.assertEqual(target, PROJECT + "claude-..%2F..%2Fx%3Fy%23z%3Aw%3B%C3%A9%20%0D%0A:rawPredict")

    def test_count_tokens(self) -> None:
        """Tokens are counted at one place for all models; the body names the one that is meant."""
        target, _, body = self.up(model="claude-haiku-4-5-20251001", count_tokens=True)
        self.assertEqual(target, PROJECT + "count-tokens:rawPredict")
        self.assertEqual(json.loads(body)["model"], "claude-haiku-4-5@20251001")
        self.assertEqual(body.count(b'"model"'), 1)

    def test_fields(self) -> None:
        """What Vertex AI refuses and no answer depends on is left out, and so is what the operator names."""
        self.make(drop_fields=["output_config"])
        more = b'"speed":"fast","diagnostics":{},"service_tier":"auto","inference_geo":"us","output_config":{},'
        *_, body = self.up(body=BODY.replace(b'"max_tokens"', more + b'"context_management":{},"max_tokens"'))
        self.assertEqual(set(json.loads(body)), {"anthropic_version", "max_tokens", "messages", "context_management"})

    def test_minted_blocks_and_rectified_bodies(self) -> None:
        """What another family's answer left does not go up, and a body that was made for a second try does."""
        thinking = {"type": "thinking", "thinking": "", "signature": "cpxd1.google.cw"}
        said = {"role": "assistant", "content": [thinking, {"type": "text", "text": "a"}]}
        attempt = self.attempt()
        attempt.body = json.dumps({"model": "m", "max_tokens": 9, "messages": [said]}).encode()
        *_, body = self.send(attempt)
        self.assertNotIn(b"cpxd1.", body)
        self.assertIn(b'"text": "a"', body)

    def test_betas(self) -> None:
        """Known betas go up under the names that they have there; counting takes fewer of them."""
        asked = b"claude-code-20250219, advanced-tool-use-2025-11-20,effort-2025-11-24,context-1m-2025-08-07"
        headers = [(b"anthropic-beta", asked), (b"anthropic-beta", b"claude-code-20250219")]
        for count_tokens, sent in (
            (False, "claude-code-20250219,tool-search-tool-2025-10-19,context-1m-2025-08-07"),
            (True, "claude-code-20250219"),
        ):
            _, lines, _ = self.up(headers=headers, count_tokens=count_tokens)
            self.assertEqual(lines["anthropic-beta"], sent)
        _, lines, _ = self.up(headers=[(b"anthropic-beta", b"no-such-2026-01-01,\r\nx: y")])
        self.assertNotIn("anthropic-beta", lines)

    def test_operators_betas(self) -> None:
        """The operator drops what the list has, and adds what it has not yet; a header of his own stands alone."""
        self.make(betas=Betas(drop=["context-1m-2025-08-07"], add=["new-2027-01-01"]))
        asked = [(b"anthropic-beta", b"context-1m-2025-08-07,new-2027-01-01,web-search-2025-03-05")]
        _, lines, _ = self.up(headers=asked)
        self.assertEqual(lines["anthropic-beta"], "web-search-2025-03-05,new-2027-01-01")
        self.make(headers={"Anthropic-Beta": "mine"})
        _, lines, _ = self.up(headers=asked)
        self.assertEqual(lines["Anthropic-Beta"], "mine")

    def test_unknown_betas_are_told_once(self) -> None:
        """The log names what was left out, once for each name, and for no more names than fit."""
        with capturedLogs() as log:
            for number in (1, 1, 2):
                self.up(headers=[(b"anthropic-beta", b"new-%d,effort\x1b,web-search-2025-03-05" % number)])
            for number in range(200):
                self.up(headers=[(b"anthropic-beta", b"other-%d" % number)])
        warned = [event["beta"] for event in log if "beta" in event]
        self.assertEqual(warned[:3], ["new-1", "effort\x1b", "new-2"])
        self.assertEqual(len(warned), 100)
        self.assertEqual(len(set(warned)), 100)


class ClaudeDown(VertexTestCase):
    """What comes down from Claude's models."""

    def test_message(self) -> None:
        """A message is the upstream's, byte for byte."""
        answer = self.answer(200, MESSAGE, "content-type: application/json", "request-id: req_vrtx_1")
        self.assertEqual((answer.body, answer.usage.output, answer.request_id), (MESSAGE, 7, "req_vrtx_1"))

    def test_count(self) -> None:
        """A count of tokens."""
        answer = self.answer(200, b'{"input_tokens":12}', count_tokens=True)
        self.assertEqual(answer.usage.input, 12)

    def test_stream(self) -> None:
        """Frames go on as they came."""
        sent, wire, *_ = self.send(self.attempt(body=BODY.replace(b"{", b'{"stream":true,', 1)))
        wire.say(f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{EVENT_STREAM}\r\n\r\n".encode())
        answer = self.result(sent)
        answer.deliver(events := EventRecorder())
        wire.say(chunk(WHOLE))
        self.assertEqual(events.frames, WHOLE)
        self.assertTrue(events.batches[-1].ended)

    def test_anthropics_errors(self) -> None:
        """An error in Anthropic's words is relayed as it is: clients compact on what it says."""
        body = b'{"type":"error","error":{"type":"invalid_request_error","message":"Input is too long."}}'
        failure = self.answer(400, body)
        self.assertEqual(failure.outcome.kind, Kind.CLIENT_FAULT)
        self.assertTrue(failure.answer.verbatim)
        self.assertEqual(failure.answer.body, body)

    def test_googles_errors(self) -> None:
        """Google's own words, for what it refuses before Anthropic's model is asked, come to what they mean."""
        for status, name, message, kind, scope in (
            (404, "NOT_FOUND", "Publisher Model `projects/p/x` was not found", Kind.MODEL_UNAVAILABLE, Scope.MODEL),
            (429, "RESOURCE_EXHAUSTED", "Quota exceeded for online_prediction", Kind.QUOTA, Scope.MODEL),
            (401, "UNAUTHENTICATED", "Request had invalid credentials", Kind.AUTH, Scope.CREDENTIAL),
            (403, "PERMISSION_DENIED", "Permission denied", Kind.PERMISSION, Scope.MODEL),
            (503, "UNAVAILABLE", "The model is overloaded", Kind.OVERLOADED, Scope.MODEL_ON_PROVIDER),
        ):
            error = {"code": status, "message": message, "status": name}
            for body in ({"error": error}, [{"error": error}]):
                failure = self.answer(status, json.dumps(body).encode())
                self.assertEqual((failure.outcome.kind, failure.outcome.scope), (kind, scope))

    def test_overflow(self) -> None:
        """A conversation that is too long is told in the words by which clients compact, whoever found it so."""
        error = {"code": 400, "message": "Input is too long for requested model.", "status": "INVALID_ARGUMENT"}
        failure = self.answer(400, json.dumps({"error": error}).encode())
        self.assertEqual((failure.outcome.kind, failure.answer.message), (Kind.CLIENT_FAULT, "Input is too long."))

    def test_overflow_with_a_413(self) -> None:
        """With the status that clients take for too many bytes, for which they do not compact, it has the usual one."""
        body = b'{"type":"error","error":{"type":"invalid_request_error","message":"Prompt is too long"}}'
        failure = self.answer(413, body)
        answer = failure.answer
        self.assertEqual((answer.status, answer.verbatim), (400, False))
        self.assertEqual((failure.outcome.kind, answer.message), (Kind.CLIENT_FAULT, "Input is too long."))

    def test_hint(self) -> None:
        """Google says in its own way how long a quota is out."""
        info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
        error = {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED", "details": [info]}
        failure = self.answer(429, json.dumps({"error": error}).encode())
        self.assertEqual(failure.outcome.until_hint, 34.5)


class Gemini(VertexTestCase):
    """Google's own models."""

    def setUp(self) -> None:
        self.make(account(), key())

    def test_like_the_official_client(self) -> None:
        """URL and authorization are those of Google's own client, with a project and with an API key."""
        seen: list[httpx2.Request] = []

        def note(request: httpx2.Request) -> httpx2.Response:
            seen.append(request)
            return httpx2.Response(500, json={})

        web = httpx2.Client(transport=httpx2.MockTransport(note))
        options = types.HttpOptions(base_url=BASE, httpx_client=web)
        token = Credentials("ya29")
        for credential, client in (
            (
                "a",
                genai.Client(vertexai=True, http_options=options, project="p1", location="us-east5", credentials=token),
            ),
            ("k", genai.Client(vertexai=True, http_options=options, api_key="AQ.key")),
        ):
            models = client.models
            for ask, stream, count_tokens in (
                (models.generate_content, False, False),
                (models.generate_content_stream, True, False),
                (models.count_tokens, False, True),
            ):
                with self.assertRaises(ServerError):
                    list(ask(model=GEMINI, contents="hi"))
                theirs = seen.pop()
                body = BODY if not stream else BODY.replace(b"{", b'{"stream":true,', 1)
                target, headers, ours = self.up(count_tokens, model=GEMINI, credential=credential, body=body)
                self.assertEqual(target, theirs.url.raw_path.decode())
                for name in ("authorization", "x-goog-api-key", "x-api-key"):
                    self.assertEqual(headers.get(name), theirs.headers.get(name))
                self.assertEqual(json.loads(ours)["contents"], [{"role": "user", "parts": [{"text": "hi"}]}])

    def test_answers(self) -> None:
        """Its answer is a Claude message, and its count a count."""
        candidate = {"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP"}
        figures = {"promptTokenCount": 3, "candidatesTokenCount": 2}
        made = json.dumps({"candidates": [candidate], "usageMetadata": figures}).encode()
        message = json.loads(self.answer(200, made, "content-type: application/json", model=GEMINI).body)
        self.assertEqual(message["content"], [{"type": "text", "text": "hello"}])
        self.assertEqual((message["model"], message["stop_reason"]), ("claude-x", "end_turn"))
        counted = self.answer(200, b'{"totalTokens":31}', count_tokens=True, model=GEMINI)
        self.assertEqual(counted.body, b'{"input_tokens":31}')

    def test_unsupported(self) -> None:
        """The route says so before a credential is asked, for Google's models and not for Claude's."""
        prefilled = BODY.replace(b'"hi"}', b'"hi"},{"role":"assistant","content":"I"}')
        request = self.attempt(body=prefilled).request
        self.assertIn("prefill", str(self.unsupported(request, Route("v", GEMINI))))
        self.assertIsNone(self.unsupported(request, Route("v", CLAUDE)))

    def test_urls(self) -> None:
        """Neither publisher's models are sent to what the operator may read and the client may not."""
        for url in (
            "gs://private/payroll.pdf",
            "http://169.254.169.254/a.png",
            "https://metadata.google.internal/a.png",
        ):
            for model in (GEMINI, CLAUDE):
                self.assertIn("url", self.refusal(model, url) or "passed", url)
        self.assertIn("rights", self.refusal(GEMINI, "https://storage.googleapis.com/private/a.png") or "")
        for model in (GEMINI, CLAUDE):
            self.assertIsNone(self.refusal(model, "https://x.example/a.png"))
        self.make(url_sources=["gs://team-docs", "https://storage.googleapis.com"])
        for model in (GEMINI, CLAUDE):
            self.assertIsNone(self.refusal(model, "gs://team-docs/a.png"))
            self.assertIsNone(self.refusal(model, "https://storage.googleapis.com/team-docs/a.png"))
            self.assertIn("url", self.refusal(model, "gs://private/a.png") or "")

    def refusal(self, model: str, url: str) -> str | None:
        """Why a request with an image at that URL is not sent to that model."""
        content = [{"type": "image", "source": {"type": "url", "url": url}}]
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
        return self.unsupported(self.attempt(body=json.dumps(body).encode()).request, Route("v", model))

    def test_threads(self) -> None:
        """Neither publisher's models go on with a conversation that the client has not brought; with others they do."""
        for kind in ("create", "continue"):
            request = self.attempt(body=BODY.replace(b"{", b'{"thread":{"type":"%b"},' % kind.encode(), 1)).request
            told = [self.unsupported(request, Route("v", model)) for model in (GEMINI, CLAUDE)]
            self.assertEqual([reason is None for reason in told], [kind == "create"] * 2)
        *_, body = self.up(body=BODY.replace(b"{", b'{"thread":{"type":"create"},', 1))
        self.assertNotIn("thread", json.loads(body))

    def test_models(self) -> None:
        """Google's speaking models are listed, page by page; embeddings, and what other publishers have, are not."""
        listed = self.models(Leased("v", "a", self.sources["a"]))
        wire = self.net.accept()
        for asked, page in (
            (
                b"?pageSize=100 ",
                {
                    "publisherModels": [published("gemini-3-pro"), published("text-embedding-005")],
                    "nextPageToken": "+1",
                },
            ),
            (b"?pageSize=100&pageToken=%2B1 ", {"publisherModels": [published("gemini-3-flash")]}),
        ):
            head = wire.taken()
            self.assertTrue(head.startswith(b"GET /base/v1beta1/publishers/google/models" + asked), head)
            self.assertIn(b"authorization: Bearer ya29\r\n", head)
            body = json.dumps(page)
            wire.say(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        entries = self.result(listed)
        self.assertEqual([entry["id"] for entry in entries], ["gemini-3-pro", "gemini-3-flash"])
        self.assertTrue(entries[0]["capabilities"]["thinking"]["supported"])

    def test_who_pays(self) -> None:
        """A user's token names the project to charge, on lists and calls of either publisher; the operator's header
        takes its place, and other credentials have none."""
        for headers, expected in (({}, "payer"), ({"X-Goog-User-Project": "house"}, "house")):
            self.make(headers=headers)
            self.sources["a"] = StaticSecret({"bearer_token": "ya29", "quota_project": "payer"})
            for model in (CLAUDE, GEMINI):
                for count_tokens in (False, True):
                    _, lines, _ = self.up(model=model, count_tokens=count_tokens)
                    self.assertEqual({name.lower(): value for name, value in lines.items()}[PAYER], expected)
            self.models(Leased("v", "a", self.sources["a"]))
            self.assertEqual((b"x-goog-user-project: payer\r\n" in self.net.accept().taken()), not headers)
        self.make(account(), key())
        for credential, model in (("a", CLAUDE), ("a", GEMINI), ("k", GEMINI)):
            self.assertNotIn(PAYER, self.up(model=model, credential=credential)[1])

    def test_no_list(self) -> None:
        """Where there is no such list, the catalog hears so and goes on without."""
        listed = self.models(Leased("v", "a", self.sources["a"]))
        self.net.accept().say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        self.assertIsInstance(self.result(listed), AttemptFailed)


def published(name: str) -> dict[str, str]:
    """As the list has it."""
    return {"name": f"publishers/google/models/{name}", "versionId": "001", "launchStage": "GA"}


class Keys(VertexTestCase):
    """API keys, which have no project."""

    def test_no_claude(self) -> None:
        """Claude's models are not there with an API key: another credential is asked, this one for others."""
        self.make(account(), key())
        self.assertIsNone(self.unsupported(self.attempt().request, Route("v", CLAUDE)))
        for ask in (self.executor.messages, self.executor.count_tokens):
            failure = self.result(ensureDeferred(ask(self.attempt(credential="k"))))
            self.assertIsInstance(failure, AttemptFailed)
            self.assertEqual((failure.outcome.kind, failure.outcome.scope), (Kind.MODEL_UNAVAILABLE, Scope.MODEL))
        self.assertEqual(self.net.reactor.tcpClients, [])

    def test_nothing_but_keys(self) -> None:
        """With API keys alone the route is passed over before any credential is asked."""
        self.make(key())
        self.assertIn("API key", str(self.unsupported(self.attempt(credential="k").request, Route("v", CLAUDE))))


class Check(SynchronousTestCase):
    """What ``--check`` finds."""

    def mistakes(self, *credentials: CredentialSection, **members: Any) -> dict[str, str]:
        """Place to mistake."""
        return dict(VertexMaker().check(section(*credentials, **members)))

    def test_nothing_wrong(self) -> None:
        """What works draws no word."""
        named = key_file(project_id="from-file")
        ok = [
            account(),
            account("b", location="global", project="example.com:p-1"),
            account("c", location="eu", project="123456789012"),
            account("e", location="northamerica-northeast1"),
            credential("d", service_account=Secret(named), location="us"),
            key(),
        ]
        self.assertEqual(self.mistakes(*ok), {})

    def test_key_file(self) -> None:
        """A key that is no key is the mistake; the project that it does not name is not another one."""
        found = self.mistakes(credential("a", service_account=Secret("{}"), location="us"))
        self.assertEqual(found, {"credentials[0].service_account": "the key file is no JSON of a service account"})

    def test_accounts(self) -> None:
        """A project and a location are needed, and must be what they are called: both become part of a URL."""
        for changes, member, words in (
            ({"location": ""}, "location", "missing"),
            ({"location": "US-East5"}, "location", "no location"),
            ({"location": "europe"}, "location", "no location"),
            ({"location": "us-east"}, "location", "no location"),
            ({"location": "us-east5-a"}, "location", "no location"),
            ({"location": "evil.example/"}, "location", "no location"),
            ({"location": "us-east5\n"}, "location", "no location"),
            ({"project": ""}, "project", "missing"),
            ({"project": "p/../q"}, "project", "no id"),
        ):
            found = self.mistakes(account(), account("b", **changes))
            self.assertEqual(list(found), [f"credentials[1].{member}"])
            self.assertIn(words, found[f"credentials[1].{member}"])

    def test_keys(self) -> None:
        """An API key has neither, and serves no provider that is for Claude's models alone."""
        found = self.mistakes(key(project="p", location="global"))
        self.assertEqual(list(found), ["credentials[0].project", "credentials[0].location"])
        self.assertEqual(list(self.mistakes(key(), models=["claude-*"])), ["credentials[0].api_key"])
        self.assertEqual(list(self.mistakes(key(models=["claude-*"]))), ["credentials[0].api_key"])
        self.assertEqual(self.mistakes(key(models=["gemini-*"]), models=["claude-*", "gemini-*"]), {})
