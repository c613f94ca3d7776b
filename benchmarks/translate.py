"""What translation to Gemini costs: python benchmarks/translate.py [--quick] [--profile answers|requests]

The first table: microseconds an event, for a stream of Claude's that passes (frames cut, and watched) and for Gemini's
answer with the same text in the same pieces (read, and made Claude's). A read is what comes from the socket at once.
The second: milliseconds to read a Claude Code request and to say it to Gemini. No socket is touched. It is
CPU time that counts, as other programs may have the core in between.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import process_time

from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.translate.gemini.answers import FAMILY, GeminiReader
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.gemini.requests import GeminiRequest, Terms, translate
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures

BODIES = Path(__file__).resolve().parent / "bodies"

MOST_MS = 3.0
"""For a Claude Code request of :data:`SIZE`."""
SIZE = 200 * 1024

LIMIT = 8 * 1024 * 1024
EVENTS = 500
"""Of each stream, those that begin and end it aside."""
WORDS = "Twelve bytes, or twenty. "
"""The text of an event."""
ARGUMENTS = {"file_path": "/src/module/file.py", "old_string": "a = 1\n" * 20, "new_string": "b = 2\n" * 20}
PIECES = 12
"""The events in which Claude sends the arguments of one call."""
SIGNATURE = "c2lnbmF0dXJl" * 20

ASKED = {
    "model": "m",
    "max_tokens": 256,
    "stream": True,
    "thinking": {"type": "adaptive"},
    "messages": [{"role": "user", "content": "Hello."}],
    "tools": [{"name": "Edit", "input_schema": {"type": "object"}}],
}
"""What is answered."""
TERMS = {
    model: Terms(model, None, on_vertex=False)
    for model in ("gemini-2.0-flash", "gemini-2.5-flash", "gemini-3-pro-preview")
}


# -- what comes from the upstream


def claude_event(kind: str, **members: object) -> bytes:
    """As the API writes it."""
    data = json.dumps({"type": kind, **members}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def claude_block(index: int, start: dict[str, object], deltas: Sequence[dict[str, str]]) -> list[bytes]:
    """The events of one content block."""
    return [
        claude_event("content_block_start", index=index, content_block=start),
        *(claude_event("content_block_delta", index=index, delta=delta) for delta in deltas),
        claude_event("content_block_stop", index=index),
    ]


def claude_stream(blocks: Sequence[bytes]) -> list[bytes]:
    """A whole one."""
    usage = {"input_tokens": 25, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        claude_event("message_start", message=message),
        *blocks,
        claude_event("message_delta", delta=delta, usage={"output_tokens": 900}),
        claude_event("message_stop"),
    ]


def gemini_chunk(part: dict[str, object], count: int, finish: str | None = None) -> bytes:
    """As Google writes it: figures in each."""
    candidate: dict[str, object] = {"content": {"parts": [part], "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    usage = {
        "promptTokenCount": 25,
        "candidatesTokenCount": count,
        "totalTokenCount": 25 + count,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 25}],
    }
    chunk = {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": "gemini-2.5-flash",
        "responseId": "ZmFrZSByZXNwb25zZSBpZA",
    }
    return b"data: %b\r\n\r\n" % json.dumps(chunk, separators=(",", ":")).encode()


def gemini_stream(parts: Sequence[dict[str, object]]) -> list[bytes]:
    """A whole one: the last chunk has the end alone."""
    chunks = [gemini_chunk(part, number) for number, part in enumerate(parts)]
    return [*chunks, gemini_chunk({"text": ""}, len(parts), "STOP")]


def calls() -> tuple[list[bytes], list[bytes]]:
    """Streams of tool calls alone: many events each with Claude, one with Gemini."""
    said = json.dumps(ARGUMENTS)
    step = -(-len(said) // PIECES)
    pieces = [said[at : at + step] for at in range(0, len(said), step)]
    number = EVENTS // PIECES
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    blocks: list[bytes] = []
    for index in range(number):
        start: dict[str, object] = {"type": "tool_use", "id": f"toolu_{index}", "name": "Edit", "input": {}}
        blocks += claude_block(index, start, deltas)
    part: dict[str, object] = {"functionCall": {"name": "Edit", "args": ARGUMENTS}, "thoughtSignature": SIGNATURE}
    return claude_stream(blocks), gemini_stream([part] * number)


def texts() -> tuple[list[bytes], list[bytes]]:
    """Streams of one text."""
    deltas = [{"type": "text_delta", "text": WORDS}] * EVENTS
    return claude_stream(claude_block(0, {"type": "text", "text": ""}, deltas)), gemini_stream(
        [{"text": WORDS}] * EVENTS
    )


def thoughts() -> tuple[list[bytes], list[bytes]]:
    """Streams of one long thought."""
    start: dict[str, object] = {"type": "thinking", "thinking": "", "signature": ""}
    deltas = [{"type": "thinking_delta", "thinking": WORDS}] * EVENTS
    return (
        claude_stream(claude_block(0, start, deltas)),
        gemini_stream([{"text": WORDS, "thought": True}] * EVENTS),
    )


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


def prepared(body: bytes, terms: Terms, signatures: Signatures) -> GeminiRequest:
    """What is measured in the second table."""
    return translate(read_conversation(body, family=FAMILY, policy=POLICY), terms, signatures)


def readers(signatures: Signatures) -> tuple[Callable[[], IStreamReader], Callable[[], IStreamReader]]:
    """Makers of what passes and of what translates, one stream each."""
    request = prepared(json.dumps(ASKED).encode(), TERMS["gemini-2.5-flash"], signatures)

    def translating() -> IStreamReader:
        return GeminiReader(BlockMachine("m", family=FAMILY), request, signatures, LIMIT)

    return lambda: ClaudeReader(LIMIT), translating


def seconds(make: Callable[[], IStreamReader], reads: Sequence[bytes]) -> float:
    """For one stream."""
    start = process_time()
    read_all(make(), reads)
    return process_time() - start


def answers(rounds: int) -> None:
    """Print the first table."""
    passing, translating = readers(Signatures(lambda: 0.0))
    print(f"{'µs':22} {'a read':>9} {'passed':>8} {'translated':>10} {'ratio':>6}")
    shapes = [("a text event", texts(), EVENTS), ("a thinking event", thoughts(), EVENTS), ("a tool call", calls(), 0)]
    for name, (claude, gemini), number in shapes:
        for size in (1, 20):
            passed, translated = [], []
            reads = joined(claude, size), joined(gemini, size)
            with collected_before():
                for _ in range(rounds):  # in turn: a noisy machine is as noisy for both
                    passed.append(seconds(passing, reads[0]))
                    translated.append(seconds(translating, reads[1]))
            scale = 1e6 / (number or EVENTS // PIECES)
            ratio = median(translated) / median(passed)
            print(f"{name:22} {size:9} {median(passed) * scale:8.2f} {median(translated) * scale:10.2f} {ratio:6.2f}")


# -- requests


def compact(value: object) -> bytes:
    """JSON as clients write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def claude_code(size: int) -> bytes:
    """The request of ``bodies``, as it is after so much work: turns of a thought, a word and a call, and its result."""
    body = json.loads((BODIES / "claude-code-stream.json").read_bytes())
    thought = mint_signature(FAMILY, b"\x12" * 600)
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


