"""What tests of answers by the Converse API share: a reader, and both ways of reading one answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.ids import Ids
from claudeproxyd.translate.converse.answers import FAMILY, ConverseReader
from claudeproxyd.translate.converse.models import capabilities_of
from claudeproxyd.translate.converse.requests import ConverseRequest
from claudeproxyd.translate.names import ToolNames
from tests.golden.families.converse.arrivals import event
from tests.golden.families.converse.merging import merge

LIMIT = 1 << 20
USAGE = {"inputTokens": 100, "outputTokens": 20, "totalTokens": 120}

Json = dict[str, Any]

START: Json = {"messageStart": {"role": "assistant"}}
METADATA: Json = {"metadata": {"usage": USAGE, "metrics": {"latencyMs": 1}}}


def delta(index: int, **members: Any) -> Json:
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": members}}


def text(index: int, words: str) -> Json:
    return delta(index, text=words)


def call(index: int, id: str, name: str = "Bash", **members: Any) -> Json:
    start = {"toolUse": {"toolUseId": id, "name": name, **members}}
    return {"contentBlockStart": {"contentBlockIndex": index, "start": start}}


def stop(index: int) -> Json:
    return {"contentBlockStop": {"contentBlockIndex": index}}


def end(reason: str = "end_turn") -> Json:
    return {"messageStop": {"stopReason": reason}}


def stream(*events: Json) -> bytes:
    """The event stream that they are."""
    return b"".join(event(each) for each in events)


def request(
    *,
    model: str = "openai.gpt-oss-120b-1:0",
    thinks: bool = True,
    shows: bool = True,
    stop_sequences: Sequence[str] = (),
    tools: Sequence[str] = ("Bash",),
    calls: Sequence[str] = (),
) -> ConverseRequest:
    """What the reader has to know of a request."""
    names = ToolNames(64, "A-Za-z0-9_-")
    for name in tools:
        names.upstream(name)
    return ConverseRequest(
        body=b"",
        names=names,
        warnings=(),
        stop_sequences=stop_sequences,
        thinks=thinks,
        shows=shows,
        empty=False,
        streams=True,
        capabilities=capabilities_of(model),
        calls=set(calls),
    )


def _ids() -> Ids:
    """Known beforehand, and the same for both ways of reading."""
    numbers = iter(range(1, 10_000))
    return Ids(lambda size: next(numbers).to_bytes(size, "big"))


class Answer:
    """One attempt: a request, a machine, a reader, and the frames so far."""

    def __init__(self, *, limit: int = LIMIT, last: bool = False, **how: Any) -> None:
        said = request(**how)
        self.machine = BlockMachine("claude-m", family=FAMILY, stop_sequences=said.stop_sequences, ids=_ids())
        self.reader = ConverseReader(self.machine, said, limit, last=last)
        self.frames = b""

    def feed(self, data: bytes) -> Batch:
        batch = self.reader.feed(data)
        self.frames += batch.frames
        return batch

    def end(self) -> Batch:
        batch = self.reader.end()
        self.frames += batch.frames
        return batch

    def body(self, *reads: bytes) -> Batch:
        """All of a body, up to what ends it."""
        for read in reads:
            batch = self.feed(read)
            if batch.ended or batch.error is not None:
                return batch
        return self.end()


def whole(*events: Json, last: bool = False, **how: Any) -> Json:
    """The message of the same answer in one body."""
    said = request(**how)
    machine = BlockMachine("claude-m", family=FAMILY, stop_sequences=said.stop_sequences, ids=_ids(), whole=True)
    ConverseReader(machine, said, LIMIT, last=last).read_whole(json.dumps(merge(events)).encode())
    message: Json = json.loads(machine.message())
    return message
