"""Claude on Bedrock by InvokeModel: what goes up, what comes down, what fails."""

from __future__ import annotations

import base64
import datetime
import gzip
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote

import httpx2
from anthropic import AnthropicBedrock, InternalServerError
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer
from twisted.internet.defer import ensureDeferred
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.config.schema import Aws
from claudeproxyd.config.secret import Secret
from claudeproxyd.executors.bedrock.dialect import BETAS, FIELDS, IDLE_BETAS, MAX_BODY_BYTES
from claudeproxyd.executors.bedrock.executor import BedrockExecutor
from claudeproxyd.executors.bedrock.maker import BedrockMaker
from claudeproxyd.executors.bedrock.places import ANYWHERE
from claudeproxyd.executors.bedrock.reader import ChunkedClaudeReader
from claudeproxyd.executors.messages_api import Betas
from claudeproxyd.interfaces import IExecutor, IExecutorMaker, IStreamReader
from claudeproxyd.leases import Route
from claudeproxyd.messages.envelope import read_envelope
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Scope, Then
from claudeproxyd.testing import EPOCH
from tests.dispatch.fakes import House
from tests.executors.anthropic.test_executor import BLOCK, BLOCK_STOP, DELTA, FIGURES, MESSAGE, START, STOP, WHOLE
from tests.executors.bedrock.support import BASE, BODY, KEYS, OPUS, BedrockTestCase, credential
from tests.framing.event_messages import chunk, event, exception, message

verifyClass(IExecutor, BedrockExecutor)
verifyClass(IExecutorMaker, BedrockMaker)
verifyObject(IExecutorMaker, BedrockMaker())
verifyClass(IStreamReader, ChunkedClaudeReader)

#: What may come in the place of an event.
EXCEPTIONS = {
    "throttlingException": Kind.QUOTA,
    "modelStreamErrorException": Kind.TRANSIENT,
    "internalServerException": Kind.TRANSIENT,
    "serviceUnavailableException": Kind.TRANSIENT,
    "modelTimeoutException": Kind.TRANSIENT,
    "validationException": Kind.CLIENT_FAULT,
}
CAPTURES = Path(__file__).parents[2] / "data" / "captures" / "requests.jsonl.gz"
REST = b'"max_tokens": 9,"messages":[ {"role":"user","content":"hi"}]}'


def body(**members: Any) -> bytes:
    """A request with these members."""
    return json.dumps(
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **members}
    ).encode()


def chunks(frames: bytes, **members: Any) -> bytes:
    """Frames of server-sent events as Bedrock sends them."""
    events = [frame.partition(b"data: ")[2] for frame in frames.split(b"\n\n") if frame]
    return b"".join(chunk(each, **members) for each in events)


def asks(*betas: str) -> list[tuple[bytes, bytes]]:
    """The header of a client that names these."""
    return [(b"anthropic-beta", ",".join(betas).encode())]


