"""What models behind the Converse API can be told, where that is more than other families can."""

from __future__ import annotations

from claudeproxyd.translate.field_policy import BASE

POLICY = BASE
