"""What can be told by the Responses API, where that is more than other families can be."""

from __future__ import annotations

from claudeproxyd.translate.field_policy import BASE, Action

POLICY = BASE.with_overrides(
    sources={"image.url": Action.TRANSLATE, "document.url": Action.TRANSLATE},
    tools={"web_search": Action.TRANSLATE},  # which models, the writer knows
    tool_fields={
        "user_location": Action.TRANSLATE,
        # They say how a tool's arguments come, and how they look: nothing that an answer would be the poorer without.
        "eager_input_streaming": Action.DROP,
    },
)
