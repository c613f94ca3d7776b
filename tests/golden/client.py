"""What the official Python client makes of a stream of ours, over a transport that brings the bytes at once."""

from __future__ import annotations

from typing import Any

import httpx2
from anthropic import Anthropic

_streams: list[bytes] = []


def _answer(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=_streams.pop())


_client = Anthropic(
    api_key="key",
    base_url="http://127.0.0.1",
    max_retries=0,
    http_client=httpx2.Client(transport=httpx2.MockTransport(_answer)),
)


def message_of(frames: bytes) -> dict[str, Any]:
    """``get_final_message()`` of these frames, as JSON."""
    _streams.append(frames)
    with _client.messages.stream(
        model="claude-opus-5-5", max_tokens=1, messages=[{"role": "user", "content": "hi"}]
    ) as stream:
        return stream.get_final_message().to_dict(mode="json", use_api_names=True)
