"""Works out the time-outs of one provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from claudeproxyd.config.schema import Config, Provider, Timeouts
from claudeproxyd.interfaces import IExecutorMaker

#: Waits for a client: no provider can override them.
DOWNSTREAM = frozenset({"request_head", "request_body"})


def timeouts_for(provider: Provider, config: Config, makers: Mapping[str, IExecutorMaker]) -> Timeouts:
    """Return every time-out of an attempt at *provider*, in seconds.

    The provider's own ``timeouts`` come first, then what ``[timeouts]`` changes from its defaults, then its kind's
    default, then the default of all.
    """
    unchanged = {
        name: seconds
        for name, seconds in makers[provider.kind].timeouts.items()
        if getattr(config.timeouts, name) == getattr(Timeouts(), name)
    }
    return replace(config.timeouts, **{**unchanged, **provider.timeouts})


def overridable() -> list[str]:
    """Return the names that a provider's ``timeouts`` may hold."""
    return [each.name for each in fields(Timeouts) if each.name not in DOWNSTREAM]
