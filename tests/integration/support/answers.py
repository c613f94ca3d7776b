"""What a scripted upstream can do with a request: whole answers, streams, errors, and every way to break off.

Each function gives an answer for :meth:`.upstream.Upstream.script`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from tests.integration.support.upstream import Answer, Exchange, Upstream

SSE = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
JSON = {"content-type": "application/json"}
USAGE = {"input_tokens": 11, "output_tokens": 1}


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """The bytes of a head."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode()


def chunk(data: bytes) -> bytes:
    """*data* as one chunk of a chunked body; empty data is its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(event: Mapping[str, Any]) -> bytes:
    """One stream event as the API writes it."""
    return f"event: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


PING = frame({"type": "ping"})


def message(text: str = "hello", model: str = "claude-opus-5-5", **more: Any) -> dict[str, Any]:
    """A whole message."""
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": 2},
        **more,
    }


def start_frames(model: str = "claude-opus-5-5") -> list[bytes]:
    """The frames before the first content event: they do not commit anything."""
    empty = message(model=model, content=[], stop_reason=None, usage=USAGE)
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return [frame({"type": "message_start", "message": empty}), frame(block)]


def text_frame(text: str) -> bytes:
    return frame({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})


def end_frames(stop_reason: str = "end_turn") -> list[bytes]:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return [
        frame({"type": "content_block_stop", "index": 0}),
        frame({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 2}}),
        frame({"type": "message_stop"}),
    ]


def frames(*texts: str) -> list[bytes]:
    """A whole stream that says *texts*, one delta each."""
    return [*start_frames(), *map(text_frame, texts or ("hello",)), *end_frames()]


def error_frame(kind: str = "overloaded_error", told: str = "Overloaded") -> bytes:
    return frame({"type": "error", "error": {"type": kind, "message": told}})


def whole(body: bytes | None = None, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A JSON answer, in one write."""
    body = json.dumps(message()).encode() if body is None else body

    async def answer(exchange: Exchange) -> None:
        await exchange.write(head(status, {**JSON, "content-length": str(len(body)), **(headers or {})}) + body)

    return answer


def error(status: int, kind: str = "api_error", told: str = "scripted", **headers: str) -> Answer:
    """An error of the API's own shape; ``retry_after="1"`` becomes the header ``retry-after``."""
    body = {"type": "error", "error": {"type": kind, "message": told}, "request_id": "req_upstream"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return whole(json.dumps(body).encode(), status, {"request-id": "req_upstream", **named})


def stream(
    parts: Iterable[bytes] | None = None,
    pace: float = 0.0,
    headers: Mapping[str, str] | None = None,
    end: bool = True,
    apart: bool = False,
) -> Answer:
    """A chunked stream of *parts*, a whole message unless told; *pace* seconds between two, at once when 0.

    *apart*: no part is sent before the other side has read the one ahead of it.
    ``end=False`` leaves the body open after the last part: what follows is the next answer's affair, see :func:`then`.
    """
    parts = list(frames() if parts is None else parts)

    async def answer(exchange: Exchange) -> None:
        await exchange.write(head(200, {**SSE, "transfer-encoding": "chunked", **(headers or {})}))
        if pace or apart:
            for part in parts:
                await exchange.write(chunk(part))
                await (exchange.until_read() if apart else exchange.sleep(pace))
        elif parts:
            await exchange.write(chunk(b"".join(parts)))
        if end:
            await exchange.write(chunk(b""))

    return answer


def either(whole_answer: Answer, stream_answer: Answer) -> Answer:
    """The one or the other, as the request asks for."""

    async def answer(exchange: Exchange) -> None:
        await (stream_answer if exchange.request.json.get("stream") else whole_answer)(exchange)

    return answer


def usual() -> Answer:
    """What an upstream that is well answers to anything."""

    async def answer(exchange: Exchange) -> None:
        if "count_tokens" in exchange.request.path:
            await whole(b'{"input_tokens": 11}')(exchange)
        else:
            await either(whole(), stream())(exchange)

    return answer


def then(*steps: Answer) -> Answer:
    """One after another on the same exchange."""

    async def answer(exchange: Exchange) -> None:
        for step in steps:
            await step(exchange)

    return answer


def pause(seconds: float) -> Answer:
    """Nothing for so long: before a head it is a slow upstream, inside a stream a stall."""

    async def answer(exchange: Exchange) -> None:
        await exchange.sleep(seconds)

    return answer


def silent() -> Answer:
    """Nothing at all, until the other side gives up."""

    async def answer(exchange: Exchange) -> None:
        await exchange.until_gone()

    return answer


def pings(every: float, count: int) -> Answer:
    """A stream's head, then only pings; the body stays open."""
    return stream([PING] * count, pace=every, end=False)


def rest(parts: Iterable[bytes]) -> Answer:
    """The rest of a stream that was left open, and its end."""
    parts = list(parts)

    async def answer(exchange: Exchange) -> None:
        await exchange.write(chunk(b"".join(parts)) + chunk(b""))

    return answer


def cut(data: bytes, reset: bool = False) -> Answer:
    """Exactly these bytes, head and all, then the connection's end: FIN, or RST where *reset*."""

    async def answer(exchange: Exchange) -> None:
        if data:
            await exchange.write(data)
        if reset:
            await exchange.until_read()  # an RST takes along what is not
            exchange.reset()
        else:
            exchange.close()
        await exchange.until_gone()

    return answer


def cut_stream(parts: Iterable[bytes], reset: bool = False) -> Answer:
    """A stream that is cut after *parts*: no last chunk."""
    return cut(head(200, {**SSE, "transfer-encoding": "chunked"}) + chunk(b"".join(parts)), reset)


def packed(body: bytes, declared: bool = True) -> Answer:
    """A body that is gzip, with the header that says so or without it."""
    return whole(gzip.compress(body), headers={"content-encoding": "gzip"} if declared else {})


def informed(answer_after: Answer, status: int = 103) -> Answer:
    """A 1xx head first."""

    async def answer(exchange: Exchange) -> None:
        await exchange.write(head(status, {"x-early": "1"}))
        await answer_after(exchange)

    return answer


def closing_kept_alive(otherwise: Answer) -> Answer:
    """Close without one byte where the connection was used before; on a fresh one answer *otherwise*."""

    async def answer(exchange: Exchange) -> None:
        if exchange.nth > 1:
            exchange.close()
            await exchange.until_gone()
        else:
            await otherwise(exchange)

    return answer


def flood(size: int, delta: int = 65_536) -> Answer:
    """A whole stream of some *size* bytes, as fast as the socket takes it: see ``Exchange.written`` and ``pauses``."""
    part = chunk(text_frame("x" * delta))

    async def answer(exchange: Exchange) -> None:
        await stream(start_frames(), end=False)(exchange)
        for _ in range(size // delta):
            await exchange.write(part)
        await rest(end_frames())(exchange)

    return answer


def long_stream(upstream: Upstream) -> Deferred[None]:
    """The next answers begin at once and come to their end when what is returned has fired."""
    parts = frames(*(f"{number} " for number in range(10)))
    go_on: Deferred[None] = Deferred()

    async def held(exchange: Exchange) -> None:
        await stream(parts[:3], end=False)(exchange)
        await exchange.until(go_on)
        await rest(parts[3:])(exchange)

    upstream.script(held)
    return go_on
