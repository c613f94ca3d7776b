"""What translation costs, by family: python benchmarks/translate.py [--quick] [--families NAME …] [--profile TABLE]

The first table: microseconds an event, for a stream of Claude's that passes (frames cut, and watched) and for the same
answer in the same pieces from another API (read, and made Claude's). A read is what comes from the socket at once.
The second: milliseconds to read a Claude Code request and to say it to each API, and how often the least of them holds
the least of ``json.loads`` and ``json.dumps`` of the same body, taken in turn. No socket is touched. It is CPU time
that counts, as other programs may have the core in between; calls of functions are counted too, which no other program
changes.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import os
import pstats
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

import streams
from streams import CALLS, EVENTS, compact

from claudeproxyd.executors.bedrock.body import Allowed, invoke_model_request
from claudeproxyd.executors.bedrock.reader import ChunkedClaudeReader
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.messages.minted import without_minted
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.translate.converse import answers as converse_answers
from claudeproxyd.translate.converse import policy as converse_policy
from claudeproxyd.translate.converse import requests as converse
from claudeproxyd.translate.gemini import answers as gemini_answers
from claudeproxyd.translate.gemini import policy as gemini_policy
from claudeproxyd.translate.gemini import requests as gemini
from claudeproxyd.translate.openai_chat import answers as chat_answers
from claudeproxyd.translate.openai_chat import policy as chat_policy
from claudeproxyd.translate.openai_chat import requests as chat
from claudeproxyd.translate.openai_responses import answers as responses_answers
from claudeproxyd.translate.openai_responses import policy as responses_policy
from claudeproxyd.translate.openai_responses import records
from claudeproxyd.translate.openai_responses import requests as responses
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures

BODIES = Path(__file__).resolve().parent / "bodies"

MOST_MS = 3.0
"""For a Claude Code request of :data:`SIZE`."""
MOST_TIMES = 2.5
"""What passes, for an event, alone in its read or among others."""
SIZE = 200 * 1024
LIMIT = 8 * 1024 * 1024

ASKED = compact(
    {
        "model": "m",
        "max_tokens": 256,
        "stream": True,
        "thinking": {"type": "adaptive"},
        "messages": [{"role": "user", "content": "Hello."}],
        "tools": [{"name": "Edit", "input_schema": {"type": "object"}}],
    }
)
"""What is answered."""
MEMORY = Signatures(lambda: 0.0)

Reader = Callable[[], IStreamReader]


@dataclass(frozen=True)
class Family:
    """One API."""

    mark: str
    """Of what is minted for it."""
    shapes: Sequence[list[bytes]]
    """Its streams of a text, of a thought and of calls."""
    reader: Reader
    requests: Mapping[str, Callable[[bytes], object]]
    """What makes requests, by the model that they are for."""


def _gemini() -> Family:
    def of(model: str) -> Callable[[bytes], gemini.GeminiRequest]:
        terms = gemini.Terms(model, None, on_vertex=False)
        return lambda body: gemini.translate(
            read_conversation(body, family=gemini_answers.FAMILY, policy=gemini_policy.POLICY), terms, MEMORY
        )

    request = of("gemini-2.5-flash")(ASKED)
    return Family(
        gemini_answers.FAMILY,
        [streams.gemini_texts(), streams.gemini_texts(thought=True), streams.gemini_calls()],
        lambda: gemini_answers.GeminiReader(BlockMachine("m", family=gemini_answers.FAMILY), request, MEMORY, LIMIT),
        {model: of(model) for model in ("gemini-2.0-flash", "gemini-2.5-flash", "gemini-3-pro-preview")},
    )


def _chat() -> Family:
    def of(server: str, model: str) -> Callable[[bytes], chat.ChatRequest]:
        terms = chat.ChatTerms(server, model)
        return lambda body: chat.translate(
            read_conversation(body, family=chat_answers.FAMILY, policy=chat_policy.POLICY), terms, MEMORY
        )

    request = of("deepseek", "deepseek-v4")(ASKED)
    places = (("", "some-model"), ("openai", "gpt-5.2"), ("deepseek", "deepseek-v4"))
    return Family(
        chat_answers.FAMILY,
        [streams.chat_texts("content"), streams.chat_texts("reasoning_content"), streams.chat_calls()],
        lambda: chat_answers.ChatReader(BlockMachine("m", family=chat_answers.FAMILY), request, MEMORY, LIMIT),
        {model: of(server, model) for server, model in places},
    )


def _responses() -> Family:
    def of(model: str) -> Callable[[bytes], responses.ResponsesRequest]:
        terms = responses.ResponsesTerms(model)
        return lambda body: responses.translate(
            read_conversation(body, family=records.SIGNATURES, policy=responses_policy.POLICY), terms
        )

    request = of("gpt-5.4")(ASKED)
    return Family(
        records.SIGNATURES,
        [streams.responses_texts(), streams.responses_thoughts(), streams.responses_calls()],
        lambda: responses_answers.ResponsesReader(BlockMachine("m", family=records.SIGNATURES), request, LIMIT),
        {model: of(model) for model in ("gpt-4.1", "gpt-5.4")},
    )


def _converse() -> Family:
    def of(model: str) -> Callable[[bytes], converse.ConverseRequest]:
        terms = converse.ConverseTerms(model)
        return lambda body: converse.translate(
            read_conversation(body, family=converse_answers.FAMILY, policy=converse_policy.POLICY), terms
        )

    request = of("zai.glm-5.3")(ASKED)
    return Family(
        converse_answers.FAMILY,
        [streams.converse_texts(), streams.converse_thoughts(), streams.converse_calls()],
        lambda: converse_answers.ConverseReader(BlockMachine("m", family=converse_answers.FAMILY), request, LIMIT),
        {model: of(model) for model in ("us.amazon.nova-pro-v1:0", "openai.gpt-oss-120b-1:0", "zai.glm-5.3")},
    )


def _bedrock() -> Family:
    claude = (streams.claude_texts(), streams.claude_thoughts(), streams.claude_calls())
    allowed = Allowed()

    def of(model: str) -> Callable[[bytes], object]:
        return lambda body: invoke_model_request(body, model, "bedrock-2023-05-31", (), allowed)

    return Family(
        "google",
        [streams.invoked(stream) for stream in claude],
        lambda: ChunkedClaudeReader(LIMIT),
        {
            "claude-opus-4-8": of("claude-opus-4-8"),
            "claude, at Anthropic": without_minted,
        },
    )


FAMILIES = {
    "gemini": _gemini,
    "chat": _chat,
    "responses": _responses,
    "converse": _converse,
    "bedrock": _bedrock,  # Claude's own events, wrapped
}


# -- answers


@contextmanager
def collected_before() -> Iterator[None]:
    """Without the collector's pauses: the daemon has them rarely, and they would fall on whoever comes."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def read_all(reader: IStreamReader, reads: Sequence[bytes]) -> None:
    """To the end of the message, or else of the body."""
    ended = False
    for data in reads:
        ended = reader.feed(data).ended
    assert ended or reader.end().ended


