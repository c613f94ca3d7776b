"""The words between dispatch and the pool: candidates, requests for a lease, and why there is none."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from claudeproxyd.interfaces import ILease, ISecretSource
    from claudeproxyd.outcomes.types import Kind, Outcome


@dataclass(frozen=True, slots=True)
class Route:
    """One way to serve a model: a provider, and that provider's name for the model."""

    provider: str
    model: str
    """The upstream's model name; the client's own where the route does not rename it."""
    max_output_tokens: int | None = None
    context: int | None = None
    own_thinking: bool = False
    """A client that does not speak of thinking gets what the model does by itself, instead of as little as can be."""


@dataclass(frozen=True, slots=True, eq=False)
class Credential:
    """One secret that a provider accepts, and the limits of its use. The name stands for it everywhere."""

    provider: str
    name: str
    source: ISecretSource = field(repr=False)
    weight: int = 1
    priority: int = 0
    """Higher first."""
    max_concurrency: int = 0
    """Attempts at once; 0: no limit."""
    models: tuple[str, ...] = ("*",)
    """Globs of upstream model names that it may be used for."""
    settings: Any = None
    """What the kind needs beside the secret: an instance of its maker's ``credential_settings``."""
    disabled: bool = False
    """Out of service by the configuration, whatever is said at run time."""


class Candidate(NamedTuple):
    """A (route, credential) pair that could serve a request."""

    route: Route
    credential: Credential


@dataclass(slots=True)
class LeaseRequest:
    """One request's need of a credential, and what the pool has learned from its attempts."""

    routes: Sequence[Route]
    """In the order of preference; the pool takes the first that has a ready credential."""
    client: str = ""
    """The principal's name: waiting clients take turns by it."""
    session: str = ""
    """The key of affinity; '' for none."""
    count_tokens: bool = False
    in_tool_loop: bool = False
    """Whether the last turn holds a tool_result: such a request stays on its route while that is ready."""
    tried: Set[Credential] = frozenset()
    """Credentials that failed for this request; offered again only when nothing else is left."""
    excluded: Set[Credential] = frozenset()
    """Credentials that are not worth a further try: not offered again."""
    size: int = 1
    """Bytes of the request, which stand for tokens where a provider limits these."""
    suspects: list[tuple[ILease, Outcome]] = field(default_factory=list)
    """The attempts that failed in a way that may be the request's own doing; the pool keeps it."""
    to_blame: bool = False
    """Whether the request itself is at fault: another credential failed alike. Set by the pool."""
    odds: float = 1.0
    """The likelihood that its failures so far were the upstream's fault and not its own; the pool keeps it."""
    may_wait: bool = True
    """False after an early head commit: the request does not wait in the queue any more."""
    deadline: float | None = None
    """The latest moment to wait for, on the reactor's clock."""


class Exhaustion(Enum):
    """Why the pool has no candidate, where that is due to no outcome; by the names that logs and metrics see."""

    NONE = "none"
    """There is no such credential."""
    DISABLED = "disabled"
    """Operators took all of them out of service."""
    BUSY = "busy"
    """All have as many requests as they may now."""
    QUEUE_FULL = "queue_full"
    """Too many requests are waiting for one."""


class Exhausted(Exception):
    """The pool has no candidate now, and none soon enough to wait for."""

    def __init__(self, reason: Kind | Exhaustion, ready_in: float | None) -> None:
        super().__init__(reason.value, ready_in)
        self.reason = reason
        """The outcome that the deciding cooldown is due to, or what else there is to say."""
        self.ready_in = ready_in
        """Seconds to the earliest expiry, or None when it is unknown."""
