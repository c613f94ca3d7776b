"""One conversation on two families of models: what a user notices when Claude's quota is used up is nothing."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, gemini, sdks, wire
from tests.integration.support.claude_code import lines, prompt
from tests.integration.support.clients import PYTHON_SDK, TYPESCRIPT_SDK, Client
from tests.integration.support.daemon import ADMIN_KEY, Daemon, provider
from tests.integration.support.families import Claude, Gemini, Json, Side, text, thinking, use
from tests.integration.support.needs import needs
from tests.integration.support.process import eventually, sleep
from tests.integration.support.redis import Redis, redis_server
from tests.integration.support.upstream import Answer, Upstream
from tests.messages.accumulate import accumulate

MODEL = "claude-opus-5-5"
PRO = "gemini-2.5-pro"
THREE = "gemini-3-pro-preview"
ADAPTIVE: Json = {"thinking": {"type": "adaptive", "display": "summarized"}}
BUDGET: Json = {
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
}
OUT = answers.error(429, "rate_limit_error", "This request would exceed your rate limit", retry_after="600")
RETRY_IN_600 = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "600s"}
GOOGLE_OUT = gemini.error(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted", RETRY_IN_600)
AS_LINES = ("--output-format", "stream-json", "--verbose")
each_sdk = pytest.mark.parametrize("sdk", [PYTHON_SDK, TYPESCRIPT_SDK], ids=lambda sdk: sdk.name)
TOOLS = [
    {
        "name": name,
        "description": f"{name}s.",
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
    }
    for name in ("Read", "Grep")
]


@dataclass
class House:
    """A daemon's surroundings: both upstreams and what stands behind each."""

    upstreams: tuple[Upstream, gemini.Gemini]
    claude: Claude = field(default_factory=Claude)
    google: Gemini = field(default_factory=lambda: Gemini(THREE))

    def google_is(self, google: Gemini) -> None:
        self.google = google
        self.upstreams[1].script(google.answer)

    @property
    def config(self) -> str:
        """One model, first on Claude and then on Gemini."""
        return self._config('{ provider = "claude" }', self._on_gemini)

    @property
    def with_gemini_first(self) -> str:
        return self._config(self._on_gemini, '{ provider = "claude" }')

    @property
    def _on_gemini(self) -> str:
        return f'{{ provider = "google", model = "{self.google.model}" }}'

    def _config(self, *routes: str) -> str:
        claude, google = self.upstreams
        models = f'[[models]]\nname = "{MODEL}"\nroutes = [{", ".join(routes)}]\n'
        return models + provider(claude, name="claude") + provider(google, "key-g", name="google", kind="gemini")

    @property
    def asked(self) -> tuple[int, int]:
        """How often either was asked for a message."""
        return len(self.claude.bodies), len(self.google.bodies)


@pytest_twisted.async_yield_fixture
async def house() -> AsyncIterator[House]:
    """Two upstreams, neither of which refused a request in the test, unless that says so."""
    house = House((Upstream(), gemini.Gemini()))
    for upstream in house.upstreams:
        await upstream.start()
    house.upstreams[0].script(house.claude.answer)
    house.google_is(house.google)
    yield house
    for upstream in house.upstreams:
        await upstream.stop()
    assert (house.claude.refused, house.google.refused) == ([], [])


@dataclass
class Chat:
    """A client that sends back what it was given."""

    daemon: Daemon
    stream: bool = True
    request: Json = field(default_factory=dict)
    messages: list[Json] = field(default_factory=list)
    sent: bytes = b""

    async def ask(self, content: Any) -> str:
        """Say *content*, hear the answer; who gave it."""
        self.messages.append({"role": "user", "content": content})
        answer = await self.post()
        assert (answer.status, answer.whole) == (200, True), answer.body
        message = accumulate(answer.body) if self.stream else answer.json
        assert message["model"] == MODEL
        self.messages.append({"role": "assistant", "content": message["content"]})
        return answer.headers["x-claudeproxyd-provider"]

    async def post(self, path: str = "/v1/messages") -> wire.Answer:
        """The conversation as it is now."""
        body = {"model": MODEL, "max_tokens": 4000, "tools": TOOLS, "messages": self.messages, **self.request}
        if path == "/v1/messages":
            body["stream"] = self.stream
        self.sent = json.dumps(body).encode()
        return await wire.post(self.daemon.port, self.sent, path)

    async def return_results(self, *results: str) -> str:
        """One for each call of the last answer, the last call's first, as clients with parallel tools do."""
        pairs = zip(self.calls, results, strict=True)
        blocks = [{"type": "tool_result", "tool_use_id": call["id"], "content": result} for call, result in pairs]
        return await self.ask(blocks[::-1])

    @property
    def heard(self) -> list[Json]:
        """The blocks of the last answer."""
        blocks: list[Json] = self.messages[-1]["content"]
        return blocks

    @property
    def calls(self) -> list[Json]:
        return [block for block in self.heard if block["type"] == "tool_use"]

    @property
    def said(self) -> str:
        return "".join(block["text"] for block in self.heard if block["type"] == "text")