class Up(BedrockTestCase):
    """What goes up."""

    def test_bytes(self) -> None:
        """Model and stream leave the body, the version comes into it; every other byte is the client's."""
        target, headers, sent = self.up()
        self.assertEqual(target, "/base/model/us.anthropic.claude-opus-4-8/invoke")
        self.assertEqual(sent, b'{"anthropic_version":"bedrock-2023-05-31",' + REST)
        self.assertEqual(headers["content-type"], "application/json")
        streamed = BODY.replace(b"{", b'{"stream":true,', 1)
        target, _, sent = self.up(body=streamed)
        self.assertEqual(target, "/base/model/us.anthropic.claude-opus-4-8/invoke-with-response-stream")
        self.assertEqual(sent, b'{"anthropic_version":"bedrock-2023-05-31",' + REST)

    def test_like_the_official_client(self) -> None:
        """URL, body and authorization are those of Anthropic's own client for Bedrock."""
        seen: list[httpx2.Request] = []

        def note(request: httpx2.Request) -> httpx2.Response:
            seen.append(request)
            return httpx2.Response(500)

        client = AnthropicBedrock(
            api_key="bedrock-key",
            aws_region="us-east-1",
            base_url="http://127.0.0.1:8080/base",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(note)),
        )
        self.make(credential(bearer_token=Secret("bedrock-key")))
        asked: dict[str, Any] = {"model": OPUS + "-v1:0", "messages": [{"role": "user", "content": "hi"}]}
        betas = asks("interleaved-thinking-2025-05-14")
        thinking = {"type": "enabled", "budget_tokens": 1024}
        for more in (
            {"max_tokens": 64},
            {"max_tokens": 64, "stream": True},
            {"max_tokens": 4096, "thinking": thinking},
        ):
            with self.assertRaises(InternalServerError):
                client.messages.create(
                    **asked, **more, extra_headers={"anthropic-beta": "interleaved-thinking-2025-05-14"}
                )
            theirs = seen.pop()
            version = [(b"anthropic-version", b"2026-10-21")]
            target, headers, ours = self.up(
                model=asked["model"], body=json.dumps({**asked, **more}).encode(), headers=betas + version
            )
            self.assertEqual(unquote(target), unquote(theirs.url.raw_path.decode()))
            self.assertEqual(headers["authorization"], theirs.headers["authorization"])
            expected = json.loads(theirs.content)
            if "thinking" not in more:
                del expected["anthropic_beta"]  # nothing in the request makes use of it
            self.assertEqual(json.loads(ours), expected)

    def test_signed(self) -> None:
        """AWS's own library signs it alike: what is sent, path escaped twice, session token and all."""
        session = Secret("session//token==")
        aws = Aws(access_key_id=KEYS.access_key_id, secret_access_key=KEYS.secret_access_key, session_token=session)
        self.make(credential(aws=aws, region="eu-west-1"), headers={"X-Amz-Note": "of {client}", "X-Other": "y"})
        target, headers, sent = self.up(model="eu.anthropic.claude-opus-4-8-v1:0")
        self.assertEqual(headers["x-amz-security-token"], "session//token==")
        names = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
        self.assertEqual(names, "content-type;host;x-amz-date;x-amz-note;x-amz-security-token")
        lower = {name.lower(): value for name, value in headers.items()}
        request: Any = AWSRequest(
            "POST",
            f"http://{lower['host']}{target}",
            headers={name: lower[name] for name in names.split(";") if name not in ("host", "x-amz-date")},
            data=sent,
        )
        with patch(
            "botocore.auth.get_current_datetime",
            return_value=datetime.datetime.fromtimestamp(EPOCH, datetime.UTC).replace(tzinfo=None),
        ):
            keys = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI", "session//token==")
            SigV4Auth(keys, "bedrock", "eu-west-1").add_auth(request)
        self.assertEqual(headers["authorization"], request.headers["Authorization"])

    def test_keys_of_bedrock(self) -> None:
        """A Bedrock API key is a bearer token, under either of its names."""
        for member in ("bearer_token", "api_key"):
            self.make(credential(**{member: Secret("bedrock-api-key-1")}))
            _, headers, _ = self.up()
            self.assertEqual(headers["authorization"], "Bearer bedrock-api-key-1")
            self.assertNotIn("x-amz-date", headers)

    def test_models(self) -> None:
        """Ids, profiles and ARNs are one segment of the path; the API's own names become ids in a region's profile."""
        arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
        self.make(
            credential(),
            credential("eu", region="eu-central-1"),
            credential("ap", region="ap-south-1"),
            credential("g", inference_profile="global"),
            credential("n", inference_profile="none"),
            claude_models=["arn:*:application-inference-profile/*"],
        )
        for model, name, segment in (
            (OPUS + "-v1:0", "a", "us.anthropic.claude-opus-4-8-v1%3A0"),
            (arn, "a", "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc"),
            ("claude-opus-4-8", "a", "us.anthropic.claude-opus-4-8"),
            ("claude-opus-4-6", "a", "us.anthropic.claude-opus-4-6-v1"),
            ("claude-sonnet-4-5-20250929", "eu", "eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0"),
            ("claude-sonnet-4-5", "g", "global.anthropic.claude-sonnet-4-5-20250929-v1%3A0"),
            ("claude-sonnet-4-0", "n", "anthropic.claude-sonnet-4-20250514-v1%3A0"),
            ("claude-opus-5-5", "ap", "anthropic.claude-opus-5-5"),
            ("anthropic.claude-x/../../y?z;é", "a", "anthropic.claude-x%2F..%2F..%2Fy%3Fz%3B%C3%A9"),
        ):
            for count_tokens, operation in ((False, "invoke"), (True, "count-tokens")):
                target, *_ = self.up(model=model, credential=name, count_tokens=count_tokens)
                self.assertEqual(target, f"/base/model/{segment}/{operation}")

    def test_names_that_lead_elsewhere(self) -> None:
        """A path cannot be left by a model's name, and what is not Claude's is not asked of it."""
        request = House().request(body=BODY)
        for model in ("..", ".", ""):
            self.assertIn("no model", self.unsupported(request, Route("b", model)) or "")

    def test_regions(self) -> None:
        """Each region has its host, and each host one set of connections; an operator's host takes their place."""
        credentials = [credential("a"), credential("b"), credential("c", region="eu-west-3")]
        credentials.append(credential("d", region="cn-north-1"))
        self.make(*credentials, base_url=ANYWHERE)
        hosts = [each for each in sorted(self.hosts) if "runtime" in each]
        self.assertEqual(
            hosts,
            [
                "https://bedrock-runtime.cn-north-1.amazonaws.com.cn",
                "https://bedrock-runtime.eu-west-3.amazonaws.com",
                "https://bedrock-runtime.us-east-1.amazonaws.com",
            ],
        )
        self.make(*credentials)
        self.assertEqual(self.hosts, [BASE])
        target, headers, _ = self.up(credential="c")
        self.assertEqual(target, "/base/model/us.anthropic.claude-opus-4-8/invoke")
        self.assertIn("/eu-west-3/bedrock/", headers["authorization"])

    def test_versions(self) -> None:
        """The API's first version has another name here; later ones keep theirs; the body's own is not believed."""
        for given, sent in ((b"2023-06-01", "bedrock-2023-05-31"), (b"2026-10-21", "2026-10-21"), (b'9"', '9"')):
            asked = BODY.replace(b'"max_tokens"', b'"anthropic_version":"x","max_tokens"')
            *_, up = self.up(headers=[(b"anthropic-version", given)], body=asked)
            self.assertEqual(json.loads(up)["anthropic_version"], sent)
            self.assertEqual(up.count(b"anthropic_version"), 1)

    def test_half_a_character(self) -> None:
        """Half a surrogate pair goes up as it came."""
        *_, up = self.up(body=BODY.replace(b'"hi"', b'"\\ud83d"'))
        self.assertEqual(up, b'{"anthropic_version":"bedrock-2023-05-31",' + REST.replace(b'"hi"', b'"\\ud83d"'))