def joined(events: Sequence[bytes], size: int) -> list[bytes]:
    """So many to a read."""
    return [b"".join(events[at : at + size]) for at in range(0, len(events), size)]


def read_new(make: Callable[[], IStreamReader], reads: Sequence[bytes]) -> None:
    """One stream."""
    read_all(make(), reads)


def seconds(make: Callable[[], IStreamReader], reads: Sequence[bytes]) -> float:
    """For one stream."""
    start = process_time()
    read_new(make, reads)
    return process_time() - start


def calls_of(what: Callable[[], object]) -> int:
    """How many functions are called."""
    with cProfile.Profile() as profiler:
        what()
    return sum(entry.callcount for entry in profiler.getstats())


def answers(name: str, family: Family, rounds: int) -> None:
    """Print a part of the first table."""
    claude = (streams.claude_texts(), streams.claude_thoughts(), streams.claude_calls())
    kinds = (("text event", EVENTS), ("thinking event", EVENTS), ("tool call", CALLS))
    for (kind, number), passing, translating in zip(kinds, claude, family.shapes, strict=True):
        for size in (1, 20):
            pairs = [(_passing, joined(passing, size)), (family.reader, joined(translating, size))]
            times: list[list[float]] = [[], []]
            with collected_before():
                for _ in range(rounds):  # in turn: a noisy machine is as noisy for both
                    for taken, (make, reads) in zip(times, pairs, strict=True):
                        taken.append(seconds(make, reads))
            counts = [calls_of(partial(read_new, make, reads)) for make, reads in pairs]
            passed, translated = (median(each) * 1e6 / number for each in times)
            ratio = translated / passed
            miss = f" above {MOST_TIMES}" if ratio > MOST_TIMES else ""
            print(
                f"{name:10} {kind:15} {size:6} {passed:8.2f} {translated:10.2f} {ratio:6.2f}"
                f" {counts[0] / number:7.1f} {counts[1] / number:7.1f}{miss}"
            )


