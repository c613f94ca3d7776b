"""What requests are served with. Made by graph for each configuration; ``site.gateway = other`` is a reload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from claudeproxyd.interfaces import (
        IAuthenticator,
        IBufferAccount,
        ICaptures,
        ICatalog,
        IDispatcher,
    )
    from claudeproxyd.observe.access_log import AccessEntry
    from claudeproxyd.observe.lines import Write
    from claudeproxyd.observe.metrics import Metrics
    from claudeproxyd.web.access import BrowserGuard, TrustedProxies


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what comes in: ``[server]`` and ``[timeouts]``."""

    max_request_bytes: int = 33_554_432
    max_connections: int = 10_000
    request_head: float = 20.0
    """Seconds for a whole head."""
    request_body: float = 60.0
    """Seconds without a byte of the body."""
    stall: float = 60.0
    """Seconds in which a client takes nothing of a whole answer; dispatch has the same for streams."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """What a listener's requests meet. The admin listener has one of its own, with its own keys and guard."""

    counts: ClassVar[bool] = False
    """Whether its requests are in the metrics of requests."""
    authenticator: IAuthenticator
    guard: BrowserGuard
    proxies: TrustedProxies
    limits: Limits
    buffers: IBufferAccount
    """Shared by all listeners; the same one after a reload."""
    metrics: Metrics
    access_log: Callable[[AccessEntry], None]
    ready: Callable[[], bool]
    """Configured, and not draining."""
    own_hop: bytes = b""
    """This daemon's name among those that a request goes through; see :mod:`claudeproxyd.messages.hops`."""


@dataclass(frozen=True, kw_only=True)
class AdminGateway(Gateway):
    """The admin listener's: its principals are operators, and what they do is written down."""

    audit: Write


@dataclass(frozen=True, kw_only=True)
class PublicGateway(Gateway):
    """With what the public endpoints need."""

    counts = True
    dispatcher: IDispatcher
    catalog: ICatalog
    captures: ICaptures
