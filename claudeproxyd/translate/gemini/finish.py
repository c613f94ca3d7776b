"""How Gemini ends an answer, and what that is in Claude's words.

The names are those of ``Candidate.FinishReason`` (https://ai.google.dev/api/generate-content#FinishReason) and of
``PromptFeedback.BlockReason``, on the Developer API and on Vertex AI.
"""

from __future__ import annotations

from collections.abc import Mapping

from claudeproxyd.account_ids import without_accounts
from claudeproxyd.messages.reader import ModelFault

#: The answer goes on, whatever the member's presence suggests: the names of its default value.
UNFINISHED = ("", "FINISH_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED")

STOPS: Mapping[str, str] = {"STOP": "end_turn", "MAX_TOKENS": "max_tokens", "CONTINUATION": "max_tokens"}

#: What the model did wrong, not its server and not the client.
FAULTS = (
    "MALFORMED_FUNCTION_CALL",
    "MALFORMED_RESPONSE",
    "MISSING_THOUGHT_SIGNATURE",
    "TOO_MANY_TOOL_CALLS",
    "UNEXPECTED_TOOL_CALL",
)

#: The end of an answer if there is one, else a fault; so is every name that is in no table.
UNCLEAR = ("OTHER", "NO_IMAGE")

#: Of answers and of prompts: what stands behind them, for the client, who must not need to know Google's names.
REFUSALS: Mapping[str, str] = {
    "BLOCKLIST": "it contains terms that are not allowed",
    "ESCALATION": "it was escalated for review",
    "IMAGE_OTHER": "of an image",
    "IMAGE_PROHIBITED_CONTENT": "an image may hold prohibited content",
    "IMAGE_RECITATION": "an image is too close to existing work",
    "IMAGE_SAFETY": "an image was found unsafe",
    "JAILBREAK": "it was taken for an attempt to get around safety measures",
    "LANGUAGE": "its language is not supported",
    "MODEL_ARMOR": "a content filter stopped it",
    "PROHIBITED_CONTENT": "it may hold prohibited content",
    "PUP_LIMITED_DISABLED": "a usage policy stopped it",
    "RECITATION": "it is too close to existing work",
    "SAFETY": "it was found unsafe",
    "SPII": "it may hold sensitive personal information",
}
_REFUSING = ("IMAGE_", "PUP_")

#: Arguments of :meth:`~claudeproxyd.messages.blocks.BlockMachine.finish`.
Ending = tuple[str, Mapping[str, object] | None]


def is_known(reason: str) -> bool:
    """Whether a finishReason is in one of the tables."""
    return any(reason in table for table in (STOPS, FAULTS, REFUSALS, UNCLEAR))


def ending_of(reason: str, message: str, has_content: bool) -> Ending:
    """Return how the message ends for a finishReason, with Google's *message* about it. Raises :class:`ModelFault`."""
    if stop := STOPS.get(reason):
        return stop, None
    if reason in REFUSALS or reason.startswith(_REFUSING):
        return _refusal("answer", reason, message)
    if reason in FAULTS or not has_content:
        # Google's message quotes what the model said, which is nothing for a log.
        raise ModelFault(f"{reason}, with {len(message)} characters about it" if message else reason)
    return "end_turn", None


def ending_of_blocked(reason: str, message: str) -> Ending:
    """Return how the message ends for a blockReason: the prompt was refused."""
    return _refusal("prompt", reason, message)


def _refusal(refused: str, reason: str, message: str) -> Ending:
    because = without_accounts(message) or REFUSALS.get(reason, "no reason was given")
    explanation = f"The model's provider stopped the {refused}: {because}"
    return "refusal", {"type": "refusal", "category": None, "explanation": explanation}
