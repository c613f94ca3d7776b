"""Outcomes of attempts that fail since there is no secret to send."""

from __future__ import annotations

from dataclasses import replace

from claudeproxyd.observe.scrub import scrub
from claudeproxyd.outcomes.tables import AUTH, INTERNAL, TRANSIENT
from claudeproxyd.outcomes.types import AttemptFailed, Scope

_MAX_REASON_CHARACTERS = 200


def refused(reason: str) -> AttemptFailed:
    """Return the failure for a credential that the token endpoint rejected."""
    return AttemptFailed(replace(AUTH, reason=_shown(reason)))


def unavailable(reason: str) -> AttemptFailed:
    """Return the failure for a secret that cannot be had now. The provider may be well: only the credential waits."""
    return AttemptFailed(replace(TRANSIENT, scope=Scope.CREDENTIAL, reason=_shown(reason)))


def lacking() -> AttemptFailed:
    """Return the failure for a secret that cannot be asked for, since no descriptor or port is left here."""
    return AttemptFailed(replace(INTERNAL, reason="no descriptor or port is left for a connection"))


def _shown(reason: str) -> str:
    return scrub(" ".join(reason.split()))[:_MAX_REASON_CHARACTERS]
