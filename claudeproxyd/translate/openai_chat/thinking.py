"""Whether and how much a model is to think, in the members of one dialect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from claudeproxyd.translate.openai_chat.dialects import EFFORTS

if TYPE_CHECKING:
    from claudeproxyd.translate.conversation import Thinking
    from claudeproxyd.translate.openai_chat.dialects import Dialect

#: Budgets of tokens up to which an effort is meant.
_BUDGETS = (("low", 1_024), ("medium", 8_192), ("high", 24_576))
#: What a client means that wants thinking and does not say how much.
_USUAL = "medium"


@dataclass(frozen=True, slots=True)
class ThinkingPlan:
    """What becomes of a client's wish."""

    members: dict[str, object]
    """For the body."""
    thinks: bool
    """The model will, as far as is known."""
    unasked: bool = False
    """It will though nobody wants it to."""


def plan_thinking(
    wanted: Thinking, dialect: Dialect, warnings: list[str], *, own: bool, tools: bool, forced: bool
) -> ThinkingPlan:
    """Return what *wanted* comes to; a client that does not speak of thinking wants none, as with Claude.

    *own*: of such a client the model does as it likes. *tools*: some are on offer; *forced*: one has to be called.
    """
    if wanted.kind == "default":
        if wanted.effort:
            warnings.append("output_config.effort: without thinking this model cannot be told of it")
        if own:
            return ThinkingPlan({}, dialect.always_thinks or dialect.thinks_by_itself)
    on = wanted.kind in ("budget", "adaptive")
    if on and forced and dialect.free_choice and not dialect.always_thinks:
        warnings.append("thinking: off, for this model cannot think while a tool is forced on it")
        on = False
    effort = _effort(wanted) if on else ""
    if dialect.thinking == "none":
        if on and not dialect.always_thinks:
            warnings.append("thinking: this model cannot be told to think")
        return ThinkingPlan({}, dialect.always_thinks, unasked=dialect.always_thinks and not on)
    if dialect.thinking in ("reasoning_effort", "reasoning"):
        return _by_effort(effort, dialect, warnings, tools=tools)
    if on and wanted.effort:
        warnings.append("output_config.effort: this model can be told to think, not how much")
    return _switched(dialect, on=on)


def _effort(wanted: Thinking) -> str:
    if wanted.kind == "budget":
        return next((effort for effort, budget in _BUDGETS if wanted.budget <= budget), "xhigh")
    return wanted.effort or _USUAL


def _by_effort(effort: str, dialect: Dialect, warnings: list[str], *, tools: bool) -> ThinkingPlan:
    chosen = _nearest(effort, dialect.efforts)
    if tools and dialect.effort_with_tools and chosen != dialect.effort_with_tools:
        chosen = dialect.effort_with_tools
        if effort:
            warnings.append("thinking: this model does not think beside tools; the Responses API has no such limit")
    thinks = chosen != "none"
    members: dict[str, object] = {"reasoning_effort": chosen} if chosen else {}
    if dialect.thinking == "reasoning":
        members = {"reasoning": {"effort": chosen} if thinks else {"enabled": False}}
    return ThinkingPlan(members, thinks, unasked=thinks and not effort)


def _nearest(effort: str, efforts: tuple[str, ...]) -> str:
    """Return the next effort up that a model has, or its most; its least where none is wanted."""
    if not effort or not efforts:
        return efforts[0] if efforts else ""
    rank = EFFORTS.index(effort)
    # A word that is in no order is what the model does when it is told nothing else.
    return next((each for each in efforts if each not in EFFORTS or EFFORTS.index(each) >= rank), efforts[-1])


def _switched(dialect: Dialect, *, on: bool) -> ThinkingPlan:
    thinks = on or dialect.always_thinks
    match dialect.thinking:
        case "thinking":
            word = "enabled" if dialect.server != "minimax" else "adaptive"
            members: dict[str, object] = {"thinking": {"type": word if on else "disabled"}}
        case "enable_thinking":
            members = {"enable_thinking": on}
        case _:
            members = {"chat_template_kwargs": {"enable_thinking": on}}
    return ThinkingPlan(members, thinks, unasked=thinks and not on)
