"""What tests of Gemini's answers share: chunks, a reader, and both ways of reading one answer."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.ids import Ids
from claudeproxyd.translate.gemini.answers import FAMILY, GeminiReader
from claudeproxyd.translate.gemini.requests import GeminiRequest, Terms
from claudeproxyd.translate.names import ToolNames
from claudeproxyd.translate.signatures import ConversationDigest, Signatures
from tests.messages.accumulate import accumulate

LIMIT = 1 << 20
#: As Google counts an answer; the message's usage by it is :data:`USAGE`.
COUNTS = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 60,
    "toolUsePromptTokenCount": 7,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 5,
    "totalTokenCount": 132,
}
USAGE = {
    "input_tokens": 47,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 60,
    "output_tokens": 25,
    "output_tokens_details": {"thinking_tokens": 5},
}

Json = dict[str, Any]


def chunk(*parts: Json, finish: str | None = None, **members: Any) -> Json:
    """One response; *members* of the candidate. With *finish* it has the counts too."""
    candidate: Json = {"content": {"role": "model", "parts": list(parts)}, "index": 0, **members}
    response: Json = {"candidates": [candidate], "modelVersion": "gemini-3-pro", "responseId": "r1"}
    if finish is not None:
        candidate["finishReason"] = finish
        response["usageMetadata"] = COUNTS
    return response


def text(text: str, **members: Any) -> Json:
    return {"text": text, **members}


def thought(text: str, **members: Any) -> Json:
    return {"text": text, "thought": True, **members}


def call(name: str = "Bash", args: Any = None, signature: str | None = None, **members: Any) -> Json:
    part: Json = {"functionCall": {"name": name, **members}}
    if args is not None:
        part["functionCall"]["args"] = args
    if signature is not None:
        part["thoughtSignature"] = signature
    return part


def sse(*chunks: Json, end: str = "\r\n\r\n") -> bytes:
    """As ``alt=sse`` frames them."""
    return "".join(f"data: {json.dumps(each)}{end}" for each in chunks).encode()


class Answer:
    """One attempt: a request, a machine, a reader, and what was remembered."""

    def __init__(
        self,
        *,
        thinks: bool = True,
        shows: bool = True,
        stop_sequences: Sequence[str] = (),
        tools: Sequence[str] = (),
        whole: bool = False,
        limit: int = LIMIT,
        last: bool = True,
    ) -> None:
        numbers = itertools.count(1)
        names = ToolNames(64, "A-Za-z0-9_.:-", "A-Za-z_")
        self.told = [names.upstream(name) for name in tools]
        self.request = GeminiRequest(
            body=b"{}",
            names=names,
            warnings=(),
            stop_sequences=stop_sequences,
            thinks=thinks,
            shows=shows,
            empty=False,
            digest=ConversationDigest(),
            terms=Terms(model="gemini-3-pro", max_output_tokens=None, on_vertex=False),
        )
        self.signatures = Signatures(lambda: 0.0)
        self.machine = BlockMachine(
            "claude-x",
            family=FAMILY,
            stop_sequences=stop_sequences,
            whole=whole,
            ids=Ids(lambda n: next(numbers).to_bytes(n)),
        )
        self.reader = GeminiReader(self.machine, self.request, self.signatures, limit, last=last)
        self.frames = b""

    def feed(self, *reads: bytes) -> Batch:
        """The last batch; nothing is read after the one that ends, or that has an error."""
        batch = Batch(b"", 0, False)
        for read in reads:
            batch = self._kept(self.reader.feed(read))
            if batch.ended or batch.error is not None:
                break
        return batch

    def end(self) -> Batch:
        return self._kept(self.reader.end())

    def body(self, *reads: bytes) -> Batch:
        """All of one, and its end; the last batch."""
        batch = self.feed(*reads)
        return batch if batch.ended or batch.error is not None else self.end()

    def _kept(self, batch: Batch) -> Batch:
        self.frames += batch.frames
        return batch


def streamed(*chunks: Json, **options: Any) -> Json:
    """The message of a stream in one read a chunk."""
    answer = Answer(**options)
    assert answer.body(*map(sse, chunks)).ended, "the answer was cut"
    return accumulate(answer.frames)


def whole(*chunks: Json, **options: Any) -> Json:
    """The message of a body with all of them."""
    answer = Answer(whole=True, **options)
    body = chunks[0] if len(chunks) == 1 else chunks
    answer.reader.read_whole(json.dumps(body).encode())
    message: Json = json.loads(answer.machine.message())
    return message


def message(*chunks: Json, **options: Any) -> Json:
    """The message that both ways come to."""
    one, other = streamed(*chunks, **options), whole(*chunks, **options)
    assert one == other, (one, other)
    return one
