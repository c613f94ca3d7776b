"""How much a model is to reason, in the terms of its family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.translate.converse.models import nested
from claudeproxyd.translate.thinking import warn_of_deafness

if TYPE_CHECKING:
    from claudeproxyd.translate.conversation import Thinking
    from claudeproxyd.translate.converse.models import ConverseCapabilities, Effort

#: From the least to the most; of what a model lacks it gets the next that it has.
_ORDER = ("low", "medium", "high", "xhigh", "max")
#: Budgets up to these are an effort's.
_BUDGETS = (("low", 1_024), ("medium", 8_192))
#: What ``adaptive`` alone means to models that reason only when they are told how much.
_USUAL = "medium"


def reasons_unasked(wanted: Thinking, capabilities: ConverseCapabilities) -> bool:
    """Whether a model reasons though nobody wants it to: it cannot be kept from it."""
    return wanted.kind == "disabled" and capabilities.effort is not None and capabilities.effort.off is None


def reasoning_fields(wanted: Thinking, capabilities: ConverseCapabilities, warnings: list[str]) -> dict[str, object]:
    """Return the members of ``additionalModelRequestFields`` that say it; none where the model's own is wanted, or
    where it cannot be told."""
    effort = capabilities.effort
    if effort is None:
        warn_of_deafness(wanted, warnings)
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
