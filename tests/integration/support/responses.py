"""OpenAI's Responses API as a scripted upstream, which OpenAI's own SDK takes for the real one.

It is as strict as OpenAI where a translation may go wrong: reasoning has to come back sealed, and directly ahead of
what followed it; calls and their outputs belong together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.integration.support import answers
from tests.integration.support.chat import failure
from tests.integration.support.chat import whole as whole
from tests.integration.support.upstream import Answer, Exchange, Recorded, Upstream

Json = dict[str, Any]

USAGE = {
    "input_tokens": 5,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 12,
}
MODELS = ("gpt-4.1", "gpt-5.4")


def text(words: str, *sources: Json) -> Json:
    """A message, with what it cites."""
    part = {"type": "output_text", "text": words, "annotations": list(sources), "logprobs": []}
    return {"type": "message", "status": "completed", "role": "assistant", "content": [part]}


def call(name: str, args: Mapping[str, Any], call_id: str = "call_1") -> Json:
    """A call."""
    arguments = json.dumps(args)
    return {"type": "function_call", "status": "completed", "call_id": call_id, "name": name, "arguments": arguments}


def thought(words: str, sealed: str) -> Json:
    """Reasoning, summed up and sealed."""
    summary = [{"type": "summary_text", "text": words}] if words else []
    return {"type": "reasoning", "summary": summary, "encrypted_content": sealed}


def search(query: str, *urls: str) -> Json:
    """A search, and what it found."""
    sources = [{"type": "url", "url": url} for url in urls]
    action = {"type": "search", "query": query, "sources": sources}
    return {"type": "web_search_call", "status": "completed", "action": action}


_IDS = {"message": "msg", "function_call": "fc", "reasoning": "rs", "web_search_call": "ws"}


def numbered(items: Sequence[str | Json], start: int = 0) -> list[Json]:
    """These with ids, texts as messages."""
    made = [text(item) if isinstance(item, str) else item for item in items]
    return [{"id": f"{_IDS[item['type']]}_{start}_{at}", **item} for at, item in enumerate(made)]


def response(status: str, output: Sequence[Json] = (), **members: Any) -> Json:
    """A Response with all that OpenAI's SDK insists on."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "m",
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": USAGE if status in ("completed", "incomplete") else None,
        **members,
    }


def events(items: Sequence[Json]) -> list[Json]:
    """Those of a whole answer, every text and every call in two pieces."""
    made = [{"type": "response.created", "response": response("in_progress")}]
    for at, item in enumerate(items):
        place = {"output_index": at, "item_id": item["id"]}
        part = {**place, "content_index": 0}
        match item["type"]:
            case "message":
                (said,) = item["content"]
                words = said["text"]
                made += [
                    _added(at, {**item, "content": [], "status": "in_progress"}),
                    {"type": "response.content_part.added", **part, "part": {**said, "text": "", "annotations": []}},
                    *({"type": "response.output_text.delta", **part, "delta": each} for each in halves(words)),
                    {"type": "response.output_text.done", **part, "text": words, "logprobs": []},
                    {"type": "response.content_part.done", **part, "part": said},
                ]
            case "function_call":
                arguments = item["arguments"]
                made += [
                    _added(at, {**item, "arguments": "", "status": "in_progress"}),
                    *(
                        {"type": "response.function_call_arguments.delta", **place, "delta": each}
                        for each in halves(arguments)
                    ),
                    {"type": "response.function_call_arguments.done", **place, "arguments": arguments},
                ]
            case "reasoning":
                made.append(_added(at, {**item, "summary": [], "encrypted_content": "not yet"}))
                for number, each in enumerate(item["summary"]):
                    place = {**place, "summary_index": number}
                    made += [
                        {"type": "response.reasoning_summary_part.added", **place, "part": {**each, "text": ""}},
                        {"type": "response.reasoning_summary_text.delta", **place, "delta": each["text"]},
                        {"type": "response.reasoning_summary_text.done", **place, "text": each["text"]},
                        {"type": "response.reasoning_summary_part.done", **place, "part": each},
                    ]
            case _:
                made.append(_added(at, {**item, "status": "in_progress"}))
        made.append({"type": "response.output_item.done", "output_index": at, "item": item})
    return made


def _added(at: int, item: Json) -> Json:
    return {"type": "response.output_item.added", "output_index": at, "item": item}


def halves(words: str) -> list[str]:
    """Two pieces, if there is enough for two."""
    return [each for each in (words[: len(words) // 2], words[len(words) // 2 :]) if each]


def frame(event: Json) -> bytes:
    """As OpenAI frames it."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())


def stream(*made: Json, pace: float = 0.0, end: bool = True) -> Answer:
    """A stream of these, *pace* seconds apart; see :func:`.answers.stream`."""
    counted = [{**event, "sequence_number": number} for number, event in enumerate(made)]
    return answers.stream(map(frame, counted), pace=pace, end=end)


def saying(*items: str | Json, pace: float = 0.0) -> Answer:
    """A whole answer of these, streamed or not as it is asked for."""

    async def answer(exchange: Exchange) -> None:
        made = numbered(items, exchange.nth)
        done = response("completed", made)
        if exchange.request.json.get("stream"):
            last = {"type": "response.completed", "response": done}
            await stream(*events(made), last, pace=pace)(exchange)
        else:
            await whole(done)(exchange)

    return answer


def usual() -> Answer:
    """What it answers when it is well."""
    return saying("hello")


def too_long() -> Answer:
    """What is said of a prompt that the model's window does not hold."""
    told = "Your input exceeds the context window of this model. Please adjust your input and try again."
    return whole(failure(told, "context_length_exceeded"), 400)


def unopened() -> Answer:
    """What is said of reasoning that another key has sealed."""
    told = "The encrypted content for item rs_1 could not be verified."
    return whole(failure(told, "invalid_encrypted_content"), 400)


def items(request: Recorded, *kinds: str) -> list[Json]:
    """The items of a request, of these types."""
    return [item for item in request.json["input"] if item["type"] in kinds]


def objection(body: Json) -> str:
    """What OpenAI would say of the items; '' where it takes them."""
    called: set[str] = set()
    given = body.get("input", [])
    for item, after in zip(given, [*given[1:], None], strict=True):
        if item["type"] == "reasoning":
            if not item.get("encrypted_content"):
                return f"Item with id '{item['id']}' not found."
            if after is None or after["type"] == "function_call_output" or after.get("role") == "user":
                return f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
        elif item["type"] == "function_call":
            called.add(item["call_id"])
        elif item["type"] == "function_call_output" and item["call_id"] not in called:
            return f"No tool call found for function call output with call_id {item['call_id']}."
    answered = {item["call_id"] for item in given if item["type"] == "function_call_output"}
    return f"No tool output found for function call {min(called - answered)}." if called - answered else ""


class Responses(Upstream):
    """The upstream: besides its script it lists :data:`MODELS`, counts tokens, and refuses what OpenAI would."""

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        path = exchange.request.path.partition("?")[0]
        if path.endswith("/models"):
            data = [{"id": name, "object": "model", "created": 1, "owned_by": "openai"} for name in MODELS]
            return whole({"object": "list", "data": data})
        if path.endswith("/input_tokens"):
            return whole({"object": "response.input_tokens", "input_tokens": 31})
        given = exchange.request.json
        if isinstance(given.get("input"), list) and (refused := objection(given)):
            return whole(failure(refused), 400)
        return super().answer_for(exchange)
