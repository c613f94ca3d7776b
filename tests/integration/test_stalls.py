"""No input holds the reactor for long: each bound of the configuration at its limit, and what costs most within it.

The figures are of CPU, so that a busy machine does not change them; benchmarks/RESULTS.md keeps the worst.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_twisted
import zstandard
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as start
from twisted.internet.defer import gatherResults

from claudeproxyd.messages.ids import mint_signature
from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support import gemini as google
from tests.integration.support.daemon import provider
from tests.integration.support.gemini import Gemini
from tests.integration.support.process import eventually
from tests.integration.support.stalls import LONGEST, LONGEST_OF_LARGE, Meter, told
from tests.integration.support.upstream import Upstream

pytestmark = pytest.mark.alone

LARGE = 10_000_000
"""Bytes from which on a body may cost more."""
MOST = 33_554_432
"""The default of ``server.max_request_bytes`` and ``streaming.max_event_bytes``."""
GEMINI = '[[models]]\nname = "g"\nroutes = [{ provider = "google", model = "gemini-2.5-pro" }]\n'
RULE = '[[providers.rules]]\nmatch = ".*quota.*exceeded.*"\noutcome = "transient"\nstatus = 400\n'


USER = '{"role":"user","content":"a"}'
MINTED = f'{{"type":"thinking","thinking":"a","signature":"{mint_signature("google", b"x" * 9)}"}}'


def filled(messages: str, more: str = "") -> bytes:
    """A request with these messages, as JSON, and what else it has."""
    return f'{{"model":"m","max_tokens":9{more},"messages":[{messages}]}}'.encode()


def text() -> bytes:
    return filled('{"role":"user","content":"%s"}' % ("word " * (MOST // 5 - 100)))


def turns() -> bytes:
    pair = '{"role":"user","content":"a"},{"role":"assistant","content":"b"},'
    return filled(pair * (MOST // len(pair) - 10) + '{"role":"user","content":"a"}')


def members() -> bytes:
    more = "".join(f',"a{number}":{number}' for number in range(1_000_000))
    return filled('{"role":"user","content":"a"}', more)


def minted() -> bytes:
    return filled(f'{USER},{{"role":"assistant","content":[{",".join([MINTED] * 200_000)}]}},{USER}')


def minted_turns() -> bytes:
    return filled(f'{{"role":"assistant","content":[{MINTED}]}},' * 200_000 + USER)


def pairs() -> bytes:
    pair = (
        '{"role":"assistant","content":[{"type":"tool_use","id":"toolu_%d","name":"t","input":{"a":"%s"}}]},'
        '{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_%d","content":"%s"}]}'
    )
    filler = "x" * 600
    return filled(USER + "," + ",".join(pair % (number, filler, number, filler) for number in range(20_000)))


def escapes() -> bytes:
    return filled('{"role":"user","content":"%s"}' % ("\\u00e9" * (MOST // 6 - 100)))


def nested() -> bytes:
    content = "[" * 200 + "]" * 200
    return filled(f'{{"role":"user","content":{content}}},' * (MOST // 440) + USER)


def image(size: int) -> str:
    """A block with an image of so many characters."""
    source = f'{{"type":"base64","media_type":"image/png","data":"{"QUJD" * (size // 4)}"}}'
    return f'{{"type":"image","source":{source}}}'


def one_image() -> bytes:
    return filled(f'{{"role":"user","content":[{image(MOST - 1000)}]}}')


def images() -> bytes:
    return filled(f'{{"role":"user","content":[{",".join([image(300_000)] * 110)}]}}')


def small_blocks() -> bytes:
    return filled(f'{{"role":"user","content":[{",".join([block("x" * 280)] * 99_000)}]}}')


def block(said: str, more: str = "") -> str:
    """A text block."""
    return f'{{"type":"text","text":"{said}"{more}}}'


def answered(*blocks: str) -> bytes:
    """A request with these in the assistant's turn."""
    return filled(f'{USER},{{"role":"assistant","content":[{",".join(blocks)}]}},{USER}')


