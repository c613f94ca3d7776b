"""What operators may do on the admin listener."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError
from claudeproxyd.principals import Principal
from claudeproxyd.web.minting import Minting


class Role(IntEnum):
    """How far an operator may go; each may what those before it may."""

    MINT = 0
    """Mint keys, within bounds, and nothing else."""
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
    minting: Minting | None = None
    """Which keys are this operator's to mint, whose role is below *operate*."""


def check_role(operator: Principal | None, method: bytes, seen_by: Role, *, for_minters: bool = False) -> None:
    """Check that *operator* may do that: to see an endpoint takes its role, to act there *operate*.

    *for_minters*: so may who mints, within bounds that the endpoint holds them to. Raises ClaudeError 403.
    """
    needed = needed_role(method, seen_by)
    if not isinstance(operator, Operator) or not (
        operator.role >= needed or (for_minters and operator.minting is not None)
    ):
        raise ClaudeError(403, f'This needs an operator with the role "{needed}"', headers=[DO_NOT_RETRY])


def needed_role(method: bytes, seen_by: Role) -> Role:
    """Return the role that *method* takes, of an endpoint that is *seen_by* one."""
    return seen_by if method in (b"GET", b"HEAD") else Role.OPERATE
