"""What each API answers with, in its own words, to say the same thing; shares no code with the daemon."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Saying:
    """One answer. *number* is in all its words, so that whoever reads them later knows whose they are."""

    number: int
    thinks: bool = False
    speaks: bool = True
    calls: Sequence[tuple[str, str]] = field(default=())
    """Each a tool's name, as the upstream was told it, and the call's id, as the upstream gives it."""
    called: Sequence[str] = ()
    """The same tools' names as the client has them."""

    @property
    def thought(self) -> str:
        return f"thought-{self.number}." if self.thinks else ""

    @property
    def text(self) -> str:
        return f"word-{self.number}." if self.speaks else ""

    def input(self, at: int) -> Json:
        """The arguments of a call."""
        return {"what": f"call-{self.number}-{at}."}

    def seal(self, at: int = 0) -> str:
        """What an upstream signs with, in base64 without padding."""
        return base64.b64encode(f"seal-{self.number:04}-{at}.".encode()).decode()


def halves(text: str) -> tuple[str, str]:
    """A text in two pieces."""
    middle = len(text) // 2
    return text[:middle], text[middle:]


def _arguments(saying: Saying, at: int) -> str:
    return json.dumps(saying.input(at))


# -- Claude


def claude_blocks(saying: Saying) -> list[Json]:
    """The content of Claude's own message."""
    blocks: list[Json] = []
    if saying.thinks:
        blocks.append({"type": "thinking", "thinking": saying.thought, "signature": saying.seal()})
    if saying.speaks:
        blocks.append({"type": "text", "text": saying.text})
    for at, (name, id) in enumerate(saying.calls):
        blocks.append({"type": "tool_use", "id": id, "name": name, "input": saying.input(at)})
    return blocks


def claude_message(saying: Saying) -> Json:
    """The whole message."""
    return {
        "id": f"msg_{saying.number:024}",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": claude_blocks(saying),
        "stop_reason": "tool_use" if saying.calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


def claude_events(saying: Saying) -> Iterator[Json]:
    """The same, streamed."""
    whole = claude_message(saying)
    yield {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}
    for index, block in enumerate(whole["content"]):
        match block["type"]:
            case "thinking":
                empty = {"thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": half} for half in halves(block["thinking"])]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case "text":
                empty = {"text": ""}
                deltas = [{"type": "text_delta", "text": half} for half in halves(block["text"])]
            case _:
                empty = {"input": {}}
                pieces = halves(json.dumps(block["input"]))
                deltas = [{"type": "input_json_delta", "partial_json": half} for half in pieces]
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


# -- Gemini


def gemini(saying: Saying) -> list[Json]:
    """generateContent's chunks: the first of parallel calls bears the signature, else the last part."""
    parts: list[Json] = []
    if saying.thinks:
        parts.append({"text": saying.thought, "thought": True})
    if saying.speaks:
        parts.append({"text": saying.text})
    for at, (name, id) in enumerate(saying.calls):
        call = {"functionCall": {"name": name, "args": saying.input(at), **({"id": id} if id else {})}}
        parts.append(call if at else {**call, "thoughtSignature": saying.seal()})
    chunks: list[Json] = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in parts]
    chunks[-1]["candidates"][0]["finishReason"] = "STOP"
    chunks[-1]["usageMetadata"] = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
    return chunks


# -- chat completions


def chat(saying: Saying, member: str) -> list[Json]:
    """chat.completion.chunks. *member*: in which the server gives its reasoning; '' if it keeps it for itself."""
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    if saying.thinks and member == "reasoning_details":
        for half in halves(saying.thought):
            detail = {"type": "reasoning.text", "text": half, "index": 0, "format": "unknown"}
            deltas.append({"reasoning": half, "reasoning_details": [detail]})
    elif saying.thinks and member:
        deltas += [{member: half} for half in halves(saying.thought)]
    if saying.speaks:
        deltas += [{"content": half} for half in halves(saying.text)]
    for at, (name, id) in enumerate(saying.calls):
        first, second = halves(_arguments(saying, at))
        began = {"index": at, "id": id, "type": "function", "function": {"name": name, "arguments": first}}
        deltas += [{"tool_calls": [began]}, {"tool_calls": [{"index": at, "function": {"arguments": second}}]}]
    chunks = [_chunk(delta, None) for delta in deltas]
    chunks.append(_chunk({}, "tool_calls" if saying.calls else "stop"))
    chunks[-1]["usage"] = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return chunks