class BetasUp(BedrockTestCase):
    """The list of betas."""

    def betas(self, *asked: str, model: str = OPUS, **members: Any) -> list[str]:
        """Those that go up."""
        *_, up = self.up(headers=asks(*asked), body=body(**members), model=model)
        return list(json.loads(up).get("anthropic_beta", []))

    def test_in_the_body(self) -> None:
        """Betas go up in the body, each once, and only those that the request makes use of."""
        asked = ("interleaved-thinking-2025-05-14", "context-1m-2025-08-07", "context-management-2025-06-27")
        self.assertEqual(self.betas(*asked, *asked), ["context-1m-2025-08-07"])
        edits = {"edits": [{"type": "clear_tool_uses_20250919"}]}
        self.assertEqual(
            self.betas(*asked, thinking={"type": "adaptive"}, context_management=edits),
            ["interleaved-thinking-2025-05-14", "context-1m-2025-08-07", "context-management-2025-06-27"],
        )

    def test_unknown_ones(self) -> None:
        """One unknown beta would fail the whole request: none goes up, and each is warned about once."""
        headers = asks("no-such-2026-01-01", "claude-code-20250219", "context-1m-2025-08-07")
        attempt = self.attempt(headers=headers)
        assert attempt.prepared is not None
        (warning,) = attempt.prepared.warnings
        self.assertIn("no-such-2026-01-01", warning)
        self.assertEqual(json.loads(attempt.prepared.body)["anthropic_beta"], ["context-1m-2025-08-07"])

    def test_what_claude_code_asks_for(self) -> None:
        """Its tool search goes by the name that Bedrock has for it, where a tool is deferred and the model searches."""
        tools = [{"name": "a", "input_schema": {}, "defer_loading": True}]
        self.assertEqual(self.betas("advanced-tool-use-2025-11-20", tools=tools), ["tool-search-tool-2025-10-19"])
        self.assertEqual(self.betas("advanced-tool-use-2025-11-20"), [])
        old = "anthropic.claude-sonnet-4-20250514-v1:0"
        self.assertEqual(self.betas("advanced-tool-use-2025-11-20", tools=tools, model=old), [])
        examples = [{"name": "a", "input_schema": {}, "input_examples": [{}]}]
        self.assertEqual(self.betas("advanced-tool-use-2025-11-20", tools=examples), ["tool-examples-2025-10-29"])

    def test_efforts(self) -> None:
        """The one model that has efforts by a beta is sent it; later ones have them without, and refuse it."""
        effort = {"effort": "low"}
        for model, sent in (("us.anthropic.claude-opus-4-5-20251101-v1:0", ["effort-2025-11-24"]), (OPUS, [])):
            self.assertEqual(self.betas("effort-2025-11-24", output_config=effort, model=model), sent)

    def test_the_operators(self) -> None:
        """The operator drops what the list has, and adds what it has not yet."""
        self.make(betas=Betas(drop=["context-1m-2025-08-07"], add=["new-2027-01-01"]))
        self.assertEqual(self.betas("context-1m-2025-08-07", "new-2027-01-01"), ["new-2027-01-01"])

    def test_the_lists(self) -> None:
        """No beta is on both."""
        self.assertFalse(BETAS.keys() & IDLE_BETAS)


