"""The same answers as each upstream streams them: of one text, of one thought, and of tool calls alone."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Sequence
from zlib import crc32

EVENTS = 500
"""Of each stream, those that begin and end it aside."""
WORDS = "Twelve bytes, or twenty. "
"""The text of an event."""
ARGUMENTS = {"file_path": "/src/module/file.py", "old_string": "a = 1\n" * 20, "new_string": "b = 2\n" * 20}
PIECES = 12
"""The events in which most send the arguments of one call."""
CALLS = EVENTS // PIECES
"""Of a stream of calls."""
SIGNATURE = "c2lnbmF0dXJl" * 20


def compact(value: object) -> bytes:
    """JSON as servers and clients write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _pieces() -> list[str]:
    said = json.dumps(ARGUMENTS)
    step = -(-len(said) // PIECES)
    return [said[at : at + step] for at in range(0, len(said), step)]


# -- Claude, and Claude on Bedrock


def claude_event(kind: str, **members: object) -> bytes:
    """As the API writes it."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), compact({"type": kind, **members}))


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


def claude_texts() -> list[bytes]:
    """One text."""
    return claude_stream(
        claude_block(0, {"type": "text", "text": ""}, [{"type": "text_delta", "text": WORDS}] * EVENTS)
    )


def claude_thoughts() -> list[bytes]:
    """One long thought."""
    start: dict[str, object] = {"type": "thinking", "thinking": "", "signature": ""}
    return claude_stream(claude_block(0, start, [{"type": "thinking_delta", "thinking": WORDS}] * EVENTS))


def claude_calls() -> list[bytes]:
    """Many events each."""
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in _pieces()]
    blocks: list[bytes] = []
    for index in range(CALLS):
        start: dict[str, object] = {"type": "tool_use", "id": f"toolu_{index}", "name": "Edit", "input": {}}
        blocks += claude_block(index, start, deltas)
    return claude_stream(blocks)


def aws_message(kind: str, payload: bytes) -> bytes:
    """One of an event stream: lengths, headers, payload, and two CRCs."""
    names = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in names.items()
    )
    lengths = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    whole = lengths + struct.pack("!I", crc32(lengths)) + headers + payload
    return whole + struct.pack("!I", crc32(whole))


def invoked(stream: Sequence[bytes]) -> list[bytes]:
    """A stream of Claude's as Bedrock wraps it."""
    events = [event.partition(b"\ndata: ")[2].rstrip() for event in stream]
    return [aws_message("chunk", compact({"bytes": b64encode(event).decode(), "p": "abcdefghij"})) for event in events]


# -- Gemini


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
    return b"data: %b\r\n\r\n" % compact(chunk)


def gemini_stream(parts: Sequence[dict[str, object]]) -> list[bytes]:
    """A whole one: the last chunk has the end alone."""
    chunks = [gemini_chunk(part, number) for number, part in enumerate(parts)]
    return [*chunks, gemini_chunk({"text": ""}, len(parts), "STOP")]


def gemini_texts(*, thought: bool = False) -> list[bytes]:
    """One text, or one thought."""
    return gemini_stream([{"text": WORDS, **({"thought": True} if thought else {})}] * EVENTS)


def gemini_calls() -> list[bytes]:
    """One event each."""
    part: dict[str, object] = {"functionCall": {"name": "Edit", "args": ARGUMENTS}, "thoughtSignature": SIGNATURE}
    return gemini_stream([part] * CALLS)


# -- chat completions


def _chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    said = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-ZmFrZQ", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5.2-2025-12-11"}
    whole = {**head, "service_tier": "default", "choices": [said], "usage": None, "obfuscation": "ZmFrZQ"}
    return b"data: %b\n\n" % compact(whole)


def chat_texts(member: str) -> list[bytes]:
    """One text, or the reasoning in that member."""
    said = [_chunk({member: WORDS})] * EVENTS
    return [*said, _chunk({"content": "."}), _chunk({}, "stop"), b"data: [DONE]\n\n"]


