"""Google's Gemini API as a scripted upstream, which Google's own SDK takes for the real one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.integration.support import answers
from tests.integration.support.upstream import Answer, Exchange, Recorded, Upstream

COUNTS = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}
SIGNATURE = "CpgBAdHtim9z/+8="
#: Whatever Claude model is asked for, the provider ``up`` answers as this one.
AS_GEMINI = '[[models]]\nname = "*"\nroutes = [{ provider = "up", model = "gemini-2.5-pro" }]\n'
AS_THREE = AS_GEMINI.replace("gemini-2.5-pro", "gemini-3-pro-preview")
MODELS = ("gemini-2.5-pro", "gemini-3-pro-preview")


def call(name: str, args: Mapping[str, Any], signature: str = "") -> dict[str, Any]:
    """A part that calls a function."""
    part = {"functionCall": {"name": name, "args": args}}
    return {**part, "thoughtSignature": signature} if signature else part


def said(*parts: str | Mapping[str, Any], finish: str = "") -> dict[str, Any]:
    """A GenerateContentResponse; with *finish* the last one of an answer."""
    content = {"role": "model", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}
    candidate: dict[str, Any] = {"content": content, "index": 0}
    if not finish:
        return {"candidates": [candidate]}
    return {"candidates": [{**candidate, "finishReason": finish}], "usageMetadata": COUNTS}


def frame(response: Mapping[str, Any]) -> bytes:
    """As ``alt=sse`` frames it."""
    return b"data: " + json.dumps(response).encode() + b"\r\n\r\n"


def stream(*responses: Mapping[str, Any], pace: float = 0.0, end: bool = True, apart: bool = False) -> Answer:
    """A stream of these, *pace* seconds apart; see :func:`.answers.stream`."""
    return answers.stream(map(frame, responses), pace=pace, end=end, apart=apart)


def whole(response: Any, **headers: str) -> Answer:
    """One JSON answer."""
    return answers.whole(json.dumps(response).encode(), headers=headers)


def failure(code: int, status: str, told: str, *details: Mapping[str, Any]) -> dict[str, Any]:
    """Google's error object."""
    return {"error": {"code": code, "status": status, "message": told, "details": list(details)}}


def error(code: int, status: str, told: str, *details: Mapping[str, Any]) -> Answer:
    """A refusal."""
    return answers.whole(json.dumps(failure(code, status, told, *details)).encode(), status=code)


def saying(*parts: str | Mapping[str, Any]) -> Answer:
    """A whole answer of these parts, streamed or not as it is asked for; a count where tokens are to be counted."""

    async def answer(exchange: Exchange) -> None:
        path = exchange.request.path
        if path.endswith(":countTokens"):
            await whole({"totalTokens": 31})(exchange)
        elif ":streamGenerateContent" in path:
            *first, last = parts
            await stream(*(said(part) for part in first), said(last, finish="STOP"))(exchange)
        else:
            await whole(said(*parts, finish="STOP"))(exchange)

    return answer


def usual() -> Answer:
    """What it answers when it is well."""
    return saying("hel", "lo")


def two_calls(name: str, *args: Mapping[str, Any]) -> Answer:
    """A thought and two calls at once, of which the API signs the first."""
    first, second = args
    thought = {"text": "Two at once.", "thought": True}
    return stream(said(thought), said(call(name, first, SIGNATURE)), said(call(name, second), finish="STOP"))


def flood(size: int, delta: int = 65_536) -> Answer:
    """A whole stream of some *size* bytes of text, as fast as the socket takes it; see :func:`.answers.flood`."""
    part = answers.chunk(frame(said("x" * delta)))

    async def answer(exchange: Exchange) -> None:
        await stream(end=False)(exchange)
        for _ in range(size // delta):
            await exchange.write(part)
        await answers.rest([frame(said("y", finish="STOP"))])(exchange)

    return answer


def calls(request: Recorded) -> list[dict[str, Any]]:
    """The parts of a request that call functions."""
    parts = [part for content in request.json["contents"] for part in content["parts"]]
    return [part for part in parts if "functionCall" in part]


def too_long() -> Answer:
    """What is said of a prompt that the model's window does not hold."""
    told = "The input token count (1048999) exceeds the maximum number of tokens allowed (1048576)."
    return error(400, "INVALID_ARGUMENT", told)


def _listed(name: str, method: str) -> dict[str, Any]:
    limits = {"inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}
    return {"name": f"models/{name}", "displayName": name.title(), **limits, "supportedGenerationMethods": [method]}


class Gemini(Upstream):
    """The upstream: besides its script it lists :data:`MODELS`, and one that does not answer."""

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        path = exchange.request.path.partition("?")[0]
        if path == "/v1beta1/publishers/google/models":
            of_vertex = [*MODELS, "text-embedding-005"]
            return whole({"publisherModels": [{"name": f"publishers/google/models/{name}"} for name in of_vertex]})
        if path == "/v1beta/models":
            of_text = [_listed(name, "generateContent") for name in MODELS]
            return whole({"models": [*of_text, _listed("gemini-embedding-001", "embedContent")]})
        return super().answer_for(exchange)