class MembersUp(BedrockTestCase):
    """What of a body goes up."""

    def sent(self, model: str = OPUS, betas: tuple[str, ...] = (), **members: Any) -> dict[str, Any]:
        """What goes up of such a body."""
        *_, up = self.up(headers=asks(*betas) if betas else [], body=body(**members), model=model)
        made: dict[str, Any] = json.loads(up)
        return made

    def test_members_for_the_api_alone(self) -> None:
        """What says how the API itself should serve it stays behind without a word."""
        idle = {"service_tier": "auto", "diagnostics": {}, "inference_geo": "us", "speed": "fast", "cache_control": {}}
        attempt = self.attempt(body=body(**idle, metadata={"user_id": "u"}, temperature=0))
        assert attempt.prepared is not None
        self.assertEqual(attempt.prepared.warnings, [])
        self.assertEqual(
            set(json.loads(attempt.prepared.body)),
            {"anthropic_version", "max_tokens", "messages", "metadata", "temperature"},
        )

    def test_unknown_members(self) -> None:
        """What is not known to be taken stays behind with a warning that names it; what is empty, without one."""
        attempt = self.attempt(body=body(fallbacks=[{"model": "x"}], novelty=1, nothing=None))
        assert attempt.prepared is not None
        self.assertEqual(set(json.loads(attempt.prepared.body)), {"anthropic_version", "max_tokens", "messages"})
        self.assertEqual([each.split(":")[0] for each in attempt.prepared.warnings], ["fallbacks", "novelty"])

    def test_members_that_change_the_answer(self) -> None:
        """A request that needs them is not for Bedrock: the next route is asked."""
        for members in (
            {"safeguards": [{"type": "x"}]},
            {"mcp_servers": [{"type": "url", "url": "https://example.com/mcp", "name": "m"}]},
            {"container": "c"},
            {"thread": {"type": "continue", "id": "t"}},
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}],
                    }
                ]
            },
        ):
            refused = self.unsupported(House().request(body=body(**members)), Route("b", OPUS))
            self.assertIn(next(iter(members)), refused or "", members)
        self.assertIsNone(self.unsupported(House().request(body=body(mcp_servers=[])), Route("b", OPUS)))

    def test_tools(self) -> None:
        """Members that Bedrock refuses inside tools stay behind, unless the beta that they need goes up."""
        tools = [
            {
                "name": "a",
                "description": "d",
                "input_schema": {"type": "object", "properties": {"defer_loading": {"type": "boolean"}}},
                "eager_input_streaming": True,
                "defer_loading": True,
                "input_examples": [{"x": 1}],
                "allowed_callers": ["direct"],
                "cache_control": {"type": "ephemeral", "scope": "global", "ttl": "1h"},
                "strict": True,
            },
            {"type": "bash_20250124", "name": "bash", "cache_control": {"type": "ephemeral"}},
            {"type": "text_editor_20250728", "name": "e", "max_characters": 9},
            {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
        ]
        first, bash, editor = self.sent(tools=tools)["tools"]
        kept = {name: tools[0][name] for name in ("name", "description", "input_schema", "strict")}
        self.assertEqual(first, {**kept, "cache_control": {"type": "ephemeral", "ttl": "1h"}})
        self.assertEqual([bash, editor], tools[1:3])
        first, *_, search = self.sent(tools=tools, betas=("advanced-tool-use-2025-11-20",))["tools"]
        self.assertEqual(first["defer_loading"], True)
        self.assertEqual(first["input_examples"], [{"x": 1}])
        self.assertNotIn("eager_input_streaming", first)
        self.assertEqual(search, tools[3])
        self.assertNotIn("tools", self.sent(tools=[]))

    def test_references_to_tools(self) -> None:
        """Where a model does not search for tools, a result that names some says so in words."""
        found = [{"type": "tool_reference", "tool_name": "Read"}]
        said = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Find", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": found}]},
        ]
        beta = ("tool-search-tool-2025-10-19",)
        self.assertEqual(self.sent(messages=said, betas=beta)["messages"], said)
        old = self.sent(messages=said, betas=beta, model="anthropic.claude-sonnet-4-20250514-v1:0")
        (result,) = old["messages"][2]["content"]
        self.assertEqual(result["content"], [{"type": "text", "text": "The tool Read is there."}])

    def test_cache_control(self) -> None:
        """Type and time are all that Bedrock takes of it, wherever it stands; what a client only says is left alone."""
        mark = {"type": "ephemeral", "scope": "global", "evict": True}
        said = {"cache_control": {"type": "ephemeral", "scope": "mine"}}
        messages = [
            {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": mark}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": said}]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [{"type": "text", "text": "x", "cache_control": {**mark, "ttl": "1h"}}],
                        "cache_control": mark,
                    }
                ],
            },
        ]
        sent = self.sent(messages=messages, system=[{"type": "text", "text": "s", "cache_control": mark}])
        plain = {"type": "ephemeral"}
        self.assertEqual(sent["system"][0]["cache_control"], plain)
        first, call, result = (message["content"][0] for message in sent["messages"])
        self.assertEqual(first["cache_control"], plain)
        self.assertEqual(call["input"], said)
        self.assertEqual(result["cache_control"], plain)
        self.assertEqual(result["content"][0]["cache_control"], {"type": "ephemeral", "ttl": "1h"})

    def test_blocks_that_are_nested_deep(self) -> None:
        """They are not looked into again and again: that could take minutes."""
        block: dict[str, Any] = {"type": "text", "cache_control": {"type": "ephemeral", "scope": "x"}}
        for _ in range(40):
            block = {"type": "tool_result", "content": [block]}
        self.assertEqual(self.sent(messages=[{"role": "user", "content": [block]}])["messages"][0]["content"], [block])

    def test_context_management(self) -> None:
        """It is refused without its beta, and goes with it."""
        edits = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
        self.assertNotIn("context_management", self.sent(context_management=edits))
        sent = self.sent(context_management=edits, betas=("context-management-2025-06-27",))
        self.assertEqual(sent["context_management"], edits)

    def test_what_a_message_has_beside_its_content(self) -> None:
        """It goes, and with it a message that has nothing else; every other byte stays."""
        plain = b'{"role":"user", "content":"hi"}'
        asked = [plain, b'{"role":"system","clear_at":"x"}', b'{"role":"system", "content": "s","clear_at":"x"}']
        raw = b'{"model":"m","max_tokens":9,"messages":[%b]}' % b", ".join(asked)
        *_, up = self.up(body=raw)
        self.assertIn(b'"messages":[' + plain + b', {"role":"system", "content": "s"}]', up)

    def test_efforts_of_single_messages(self) -> None:
        """The last one is the request's: Bedrock knows none of a message's own."""
        said = [
            {"role": "user", "content": "hi"},
            {"role": "system", "content": "Be quick.", "output_config": {"effort": "low"}},
        ]
        sent = self.sent(messages=said, output_config={"effort": "high", "format": {"type": "x"}})
        self.assertEqual(sent["output_config"], {"effort": "low", "format": {"type": "x"}})
        self.assertEqual(sent["messages"], [said[0], {"role": "system", "content": "Be quick."}])
        sent = self.sent(messages=said)
        self.assertEqual(sent["output_config"], {"effort": "low"})
        self.assertEqual(sent["messages"][1], {"role": "system", "content": "Be quick."})

    def test_real_requests(self) -> None:
        """Of what Claude Code and the SDKs send, everything goes up but what is listed."""
        with gzip.open(CAPTURES, "rt", encoding="utf-8") as lines:
            captured = [json.loads(line) for line in lines]
        seen = 0
        for each in captured:
            asked = each["body"]
            if any("web_" in str(tool.get("type")) for tool in asked.get("tools", ())):
                continue
            names = [name for name, used in BETAS.items() if used]
            raw = json.dumps({"max_tokens": 1, **asked}).encode()
            *_, up = self.up(headers=asks(*names), body=raw, model="us.anthropic.claude-opus-5-5")
            sent = json.loads(up)
            empty = {"tools"} if not asked.get("tools") else set()
            self.assertEqual(
                set(sent) - {"anthropic_version", "anthropic_beta"}, FIELDS.keys() & {"max_tokens", *asked} - empty
            )
            self.assertEqual(len(sent["messages"]), len(asked["messages"]))
            seen += 1
        self.assertGreater(seen, 10)

    def test_minted_blocks_and_rectified_bodies(self) -> None:
        """What another family's answer left does not go up, and a body that was made for a second try does."""
        thinking = {"type": "thinking", "thinking": "", "signature": "cpxd1.google.cw"}
        said = {"role": "assistant", "content": [thinking, {"type": "text", "text": "a"}]}
        attempt = self.attempt()
        attempt.body = json.dumps({"model": "m", "max_tokens": 9, "messages": [said]}).encode()
        *_, up = self.send(attempt)
        self.assertNotIn(b"cpxd1.", up)
        self.assertIn(b'"text": "a"', up)
        self.assertIn(b'"anthropic_version":"bedrock-2023-05-31"', up)

    def test_older_models(self) -> None:
        """A model that takes no system messages in mid-conversation gets a user's turn."""
        said = [{"role": "user", "content": "hi"}, {"role": "system", "content": "Be quick."}]
        sent = self.sent(messages=said, model="us.anthropic.claude-opus-4-6-v1")
        self.assertEqual(sent["messages"][1]["role"], "user")

    def test_too_large(self) -> None:
        """Bedrock takes 25,000,000 bytes: the next route is asked, and if there is none, the client is told."""
        attempt = self.attempt(body=BODY.replace(b'"hi"', b'"%b"' % (b"x" * MAX_BODY_BYTES)))
        failed = self.result(ensureDeferred(self.executor.messages(attempt)))
        self.assertIsInstance(failed, AttemptFailed)
        self.assertIs(failed.outcome.kind, Kind.TOO_LARGE)
        self.assertEqual(failed.answer.status, 413)