def chat_calls() -> list[bytes]:
    """Many events each."""
    said: list[bytes] = []
    for index in range(CALLS):
        begun = {
            "index": index,
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": "Edit", "arguments": ""},
        }
        said.append(_chunk({"tool_calls": [begun]}))
        said += [_chunk({"tool_calls": [{"index": index, "function": {"arguments": each}}]}) for each in _pieces()]
    return [*said, _chunk({}, "tool_calls"), b"data: [DONE]\n\n"]


# -- the Responses API


def _event(kind: str, **members: object) -> bytes:
    whole = {"type": f"response.{kind}", "sequence_number": 1, **members}
    return b"event: response.%b\ndata: %b\n\n" % (kind.encode(), compact(whole))


def _delta(kind: str, at: int, text: str = WORDS, **part: int) -> bytes:
    id = f"msg_68af40303b2c819f{at}"
    return _event(kind, item_id=id, output_index=at, **part, delta=text, obfuscation="ZmFrZQ")


def _responses(*events: bytes) -> list[bytes]:
    done = {"id": "resp_1", "status": "completed", "output": [], "usage": {"input_tokens": 1, "output_tokens": 1}}
    return [_event("created", response={"id": "resp_1"}), *events, _event("completed", response=done)]


def responses_texts() -> list[bytes]:
    """One text."""
    return _responses(*[_delta("output_text.delta", 0, content_index=0)] * EVENTS)


def responses_thoughts() -> list[bytes]:
    """One long summary, and a word."""
    thoughts = [_delta("reasoning_summary_text.delta", 0, summary_index=0)] * EVENTS
    return _responses(*thoughts, _delta("output_text.delta", 1, content_index=0))


def responses_calls() -> list[bytes]:
    """Many events each."""
    said: list[bytes] = []
    for at in range(CALLS):
        id = f"msg_68af40303b2c819f{at}"
        item: dict[str, object] = {"id": id, "type": "function_call", "call_id": f"call_{at}", "name": "Edit"}
        said.append(_event("output_item.added", output_index=at, item={**item, "arguments": ""}))
        said += [_delta("function_call_arguments.delta", at, each) for each in _pieces()]
        done = {**item, "arguments": json.dumps(ARGUMENTS)}
        said.append(_event("output_item.done", output_index=at, item=done))
    return _responses(*said)


# -- Converse


def _converse(kind: str, **members: object) -> bytes:
    return aws_message(kind, compact({**members, "p": "abcdefghij"}))


def _block(index: int, deltas: Sequence[dict[str, object]]) -> list[bytes]:
    said = [_converse("contentBlockDelta", contentBlockIndex=index, delta=delta) for delta in deltas]
    return [*said, _converse("contentBlockStop", contentBlockIndex=index)]


def _converse_stream(blocks: Sequence[bytes]) -> list[bytes]:
    usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
    return [
        _converse("messageStart", role="assistant"),
        *blocks,
        _converse("messageStop", stopReason="end_turn"),
        _converse("metadata", usage=usage, metrics={"latencyMs": 1}),
    ]


def converse_texts() -> list[bytes]:
    """One text."""
    return _converse_stream(_block(0, [{"text": WORDS}] * EVENTS))


def converse_thoughts() -> list[bytes]:
    """One long thought, and a word."""
    thoughts: list[dict[str, object]] = [{"reasoningContent": {"text": WORDS}}]
    return _converse_stream([*_block(0, thoughts * EVENTS), *_block(1, [{"text": "."}])])


def converse_calls() -> list[bytes]:
    """Many events each."""
    blocks: list[bytes] = []
    for index in range(CALLS):
        start = {"toolUse": {"toolUseId": f"tooluse_{index}", "name": "Edit"}}
        blocks.append(_converse("contentBlockStart", contentBlockIndex=index, start=start))
        blocks += _block(index, [{"toolUse": {"input": each}} for each in _pieces()])
    return _converse_stream(blocks)
