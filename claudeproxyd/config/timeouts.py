"""The time-outs that hold for one provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from claudeproxyd.config.schema import Config, Provider, Timeouts

KIND_TIMEOUTS: Mapping[str, Mapping[str, float]] = {
    "gemini": {"first_byte": 300.0},
    "vertex": {"first_byte": 300.0},
    "openai-chat": {"first_byte": 300.0},
    "openai-responses": {"first_byte": 300.0},
}
"""Other defaults, by kind: these send the head of an answer only with its first token."""

DOWNSTREAM = frozenset({"request_head", "request_body"})
"""Waits for a client, which no provider can override."""


def timeouts_for(
    provider: Provider, config: Config, kind_defaults: Mapping[str, Mapping[str, float]] = KIND_TIMEOUTS
) -> Timeouts:
    """Every time-out of an attempt at *provider*, in seconds.

    The provider's own ``timeouts`` come first, then what ``[timeouts]`` changes from its defaults, then its kind's
    default, then the default of all.
    """
    unchanged = {
        name: seconds
        for name, seconds in kind_defaults.get(provider.kind, {}).items()
        if getattr(config.timeouts, name) == getattr(Timeouts(), name)
    }
    return replace(config.timeouts, **{**unchanged, **provider.timeouts})


def overridable() -> list[str]:
    """The names that a provider's ``timeouts`` may hold."""
    return [each.name for each in fields(Timeouts) if each.name not in DOWNSTREAM]
