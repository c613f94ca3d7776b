"""One conversation, whose turns a daemon takes to every family of APIs, each of which judges what it is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest_twisted
from pydantic import ValidationError
from pytest_twisted import ensureDeferred

from tests.golden.every.answers import Json, Saying
from tests.golden.every.backends import BACKENDS, Backend, OwnWords
from tests.golden.every.clients import without_thoughts
from tests.golden.every.session import TURNS, Session
from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.upstream import Answer, Exchange, Upstream
from tests.messages.accumulate import accumulate

STREAM_OF_AWS = {"content-type": "application/vnd.amazon.eventstream"}


def kind_of(backend: Backend) -> str:
    """Of a provider that is this one."""
    if isinstance(backend, OwnWords):
        return "bedrock" if backend.on_bedrock else "anthropic"
    return {"gemini": backend.kind, "openai_chat": "openai-chat", "openai_responses": "openai-responses"}.get(
        backend.folder, "bedrock"
    )


def section(url: str, number: int) -> str:
    """The provider that is the backend of that number."""
    backend = BACKENDS[number]
    key = f"key-{number}"
    match kind_of(backend):
        case "bedrock":
            text = provider(url, key, name=key, kind="bedrock")
            return text.replace("api_key", "bearer_token") + 'region = "us-east-1"\n'
        case "openai-chat":
            dialect = f'dialect = "{backend.kind}"' if backend.kind else ""
            return provider(url + "/v1", key, name=key, kind="openai-chat", more=dialect)
        case "openai-responses" as kind:
            return provider(url + "/v1", key, name=key, kind=kind)
        case kind:
            return provider(url, key, name=key, kind=kind)


def models() -> str:
    """A model for each backend, which leads to it first, and for what it cannot be told to all others."""
    sections = []
    for first in range(len(BACKENDS)):
        order = [*range(first, len(BACKENDS)), *range(first)]
        routes = ", ".join(f'{{ provider = "key-{number}", model = "{upstream_model(number)}" }}' for number in order)
        sections.append(f'[[models]]\nname = "to-{first}"\nroutes = [{routes}]\n')
    return "".join(sections)


def upstream_model(number: int) -> str:
    """Its name there."""
    backend = BACKENDS[number]
    on_bedrock = isinstance(backend, OwnWords) and backend.on_bedrock
    return f"us.anthropic.{backend.model}" if on_bedrock else backend.model


class Everywhere(Upstream):
    """All upstreams in one: it knows by the key whose API it is to be."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(0)
        self.request: Json = {}
        """What the client has asked."""
        self.said: tuple[Backend, Saying] | None = None
        """Who answered it, and what."""
        self.refused: list[str] = []
        self.deck: list[int] = []
        """Whom the next turns are dealt to, so that all have as many."""

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        if exchange.request.line.startswith("GET "):
            return answers.whole(b"{}", 404)
        self.requests.append(exchange.request)
        backend = BACKENDS[int(exchange.request.key.rpartition("-")[2])]
        try:
            return self._answer(backend, exchange.request.json, exchange.request.path)
        except (AssertionError, ValidationError) as why:
            self.refused.append(f"{self.session.place(backend)}: {why}\n{exchange.request.body.decode()}")
            return answers.whole(b'{"error": {"message": "it is refused", "type": "invalid_request_error"}}', 400)

    def _answer(self, backend: Backend, sent: Json, path: str) -> Answer:
        session = self.session
        streams = sent.pop("stream", False) or "stream" in path.lower()
        sent.pop("stream_options", None)
        seals = {each.saying.seal() for each in session.given}
        backend.judge(self.request, sent, seals)
        session.check_words(backend, self.request, sent)
        saying = session.says(backend, self.request, backend.tools(sent))
        self.said = backend, saying
        if not streams:
            return answers.whole(backend.whole(saying))
        return answers.stream(backend.reads(saying), headers=STREAM_OF_AWS if kind_of(backend) == "bedrock" else None)


@pytest_twisted.async_yield_fixture
async def everywhere() -> AsyncIterator[Everywhere]:
    """Upstreams that refused nothing in the test."""
    upstream = Everywhere()
    await upstream.start()
    yield upstream
    await upstream.stop()
    assert upstream.refused == []


@ensureDeferred
async def test_every_backend(start_daemon: StartDaemon, everywhere: Everywhere) -> None:
    """No upstream refuses a turn, nothing is lost between them, and whose reasoning it was stays with him."""
    providers = "".join(section(everywhere.url, number) for number in range(len(BACKENDS)))
    daemon = await start_daemon("[pool]\naffinity = false\n" + models() + providers)
    answered: set[str] = set()
    sessions = [*map(Session, range(7)), Session(7, without_thoughts), Session(9, retries=True)]
    for place, session in enumerate(sessions):
        session.number = 100 * place
        everywhere.session = session
        for _ in range(TURNS):
            await take_turn(daemon, everywhere)
        answered |= session.dealt.keys()
    assert answered == {backend.name for backend in BACKENDS}


async def take_turn(daemon: Daemon, everywhere: Everywhere) -> None:
    """One request, to whoever is dealt it, streamed or whole."""
    session = everywhere.session
    session.ask()
    streamed = session.chance.random() < 0.5
    everywhere.deck = everywhere.deck or session.chance.sample(range(len(BACKENDS)), len(BACKENDS))
    name = f"to-{everywhere.deck.pop()}"
    everywhere.request = {**session.request(), "model": name}
    answer = await wire.post(daemon.port, json.dumps({**everywhere.request, "stream": streamed}).encode())
    assert (answer.status, answer.whole) == (200, True), (answer.body, everywhere.refused)
    message = accumulate(answer.body) if streamed else answer.json
    assert everywhere.said is not None
    backend, saying = everywhere.said
    assert answer.headers["x-claudeproxyd-provider"] == f"key-{BACKENDS.index(backend)}"
    assert isinstance(backend, OwnWords) or message["model"] == name
    backend.check_answer(everywhere.request, saying, message)
    session.hears(backend, saying, message)
