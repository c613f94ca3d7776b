"""All families at once, for a while: keys that fail, clients that leave or stall, reloads and restarts.

Two minutes of it, or as many seconds as ``SOAK_SECONDS`` says (``make soak``: half an hour).
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import ensureDeferred as start
from twisted.internet.error import ConnectionLost

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, bedrock, chat, gemini, responses, wire
from tests.integration.support.daemon import ROOT, Daemon, provider
from tests.integration.support.process import eventually, sleep
from tests.integration.support.upstream import Answer, Exchange, Upstream

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
ROUND = 10.0
"""Seconds of traffic, in the middle of which there is a reload, and after which all is looked at."""
RESTARTS = 3
CLIENTS = 24
#: What must be none once nobody asks for anything.
NONE = ("pool_in_flight_attempts{}", "pool_waiting_requests{}", "open_streams{}", "buffered_bytes{}")
GROWTH = 16_000_000
"""Bytes that the memory of one daemon may grow by after its first round."""
SPARE_TIMERS = 20
"""Those of connections that are kept, and of credentials that rest."""
KEYS = tuple(f"key-{n}" for n in range(3))


class Moody:
    """An upstream that is ill now and then: it refuses, hangs up, or cuts an answer somewhere."""

    def __init__(self, upstream: Upstream, model: str, usual: Answer, refusal: Answer, config: str) -> None:
        self.upstream = upstream
        self.model = model
        self.config = config
        """Its providers, as lines to be filled with its URL."""
        self.cuts = 0
        self._usual = usual
        self._refusal = refusal
        self._dice = random.Random(model)
        upstream.script(self._answer)

    async def _answer(self, exchange: Exchange) -> None:
        mood = self._dice.random()
        await exchange.sleep(self._dice.random() / 50)
        if mood < 0.03:
            await self._refusal(exchange)
        elif mood < 0.05:
            exchange.close()
        elif mood < 0.08:
            self.cuts += 1
            self._cut(exchange, self._dice.randrange(20, 1_500))
            await self._usual(exchange)
        else:
            await self._usual(exchange)

    def _cut(self, exchange: Exchange, room: int) -> None:
        """Let the connection break once *room* bytes of the answer are written."""
        write = exchange.write

        async def limited(data: bytes) -> None:
            nonlocal room
            await write(data[:room])
            room -= len(data)
            if room <= 0:
                exchange.close()
                raise ConnectionLost

        exchange.write = limited  # type: ignore[method-assign]


async def streams(exchange: Exchange) -> None:
    """A Claude stream in several writes, or a whole message."""
    slow = answers.stream(answers.frames(*["word "] * 20), pace=0.002)
    await answers.either(answers.whole(), slow)(exchange)


def section(kind: str) -> str:
    """A provider that the model of its own name goes to."""
    return f'[[models]]\nname = "{kind}"\nroutes = [{{ provider = "{kind}", model = "MODEL" }}]\n' + provider(
        "URL", *KEYS, name=kind, kind=kind
    )


def moods() -> list[Moody]:
    """One of each family."""
    pairs = (bedrock.pair("AKIDEXAMPLE"), bedrock.pair("AKIDOTHER"))
    of_bedrock = section("bedrock").partition("[[providers]]")[0] + bedrock.section("URL", *pairs).replace(
        '"up"', '"bedrock"'
    )
    overloaded = answers.error(529, "overloaded_error", "Overloaded")
    openai = chat.whole(chat.failure("slow down", "rate_limit_exceeded"), 429, **{"retry-after": "1"})
    return [
        Moody(Upstream(), "claude-opus-5-5", streams, overloaded, section("anthropic")),
        Moody(
            gemini.Gemini(),
            "gemini-2.5-pro",
            gemini.saying(*["word "] * 20),
            gemini.error(503, "UNAVAILABLE", "The model is overloaded."),
            section("gemini"),
        ),
        Moody(chat.ChatServer(), "gpt-4.1", chat.saying(*["word "] * 20), openai, section("openai-chat")),
        Moody(responses.Responses(), "gpt-5.4", responses.saying("word " * 20), openai, section("openai-responses")),
        Moody(
            bedrock.Bedrock(time.time),
            bedrock.OPUS,
            bedrock.usual(),
            bedrock.refusal(503, "ServiceUnavailableException", "Too many connections"),
            of_bedrock,
        ),
    ]


class Soak:
    """Clients and the daemon that they ask, with gates in between."""

    def __init__(self, start_daemon: StartDaemon, folder: Path, moods: list[Moody]) -> None:
        self._start = start_daemon
        self._folder = folder
        self._moods = moods
        self._timers = folder / "timers"
        self._dice = random.Random(7)
        self._closed: Deferred[None] | None = None
        """Fires when the gate opens: nobody asks ahead of that."""
        self._under_way = 0
        self._over = False
        self.daemon: Daemon
        self.answers: Counter[str] = Counter()
        self.reloads = 0

    @property
    def cuts(self) -> int:
        return sum(mood.cuts for mood in self._moods)

    def config(self) -> str:
        """The daemon's, a little different each time."""
        self.reloads += 1
        filled = [mood.config.replace("URL", mood.upstream.url).replace("MODEL", mood.model) for mood in self._moods]
        return "".join(filled) + f"[pool]\nmax_wait = {20 + self.reloads % 2}\n"

    async def run(self) -> None:
        """Traffic, round by round, with a look at the daemon after each."""
        rounds = max(RESTARTS + 1, int(SECONDS / ROUND))
        last_of_daemon = rounds // (RESTARTS + 1)
        first: tuple[int, int, int] | None = None
        await self._begin()
        clients = [start(self._client()) for _ in range(CLIENTS)]
        for number in range(rounds):
            await sleep(ROUND / 2)
            before = self.daemon.log.count("reloaded")
            self.daemon.rewrite(self.config())
            self.daemon.signal("HUP")
            await sleep(ROUND / 2)
            assert self.daemon.log.count("reloaded") == before + 1, self.daemon.log[-2_000:]
            self._closed = Deferred()
            if number % last_of_daemon == last_of_daemon - 1 and number < rounds - 1:
                # Those under way are not waited for: it is the drain that ends them well.
                await self.daemon.stop()
                await self._begin()
                first = None
            else:
                now = await self._levels()
                print(f"round {number}: {sum(self.answers.values())} answers, levels {now}", flush=True)
                if first is None:
                    first = now
                else:
                    memory, descriptors, timers = (new - old for new, old in zip(now, first, strict=True))
                    assert memory < GROWTH
                    assert descriptors <= 0
                    assert timers <= SPARE_TIMERS
            closed, self._closed = self._closed, None
            closed.callback(None)
        self._over = True
        await gatherResults(clients, consumeErrors=True)

    async def _begin(self) -> None:
        env = {"PYTHONPATH": f"{Path(__file__).parent / 'support' / 'timers'}:{ROOT}", "TIMERS": str(self._timers)}
        self.daemon = await self._start(
            self.config(), env=env, state=f"sqlite:{self._folder / 'state.db'}", server="lame_duck = 0.5"
        )

    async def _levels(self) -> tuple[int, int, int]:
        """Memory, descriptors and timers once nobody asks for anything; nothing else is held then."""

        async def nothing_is_held() -> bool:
            figures = await self.daemon.metrics()
            return not self._under_way and not any(figures[f"claudeproxyd_{name}"] for name in NONE)

        await eventually("nothing is held", nothing_is_held)
        self._timers.unlink(missing_ok=True)

        async def told() -> bool:
            await wire.get(self.daemon.port, "/healthz")
            return self._timers.exists()

        await eventually("the timers are counted", told)
        kept = sum(len(mood.upstream.connections) for mood in self._moods)
        return self.daemon.rss, self.daemon.descriptors - kept, int(self._timers.read_text())

    async def _client(self) -> None:
        while not self._over:
            if self._closed is not None:
                opened: Deferred[None] = Deferred()
                self._closed.chainDeferred(opened)
                await opened
                continue
            self._under_way += 1
            try:
                self.answers[await self._one()] += 1
            finally:
                self._under_way -= 1

    async def _one(self) -> str:
        """One request, and what came of it."""
        mood = self._dice.choice(self._moods)
        message = wire.Message(model=mood.config.split('"')[1], stream=self._dice.random() < 0.7)
        client = await wire.stream(self.daemon.port, message)
        fate = self._dice.random()
        try:
            if fate < 0.1:
                await sleep(self._dice.random() / 20)
                return "left"
            answer = await client.head(60)
            if fate < 0.2:
                return "left"
            if fate < 0.25:
                client.stop_reading()
                await sleep(0.5)
                client.read_on()
            await client.body(answer, 60)
        except EOFError:
            return "without an answer"
        finally:
            client.reset()
        if not answer.whole:
            return "cut"
        if answer.status != 200:
            return f"{answer.status} {answer.json['error']['message'][:80]}"
        if message.stream:
            return {b"message_stop": "whole", b"error": "broken"}.get(
                answer.body.rpartition(b"event: ")[2].partition(b"\n")[0], "without an end"
            )
        return "whole" if answer.json["type"] == "message" else "no message"


@pytest.mark.long
@ensureDeferred
async def test_soak(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Nothing is lost, and memory, sockets, leases and timers stay level."""
    ill = moods()
    for mood in ill:
        await mood.upstream.start()
    try:
        soak = Soak(start_daemon, tmp_path, ill)
        await soak.run()
    finally:
        for mood in ill:
            await mood.upstream.stop()
    print(dict(soak.answers), "cuts:", soak.cuts)
    told = soak.answers
    assert told.pop("left") > 0
    assert told.pop("broken", 0) <= soak.cuts
    whole = told.pop("whole")
    assert whole > 10 * SECONDS
    assert sum(told.values()) <= whole / 1_000, told
