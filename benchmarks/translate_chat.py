"""What translation to chat completions costs: python benchmarks/translate_chat.py [--quick]

The tables of ``translate.py``, with the same texts in the same pieces and the same requests.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Sequence
from statistics import median
from time import process_time

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
from claudeproxyd.translate.openai_chat.answers import FAMILY, ChatReader
from claudeproxyd.translate.openai_chat.policy import POLICY
from claudeproxyd.translate.openai_chat.requests import ChatTerms, translate
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures

PLACES = (("", "some-model"), ("openai", "gpt-5.2"), ("deepseek", "deepseek-v4"))


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    """As OpenAI writes it."""
    said = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-ZmFrZQ", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5.2-2025-12-11"}
    whole = {**head, "service_tier": "default", "choices": [said], "usage": None, "obfuscation": "ZmFrZQ"}
    return b"data: %b\n\n" % json.dumps(whole, separators=(",", ":")).encode()


def stream(member: str) -> list[bytes]:
    """A whole one, of text or of reasoning."""
    return [chunk({member: WORDS})] * EVENTS + [chunk({"content": "."}), chunk({}, "stop"), b"data: [DONE]\n\n"]


def answers(rounds: int) -> None:
    """Print microseconds an event."""
    memory = Signatures(lambda: 0.0)
    conversation = read_conversation(json.dumps(ASKED).encode(), family=FAMILY, policy=POLICY)
    request = translate(conversation, ChatTerms("deepseek", "deepseek-v4"), memory)

    def translating() -> IStreamReader:
        return ChatReader(BlockMachine("m", family=FAMILY), request, memory, LIMIT)

    print(f"{'µs':22} {'a read':>9} {'passed':>8} {'translated':>10} {'ratio':>6}")
    shapes: Sequence[tuple[str, list[bytes], list[bytes]]] = (
        ("a text event", texts()[0], stream("content")),
        ("a thinking event", thoughts()[0], stream("reasoning_content")),
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
        for server, model in PLACES:
            whole = []
            for _ in range(rounds):
                start = process_time()
                conversation = read_conversation(body, family=FAMILY, policy=POLICY)
                translate(conversation, ChatTerms(server, model), Signatures(lambda: 0.0))
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
