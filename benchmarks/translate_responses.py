"""What translation to OpenAI's Responses API costs: python benchmarks/translate_responses.py [--quick]

The tables of ``translate.py``, with the same texts in the same pieces and the same requests.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Sequence
from statistics import median
from time import process_time
from typing import Any

from translate import (
    ASKED,
    EVENTS,
    LIMIT,
    MOST_MS,
    SIZE,
    WORDS,
    claude_code,
    collected_before,
    joined,
    seconds,
    texts,
    thoughts,
)

from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.translate.openai_responses.answers import ResponsesReader
from claudeproxyd.translate.openai_responses.policy import POLICY
from claudeproxyd.translate.openai_responses.records import SIGNATURES
from claudeproxyd.translate.openai_responses.requests import ResponsesTerms, translate
from claudeproxyd.translate.reading import read_conversation

MODELS = ("gpt-4.1", "gpt-5.4")


def event(kind: str, **members: Any) -> bytes:
    """As OpenAI writes it."""
    whole = {"type": kind, "sequence_number": 1, **members}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps(whole, separators=(",", ":")).encode())


def delta(kind: str, at: int, **part: int) -> bytes:
    """A piece of an item."""
    words = {"delta": WORDS, "obfuscation": "ZmFrZQ"}
    return event(kind, item_id="msg_68af40303b2c819f", output_index=at, **part, **words)


def stream(*pieces: bytes) -> list[bytes]:
    """A whole one."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    done = {"id": "resp_1", "status": "completed", "output": [], "usage": usage}
    return [event("response.created", response={"id": "resp_1"}), *pieces, event("response.completed", response=done)]


def answers(rounds: int) -> None:
    """Print microseconds an event."""
    conversation = read_conversation(json.dumps(ASKED).encode(), family=SIGNATURES, policy=POLICY)
    request = translate(conversation, ResponsesTerms("gpt-5.4"))

    def translating() -> IStreamReader:
        return ResponsesReader(BlockMachine("m", family=SIGNATURES), request, LIMIT)

    print(f"{'µs':22} {'a read':>9} {'passed':>8} {'translated':>10} {'ratio':>6}")
    text = delta("response.output_text.delta", 0, content_index=0)
    thought = delta("response.reasoning_summary_text.delta", 0, summary_index=0)
    said = delta("response.output_text.delta", 1, content_index=0)
    shapes: Sequence[tuple[str, list[bytes], list[bytes]]] = (
        ("a text event", texts()[0], stream(*[text] * EVENTS)),
        ("a thinking event", thoughts()[0], stream(*[thought] * EVENTS, said)),
    )
    for name, claude, theirs in shapes:
        for size in (1, 20):
            passed, translated = [], []
            with collected_before():
                for _ in range(rounds):
                    passed.append(seconds(lambda: ClaudeReader(LIMIT), joined(claude, size)))
                    translated.append(seconds(translating, joined(theirs, size)))
            scale = 1e6 / EVENTS
            ratio = median(translated) / median(passed)
            print(f"{name:22} {size:9} {median(passed) * scale:8.2f} {median(translated) * scale:10.2f} {ratio:6.2f}")


def requests(rounds: int) -> None:
    """Print milliseconds a request."""
    print(f"{'ms a request':26} {'KB':>4} {'model':22} {'median':>8} {'p99':>8}")
    for name, body in (("Claude Code, begun", claude_code(0)), ("Claude Code, at work", claude_code(SIZE))):
        for model in MODELS:
            whole = []
            for _ in range(rounds):
                start = process_time()
                conversation = read_conversation(body, family=SIGNATURES, policy=POLICY)
                translate(conversation, ResponsesTerms(model))
                whole.append((process_time() - start) * 1e3)
            whole.sort()
            miss = f" above {MOST_MS:g}" if len(body) > SIZE / 2 and median(whole) > MOST_MS else ""
            p99 = whole[len(whole) * 99 // 100]
            print(f"{name:26} {len(body) / 1024:4.0f} {model:22} {median(whole):8.2f} {p99:8.2f}{miss}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    rounds = 20 if parser.parse_args().quick else 200
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    answers(rounds)
    print()
    requests(rounds)


if __name__ == "__main__":
    main()
