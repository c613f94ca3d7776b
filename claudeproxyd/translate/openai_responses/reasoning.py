"""``reasoning``: what a client wants of thinking, in the terms of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.translate.openai_responses.models import EFFORTS
from claudeproxyd.translate.thinking import warn_of_deafness

if TYPE_CHECKING:
    from claudeproxyd.translate.conversation import Thinking
    from claudeproxyd.translate.openai_responses.models import ResponsesCapabilities

#: The most tokens that an effort stands for; with more it is the next one.
_BUDGETS = {"low": 1_024, "medium": 8_192, "high": 24_576}
_BEYOND = "xhigh"
#: What thinking means where no effort is said: some models' own default is not to think at all.
_USUAL = "medium"


def effort_for(
    wanted: Thinking, capabilities: ResponsesCapabilities, *, searches: bool, warnings: list[str]
) -> str | None:
    """Return ``reasoning.effort``; None where nothing is to be said.

    *searches*: the model may search the web, which it refuses to with the effort ``minimal``.
    """
    if not capabilities.efforts:
        warn_of_deafness(wanted, warnings)
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
