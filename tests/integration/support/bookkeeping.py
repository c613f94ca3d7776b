"""An upstream that counts its own tokens, and clients that leave when they like: for ledgers to be compared with."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from twisted.internet.error import ConnectError, ConnectionLost

from tests.integration.support import answers, counting, wire
from tests.integration.support.upstream import Exchange

PROSE = "say it or not, "
"""What prompts consist of: some four bytes are a token, by the daemon's estimates as by this upstream's count."""
INPUT_USD, OUTPUT_USD, READ_USD = 3, 15, 1
"""For a million tokens; whole nano-dollars for each."""

_NAME = re.compile(rb"call-\d+")
#: What an upstream may do with one attempt.
OK, OVERLOADED, RESET, CUT_EARLY, CUT = "ok", "overloaded", "reset", "cut early", "cut"


@dataclass
class Entry:
    """What the upstream has counted of one attempt."""

    key: str
    input: int
    read: int
    output: int = 0
    """Of what it has sent."""
    status: int = 0
    whole: bool = False
    """It has said how many tokens there were in the end."""
    over: bool = False

    @property
    def nano_usd(self) -> int:
        """Its bill."""
        usd = self.input * INPUT_USD + self.read * READ_USD + self.output * OUTPUT_USD
        return usd * 1_000


@dataclass
class Call:
    """One request that a client makes."""

    name: str
    """In its ``metadata``, and so the session's; and in its prompt."""
    api: counting.Api
    """That it goes to."""
    client: str
    streamed: bool
    words: int
    """Of the prompt, some five bytes each."""
    does: list[str]
    """What the upstream does with its attempts, one after another; the last for all that follow."""
    leaves_after: int | None = None
    """Bytes of the answer; 0: when the request is out, None: never."""

    def body(self) -> bytes:
        """The request."""
        return wire.Message(
            model=self.api.kind,
            stream=self.streamed,
            prompt=f"{self.name}: " + (PROSE * self.words)[: 5 * self.words],
            max_tokens=500,
            more={"metadata": {"user_id": self.name}, "system": "You count."},
        ).encode()


@dataclass
class Bookkeeper:
    """The upstream's side: an answer for :meth:`Upstream.script` that keeps books by the names of calls."""

    random: Random
    calls: dict[str, Call] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))

    async def __call__(self, exchange: Exchange) -> None:
        """Answer as the call's script says, and count what is sent."""
        request = exchange.request
        if "count_tokens" in request.path:
            await answers.whole(b'{"input_tokens": 11}')(exchange)
            return
        found = _NAME.search(request.body)
        assert found is not None, request.body
        name = found[0].decode()
        call, entries = self.calls[name], self.entries[name]
        tokens = len(call.body()) // 4
        read = tokens // 3 if len(name) % 2 else 0
        entry = Entry(request.key, tokens - read, read)
        does = call.does[min(len(entries), len(call.does) - 1)]
        entries.append(entry)
        try:
            if does in (OK, CUT, CUT_EARLY):
                await exchange.sleep(self.random.choice((0.0, 0.0, 0.02)))
                entry.status = 200
                await (self._stream if call.streamed else self._whole)(exchange, entry, call.api, does)
            else:
                entry.input = entry.read = 0  # it was not looked at
                await self._refuse(exchange, entry, call, does)
        finally:
            entry.over = True

    async def _refuse(self, exchange: Exchange, entry: Entry, call: Call, does: str) -> None:
        if does == OVERLOADED:
            entry.status = 529
            await call.api.overloaded(exchange)
        else:
            await answers.cut(b"", reset=True)(exchange)

    async def _whole(self, exchange: Exchange, entry: Entry, api: counting.Api, does: str) -> None:
        words = entry.output = self.random.randint(1, 60)
        body = api.whole(entry, "word" * words)
        head = answers.head(200, {**answers.JSON, "content-length": str(len(body)), "request-id": "req_up"})
        if does == OK:
            entry.whole = True
            await exchange.write(head + body)
        else:  # counted here, and nobody will ever know
            await answers.cut(head + body[:20])(exchange)

    async def _stream(self, exchange: Exchange, entry: Entry, api: counting.Api, does: str) -> None:
        deltas = self.random.randint(2, 12)
        until = {OK: deltas, CUT: deltas // 2, CUT_EARLY: 0}[does]
        await exchange.write(answers.head(200, {"content-type": api.streamed, "transfer-encoding": "chunked"}))
        if started := api.start(entry):
            await exchange.write(answers.chunk(started))
        for _ in range(until):
            words = self.random.randint(5, 20)
            await exchange.write(answers.chunk(api.delta("word" * words)))
            entry.output += words
            await exchange.sleep(self.random.choice((0.0, 0.005, 0.01)))
        if does == OK:
            entry.whole = True
            await exchange.write(answers.chunk(api.end(entry, "word" * entry.output)) + answers.chunk(b""))
        else:
            await answers.cut(b"", reset=True)(exchange)


def plan(count: int, clients: int, random: Random) -> list[Call]:
    """Calls of every kind."""
    fates = [[OK]] * 6 + [[OVERLOADED, OK], [RESET, OK], [CUT_EARLY, OK], [CUT]]
    calls = []
    for number in range(count):
        leaves = (
            None if random.random() < 0.75 else random.choice((0, 1, random.randint(1, 400), random.randint(1, 3000)))
        )
        calls.append(
            Call(
                name=f"call-{number}",
                api=random.choice((counting.ALL[0], *counting.ALL)),
                client=f"client-{random.randrange(clients)}",
                streamed=random.random() < 0.6,
                words=random.randint(20, 400),
                does=random.choice(fates),
                leaves_after=leaves,
            )
        )
    return calls


async def make(call: Call, port: int) -> bool:
    """Make it; False: the daemon was gone before the answer was whole, without that anybody left."""
    try:
        connection = await wire.Wire.connect(port)
    except ConnectError:
        return False
    try:
        headers = {**wire.VERSION, "x-api-key": f"key-of-{call.client}", "connection": "close"}
        connection.request("POST", "/v1/messages", call.body(), headers)
        if call.leaves_after is not None:
            await connection.take(call.leaves_after)
            return True
        answer = await connection.body(await connection.head())
        return answer.whole or (answer.status == 200 and call.does[-1] == CUT)
    except (EOFError, ConnectionLost):
        return call.leaves_after is not None  # there were fewer bytes
    finally:
        connection.reset()


class Crowd:
    """Some workers that make calls, one after another each, wherever the daemon is."""

    def __init__(self, calls: list[Call], port: Callable[[], Awaitable[int]]) -> None:
        """*port* waits until there is a daemon."""
        self.waiting = list(reversed(calls))
        self.again: list[Call] = []
        self._port = port
        self.made = 0

    async def work(self) -> None:
        """Make calls until none is left."""
        while self.waiting:
            call = self.waiting.pop()
            await make(call, await self._port())
            self.made += 1