def _passing() -> IStreamReader:
    return ClaudeReader(LIMIT)


# -- requests


def claude_code(size: int, family: str) -> bytes:
    """The request of ``bodies``, as it is after so much work: turns of a thought, a word and a call, and its result.

    *family*: whose the thoughts are.
    """
    body = json.loads((BODIES / "claude-code-stream.json").read_bytes())
    thought = mint_signature(family, b"\x12" * 600)
    length, number = len(compact(body)), 0
    while length < size:
        id = f"toolu_{number:024}"
        turns = [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "The caller must be looked at first. " * 5, "signature": thought},
                    {"type": "text", "text": "Next comes the module that calls it."},
                    {"type": "tool_use", "id": id, "name": "Read", "input": {"file_path": f"/src/module_{number}.py"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": id,
                        "content": "\n".join(f'{line:6}→    value = table["key {line}"]' for line in range(60)),
                    }
                ],
            },
        ]
        body["messages"] += turns
        length += len(compact(turns))
        number += 1
    return compact(body)


def with_servers(body: bytes) -> bytes:
    """The same size, but of tools: those of several MCP servers."""
    members = json.loads(body)
    own = members["tools"]
    members["tools"] = own + [
        {**tool, "name": f"mcp__server{number}__{tool['name']}"} for number in range(5) for tool in own
    ]
    return compact(members)


def with_new_schemas(body: bytes, client: str) -> bytes:
    """The request of a client whose tools were not seen before."""
    members = json.loads(body)
    for tool in members["tools"]:
        tool["input_schema"]["title"] = client
    return compact(members)


def requests(name: str, family: Family, rounds: int) -> None:
    """Print a part of the second table."""
    first, long = claude_code(0, family.mark), claude_code(SIZE, family.mark)
    tools = with_servers(first)
    bodies: dict[str, Callable[[str], bytes]] = {
        "begun": lambda _: first,
        "at work": lambda _: long,
        "many tools": lambda _: tools,
        "tools never seen": lambda client: with_new_schemas(first, client),
    }
    for kind, body_of in bodies.items():
        for model, make in family.requests.items():
            make(body_of(model))  # clients send the same tools with every request
            taken, plain = [], []
            for number in range(rounds):
                body = body_of(f"{model} {number}")
                start = process_time()
                make(body)
                made = process_time()
                json.dumps(json.loads(body))
                taken.append((made - start) * 1e3)
                plain.append((process_time() - made) * 1e3)
            taken.sort()
            miss = f" above {MOST_MS:g}" if kind == "at work" and taken[0] > MOST_MS else ""
            worst = taken[len(taken) * 99 // 100]
            print(
                f"{name:10} {kind:17} {len(body) / 1024:4.0f} {model:24} {taken[0]:7.2f}"
                f" {median(taken):7.2f} {worst:7.2f} {taken[0] / min(plain):6.2f}"
                f" {calls_of(partial(make, body)):7}{miss}"
            )


def profile(what: str, family: Family) -> None:
    """Print where the time of one table goes: functions by their own time."""
    reads, body = joined(family.shapes[0], 20), claude_code(SIZE, family.mark)
    with cProfile.Profile() as profiler:
        for _ in range(20):
            if what == "answers":
                read_all(family.reader(), reads)
            else:
                for make in family.requests.values():
                    make(body)
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(30)


def main() -> None:
    """Print the tables, or where their time goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="these alone")
    parser.add_argument("--profile", choices=("answers", "requests"), help="profile that instead")
    options = parser.parse_args()
    families = {name: FAMILIES[name]() for name in options.families}
    if options.profile:
        for family in families.values():
            profile(options.profile, family)
        return
    # As the daemon has the collector.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"{'µs':10} {'':15} {'a read':>6} {'passed':>8} {'translated':>10} {'ratio':>6} {'calls':>7} {'calls':>7}")
    for name, family in families.items():
        answers(name, family, 20 if options.quick else 200)
    print(f"\nload {os.getloadavg()[0]:.1f}")
    print(f"{'ms':10} {'':17} {'KB':>4} {'':24} {'least':>7} {'median':>7} {'p99':>7} {'json':>6} {'calls':>7}")
    for name, family in families.items():
        requests(name, family, 30 if options.quick else 300)


if __name__ == "__main__":
    main()