class Counting(BedrockTestCase):
    """CountTokens."""

    def counted(self, **members: Any) -> dict[str, Any]:
        """The body that is to be counted."""
        asked = body(**members).replace(b'"max_tokens": 9, ', b"")
        envelope = read_envelope(asked, count_tokens=True)
        *_, up = self.up(count_tokens=True, envelope=envelope)
        (kind,) = json.loads(up)["input"]
        self.assertEqual(kind, "invokeModel")
        made: dict[str, Any] = json.loads(base64.b64decode(json.loads(up)["input"]["invokeModel"]["body"]))
        return made

    def test_body(self) -> None:
        """It is InvokeModel's own, without a model, and with the max_tokens that a count lacks."""
        self.assertEqual(
            self.counted(tools=[]),
            {
                "anthropic_version": "bedrock-2023-05-31",
                "max_tokens": 1,
                "messages": [{"role": "user", "content": "hi"}],
            },
        )
        thinking = {"type": "enabled", "budget_tokens": 2048}
        self.assertEqual(self.counted(thinking=thinking)["max_tokens"], 2049)

    def test_answer(self) -> None:
        """The count is told as the API tells it."""
        answer = self.answer(200, b'{"inputTokens":21}', count_tokens=True)
        self.assertEqual(answer.body, b'{"input_tokens":21}')
        self.assertEqual(answer.usage.input, 21)

    def test_models_without_a_count(self) -> None:
        """What Bedrock does not count is counted here: the route has no counter, and nothing cools."""
        refusal = b'{"message":"The provided model doesn\'t support counting tokens."}'
        failed = self.answer(400, refusal, "x-amzn-errortype: ValidationException", count_tokens=True)
        self.assertIs(failed.outcome.kind, Kind.UNSUPPORTED)
        self.assertIs(failed.outcome.scope, Scope.NONE)

    def test_no_count(self) -> None:
        """An answer without one is none."""
        self.assertIs(self.answer(200, b"{}", count_tokens=True).outcome.kind, Kind.TRANSIENT)


