"""What an event costs that comes with others, in calls of functions: times say little on a machine that is busy.

A change that adds some to every event shows here. The bounds may be raised for one that is worth it, knowingly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.executors.bedrock.reader import ChunkedClaudeReader
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.translate.openai_responses.answers import ResponsesReader
from claudeproxyd.translate.openai_responses.policy import POLICY
from claudeproxyd.translate.openai_responses.records import SIGNATURES
from claudeproxyd.translate.openai_responses.requests import ResponsesTerms, translate
from claudeproxyd.translate.reading import read_conversation
from tests.calls import calls_of
from tests.framing import event_messages
from tests.golden.families.openai_responses.arrivals import frame
from tests.translate.converse import answering as converse
from tests.translate.gemini import answering as gemini
from tests.translate.openai_chat import answering as chat

MOST_PASSED = 2
MOST_TEXT: Mapping[str, int] = {"gemini": 9, "chat": 10, "responses": 15, "converse": 11, "bedrock": 10}
MOST_INPUT: Mapping[str, int] = {"chat": 18, "responses": 19, "converse": 17}
"""Of a piece of a call's input."""
EVENTS = 20

Stream = tuple[IStreamReader, bytes, bytes]
"""A reader, what it is to have read, and one event."""


def claude(kind: str, **members: object) -> bytes:
    return json.dumps({"type": kind, **members}).encode()


BEGUN = [
    claude("message_start", message={"id": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}),
    claude("content_block_start", index=0, content_block={"type": "text", "text": ""}),
]
DELTA = claude("content_block_delta", index=0, delta={"type": "text_delta", "text": "word "}).replace(b": ", b":")


def framed(event: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (json.loads(event)["type"].encode(), event)


def responses_reader() -> ResponsesReader:
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    asked = translate(read_conversation(body, family=SIGNATURES, policy=POLICY), ResponsesTerms("gpt-5.4"))
    return ResponsesReader(BlockMachine("m", family=SIGNATURES), asked, 1 << 20)


def texts() -> dict[str, Stream]:
    event = gemini.sse(gemini.chunk(gemini.text("word ")))
    said = chat.sse(chat.chunk(content="word "), done=False)
    item = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "word "}
    piece = converse.stream(converse.text(0, "word "))
    return {
        "gemini": (gemini.Answer().reader, event, event),
        "chat": (chat.Answer().reader, said, said),
        "responses": (responses_reader(), frame(item), frame(item)),
        "converse": (converse.Answer().reader, piece, piece),
        "bedrock": (
            ChunkedClaudeReader(1 << 20),
            b"".join(map(event_messages.chunk, BEGUN)),
            event_messages.chunk(DELTA),
        ),
    }


def inputs() -> dict[str, Stream]:
    begun = chat.sse(chat.chunk(tool_calls=[chat.piece(id="c", name="Bash")]), done=False)
    piece = chat.sse(chat.chunk(tool_calls=[chat.piece(arguments="word ")]), done=False)
    item: dict[str, Any] = {"type": "function_call", "id": "i", "call_id": "c", "name": "Bash", "arguments": ""}
    added = {"type": "response.output_item.added", "output_index": 0, "item": item}
    delta = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "word "}
    return {
        "chat": (chat.Answer().reader, begun, piece),
        "responses": (responses_reader(), frame(added), frame(delta)),
        "converse": (
            converse.Answer().reader,
            converse.stream(converse.call(0, "t")),
            converse.stream(converse.delta(0, toolUse={"input": "word "})),
        ),
    }


def calls_per_event(reader: IStreamReader, begun: bytes, event: bytes) -> float:
    """Of one more in a read that has some already."""
    reader.feed(begun)
    reader.feed(event)
    few = calls_of(lambda: reader.feed(event * EVENTS))
    many = calls_of(lambda: reader.feed(event * 2 * EVENTS))
    return (many - few) / EVENTS


class CostTests(SynchronousTestCase):
    """Of one event in a burst."""

    def test_passed(self) -> None:
        """An event that passes."""
        reader = ClaudeReader(1 << 20)
        self.assertLessEqual(calls_per_event(reader, b"".join(map(framed, BEGUN)), framed(DELTA)), MOST_PASSED)

    def test_texts(self) -> None:
        """A piece of text, in every family."""
        for family, stream in texts().items():
            self.assertLessEqual(calls_per_event(*stream), MOST_TEXT[family], family)

    def test_inputs(self) -> None:
        """A piece of a call's input, in the families that send them so."""
        for family, stream in inputs().items():
            self.assertLessEqual(calls_per_event(*stream), MOST_INPUT[family], family)
