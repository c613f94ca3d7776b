"""The audit's lines: who did what to the gateway, or tried to."""

from __future__ import annotations

import msgspec

from claudeproxyd.observe.lines import json_line
from claudeproxyd.observe.scrub import scrub


class AuditEntry(msgspec.Struct, kw_only=True):
    """One action of an operator, or one that was refused. Made by web. Nothing in it is a key."""

    time: float
    """Seconds since the epoch."""
    operator: str
    """Whose key it was; '' where nobody's."""
    address: str
    """Where from; '' where it was a signal."""
    action: str
    """``key.mint``, ``pool.disable`` …; of what was refused, method and path."""
    target: object = None
    """What it was done to."""
    before: object = None
    after: object = None
    error: str = ""
    """Why nothing came of it."""
    request_id: str = ""

    def __str__(self) -> str:
        """Return the line as the daemon's log has it."""
        parts = [f"audit: {self.operator or '-'} at {self.address or '-'} {self.action}"]
        told = (("target", self.target), ("before", self.before), ("after", self.after), ("error", self.error or None))
        parts += [f"{name}={msgspec.json.encode(value).decode()}" for name, value in told if value is not None]
        return " ".join([*parts, f"request={self.request_id}"])


def audit_line(entry: AuditEntry) -> str:
    """Return the line as a file has it: JSON, and without whatever looks like a secret in what operators have sent."""
    return scrub(json_line(entry))
