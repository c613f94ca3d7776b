"""What operators may do on the admin listener."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError
from claudeproxyd.principals import Principal


class Role(IntEnum):
    """How far an operator may go; each may what those before it may."""

    METRICS = 1
    """Scrape."""
    READ = 2
    """See everything."""
    OPERATE = 3
    """Do everything."""

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Operator(Principal):
    """Whoever holds an operator's key."""

    role: Role = Role.METRICS


def check_role(operator: Principal | None, method: bytes, seen_by: Role) -> None:
    """Check that *operator* may do that: to see an endpoint takes its role, to act there *operate*.

    Raises ClaudeError 403.
    """
    needed = seen_by if method in (b"GET", b"HEAD") else Role.OPERATE
    if not isinstance(operator, Operator) or operator.role < needed:
        raise ClaudeError(403, f'This needs an operator with the role "{needed}"', headers=[DO_NOT_RETRY])