async def clear(daemon: Daemon) -> None:
    """As an operator does: every cooldown is over."""
    headers = {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"}
    answer = await wire.post(daemon.admin, b"{}", "/admin/v1/pool/clear", headers)
    assert answer.status == 200, answer.body


def check_claudes_own(claude: Claude, chat: Chat) -> None:
    """What went to Claude last is the client's body without what Gemini signed; Claude's own is there byte for byte."""
    body = claude.bodies[-1]
    for block in (block for said in claude.given for block in said if block not in chat.heard):
        assert json.dumps(block).encode() in body, block
    if b"cpxd1." not in chat.sent:
        assert body == chat.sent
        return
    expected, sent = json.loads(chat.sent), json.loads(body)
    for message in expected["messages"]:
        if message["role"] == "assistant":
            message["content"] = [block for block in message["content"] if not is_minted(block)]
    if expected["messages"][-2]["content"][0]["type"] == "tool_use" and chat.request == BUDGET:
        # The API would ask for thoughts where Gemini's were; and without thinking it takes no such edit.
        del expected["thinking"]
        expected["context_management"] = {"edits": []}
    assert sent == expected


def is_minted(block: Json) -> bool:
    return str(block.get("signature", "")).startswith("cpxd1.")


def cpu(daemon: Daemon) -> float:
    """Seconds of processor time that it has had."""
    of_user, of_system = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(of_user) + int(of_system)) / os.sysconf("SC_CLK_TCK")


# -- a conversation goes to and fro

each_way = pytest.mark.parametrize(
    ("model", "stream", "wish"),
    [
        (THREE, True, ADAPTIVE),
        (THREE, False, BUDGET),
        (THREE, True, {}),
        (PRO, True, BUDGET),
        (PRO, False, ADAPTIVE),
        (PRO, True, {}),
    ],
    ids=["3 adaptive", "3 budget, whole", "3 unasked", "2.5 budget", "2.5 adaptive, whole", "2.5 unasked"],
)


@each_way
@ensureDeferred
async def test_to_and_fro(start_daemon: StartDaemon, house: House, model: str, stream: bool, wish: Json) -> None:
    """A conversation with tools goes on at once on the other family whenever a quota ends, in mid loop or between."""
    house.google_is(Gemini(model))
    claude, google = house.claude, house.google
    thought = [thinking("Let me see … \u00e9\u2028")] if wish else []
    googles = [thinking("Hm.")] if wish else []
    claude.says([*thought, text("I look."), use("Read", path='a "\u00e9" \\ b'), use("Read", path="a2")])
    daemon = await start_daemon(house.config)
    chat = Chat(daemon, stream, wish)
    assert await chat.ask("Look into it.") == "claude"
    assert chat.heard == claude.given[-1]
    # In mid loop Claude is out, and Gemini answers the result of Claude's call …
    claude.says(OUT)
    google.says([*googles, use("Read", path="b"), use("Grep", path="c")])
    assert await chat.return_results("alpha", "alpha 2") == "google"
    assert [call["input"]["path"] for call in chat.calls] == ["b", "c"]
    # … and goes on with its own calls while Claude rests, and while it does not.
    google.says([*googles, text("\n"), use("Grep", path="d")])
    assert await chat.return_results("beta", "gamma") == "google"
    await clear(daemon)
    google.says([*googles, use("Read", path="e"), use("Read", path="f")])
    assert await chat.return_results("delta") == "google"
    assert house.asked == (2, 3)
    # In mid loop Gemini is out, and Claude answers the results of Gemini's calls.
    google.says(GOOGLE_OUT)
    claude.says([*thought, use("Grep", path="g")])
    assert await chat.return_results("epsilon", "zeta") == "claude"
    check_claudes_own(claude, chat)
    assert chat.heard == claude.given[-1]
    claude.says([*thought, text("Claude is done.")])
    assert await chat.return_results("eta") == "claude"
    check_claudes_own(claude, chat)
    # What the user says next goes to Claude, then again to Gemini, which is told all of it; and back.
    claude.says([*thought, text("Yes.")])
    assert await chat.ask("Sure?") == "claude"
    check_claudes_own(claude, chat)
    await clear(daemon)
    claude.says(OUT)
    google.says([*googles, text("Gemini says so too.")])
    assert await chat.ask("Really?") == "google"
    assert chat.said == "Gemini says so too."
    paths = [part["functionCall"]["args"]["path"] for part in _parts(google.last) if "functionCall" in part]
    assert paths == ['a "\u00e9" \\ b', "a2", *"bcdefg"]
    google.says([*googles, text("Still so.")])
    assert await chat.ask("Still?") == "google"
    await clear(daemon)
    claude.says([*thought, text("Good.")])
    assert await chat.ask("Good.") == "claude"
    check_claudes_own(claude, chat)
    assert "Gemini says so too." in json.dumps(claude.last)


