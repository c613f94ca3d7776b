"""Why there is no secret, in the words that dispatch and the pool know."""

from __future__ import annotations

from dataclasses import replace

from claudeproxyd.observe.scrub import scrub
from claudeproxyd.outcomes.tables import AUTH, INTERNAL, TRANSIENT
from claudeproxyd.outcomes.types import AttemptFailed, Scope

_LONGEST = 200


def refused(reason: str) -> AttemptFailed:
    """Whoever gives out the secret does not give it to this credential."""
    return AttemptFailed(replace(AUTH, reason=_shown(reason)))


def unavailable(reason: str) -> AttemptFailed:
    """It cannot be had just now. Only this credential has to wait: its provider may be well."""
    return AttemptFailed(replace(TRANSIENT, scope=Scope.CREDENTIAL, reason=_shown(reason)))


def lacking() -> AttemptFailed:
    """It cannot be asked for: there is no descriptor or port left here, and that is nobody's fault but ours."""
    return AttemptFailed(replace(INTERNAL, reason="no descriptor or port is left for a connection"))


def _shown(reason: str) -> str:
    return scrub(" ".join(reason.split()))[:_LONGEST]