class Down(BedrockTestCase):
    """What comes down."""

    def test_message(self) -> None:
        """A message passes as it is, but for what Bedrock puts into it; of the headers the request's id alone."""
        own = MESSAGE.replace(b"{", b'{"amazon-bedrock-guardrailAction":"NONE",', 1)
        headers = ("x-amzn-requestid: r-1", "x-amzn-bedrock-input-token-count: 5", "content-type: application/json")
        for came in (MESSAGE, own):
            answer = self.answer(200, came, *headers)
            self.assertEqual(answer.body, MESSAGE)
            self.assertEqual((answer.usage.input, answer.usage.output, answer.stop_reason), (5, 7, "end_turn"))
            self.assertEqual(answer.request_id, "r-1")
            self.assertEqual(answer.headers, [(b"content-type", b"application/json"), (b"request-id", b"r-1")])

    def test_stream(self) -> None:
        """Each event is Claude's own, byte for byte, whatever is around it."""
        answer, events = self.streaming(chunks(WHOLE, p="abcdefghij"))
        self.assertEqual(events.frames, WHOLE)
        self.assertTrue(events.batches[-1].ended)
        self.assertEqual((answer.usage.input, answer.usage.output, answer.stop_reason), (5, 7, "end_turn"))

    def test_every_split(self) -> None:
        """Wherever the network cuts, the client gets the same bytes."""
        data = chunks(WHOLE, p="x")
        for cut in range(1, len(data), 7):
            _, events = self.streaming(data[:cut], data[cut:])
            self.assertEqual(events.frames, WHOLE)

    def test_what_is_bedrocks_own(self) -> None:
        """Metrics in the last event, marks of guardrails without a type, unknown messages: strict clients refuse
        them."""
        metrics = b'{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":5}}'
        start, _, rest = chunks(WHOLE).partition(chunks(DELTA % b"hi"))
        mark = chunk(b'{"amazon-bedrock-guardrailAction":"NONE"}')
        data = event("initial-response", {}) + mark + start + chunks(DELTA % b"hi") + event("novelty", {"a": 1}) + rest
        data = data.replace(chunks(STOP), chunk(metrics))
        _, events = self.streaming(data)
        self.assertEqual(events.frames, WHOLE)

    def test_a_text_that_only_looks_so(self) -> None:
        """Words that a model says are not cut out."""
        said = DELTA % rb"\"amazon-bedrock-invocationMetrics\":{}"
        _, events = self.streaming(chunks(START + BLOCK + said + BLOCK_STOP + FIGURES + STOP))
        self.assertIn(said, events.frames)

    def test_events_on_several_lines(self) -> None:
        """An event that was written over several lines is one frame all the same."""
        _, events = self.streaming(chunk(b'{"type":\r"message_start",\n"message":{}}'))
        self.assertEqual(events.frames, b'event: message_start\ndata: {"type": "message_start", "message":{}}\n\n')

    def test_botocore_reads_what_our_stub_writes(self) -> None:
        """The frames of these tests are AWS's."""
        buffer = EventStreamBuffer()
        buffer.add_data(chunks(WHOLE, p="ab") + exception("throttlingException", "Slow down"))
        read = list(buffer)
        self.assertEqual(len(read), 7)
        self.assertEqual(read[-1].headers[":exception-type"], "throttlingException")