def _parts(body: Json) -> list[Json]:
    return [part for content in body["contents"] for part in content["parts"]]


@ensureDeferred
async def test_back_as_soon_as_it_may(start_daemon: StartDaemon, house: House) -> None:
    """Nobody has to wait for Claude, and nobody is left with Gemini, for longer than Claude asked to be left alone."""
    brief = answers.error(429, "rate_limit_error", "slow down", retry_after="4")
    house.claude.says(brief, [text("Claude again.")])
    house.google.says([text("Gemini instead.")], [text("Gemini still.")])
    chat = Chat(await start_daemon(house.config), False, ADAPTIVE)
    began = reactor.seconds()
    assert [await chat.ask("One."), await chat.ask("Two.")] == ["google", "google"]
    assert reactor.seconds() - began < 4.0
    await sleep(4.5)  # four seconds, and what expiries are spread by
    assert await chat.ask("Three.") == "claude"


@ensureDeferred
async def test_only_loops_stay(start_daemon: StartDaemon, house: House) -> None:
    """While one conversation's tool loop stays with Gemini, others begin with Claude, which is ready again."""
    house.claude.says(OUT, [text("Claude to another.")], [text("Claude after the loop.")])
    house.google.says([use("Read", path="a")], [use("Read", path="b")], [text("Done.")])
    daemon = await start_daemon(house.config)
    loop, other = Chat(daemon), Chat(daemon)
    assert await loop.ask("Read.") == "google"
    await clear(daemon)
    assert await loop.return_results("alpha") == "google"
    assert await other.ask("Something else.") == "claude"
    assert await loop.return_results("beta") == "google"
    assert await loop.ask("Thanks.") == "claude"


@ensureDeferred
async def test_thoughts_that_gemini_did_not_have(start_daemon: StartDaemon, house: House) -> None:
    """Claude wants a thought at the head of a loop, and Gemini had none to sign: the client notices nothing of it."""
    house.google_is(Gemini(PRO, signs=False))
    house.google.says([use("Read", path="a")], GOOGLE_OUT)
    house.claude.says(OUT, [text("Done.")])
    daemon = await start_daemon(house.config)
    chat = Chat(daemon, True, BUDGET)
    assert await chat.ask("Read.") == "google"
    await clear(daemon)
    assert await chat.return_results("alpha") == "claude"
    assert chat.said == "Done."
    assert "thinking" not in house.claude.last  # with a budget it refuses such a loop, and it was not asked so


