"""Messages into turns: one side at a time, every call with its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from claudeproxyd.errors import Unsupported
from claudeproxyd.steps import STEP
from claudeproxyd.translate.conversation import ToolUse, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Part, ToolResult


@dataclass(slots=True)
class MessageParts:
    """The parts and results of one message."""

    role: Literal["user", "assistant"]
    index: int
    """Its place in ``messages``."""
    parts: list[Part] = field(default_factory=list)
    results: list[tuple[int, ToolResult]] = field(default_factory=list)
    """Those of its blocks that are results, each with its place in ``content``; they lack the tool's name."""


def take_turns(messages: Iterable[MessageParts]) -> Steps[list[Turn]]:
    """Return the turns: messages of one side joined, empty ones left out, results first and in their calls' order.

    Raises :class:`Unsupported`, in the API's words, for calls and results that do not match, and where no user begins.
    """
    turns: list[Turn] = []
    asked: Sequence[MessageParts] = ()
    used: dict[str, int] = {}
    for role, group in groupby(
        (message for message in messages if message.parts or message.results), attrgetter("role")
    ):
        alike = list(group)
        parts = [part for message in alike for part in message.parts]
        if role == "user":
            parts[:0] = _answers(asked, alike, used)
            asked = ()
        else:
            asked = alike
        turns.append(Turn(role, parts))
        if not len(turns) % STEP or len(parts) > STEP:
            yield
    _answers(asked, (), used)
    if not turns:
        raise Unsupported("messages: at least one message is required")
    if turns[0].role != "user":
        raise Unsupported('messages: first message must use the "user" role')
    return turns


def _answers(asked: Sequence[MessageParts], answered: Sequence[MessageParts], used: dict[str, int]) -> list[ToolResult]:
    """Return the results that *answered* has to the calls of *asked*, in the calls' order.

    A call whose id is *used*, in an earlier turn, gets another one, as its result does: upstreams want them unique.
    """
    results: dict[str, ToolResult] = {}
    places: dict[str, tuple[int, int]] = {}
    for message in answered:
        for block, result in message.results:
            if result.id in results:
                raise Unsupported(
                    f"messages.{message.index}.content.{block}: each tool_use must have a single result. "
                    f"Found multiple `tool_result` blocks with id: {result.id}"
                )
            results[result.id] = result
            places[result.id] = (message.index, block)
    paired: list[ToolResult] = []
    for message in asked:
        calls = [part for part in message.parts if isinstance(part, ToolUse)]
        if missing := [call.id for call in calls if call.id not in results]:
            raise Unsupported(
                f"messages.{message.index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )
        for call in calls:
            if call.id not in places:
                raise Unsupported(f"messages.{message.index}: `tool_use` ids must be unique: {call.id}")
            del places[call.id]
            result = results[call.id]
            result.name = call.name
            paired.append(result)
            if call.id in used:
                call.id = result.id = _unused(call.id, used)
            used[call.id] = 1
    for tool_use_id, (index, block) in places.items():
        raise Unsupported(
            f"messages.{index}.content.{block}: unexpected `tool_use_id` found in `tool_result` blocks: {tool_use_id}. "
            "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
        )
    return paired


def _unused(id: str, used: dict[str, int]) -> str:
    """Return *id* with the next number behind it that makes an unused one. *used* has the last one of each."""
    while True:
        used[id] += 1
        if (made := f"{id}-{used[id]}") not in used:
            return made
