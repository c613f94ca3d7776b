"""How an answer ends, and what is an error in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.json_guards import UNREADABLE, as_object
from claudeproxyd.messages.usage import tokens_in
from claudeproxyd.outcomes.bodies import is_unnamed_error
from claudeproxyd.outcomes.types import Family
from claudeproxyd.translate.openai.words import refusal
from claudeproxyd.translate.openai_responses.events import is_there

if TYPE_CHECKING:
    from claudeproxyd.messages.usage import Usage

#: Arguments of :meth:`~claudeproxyd.messages.blocks.BlockMachine.finish`.
Ending = tuple[str, Mapping[str, object] | None]

#: Why an answer is incomplete; any other reason is taken for the first.
_INCOMPLETE = {"max_output_tokens": "max_tokens", "max_messages": "end_turn", "steered": "end_turn"}

_encode = msgspec.json.Encoder().encode


def ending_of(reason: str | None) -> Ending:
    """Return how the message ends for the reason of its being incomplete; None: it is complete."""
    if reason is None:
        return "end_turn", None
    if reason == "content_filter":
        return refused("")
    return _INCOMPLETE.get(reason, "max_tokens"), None


def is_known(reason: str) -> bool:
    """Whether a reason has a meaning of its own."""
    return reason == "content_filter" or reason in _INCOMPLETE


def refused(words: str) -> Ending:
    """Return how a message ends that the model refused in its own *words*, or that a filter stopped ('')."""
    return "refusal", refusal(words)


def error_body(error: msgspec.Raw, code: str | None, message: str | None) -> bytes:
    """Return an error as OpenAI answers with one: of an event that has it in a member, or is it itself."""
    members: Mapping[str, object] = {}
    if is_there(error):
        try:
            given = msgspec.json.decode(error)
        except UNREADABLE:
            given = bytes(error).decode("utf-8", "replace")
        members = {"message": given} if isinstance(given, str) else as_object(given)
    told = {
        "message": members.get("message") or message or "The provider failed, and did not say why",
        "type": members.get("type") or "error",
        "param": members.get("param"),
        "code": members.get("code") or code,
    }
    return _encode({"error": told})


def error_in(data: bytes) -> bytes | None:
    """Return *data* if it is an error that does not call itself one."""
    return data if is_unnamed_error(data, Family.OPENAI) else None


def count(usage: Usage, told: Mapping[str, object]) -> None:
    """Take over what an answer counts; what it leaves out, or cannot mean, is as it was."""
    details = as_object(told.get("input_tokens_details"))
    cached, written = tokens_in(details.get("cached_tokens")), tokens_in(details.get("cache_write_tokens"))
    if cached is not None:
        usage.cache_read = cached
    if written is not None:
        usage.cache_write = written
    prompt = tokens_in(told.get("input_tokens"))
    if prompt is not None:
        usage.input = max(0, prompt - (usage.cache_read or 0) - (usage.cache_write or 0))
        usage.guessed_input = None
    output = tokens_in(told.get("output_tokens"))
    if output is not None:
        usage.output = output
        usage.estimated = False
    reasoned = tokens_in(as_object(told.get("output_tokens_details")).get("reasoning_tokens"))
    if reasoned is not None:
        usage.thinking = reasoned
