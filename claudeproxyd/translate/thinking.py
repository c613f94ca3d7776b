"""What clients want of thinking, where every family deals with it alike."""

from __future__ import annotations

from claudeproxyd.translate.conversation import Thinking

#: Tokens: an answer that may have no more than these could be used up by thoughts …
_SMALL_MAX_TOKENS = 4_096
#: … and gets so many beside them: twice what Google takes for a low level.
_THOUGHT_TOKENS = 2_048


def effective_thinking(said: Thinking, warnings: list[str]) -> Thinking:
    """Return the thinking that a client wants: none, if it did not speak of it, as with Claude."""
    if said.kind != "default":
        return said
    if said.effort:
        warnings.append("output_config.effort: without thinking this model cannot be told of it")
    return Thinking("disabled")


def with_room(max_tokens: int, *, unasked: bool) -> int:
    """Return *max_tokens*, and room for thoughts where the model thinks *unasked*: nobody wants it to, and it cannot be
    kept from it."""
    return max_tokens + _THOUGHT_TOKENS if unasked and max_tokens < _SMALL_MAX_TOKENS else max_tokens


def warn_of_deafness(wanted: Thinking, warnings: list[str]) -> None:
    """Say that the model cannot be told what the client wants."""
    if wanted.kind in ("budget", "adaptive"):
        warnings.append("thinking: this model cannot be told to think")
    elif wanted.kind == "default" and wanted.effort:
        warnings.append("output_config.effort: this model cannot be told to think")
