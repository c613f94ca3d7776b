"""What every request of one configuration is served with."""

from __future__ import annotations

import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from twisted.logger import Logger

from claudeproxyd.accounts.prices import Prices
from claudeproxyd.dispatch.steps import RequestSteps
from claudeproxyd.messages.corrections import Corrections
from claudeproxyd.messages.estimate import Measure, measure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.schema import Pool, Streaming, Timeouts
    from claudeproxyd.dispatch.relay import Relay
    from claudeproxyd.dispatch.retries import RetryBudget
    from claudeproxyd.dispatch.served_models import ServedModels
    from claudeproxyd.interfaces import IAttemptJournal, ICredentialPool, IExecutor, IUsageSink
    from claudeproxyd.observe.tracing import Tracer
    from claudeproxyd.routing import Router


#: Losses that are remembered, so that each is logged once.
MAX_REMEMBERED_LOSSES = 1000
#: Characters of a loss that tell it from others: clients have their words in it.
MAX_LOSS_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class DispatchServices:
    """Made for each configuration. What is counted or remembered here is for all its requests."""

    _log: ClassVar[Logger] = Logger()

    clock: IReactorTime
    pool: ICredentialPool
    router: Router
    executors: Mapping[str, IExecutor]
    """By provider name."""
    models: ServedModels
    """Told of requests that are answered, and of those that find no credential."""
    sinks: IUsageSink
    journal: IAttemptJournal | None = None
    """Where attempts that begin are noted, if they are."""
    tracer: Tracer | None = None
    """None: traces are off."""
    steps: RequestSteps = field(default_factory=RequestSteps)
    settings: Pool
    streaming: Streaming
    timeouts: Mapping[str, Timeouts]
    """By provider name, with its overrides."""
    total: float = 0.0
    """Seconds that a whole request may take; 0: no limit."""
    prices: Prices = field(default_factory=Prices)
    measure: Callable[[bytes], Measure] = measure
    """What a body comes to, where no upstream has counted its tokens."""
    corrections: Corrections = field(default_factory=Corrections)
    """What upstreams have taught about such estimates."""
    budget: RetryBudget
    jitter: random.Random = field(default_factory=random.Random)
    wall: Callable[[], float] = time.time
    relays: set[Relay] = field(default_factory=set)
    """The open streams, for gauges."""
    anomalies: Counter[str] = field(default_factory=Counter)
    """Responses that were out of the grammar's order, or of an unknown shape, by provider; they pass as they are."""
    losses: OrderedDict[tuple[str, str, str], None] = field(default_factory=OrderedDict)
    """What translations lost and was logged: client, provider, and what; bounded, oldest out."""

    def note_anomaly(self, provider: str, what: str) -> None:
        """Count it, and log each provider's first: clients got the response as it is."""
        self.anomalies[provider] += 1
        if self.anomalies[provider] == 1:
            self._log.warn(
                "{provider} does not keep to the API's format; its responses are passed on unchanged: {what}",
                provider=provider,
                what=what,
            )

    def note_losses(self, client: str, provider: str, losses: Sequence[str]) -> None:
        """Log what a translation leaves out of a request: once for each client and kind of loss."""
        for loss in losses:
            key = (client, provider, loss[:MAX_LOSS_CHARACTERS])
            if key in self.losses:
                continue
            self.losses[key] = None
            if len(self.losses) > MAX_REMEMBERED_LOSSES:
                self.losses.popitem(last=False)
            self._log.warn(
                "{provider} does not get everything that {client} sends: {loss}",
                provider=provider,
                client=client,
                loss=loss,
            )