@pytest.mark.parametrize("wish", [ADAPTIVE, {}], ids=["adaptive", "unasked"])
@ensureDeferred
async def test_calls_that_are_called_alike(start_daemon: StartDaemon, house: House, wish: Json) -> None:
    """A server that names its calls alike in every answer and conversation confuses neither Claude nor itself."""
    house.google_is(Gemini(THREE, counts_calls=True))
    house.google.says(*[[use("Read", path=path)] for path in "abcd"], GOOGLE_OUT)
    house.claude.says(OUT, [text("Done.")])
    daemon = await start_daemon(house.config)
    chat, other = Chat(daemon, True, wish), Chat(daemon, True, wish)
    assert await chat.ask("Read.") == "google"
    assert await chat.return_results("alpha") == "google"
    assert await other.ask("Read something else.") == "google"
    assert await chat.return_results("beta") == "google"
    await clear(daemon)
    assert await chat.return_results("gamma") == "claude"
    assert chat.said == "Done."


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
FOUND = {"web": {"uri": "https://example.com/pandas", "title": "On pandas"}}
SEARCHED = {
    "webSearchQueries": ["pandas"],
    "groundingChunks": [FOUND],
    "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 12}, "groundingChunkIndices": [0]}],
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@ensureDeferred
async def test_what_only_one_of_them_knows(start_daemon: StartDaemon, house: House, stream: bool) -> None:
    """Pictures go along; hidden thoughts, sources found on the web and thoughts that led to nothing are in nobody's
    way: what one can say and the other cannot hear comes across as text, or stays where it belongs."""
    hidden = {"type": "redacted_thinking", "data": "EncryptedByClaude=="}
    on_bears = {"type": "web_search_result", "url": "https://example.com/bears", "title": "On bears"}
    cited = {
        **on_bears,
        "type": "web_search_result_location",
        "encrypted_index": "IndexOfClaude==",
        "cited_text": "bears",
    }
    own = [
        {"type": "server_tool_use", "id": "srvtoolu_01Claude", "name": "web_search", "input": {"query": "bears"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_01Claude",
            "content": [{**on_bears, "encrypted_content": "ContentOfClaude==", "page_age": None}],
        },
        {"type": "text", "text": "On bears.", "citations": [cited]},
    ]
    found = gemini.said("Pandas sleep.", finish="STOP")
    found["candidates"][0]["groundingMetadata"] = SEARCHED
    nothing = gemini.said({"text": "Too long a thought", "thought": True}, finish="MAX_TOKENS")
    house.claude.says([hidden, *own, use("Read", path="a.png")], OUT, [text("I see.")])
    google = (gemini.stream(found), gemini.stream(nothing)) if stream else (gemini.whole(found), gemini.whole(nothing))
    house.google.says(*google)
    daemon = await start_daemon(house.config)
    search = {"type": "web_search_20250305", "name": "web_search"}
    chat = Chat(daemon, stream, {**ADAPTIVE, "tools": [*TOOLS, search]})
    assert await chat.ask("What is it?") == "claude"
    (call,) = chat.calls
    assert await chat.ask([{"type": "tool_result", "tool_use_id": call["id"], "content": [IMAGE]}]) == "google"
    assert "iVBORw0KGgo=" in json.dumps(house.google.last)
    heard = json.dumps(house.google.last)
    assert "https://example.com/bears" in heard
    assert all(secret not in heard for secret in ("EncryptedByClaude", "IndexOfClaude", "ContentOfClaude"))
    kinds = [block["type"] for block in chat.heard]
    assert {"server_tool_use", "web_search_tool_result", "text"} == {*kinds}
    assert await chat.ask("And then?") == "google"
    assert [block["type"] for block in chat.heard] == ["thinking"]
    await clear(daemon)
    assert await chat.ask("Go on.") == "claude"
    told = json.dumps(house.claude.last["messages"])
    assert "Pandas sleep." in told
    assert "https://example.com/pandas" in told
    assert "Too long a thought" not in told
    assert all(json.dumps(block) in told for block in house.claude.given[0])


@ensureDeferred
async def test_after_pings(start_daemon: StartDaemon, house: House) -> None:
    """A stream that Claude has begun with nothing but signs of life is Gemini's in the end, and is one message."""
    house.claude.says(answers.then(answers.pings(0.2, 8), answers.cut(b"")))
    house.google.says([thinking("Hm."), text("Gemini says so.")])
    patience = "[pool]\nmax_wait = 0.5\n[streaming]\nhead_commit = 1.0\nkeepalive = 0.3\n"
    chat = Chat(await start_daemon(house.config + patience), True, ADAPTIVE)
    chat.messages.append({"role": "user", "content": "Say so."})
    answer = await chat.post()
    assert (answer.status, answer.whole, answer.text) == (200, True, "Gemini says so.")
    assert wire.types(answer.events).count("message_start") == 1
    assert answer.events[0]["type"] == "ping"


# -- within one request

BEFORE_CONTENT = {
    "529": answers.error(529, "overloaded_error", "Overloaded"),
    "500": answers.error(500),
    "401": answers.error(401, "authentication_error", "invalid x-api-key"),
    "credit": answers.error(400, "invalid_request_error", "Your credit balance is too low to access the API."),
    "too large": answers.error(413, "request_too_large", "Request exceeds the maximum size"),
    "no such model": answers.error(404, "not_found_error", f"model: {MODEL}"),
    "cut before a byte": answers.cut(b""),
    "cut in the head": answers.cut(b"HTTP/1.1 200 OK\r\ncontent-ty"),
    "200 html": answers.whole(b"<html>hello</html>", 200, {"content-type": "text/html"}),
}
BEFORE_CONTENT_OF_A_STREAM = {
    "cut": answers.cut_stream(answers.start_frames()),
    "ended": answers.stream(answers.start_frames()),
    "error": answers.stream([*answers.start_frames(), answers.error_frame()]),
    "damaged": answers.stream([b"event: message_start\ndata: {oh no\n\n"]),
}
_BUSY = gemini.failure(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
OF_GOOGLES = {
    "503": gemini.error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "key": gemini.error(400, "INVALID_ARGUMENT", "API key not valid.", {"reason": "API_KEY_INVALID"}),
    "html": answers.whole(b"<html>", 502, {"content-type": "text/html"}),
    "cut before a byte": answers.cut(b""),
}
OF_GOOGLES_STREAMS = {
    "error": gemini.stream(_BUSY),
    "error after nothing": gemini.stream(gemini.said(""), _BUSY),
    "array": gemini.whole([_BUSY]),
    "cut": answers.cut_stream([gemini.frame(gemini.said(""))]),
    "ended": gemini.stream(gemini.said("")),
}


def cases(of_both: dict[str, Answer], of_streams: dict[str, Answer]) -> Any:
    told = [(answer, stream) for stream in (True, False) for answer in of_both.values()]
    names = [f"{name}, {kind}" for kind in ("stream", "whole") for name in of_both]
    told += [(answer, True) for answer in of_streams.values()]
    return pytest.mark.parametrize(("failure", "stream"), told, ids=[*names, *(f"{name} in it" for name in of_streams)])


@cases(BEFORE_CONTENT, BEFORE_CONTENT_OF_A_STREAM)
@ensureDeferred
async def test_claude_fails(start_daemon: StartDaemon, house: House, failure: Answer, stream: bool) -> None:
    """However Claude fails before it has said anything, Gemini answers the same request, and nothing tells of it."""
    house.claude.says(failure)
    house.google.says([thinking("Hm."), text("Gemini says so.")])
    chat = Chat(await start_daemon(house.config), stream, ADAPTIVE)
    assert await chat.ask("Say so.") == "google"
    assert (chat.said, house.asked) == ("Gemini says so.", (1, 1))


@cases(OF_GOOGLES, OF_GOOGLES_STREAMS)
@ensureDeferred
async def test_gemini_fails(start_daemon: StartDaemon, house: House, failure: Answer, stream: bool) -> None:
    """The same the other way round."""
    house.google.says(failure)
    house.claude.says([thinking("Hm."), text("Claude says so.")])
    chat = Chat(await start_daemon(house.with_gemini_first), stream, ADAPTIVE)
    assert await chat.ask("Say so.") == "claude"
    assert (chat.heard, house.asked) == (house.claude.given[-1], (1, 1))


@pytest.mark.parametrize(
    ("of_google", "failure"),
    [
        (
            False,
            answers.stream([*answers.start_frames(), answers.text_frame("half"), answers.error_frame()], apart=True),
        ),
        (False, answers.cut_stream([*answers.start_frames(), answers.text_frame("half")])),
        (True, gemini.stream(gemini.said("half"), _BUSY, apart=True)),
        (True, answers.cut_stream([gemini.frame(gemini.said("half"))])),
        (True, gemini.stream(gemini.said("half"))),
    ],
    ids=["Claude's error", "Claude cut", "Gemini's error", "Gemini cut", "Gemini without an end"],
)
@ensureDeferred
async def test_fails_amid_the_answer(start_daemon: StartDaemon, house: House, of_google: bool, failure: Answer) -> None:
    """Half an answer is never ended by another model: it ends in an error, which the client cannot overlook."""
    first: Side = house.google if of_google else house.claude
    first.says(failure)
    chat = Chat(await start_daemon(house.with_gemini_first if of_google else house.config))
    chat.messages.append({"role": "user", "content": "Say so."})
    answer = await chat.post()
    assert (answer.status, answer.text) == (200, "half")
    assert wire.types(answer.events)[-1] == "error"
    assert wire.types(answer.events).count("error") == 1
    assert sum(house.asked) == 1


# -- what Gemini cannot carry

_GIF = {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0lGODlhAQABAAAAACw="}}
ONLY_CLAUDE = {
    "safeguards": ({"safeguards": {"level": "strict"}}, "Look."),
    "GIF": ({}, [_GIF, text("Look.")]),
    "computer": ({"tools": [{"type": "computer_20251124", "name": "computer"}]}, "Look."),
}
only_claude = pytest.mark.parametrize(("more", "content"), ONLY_CLAUDE.values(), ids=ONLY_CLAUDE)


@only_claude
@ensureDeferred
async def test_not_sent_where_it_cannot_be_carried(
    start_daemon: StartDaemon, house: House, more: Json, content: Any
) -> None:
    """Such a request never reaches Gemini; while Claude is out for long its client is told so at once, and for what."""
    house.claude.says(OUT)
    chat = Chat(await start_daemon(house.config), request=more)
    chat.messages.append({"role": "user", "content": content})
    began = reactor.seconds()
    for _ in range(2):
        answer = await chat.post()
        assert (answer.status, answer.json["error"]["type"]) == (429, "rate_limit_error"), answer.body
        assert "ready again in" in answer.json["error"]["message"]
    assert reactor.seconds() - began < 15.0  # with a wait in the queue it would be thirty seconds and more
    assert house.asked == (1, 0)


@only_claude
@ensureDeferred
async def test_waits_for_claude(start_daemon: StartDaemon, house: House, more: Json, content: Any) -> None:
    """Where Claude is out for seconds only, such a request waits for it; others are answered by Gemini meanwhile."""
    brief = answers.error(429, "rate_limit_error", "slow down", retry_after="2")
    house.claude.says(brief, [text("Claude after all.")])
    house.google.says([text("Gemini.")])
    daemon = await start_daemon(house.config)
    began = reactor.seconds()
    assert await Chat(daemon).ask("Anything.") == "google"
    assert await Chat(daemon, request=more).ask(content) == "claude"
    assert reactor.seconds() - began > 1.9
    assert house.asked == (2, 1)


@only_claude
@ensureDeferred
async def test_nobody_can_carry_it(start_daemon: StartDaemon, house: House, more: Json, content: Any) -> None:
    """A model that is on Gemini alone refuses such a request in words that name the cause; it goes nowhere."""
    only = house.config.replace('{ provider = "claude" }, ', "")
    chat = Chat(await start_daemon(only), request=more)
    chat.messages.append({"role": "user", "content": content})
    answer = await chat.post()
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert "not supported" in answer.json["error"]["message"]
    assert house.asked == (0, 0)


# -- counting


@ensureDeferred
async def test_counts(start_daemon: StartDaemon, house: House) -> None:
    """Tokens are counted by Claude, or where its quota for that is used up by Gemini, tools and history and all."""
    house.claude.says(OUT)
    house.google.says([use("Read", path="a")], [text("Done.")])
    daemon = await start_daemon(house.config)
    chat = Chat(daemon, request=ADAPTIVE)
    await chat.ask("Read.")
    await chat.return_results("alpha")
    chat.messages.append({"role": "user", "content": "And now?"})

    async def count() -> tuple[Any, str]:
        answer = await chat.post("/v1/messages/count_tokens")
        return answer.json.get("input_tokens"), answer.headers["x-claudeproxyd-provider"]

    assert await count() == (31, "claude")  # which rests for messages, not for counts
    house.claude.counts = OUT
    assert await count() == (41, "google")
    assert await count() == (41, "google")
    assert (len(house.claude.counted), len(house.google.counted)) == (2, 2)
    (counted,) = {json.dumps(json.loads(body)["generateContentRequest"]["tools"]) for body in house.google.counted}
    assert "Read" in counted


@pytest.mark.alone
@ensureDeferred
async def test_second_family_costs_nothing(start_daemon: StartDaemon, house: House) -> None:
    """While Claude serves, a request is not translated for Gemini: a large one costs the daemon no more than ever."""
    google = '{ provider = "google", model = "gemini-3-pro-preview" }'
    models = {
        "claude-alone": '{ provider = "claude" }',
        "claude-first": f'{{ provider = "claude" }}, {google}',
        "claude-never": google,
    }
    sections = "".join(f'[[models]]\nname = "{name}"\nroutes = [{routes}]\n' for name, routes in models.items())
    daemon = await start_daemon(sections + house.config[house.config.index("[[providers]]") :])
    turns = [{"role": "user", "content": "word " * 200}, {"role": "assistant", "content": "yes " * 200}] * 110
    spent: dict[str, float] = {}
    number = 80
    for name in models:
        house.claude.says(*[[text("Yes.")] for _ in range(number)])
        house.google.says(*[[text("Yes.")] for _ in range(number)])
        chat = Chat(daemon, False, {"model": name}, [*turns, {"role": "user", "content": "Well?"}])
        await chat.post()
        assert len(chat.sent) > 200_000
        before = cpu(daemon)
        for _ in range(number - 1):
            assert (await chat.post()).status == 200
        spent[name] = (cpu(daemon) - before) / number * 1000
    print("ms of the daemon's time for each request of 200 KB:", spent)
    assert spent["claude-first"] - spent["claude-alone"] < (spent["claude-never"] - spent["claude-alone"]) / 3


# -- memory


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
@ensureDeferred
async def test_restart(start_daemon: StartDaemon, house: House, tmp_path: Path, crash: bool) -> None:
    """A daemon that is started again in mid loop sends Gemini its own signatures, which no client has seen."""
    house.claude.says(OUT)
    house.google.says([use("Read", path="a"), use("Read", path="b")], [text("Done.")], [text("Yes.")])
    state = f"sqlite:{tmp_path / 'state.db'}"
    daemon = await start_daemon(house.config, state=state)
    chat = Chat(daemon)
    assert await chat.ask("Read.") == "google"
    if crash:
        await eventually("what was signed is in the file", lambda: _kept(tmp_path / "state.db") >= {"signature"})
        await daemon.kill()
    else:
        await daemon.stop()
    chat.daemon = await start_daemon(house.config, state=state)
    assert await chat.return_results("alpha", "beta") == "google"
    assert _signed(house.google.last) == list(house.google.signatures)[:1]
    await chat.daemon.stop()
    chat.daemon = await start_daemon(house.config, state=state)
    assert await chat.ask("Sure?") == "google"
    assert _signed(house.google.last) == list(house.google.signatures)[:2]


@needs(redis_server)
@ensureDeferred
async def test_another_daemon(start_daemon: StartDaemon, house: House) -> None:
    """Daemons that share a Redis take turns in one conversation, and Gemini gets its signatures from either."""
    redis = Redis()
    await redis.start()
    try:
        house.claude.says(OUT)
        house.google.says([use("Read", path="a")], [use("Read", path="b")], [text("Done.")], [text("Yes.")])
        daemons = [await start_daemon(house.config, state=redis.url) for _ in range(2)]
        chat = Chat(daemons[0])
        assert await chat.ask("Read.") == "google"
        for number, step in enumerate((("alpha",), ("beta",), None), 1):
            chat.daemon = daemons[number % 2]
            await eventually("the other has heard of it", partial(_knows, chat.daemon, number))
            assert await (chat.ask("Sure?") if step is None else chat.return_results(*step)) == "google"
            assert _signed(house.google.last) == list(house.google.signatures)[:number]
        assert len(house.claude.bodies) == 1
        for daemon in daemons:
            await daemon.stop()
    finally:
        await redis.stop()


async def _knows(daemon: Daemon, signatures: int) -> bool:
    return (await daemon.metrics())["claudeproxyd_signatures{}"] == signatures


def _kept(path: Path) -> set[str]:
    """What a state file holds: the first words of its keys."""
    with closing(sqlite3.connect(path)) as connection:
        return {json.loads(key)[0] for (key,) in connection.execute("SELECT key FROM state")}


def _signed(body: Json) -> list[str]:
    return [part["thoughtSignature"] for part in _parts(body) if "thoughtSignature" in part]


# -- clients


@pytest.mark.parametrize(
    ("stream", "wish"),
    [("true", ADAPTIVE), ("false", BUDGET), ("true", {})],
    ids=["adaptive", "budget, whole", "unasked"],
)
@each_sdk
@ensureDeferred
async def test_tool_runner(start_daemon: StartDaemon, house: House, sdk: Client, stream: str, wish: Json) -> None:
    """An SDK's tool runner comes to its end, nothing lost, though the quota of each family ends in the middle."""
    thought = [thinking("Let me see.")] if wish else []
    brief = answers.error(429, "rate_limit_error", "slow down", retry_after="1")
    house.claude.says([*thought, use("Read", path="a")], brief, [*thought, text("All "), text("done.")])
    house.google.says([*thought, use("Read", path="b"), use("Grep", path="c")], [use("Grep", path="d")], GOOGLE_OUT)
    daemon = await start_daemon(house.config)
    assert await run_tools(sdk, daemon, stream, wish) == "All done."
    assert len(house.claude.given) == 2
    results = [block["content"] for message in house.claude.asked for block in _results(message)]
    assert [_text(each) for each in results] == ["contents of a", "contents of b", "found in c", "found in d"]
    assert all(block in house.claude.asked[1]["content"] for block in house.claude.given[0])


@each_sdk
@ensureDeferred
async def test_tool_runner_on_gemini_alone(start_daemon: StartDaemon, house: House, sdk: Client) -> None:
    """An SDK's tool runner works where no Claude is, though it takes it for granted that the API keeps its thread."""
    house.google.says([use("Read", path="a"), use("Grep", path="b")], [use("Grep", path="c")], [text("All done.")])
    daemon = await start_daemon(house.config.replace('{ provider = "claude" }, ', ""))
    assert await run_tools(sdk, daemon, "true", ADAPTIVE) == "All done."
    assert house.asked == (0, 3)


@each_sdk
@ensureDeferred
async def test_tool_runner_on_two_accounts(start_daemon: StartDaemon, house: House, sdk: Client) -> None:
    """An SDK's tool runner works on keys of several accounts, none of which knows of the others' threads."""
    house.claude.says([use("Read", path="a")], [use("Grep", path="b")], [use("Read", path="c")], [text("All done.")])
    more = provider(house.upstreams[0], "key-a", "key-b", "key-c", name="claude")
    daemon = await start_daemon("[pool]\naffinity = false\n" + more)
    assert await run_tools(sdk, daemon, "true", ADAPTIVE) == "All done."
    assert len(house.claude.asked) == 7


async def run_tools(sdk: Client, daemon: Daemon, stream: str, wish: Json) -> str:
    """What the SDK's tool runner says in the end."""
    request = {"model": MODEL, "max_tokens": 4000, "messages": [{"role": "user", "content": "Look."}], **wish}
    result = await sdks.program(sdk, "runner", daemon.url, "client-key", stream, json.dumps(request))
    assert result.code == 0, result
    return result.out.strip()


def _results(message: Json) -> list[Json]:
    content = message["content"]
    return [] if isinstance(content, str) else [block for block in content if block["type"] == "tool_result"]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


@pytest.mark.parametrize("model", [THREE, PRO])
@ensureDeferred
async def test_claude_code(start_daemon: StartDaemon, house: House, tmp_path: Path, model: str) -> None:
    """Claude Code reads a file, writes another, and ends well, though Claude is out and Gemini writes the second."""
    house.google_is(Gemini(model))
    (tmp_path / "in.txt").write_text("the words in it")
    brief = answers.error(429, "rate_limit_error", "slow down", retry_after="2")
    wrote = tmp_path / "out.txt"
    house.claude.says([thinking(""), use("Read", file_path=str(tmp_path / "in.txt"))], brief, [text("All done.")])
    house.google.says([use("Write", file_path=str(wrote), content="words of Gemini's")], GOOGLE_OUT)
    daemon = await start_daemon(house.config)
    result = await prompt(daemon.url, "Copy it.", tmp_path, *AS_LINES, "--allowedTools", "Read,Write")
    told = lines(result)
    assert (result.code, told[-1]["subtype"], told[-1]["result"]) == (0, "success", "All done."), result
    assert wrote.read_text() == "words of Gemini's"
    assert house.asked == (3, 2)
    assert "the words in it" in json.dumps(house.google.last)
    given = house.claude.given[0]
    assert given in [message["content"] for message in house.claude.last["messages"]]
