"""What models behind chat completions can be told, where that is more than other families can."""

from __future__ import annotations

from claudeproxyd.translate.field_policy import BASE, Action

POLICY = BASE.with_overrides(
    sources={"image.url": Action.TRANSLATE, "document.url": Action.TRANSLATE},  # which servers, the dialect knows
)
