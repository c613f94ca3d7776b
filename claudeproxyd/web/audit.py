"""Puts what operators do, and what they try, into the audit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from claudeproxyd.observe.audit import AuditEntry
from claudeproxyd.observe.scrub import scrub
from claudeproxyd.web.gateway import AdminGateway

if TYPE_CHECKING:
    from claudeproxyd.errors import ClaudeError
    from claudeproxyd.web.request import GatewayRequest

#: Characters of a path.
MAX_PATH_CHARACTERS = 200


def audit(
    request: GatewayRequest,
    action: str,
    target: object = None,
    *,
    before: object = None,
    after: object = None,
    error: str = "",
) -> None:
    """Write down what an operator did: what there was, and what there is, or why nothing came of it."""
    assert isinstance(request.gateway, AdminGateway)
    entry = AuditEntry(
        time=time.time(),
        operator="" if request.principal is None else request.principal.name,
        address=request.address,
        action=action,
        target=target,
        before=before,
        after=after,
        error=error,
        request_id=request.request_id,
    )
    request.gateway.audit(entry)


def audit_refusal(request: GatewayRequest, error: ClaudeError) -> None:
    """Write down that somebody tried what they may not."""
    path = scrub(request.path.decode("latin-1"))[:MAX_PATH_CHARACTERS]
    audit(request, f"{request.method.decode('latin-1')} {path}", error=error.logged)
