"""By how much the estimate is off for each kind of content: ``python -m tests.estimates.report`` prints the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from claudeproxyd.messages.estimate import estimate_tokens
from tests.estimates.conversations import conversations
from tests.estimates.recount import COUNTS

#: The tokenizers that have counted, and a model's name that tells the vocabulary.
TOKENIZERS = {"smollm2": "SmolLM2-135M-Instruct", "o200k": "gpt-4o"}


class Errors(NamedTuple):
    """Signed errors of one kind's conversations: 0.1 is an estimate that is a tenth too high."""

    kind: str
    number: int
    mean: float
    lowest: float
    highest: float


def error(name: str, body: bytes, tokenizer: str, model: str) -> float:
    """Return the signed error of the estimate for one conversation."""
    counted: int = json.loads(COUNTS.read_text())[name][tokenizer]
    return estimate_tokens(body, model) / counted - 1


def errors(tokenizer: str, model: str) -> Iterator[Errors]:
    """Yield the errors against what *tokenizer* has counted, by kind; at last those of all."""
    by_kind: dict[str, list[float]] = {}
    for each in conversations():
        by_kind.setdefault(each.kind, []).append(error(each.name, each.body, tokenizer, model))
    by_kind["all"] = [each for many in by_kind.values() for each in many]
    for kind, many in by_kind.items():
        yield Errors(kind, len(many), sum(many) / len(many), min(many), max(many))


def table() -> str:
    """Return the errors as a table of Markdown."""
    lines = ["| content | conversations | SmolLM2: mean | lowest | highest | o200k: mean | lowest | highest |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|")
    of_each = (errors(tokenizer, model) for tokenizer, model in TOKENIZERS.items())
    for small, large in zip(*of_each, strict=True):
        figures = [f"{100 * figure:+.1f} %" for each in (small, large) for figure in each[2:]]
        lines.append(f"| {' | '.join((small.kind, str(small.number), *figures))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
