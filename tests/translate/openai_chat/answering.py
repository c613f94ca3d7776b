"""What tests of chat completions' answers share: chunks, a reader, and both ways of reading one answer."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Sequence
from typing import Any

from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.ids import Ids
from claudeproxyd.translate.names import ToolNames
from claudeproxyd.translate.openai_chat.answers import FAMILY, ChatReader
from claudeproxyd.translate.openai_chat.dialects import dialect_of
from claudeproxyd.translate.openai_chat.requests import ChatRequest
from claudeproxyd.translate.signatures import ConversationDigest, Signatures

Json = dict[str, Any]
USAGE = {"prompt_tokens": 40, "completion_tokens": 8, "total_tokens": 48}


def chunk(finish: str | None = None, **delta: Any) -> Json:
    """A chat.completion.chunk; with *finish* it has the figures too."""
    made: Json = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return {**made, "usage": USAGE} if finish else made


def piece(index: int | None = 0, id: str | None = None, name: str | None = None, arguments: Any = None) -> Json:
    """A piece of a call."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    made = {"index": index, "id": id, "function": function}
    return {key: value for key, value in made.items() if value is not None}


def sse(*chunks: Any, done: bool = True) -> bytes:
    """As OpenAI frames them."""
    return "".join(f"data: {json.dumps(each)}\n\n" for each in chunks).encode() + b"data: [DONE]\n\n" * done


class Answer:
    """One attempt: a request, a machine, a reader, and what was remembered."""

    def __init__(
        self,
        *,
        thinks: bool = True,
        shows: bool = True,
        stop_sequences: Sequence[str] = (),
        tools: Sequence[str] = ("Bash",),
        server: str = "",
        model: str = "m",
        calls: Collection[str] = (),
        whole: bool = False,
    ) -> None:
        numbers = itertools.count(1)
        names = ToolNames()
        for name in tools:
            names.upstream(name)
        self.request = ChatRequest(
            body=b"{}",
            names=names,
            warnings=(),
            stop_sequences=stop_sequences,
            thinks=thinks,
            shows=shows,
            empty=False,
            dialect=dialect_of(server, model),
            calls=calls,
            digest=ConversationDigest(),
        )
        self.memory = Signatures(lambda: 1.0)
        self.machine = BlockMachine(
            "claude-x",
            family=FAMILY,
            stop_sequences=stop_sequences,
            whole=whole,
            ids=Ids(lambda size: next(numbers).to_bytes(size, "big")),
            estimate=lambda: 11,
        )
        self.reader = ChatReader(self.machine, self.request, self.memory, 1 << 20, last=True)
        self.frames = b""

    def body(self, *reads: bytes) -> Batch:
        """Feed the body to its end; the last batch."""
        for read in reads:
            batch = self.reader.feed(read)
            self.frames += batch.frames
            if batch.ended or batch.error is not None:
                return batch
        batch = self.reader.end()
        self.frames += batch.frames
        return batch


def whole(body: bytes, **options: Any) -> Json:
    """The message of an answer that is not streamed."""
    answer = Answer(whole=True, **options)
    answer.reader.read_whole(body)
    message: Json = json.loads(answer.machine.message())
    return message
