"""How a model behind the Converse API ends an answer, and what that is in Claude's words.

The names are those of ``StopReason`` in the API's reference.
"""

from __future__ import annotations

from collections.abc import Mapping

from claudeproxyd.errors import shown
from claudeproxyd.messages.reader import ModelFault

STOPS: Mapping[str, str] = {
    "end_turn": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "model_context_window_exceeded",
    # None was sent, so it is the model's own.
    "stop_sequence": "end_turn",
}

#: What the model did wrong, not its server and not the client.
FAULTS = ("malformed_model_output", "malformed_tool_use")

#: What stands behind them, for the client, who must not need to know AWS's names.
REFUSALS: Mapping[str, str] = {
    "guardrail_intervened": "a guardrail intervened",
    "content_filtered": "a content filter stopped it",
}

#: Arguments of :meth:`~claudeproxyd.messages.blocks.BlockMachine.finish`.
Ending = tuple[str, Mapping[str, object] | None]


def is_known(reason: str) -> bool:
    """Whether a stopReason is in one of the tables."""
    return reason in STOPS or reason in FAULTS or reason in REFUSALS


def ending_of(reason: str, has_content: bool) -> Ending:
    """Return how the message ends for a stopReason. Raises :class:`ModelFault`."""
    if stop := STOPS.get(reason):
        return stop, None
    if because := REFUSALS.get(reason):
        explanation = f"The model's provider stopped the answer: {because}"
        return "refusal", {"type": "refusal", "category": None, "explanation": explanation}
    if reason in FAULTS or not has_content:
        raise ModelFault(shown(reason))
    return "end_turn", None