def requests(rounds: int) -> None:
    """Print the second table."""
    print(f"{'ms a request':26} {'KB':>4} {'model':22} {'reading':>8} {'median':>8} {'p99':>8}")
    first, long = claude_code(0), claude_code(SIZE)
    tools = with_servers(first)
    bodies: dict[str, Callable[[str], bytes]] = {
        "Claude Code, begun": lambda _: first,
        "Claude Code, at work": lambda _: long,
        "many tools": lambda _: tools,
        "tools never seen, begun": lambda client: with_new_schemas(first, client),
    }
    for name, body_of in bodies.items():
        for model, terms in TERMS.items():
            signatures = Signatures(lambda: 0.0)
            reading, whole = [], []
            prepared(body_of(model), terms, signatures)  # clients send the same tools with every request
            for number in range(rounds):
                body = body_of(f"{model} {number}")
                start = process_time()
                conversation = read_conversation(body, family=FAMILY, policy=POLICY)
                read = process_time()
                translate(conversation, terms, signatures)
                whole.append((process_time() - start) * 1e3)
                reading.append((read - start) * 1e3)
            whole.sort()
            miss = f" above {MOST_MS:g}" if name == "Claude Code, at work" and median(whole) > MOST_MS else ""
            print(
                f"{name:26} {len(body) / 1024:4.0f} {model:22} {median(reading):8.2f} {median(whole):8.2f}"
                f" {whole[len(whole) * 99 // 100]:8.2f}{miss}"
            )


def profile(what: str) -> None:
    """Print where the time of one table goes: functions by their own time."""
    signatures = Signatures(lambda: 0.0)
    _, translating = readers(signatures)
    reads, body = texts()[1], claude_code(SIZE)
    with cProfile.Profile() as profiler:
        for _ in range(20):
            if what == "answers":
                read_all(translating(), reads)
            else:
                for terms in TERMS.values():
                    prepared(body, terms, signatures)
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(30)


def main() -> None:
    """Print the tables, or where their time goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--profile", choices=("answers", "requests"), help="profile that instead")
    options = parser.parse_args()
    if options.profile:
        profile(options.profile)
        return
    # As the daemon has the collector.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    answers(20 if options.quick else 200)
    print()
    requests(30 if options.quick else 300)


if __name__ == "__main__":
    main()
