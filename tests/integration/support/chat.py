"""A server of chat completions as a scripted upstream, which OpenAI's own SDK takes for the real one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.integration.support import answers
from tests.integration.support.upstream import Answer, Exchange, Recorded, Upstream

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
MODELS = ("gpt-4.1", "gpt-5.2")


def as_model(model: str) -> str:
    """Whatever Claude model is asked for, the provider ``up`` answers as this one."""
    return f'[[models]]\nname = "*"\nroutes = [{{ provider = "up", model = "{model}" }}]\n'


def call(name: str, args: Mapping[str, Any], id: str = "call_1", index: int = 0) -> dict[str, Any]:
    """A call, whole."""
    function = {"name": name, "arguments": json.dumps(args)}
    return {"index": index, "id": id, "type": "function", "function": function}


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    """A chat.completion.chunk; with *finish* the last one of an answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": said, "finish_reason": finish}],
    }


def frame(chunk: Mapping[str, Any] | str) -> bytes:
    """As OpenAI frames it."""
    return b"data: %b\n\n" % (chunk if isinstance(chunk, str) else json.dumps(chunk)).encode()


def stream(*chunks: Mapping[str, Any] | str, pace: float = 0.0, end: bool = True) -> Answer:
    """A stream of these, *pace* seconds apart; see :func:`.answers.stream`."""
    return answers.stream(map(frame, chunks), pace=pace, end=end)


def whole(answer: Any, status: int = 200, **headers: str) -> Answer:
    """One JSON answer."""
    return answers.whole(json.dumps(answer).encode(), status=status, headers=headers)


def failure(told: str, code: str | None = None, type: str = "invalid_request_error") -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": told, "type": type, "param": None, "code": code}}


def saying(*pieces: str, reasoning: str = "", calls: Sequence[dict[str, Any]] = ()) -> Answer:
    """A whole answer, streamed or not as it is asked for."""
    finish = "tool_calls" if calls else "stop"

    async def answer(exchange: Exchange) -> None:
        thought = {"reasoning_content": reasoning} if reasoning else {}
        if not exchange.request.json.get("stream"):
            said = {"role": "assistant", "content": "".join(pieces) or None, "refusal": None, **thought}
            message = {**said, "tool_calls": list(calls)} if calls else said
            choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
            completion = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
            await whole({**completion, "choices": [choice], "usage": USAGE})(exchange)
            return
        chunks = [delta(role="assistant", content="")]
        chunks += [delta(**thought)] if thought else []
        chunks += [delta(content=piece) for piece in pieces]
        for each in calls:
            function = each["function"]
            arguments = function["arguments"]
            chunks.append(delta(tool_calls=[{**each, "function": {**function, "arguments": ""}}]))
            for piece in (arguments[:4], arguments[4:]):
                chunks.append(delta(tool_calls=[{"index": each["index"], "function": {"arguments": piece}}]))
        counted = {**delta(), "choices": [], "usage": USAGE}
        asked = exchange.request.json.get("stream_options", {}).get("include_usage")
        await stream(*chunks, delta(finish), *([counted] if asked else []), "[DONE]")(exchange)

    return answer


def usual() -> Answer:
    """What it answers when it is well."""
    return saying("hel", "lo")


def too_long() -> Answer:
    """What is said of a prompt that the model's window does not hold."""
    told = "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens."
    return whole(failure(told, "context_length_exceeded"), 400)


def calls_of(request: Recorded) -> list[dict[str, Any]]:
    """The calls in a request."""
    return [each for message in request.json["messages"] for each in message.get("tool_calls", [])]


def results_of(request: Recorded) -> list[str]:
    """The results in a request."""
    return [message["content"] for message in request.json["messages"] if message["role"] == "tool"]


class ChatServer(Upstream):
    """The upstream: besides its script it lists :data:`MODELS`."""

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        if exchange.request.path.partition("?")[0].endswith("/models"):
            data = [{"id": name, "object": "model", "created": 1, "owned_by": "openai"} for name in MODELS]
            return whole({"object": "list", "data": data})
        return super().answer_for(exchange)
