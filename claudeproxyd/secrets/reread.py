"""Secrets in files that are read anew each time that they are used: others replace them."""

from __future__ import annotations

from claudeproxyd.config.resolving import BadSecret, resolve
from claudeproxyd.config.secret import Secret
from claudeproxyd.secrets.failures import refused


def reread(secret: Secret, name: str) -> Secret:
    """Return *secret* as its file has it now; one that is of no file as it is. Raises AttemptFailed, with *name*.

    Who calls has what is new in it masked.
    """
    if not secret.path:
        return secret
    try:
        newest, _ = resolve({"file": secret.path}, {}, "", digest=False)
    except BadSecret as reason:
        raise refused(f"{name} {reason.message}") from None
    return newest