def conversation() -> bytes:
    said = f'{{"role":"user","content":"{"x" * 280}"}},{{"role":"assistant","content":"{"y" * 280}"}},'
    return filled(said * 49_000 + USER)


def said_by_the_model() -> bytes:
    return answered(block("word " * (MOST // 5 - 100)))


def deep_inputs() -> bytes:
    lists = ",".join(['{"b":[1,["c"]]}'] * 45)
    return results_of(10_000, f'{{"a":[{lists}]}}', "x" * 2000)


def results() -> bytes:
    return results_of(10_000, "{}", "x" * 3100)


def in_one_result() -> bytes:
    content = ",".join([block("x" * 300)] * 90_000)
    result = f'{{"type":"tool_result","tool_use_id":"a","content":[{content}]}}'
    call = '{"type":"tool_use","id":"a","name":"t","input":{}}'
    return filled(f'{USER},{{"role":"assistant","content":[{call}]}},{{"role":"user","content":[{result}]}}')


def results_of(count: int, given: str, found: str) -> bytes:
    """So many calls at once, each with that input, and what they found."""
    calls = ",".join(f'{{"type":"tool_use","id":"t{number}","name":"t","input":{given}}}' for number in range(count))
    found = ",".join(
        f'{{"type":"tool_result","tool_use_id":"t{number}","content":"{found}"}}' for number in range(count)
    )
    return filled(f'{USER},{{"role":"assistant","content":[{calls}]}},{{"role":"user","content":[{found}]}}')


def unknown_blocks() -> bytes:
    return answered(*[f'{{"type":"odd_thing","a":{{"b":["{"x" * 280}"]}}}}'] * 90_000)


def citations() -> bytes:
    cited = ",".join(f'{{"title":"{number}","url":"https://example.com/{"x" * 260}"}}' for number in range(900))
    return answered(*[block("a", f',"citations":[{cited}]')] * 100)


def numbers() -> bytes:
    return filled(f'{{"role":"user","content":[{"1," * (MOST // 2 - 100)}1]}}')


BODIES: dict[str, Callable[[], bytes]] = {
    "text": text,
    "turns": turns,
    "members": members,
    "minted": minted,
    "minted turns": minted_turns,
    "tool pairs": pairs,
    "escapes": escapes,
    "nested": nested,
    "one image": one_image,
    "110 images": images,
    "small blocks": small_blocks,
    "a long conversation": conversation,
    "a text of the model's": said_by_the_model,
    "deep inputs": deep_inputs,
    "10,000 results": results,
    "blocks in one result": in_one_result,
    "unknown blocks": unknown_blocks,
    "citations": citations,
    "numbers": numbers,
}


BELOW = LARGE - 1000
"""Bytes."""


def sources(number: int, *others: str) -> bytes:
    """A request with so many sources by URL, and these blocks as often as there is room for below 10 MB."""
    source = '{"type":"image","source":{"type":"url","url":"https://a.example/x"}}'
    more = ",".join(others)
    times = min(BELOW // (len(more) + 1), 99_000 // (more.count("{") or 1)) if others else 0
    return filled(f'{{"role":"user","content":[{",".join([source] * number + [more] * times)}]}}')


#: What has less than 10 MB, and as much in it as it may.
SMALLER: dict[str, Callable[[], bytes]] = {
    "a text of 10 MB": lambda: filled('{"role":"user","content":"%s"}' % ("word " * (BELOW // 5 - 100))),
    "escapes of 10 MB": lambda: filled('{"role":"user","content":"%s"}' % (r"\u00e9" * (BELOW // 6 - 100))),
    "900 sources by URL, texts": lambda: sources(900, block("x" * 72)),
    "900 sources by URL, blocks in blocks": lambda: sources(900, '{"content":[{"content":[{}]}]}'),
    "members of 10 MB": lambda: filled(USER, "".join(f',"a{number}":{number}' for number in range(600_000))),
    "words that look like sources": lambda: sources(1, '{"text":[' + '"url",' * 1_500_000 + "1]}"),
}


TOOL = (
    '{"name":"t%d","description":"what it does","input_schema":{"type":"object","properties":{"a":{"type":"string"}}}}'
)
#: What is counted and not weighed, just below the number from which on it is refused, or not looked at.
COUNTED: dict[str, Callable[[], bytes]] = {
    "10,000 members": lambda: filled(USER, "".join(f',"a{number}":{number}' for number in range(9_990))),
    "5,000 minted blocks": lambda: answered(*[MINTED] * 4_990),
    "10,000 tools": lambda: filled(USER, f',"tools":[{",".join(TOOL % number for number in range(9_990))}]'),
    "20,000 values in a block": lambda: answered(f'{{"type":"odd_thing","a":[{",".join(["{}"] * 19_900)}]}}'),
    "1,000,000 lists": lambda: filled(USER, f',"metadata":{{"a":[{",".join(["[]"] * 999_900)}]}}'),
}


WHOLE = '[[models]]\nname = "m"\nroutes = [{ provider = "up" }]\n'


class Bench:
    """A daemon with a meter, before two upstreams."""

    def __init__(self, folder: Path, start_daemon: StartDaemon, upstream: Upstream, gemini: Gemini) -> None:
        self.meter = Meter(folder)
        self._start = start_daemon
        self.upstream = upstream
        self.gemini = gemini

    async def begin(self, more: str = "", provider_more: str = "") -> Bench:
        """Start it, and let it serve one request of each kind."""
        self.upstream.script(answers.whole())
        self.gemini.script(google.saying("hello"))
        self.daemon = await self._start(
            provider(self.upstream, more=provider_more)
            + provider(self.gemini, "key-g", name="google", kind="gemini")
            + GEMINI
            + WHOLE
            + more,
            env=self.meter.env,
        )
        for model in "mg":
            await self.ask(wire.Message(model=model).encode())
        return self

    async def ask(self, body: bytes, path: str = "/v1/messages", **headers: str) -> wire.Answer:
        """One request; the meter begins with it."""
        self.meter.begin()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await wire.post(self.daemon.port, body, headers=named, path=path)
        await wire.get(self.daemon.port, "/healthz")
        for each in (self.upstream, self.gemini):
            each.requests.clear()
            each.exchanges.clear()
        return answer

    async def hold(self, what: str, body: bytes, bound: float, size: int = 0, **asked: str) -> wire.Answer:
        """Ask, up to three times: the longest turn of one of them is below *bound*.

        *size*: what counts, where that is not the body's.
        """
        longest = 1e9
        for _ in range(3):
            answer = await self.ask(body, **asked)
            longest = min(longest, self.meter.longest)
            if longest < bound:
                break
        told(f"{what}: {size or len(body):,} bytes", longest, bound)
        return answer


@pytest_twisted.async_yield_fixture
async def bench(tmp_path: Path, start_daemon: StartDaemon, upstream: Upstream, gemini: Gemini) -> AsyncIterator[Bench]:
    yield Bench(tmp_path, start_daemon, upstream, gemini)


@ensureDeferred
async def test_largest_bodies(bench: Bench) -> None:
    """Bodies as large as ``max_request_bytes`` allows, of all that is slow to read, and what gzip makes of them."""
    await bench.begin(provider_more='drop_fields = ["a1"]')
    for name, make in BODIES.items():
        body = make()
        assert LARGE < len(body) <= MOST, name
        await bench.hold(name, body, LONGEST_OF_LARGE)
        await bench.hold(f"{name}, gzip", gzip.compress(body, 6), LONGEST_OF_LARGE, content_encoding="gzip")


@ensureDeferred
async def test_largest_translated_bodies(bench: Bench) -> None:
    """The same where they are translated, which is done in steps."""
    await bench.begin()
    for name, make in BODIES.items():
        body = make().replace(b'"m"', b'"g"', 1)
        await bench.hold(f"{name}, translated", body, LONGEST_OF_LARGE)
        await bench.hold(f"{name}, counted", body, LONGEST_OF_LARGE, path="/v1/messages/count_tokens")


@ensureDeferred
async def test_smaller_bodies(bench: Bench) -> None:
    """Bodies just below the size from which on one may cost more."""
    await bench.begin()
    for name, make in SMALLER.items():
        body = make()
        assert len(body) <= LARGE, name
        await bench.hold(name, body, LONGEST)
        await bench.hold(f"{name}, translated", body.replace(b'"m"', b'"g"', 1), LONGEST)


@ensureDeferred
async def test_as_many_as_may_be(bench: Bench) -> None:
    """As many of each as are let through: passed, translated and counted."""
    await bench.begin(provider_more='drop_fields = ["a1"]')
    for name, make in COUNTED.items():
        body = make()
        translated = body.replace(b'"m"', b'"g"', 1)
        await bench.hold(name, body, LONGEST)
        await bench.hold(f"{name}, translated", translated, LONGEST)
        await bench.hold(f"{name}, counted", translated, LONGEST, path="/v1/messages/count_tokens")


@ensureDeferred
async def test_inflating_bodies(bench: Bench) -> None:
    """A few kilobytes that may still be 4 MB, of whatever takes longest to look at."""
    await bench.begin()
    room = 3_900_000
    for name, inside in {
        "zeros": bytes(room),
        "blanks": filled(" " * room + USER),
        "numbers": filled('{"role":"user","content":[%s1]}' % ("1," * (room // 2))),
        "strings": filled('{"role":"user","content":[%s1]}' % ('"",' * (room // 3))),
        "lists": filled('{"role":"user","content":[%s1]}' % ("[]," * 990_000)),
        "messages": filled(f"{USER}," * (room // 32) + USER),
        "a text": filled('{"role":"user","content":"%s"}' % ("word " * (room // 5))),
    }.items():
        for coding, pack in {"deflate": zlib.compress, "zstd": zstandard.compress}.items():
            body = pack(inside)
            assert len(inside) < 4 * 1024 * 1024
            for more, changed in {"": inside, ", translated": inside.replace(b'"m"', b'"g"', 1)}.items():
                body = pack(changed)
                await bench.hold(f"4 MB of {name} in {coding}{more}", body, LONGEST, content_encoding=coding)


@ensureDeferred
async def test_bombs(bench: Bench) -> None:
    """Codings that hold nothing, or far too much."""
    await bench.begin()
    nothing = b"\x28\xb5\x2f\xfd\0\x58" + (b"\x02\0\x10" + b"x") * 243 + bytes(30_000_000) + b"\1\0\0"
    zeros = bytes(200_000_000)
    for coding, body in {
        "zstd": nothing,
        "zstd, gzip": gzip.compress(nothing),
        "gzip": gzip.compress(zeros, 9),
        "gzip, gzip": gzip.compress(gzip.compress(zeros, 9)),
        "zstd, zstd": zstandard.compress(zstandard.compress(zeros)),
    }.items():
        answer = await bench.hold(f"{coding} of too much", body, LONGEST, content_encoding=coding)
        assert answer.status in (400, 413), coding


@ensureDeferred
async def test_largest_heads(bench: Bench) -> None:
    """Heads of 64 KB: many headers, long names, a long target."""
    await bench.begin()
    for name, head in {
        "many headers": "".join(f"x-{number}: {'y' * 110}\r\n" for number in range(490)),
        "long names": "".join(f"{'x' * 6000}{number}: 1\r\n" for number in range(10)),
        "betas": f"anthropic-beta: {','.join(f'b-{number}' for number in range(8000))}\r\n",
    }.items():
        bench.meter.begin()
        client = await wire.Wire.connect(bench.daemon.port)
        body = wire.Message(model="m").encode()
        start_line = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        client.send(f"{start_line}{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        assert (await client.head()).status == 200, name
        client.reset()
        await wire.get(bench.daemon.port, "/healthz")
        told(f"{name}: {len(head):,} bytes", bench.meter.longest, LONGEST)
    bench.meter.begin()
    assert (await wire.get(bench.daemon.port, f"/{'x' * 60_000}")).status == 414
    told("a path of 60 KB", bench.meter.longest, LONGEST)


@ensureDeferred
async def test_answers(bench: Bench) -> None:
    """Events and answers as large as they may be."""
    await bench.begin()
    ask = wire.Message(model="m", stream=True).encode()
    large = [*answers.start_frames(), answers.text_frame("x" * 30_000_000), *answers.end_frames()]
    tiny = [*answers.start_frames(), *[answers.text_frame("x")] * 200_000, *answers.end_frames()]
    for name, frames in {"an event of 30 MB": large, "200,000 events": tiny}.items():
        bench.upstream.script(answers.stream(frames))
        size = sum(map(len, frames))
        assert (await bench.hold(name, ask, LONGEST_OF_LARGE, size)).whole
    for coding, pack in {"gzip": gzip.compress, "zstd": zstandard.compress}.items():
        frames = [
            pack(b"".join([*answers.start_frames(), *[answers.text_frame("x")] * 200_000, *answers.end_frames()]))
        ]
        bench.upstream.script(answers.stream(frames, headers={"content-encoding": coding}))
        answer = await bench.hold(f"200,000 events in {coding}", ask, LONGEST, sum(map(len, frames)))
        assert answer.whole
        assert answer.body.count(b"text_delta") == 200_000
    whole = json.dumps(answers.message("x" * 30_000_000)).encode()
    dense = gzip.compress(json.dumps(answers.message(os.urandom(15_000_000).hex())).encode(), 1)
    for name, body in {"a whole answer": whole, "in gzip": gzip.compress(whole, 1), "dense": dense}.items():
        coding = {"content-encoding": "gzip"} if body is not whole else {}
        bench.upstream.script(answers.whole(body, headers=coding))
        await bench.hold(name, wire.Message(model="m").encode(), LONGEST_OF_LARGE, len(body))


@ensureDeferred
async def test_stop_sequences(bench: Bench) -> None:
    """As many and as long stop sequences as may be, in an answer that comes all at once."""
    await bench.begin()
    stops = [f"{number}".rjust(160, "x") for number in range(100)]
    bench.gemini.script(google.stream(*[google.said("x" * 60)] * 1000, google.said("", finish="STOP")))
    ask = wire.Message(model="g", stream=True, more={"stop_sequences": stops}).encode()
    await bench.hold("100 stop sequences", ask, LONGEST, 16_000)


@ensureDeferred
async def test_operators_patterns(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """An operator's pattern on an error that quotes what the client sent."""
    meter = Meter(tmp_path)
    upstream.script(answers.error(400, "invalid_request_error", "quota " * 10_000))
    daemon = await start_daemon(provider(upstream) + RULE, env=meter.env)
    for _ in range(2):
        meter.begin()
        assert (await wire.post(daemon.port, wire.Message().encode())).status == 400
        await wire.get(daemon.port, "/healthz")
    told("an operator's pattern", meter.longest, LONGEST)


@ensureDeferred
async def test_queue(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """A full queue that nothing comes of."""
    meter = Meter(tmp_path)
    upstream.script(answers.error(429, "rate_limit_error", "later", **{"retry-after": "2"}))
    daemon = await start_daemon(provider(upstream, "a", "b") + "[pool]\nmax_wait = 3\n", env=meter.env)
    await wire.post(daemon.port, wire.Message().encode())
    meter.begin()
    body = wire.Message().encode()
    got = await gatherResults([start(wire.post(daemon.port, body)) for _ in range(600)])
    assert {answer.status for answer in got} <= {429, 529}
    told("a full queue", meter.longest, LONGEST_OF_LARGE)


@ensureDeferred
async def test_reload(start_daemon: StartDaemon, upstream: Upstream, tmp_path: Path) -> None:
    """A reload of 2,000 clients: it is read and checked in a thread, and takes a moment to be in force."""
    meter = Meter(tmp_path)
    daemon = await start_daemon(provider(upstream), env=meter.env)
    meter.begin()
    clients = "".join(f'[[clients]]\nname = "c{n}"\nkey = "a-key-of-client-{n}"\n' for n in range(2_000))
    daemon.rewrite(provider(upstream) + clients)
    daemon.signal("HUP")
    await eventually("the log tells of the reload", lambda: "reloaded: settings changed: clients" in daemon.log)
    await wire.get(daemon.port, "/healthz")
    told("a reload", meter.longest, LONGEST)