class Failing(BedrockTestCase):
    """What is no answer."""

    def test_an_exception_comes_first(self) -> None:
        """Nothing has reached the client: another credential takes over."""
        for name, kind in EXCEPTIONS.items():
            _, events = self.streaming(exception(name, "The words"))
            outcome = events.failure.outcome
            self.assertIs(outcome.kind, kind, name)
            self.assertEqual(outcome.reason, "The words")
            self.assertEqual(events.frames, b"")

    def test_an_exception_comes_late(self) -> None:
        """After content the client has an error at the end, and what came before it; nothing is tried again."""
        for name, kind in EXCEPTIONS.items():
            _, events = self.streaming(
                chunks(START + BLOCK + DELTA % b"a"), chunks(DELTA % b"b") + exception(name, "The words")
            )
            self.assertEqual(events.frames, START + BLOCK + DELTA % b"a" + DELTA % b"b")
            self.assertIs(events.failure.outcome.then, Then.ANSWER)
            self.assertIs(events.failure.outcome.kind, kind)
            self.assertEqual(events.failure.answer.message, "The words")
            self.assertFalse(events.failure.answer.verbatim)

    def test_an_error_that_the_api_does_not_describe(self) -> None:
        """It has its name and words in headers."""
        headers = {":message-type": "error", ":error-code": "InternalServerException", ":error-message": "Broken"}
        _, events = self.streaming(message(headers, b""))
        self.assertIs(events.failure.outcome.kind, Kind.TRANSIENT)
        self.assertEqual(events.failure.outcome.reason, "Broken")

    def test_a_cut(self) -> None:
        """A stream that ends before its message does never ends cleanly."""
        self.assertIs(self.broken(chunks(START + BLOCK)).outcome.kind, Kind.TRANSIENT)
        failed = self.broken(chunks(START + BLOCK + DELTA % b"a"))
        self.assertIs(failed.outcome.kind, Kind.BROKEN_STREAM)
        self.assertIs(self.broken(chunks(WHOLE)[:-3]).outcome.kind, Kind.BROKEN_STREAM)

    def test_damage(self) -> None:
        """A wrong CRC, a chunk without bytes, bytes that are no event, a message that is too large."""
        good = chunks(START)
        flipped = bytes([*good[:-1], good[-1] ^ 1])
        for data in (
            flipped,
            event("chunk", {"type": "message_start"}),
            chunk(b"not JSON"),
            chunk(b'{"type":"no type"}'),
            message({":event-type": "chunk"}, b"x" * 200_000)[:12],
        ):
            _, events = self.streaming(data)
            self.assertIs(events.failure.outcome.kind, Kind.TRANSIENT)

    def test_a_stream_of_another_type(self) -> None:
        """A 200 that is HTML, or server-sent events, is no answer."""
        sent, wire, _, _ = self.send(self.attempt(body=BODY.replace(b"{", b'{"stream":true,', 1)))
        wire.respond(200, b"<html>", "content-type: text/html")
        self.assertIs(self.result(sent).outcome.kind, Kind.TRANSIENT)

    def test_context_overflow(self) -> None:
        """It is told in the words that make clients compact."""
        for said in ("Input is too long for requested model.", "prompt is too long: 9 tokens > 8 maximum"):
            failed = self.answer(
                400, json.dumps({"message": said}).encode(), "x-amzn-errortype: ValidationException:http://x"
            )
            self.assertIs(failed.outcome.kind, Kind.CLIENT_FAULT)
            self.assertEqual((failed.answer.status, failed.answer.message), (400, "Input is too long."))
