"""How much a model is to reason, in the terms of its family; and how many tokens it has for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.translate.conversation import Thinking
from claudeproxyd.translate.converse.models import nested

if TYPE_CHECKING:
    from claudeproxyd.translate.converse.models import ConverseCapabilities, Effort

#: From the least to the most; of what a model lacks it gets the next that it has.
_ORDER = ("low", "medium", "high", "xhigh", "max")
#: Budgets up to these are an effort's.
_BUDGETS = (("low", 1_024), ("medium", 8_192))
#: What ``adaptive`` alone means to models that reason only when they are told how much.
_USUAL = "medium"
#: An answer of fewer tokens could be used up by reasoning that cannot be switched off, and gets so many beside them.
_SMALL_MAX_TOKENS = 4_096
_REASONING_TOKENS = 2_048


def effective_thinking(said: Thinking, warnings: list[str]) -> Thinking:
    """Return the thinking that a client wants: none, if it did not speak of it, as with Claude."""
    if said.kind != "default":
        return said
    if said.effort:
        warnings.append("output_config.effort: without thinking this model cannot be told of it")
    return Thinking("disabled")


def with_room(max_tokens: int, wanted: Thinking, capabilities: ConverseCapabilities) -> int:
    """Return *max_tokens*, and room for reasoning that nobody wants where the model cannot be kept from it."""
    must_reason = capabilities.effort is not None and capabilities.effort.off is None
    if wanted.kind == "disabled" and must_reason and max_tokens < _SMALL_MAX_TOKENS:
        return max_tokens + _REASONING_TOKENS
    return max_tokens


def reasoning_fields(wanted: Thinking, capabilities: ConverseCapabilities, warnings: list[str]) -> dict[str, object]:
    """Return the members of ``additionalModelRequestFields`` that say it; none where the model's own is wanted, or
    where it cannot be told."""
    effort = capabilities.effort
    asked = wanted.kind in ("budget", "adaptive")
    if effort is None:
        if asked:
            warnings.append("thinking: this model cannot be told to think")
        elif wanted.kind == "default" and wanted.effort:
            warnings.append("output_config.effort: this model cannot be told to think")
        return {}
    word = _off(effort) if wanted.kind == "disabled" else _level(wanted, effort)
    return nested(effort.path, word, effort.beside) if word else {}


def _off(effort: Effort) -> str:
    return effort.levels[0] if effort.off is None else effort.off


def _level(wanted: Thinking, effort: Effort) -> str:
    """Return the word for what a client has asked for; '' for nothing."""
    if wanted.kind == "budget":
        asked = next((name for name, budget in _BUDGETS if wanted.budget <= budget), "high")
    else:
        asked = wanted.effort or (_USUAL if wanted.kind == "adaptive" else "")
    if not asked:
        return ""
    rank = _ORDER.index(asked)
    return next((level for level in effort.levels if _ORDER.index(level) >= rank), effort.levels[-1])
