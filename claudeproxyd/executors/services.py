"""What a maker gets to make an executor from, beside the provider's own section."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from claudeproxyd.translate.signatures import Signatures

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.schema import Timeouts
    from claudeproxyd.executors.turns import Turns
    from claudeproxyd.interfaces import IBufferAccount
    from claudeproxyd.outcomes.classify import OperatorRule
    from claudeproxyd.upstream.client import Origin


@dataclass(frozen=True, kw_only=True)
class Services:
    """Made by :mod:`claudeproxyd.providers`, once for each provider."""

    clock: IReactorTime
    origin: Callable[[str], Origin]
    """A way out to a base URL, with the provider's TLS, proxy and connection limits."""
    timeouts: Timeouts
    """With the provider's overrides."""
    buffers: IBufferAccount
    """Told how many bytes of unfinished frames and responses are held more, or less, than before."""
    turns: Turns
    """For work that may take long."""
    max_event_bytes: int
    rules: Sequence[OperatorRule] = ()
    strip_rate_limits: bool = False
    """``anthropic-ratelimit-*`` do not pass: several credentials stand behind one name."""
    own_hop: bytes = b""
    """This daemon's name among those that a request goes through; see :mod:`claudeproxyd.messages.hops`."""
    now: Callable[[], float] = time.time
    """The wall clock: upstreams speak of dates."""
    signatures: Signatures = field(default_factory=lambda: Signatures(time.time))
    """Signatures of thoughts, remembered from turn to turn; the process has one of these."""
