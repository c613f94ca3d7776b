"""``thinkingConfig``: what a client wants of thinking, in the terms of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.translate.gemini.models import ThinkingBudgets, ThinkingLevels
from claudeproxyd.translate.thinking import warn_of_deafness

if TYPE_CHECKING:
    from claudeproxyd.translate.conversation import Thinking
    from claudeproxyd.translate.gemini.models import ModelCapabilities

#: What Google itself takes to be the same. Any other effort is the model's most.
_BUDGETS = {"low": 1_024, "medium": 8_192, "high": 24_576}
_LEVELS = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
#: From the least to the most. What a model lacks is the next that it has.
_ORDER = ("MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH")


def thinks_unasked(wanted: Thinking, capabilities: ModelCapabilities) -> bool:
    """Whether a model thinks though nobody wants it to: it cannot be kept from it."""
    model = capabilities.thinking
    can_be_off = model is None or (isinstance(model, ThinkingBudgets) and model.can_be_off)
    return wanted.kind == "disabled" and not can_be_off


def thinking_config(
    wanted: Thinking, capabilities: ModelCapabilities, max_tokens: int | None, warnings: list[str]
) -> dict[str, object] | None:
    """Return the ``thinkingConfig``, or None where the model's own default is wanted.

    *max_tokens* is what the whole answer may have; a budget stays below it, if the model's least allows.
    """
    if capabilities.thinking is None:
        warn_of_deafness(wanted, warnings)
        return None
    if isinstance(capabilities.thinking, ThinkingLevels):
        config = _level(wanted, capabilities.thinking)
    else:
        config = _budget(wanted, capabilities.thinking, max_tokens)
    if wanted.kind in ("budget", "adaptive"):
        config["includeThoughts"] = wanted.shown
    return config or None


def _level(wanted: Thinking, model: ThinkingLevels) -> dict[str, object]:
    if wanted.kind == "disabled":
        return {"thinkingLevel": model.levels[0]}
    effort = wanted.effort
    if wanted.kind == "budget":
        effort = next((each for each, budget in _BUDGETS.items() if wanted.budget <= budget), "high")
    if not effort:
        return {}
    rank = _ORDER.index(_LEVELS.get(effort, "XHIGH"))
    fits = (each for each in model.levels if _ORDER.index(each) >= rank)
    return {"thinkingLevel": next(fits, model.levels[-1])}


def _budget(wanted: Thinking, model: ThinkingBudgets, max_tokens: int | None) -> dict[str, object]:
    if wanted.kind == "disabled":
        return {"thinkingBudget": 0 if model.can_be_off else model.least}
    if wanted.kind == "budget":
        budget = wanted.budget
    elif wanted.effort:
        budget = _BUDGETS.get(wanted.effort, model.most)
    elif wanted.kind == "adaptive":
        return {"thinkingBudget": -1}
    else:
        return {}
    if max_tokens is not None:
        budget = min(budget, max_tokens - 1)
    return {"thinkingBudget": max(model.least, min(budget, model.most))}
