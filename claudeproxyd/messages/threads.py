"""Threads: conversations that the API keeps for a client, which then sends what is new alone.

The SDKs' tool runners begin one by themselves (``"thread": {"type": "create"}``, with the whole conversation) and go on
by the id of the last answer. It lies with the organization that began it: no other one's key, and no other provider,
has it. Clients that are told so, by the error code below, send the whole conversation again.
Source: ``thread_not_found_error.py`` and ``lib/threads`` of Anthropic's Python SDK.
"""

from __future__ import annotations

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.search import holds

#: ``error.details.error_code`` of the 404.
NOT_FOUND = "thread_not_found"


class _Thread(msgspec.Struct):
    type: str = ""


class _Request(msgspec.Struct):
    thread: _Thread | None = None


_decode = msgspec.json.Decoder(_Request).decode


def continues_thread(body: bytes) -> bool:
    """Whether a request goes on with a conversation that it does not bring along."""
    if not holds(body, b'"thread"'):
        return False
    try:
        thread = _decode(body).thread
    except UNREADABLE:
        return False
    return thread is not None and thread.type == "continue"
