"""``reasoning``: what a client wants of thinking, in the terms of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.translate.conversation import Thinking
from claudeproxyd.translate.openai_responses.models import EFFORTS

if TYPE_CHECKING:
    from claudeproxyd.translate.openai_responses.models import ResponsesCapabilities

#: The most tokens that an effort stands for; with more it is the next one.
_BUDGETS = {"low": 1_024, "medium": 8_192, "high": 24_576}
_BEYOND = "xhigh"
#: What thinking means where no effort is said: some models' own default is not to think at all.
_USUAL = "medium"
#: Tokens: an answer that may have no more than these could be used up by reasoning …
_SMALL_MAX_TOKENS = 4_096
#: … and gets so many beside them.
_REASONING_TOKENS = 2_048


def effective_thinking(said: Thinking, warnings: list[str]) -> Thinking:
    """Return the thinking that a client wants: none, if it did not speak of it, as with Claude."""
    if said.kind != "default":
        return said
    if said.effort:
        warnings.append("output_config.effort: without thinking this model cannot be told of it")
    return Thinking("disabled")


def effort_for(
    wanted: Thinking, capabilities: ResponsesCapabilities, *, searches: bool, warnings: list[str]
) -> str | None:
    """Return ``reasoning.effort``; None where nothing is to be said.

    *searches*: the model may search the web, which it refuses to with the effort ``minimal``.
    """
    if not capabilities.efforts:
        if wanted.kind in ("budget", "adaptive"):
            warnings.append("thinking: this model cannot be told to think")
        elif wanted.kind == "default" and wanted.effort:
            warnings.append("output_config.effort: this model cannot be told to think")
        return None
    efforts = tuple(each for each in capabilities.efforts if not (searches and each == "minimal"))
    if wanted.kind == "disabled":
        return efforts[0]
    effort = wanted.effort
    if wanted.kind == "budget":
        effort = next((each for each, budget in _BUDGETS.items() if wanted.budget <= budget), _BEYOND)
    elif wanted.kind == "adaptive":
        effort = effort or _USUAL
    if not effort:
        return None
    rank = EFFORTS.index(effort)
    return next((each for each in efforts if EFFORTS.index(each) >= rank), efforts[-1])


def with_room(max_tokens: int, wanted: Thinking, effort: str | None) -> int:
    """Return *max_tokens*, and room for the reasoning of a model that cannot be kept from it, where nobody wants it."""
    reasons = wanted.kind == "disabled" and effort not in (None, "none")
    return max_tokens + _REASONING_TOKENS if reasons and max_tokens < _SMALL_MAX_TOKENS else max_tokens