def _chunk(delta: Json, finish: str | None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


# -- the Responses API


def responses(saying: Saying, *, is_open: bool) -> list[Json]:
    """Events: with sealed reasoning, also between parallel calls; *is_open*: it comes as text, and once, instead."""
    items: list[Json] = []
    if saying.speaks:
        said = {"type": "output_text", "text": saying.text, "annotations": []}
        items += [*_reasoning(saying, 0, is_open), _item("msg", saying, 0, type="message", content=[said])]
    for at, (name, id) in enumerate(saying.calls):
        members = {"call_id": id, "name": name, "arguments": _arguments(saying, at)}
        before = _reasoning(saying, len(items), is_open) if at or not saying.speaks else []
        items += [*before, _item("fc", saying, at, type="function_call", **members)]
    events = [_state("created", [])]
    for index, item in enumerate(items):
        place = {"output_index": index}
        events.append({"type": "response.output_item.added", **place, "item": _begun(item)})
        events += ({**event, "item_id": item["id"], **place} for event in _pieces(item))
        events.append({"type": "response.output_item.done", **place, "item": item})
    events.append(_state("completed", items))
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _item(prefix: str, saying: Saying, at: int, **members: Any) -> Json:
    made = {"id": f"{prefix}_{saying.number}_{at}", "status": "completed", **members}
    return {**made, "role": "assistant"} if prefix == "msg" else made


def _reasoning(saying: Saying, at: int, is_open: bool) -> list[Json]:
    """*at*: how many items there are. What can be read stands in the first."""
    if not saying.thinks or (is_open and at):
        return []
    item: Json = {"id": f"rs_{saying.number}_{at}", "type": "reasoning", "summary": []}
    if is_open:
        return [{**item, "content": [{"type": "reasoning_text", "text": saying.thought}]}]
    summary = [] if at else [{"type": "summary_text", "text": saying.thought}]
    return [{**item, "summary": summary, "encrypted_content": saying.seal(at)}]


def _begun(item: Json) -> Json:
    empty = {"message": {"content": []}, "function_call": {"arguments": ""}, "reasoning": {"summary": []}}
    return {**item, **empty[item["type"]]}


def _pieces(item: Json) -> Iterator[Json]:
    match item:
        case {"type": "function_call", "arguments": arguments}:
            for half in halves(arguments):
                yield {"type": "response.function_call_arguments.delta", "delta": half}
        case {"type": "message", "content": [said]}:
            for half in halves(said["text"]):
                yield {"type": "response.output_text.delta", "content_index": 0, "delta": half, "logprobs": []}
        case {"type": "reasoning", "summary": [thought]}:
            for half in halves(thought["text"]):
                yield {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": half}
        case {"type": "reasoning", "content": [thought]}:
            yield {"type": "response.reasoning_text.delta", "content_index": 0, "delta": thought["text"]}


def _state(status: str, items: list[Json]) -> Json:
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "in_progress" if status == "created" else status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": "m",
        "output": items,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "metadata": {},
        "usage": None if status == "created" else usage,
    }
    return {"type": f"response.{status}", "response": response}


# -- Converse


def converse(saying: Saying, signs: bool) -> list[Json]:
    """ConverseStream's events. *signs*: the model does so with its reasoning."""
    deltas: list[tuple[Json | None, list[Json]]] = []
    if saying.thinks:
        pieces: list[Json] = [{"reasoningContent": {"text": half}} for half in halves(saying.thought)]
        if signs:
            pieces.append({"reasoningContent": {"signature": saying.seal()}})
        deltas.append((None, pieces))
    if saying.speaks:
        deltas.append((None, [{"text": half} for half in halves(saying.text)]))
    for at, (name, id) in enumerate(saying.calls):
        start = {"toolUse": {"toolUseId": id, "name": name}}
        deltas.append((start, [{"toolUse": {"input": half}} for half in halves(_arguments(saying, at))]))
    events: list[Json] = [{"messageStart": {"role": "assistant"}}]
    for index, (start, pieces) in enumerate(deltas):
        if start is not None:
            events.append({"contentBlockStart": {"contentBlockIndex": index, "start": start}})
        events += ({"contentBlockDelta": {"contentBlockIndex": index, "delta": piece}} for piece in pieces)
        events.append({"contentBlockStop": {"contentBlockIndex": index}})
    events.append({"messageStop": {"stopReason": "tool_use" if saying.calls else "end_turn"}})
    usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
    return [*events, {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}]
