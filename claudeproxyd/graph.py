"""From a configuration to the objects that serve it: router, catalog, dispatcher, gateways.

Everything here is made anew for each configuration; its executors are those of :mod:`claudeproxyd.providers`. What
outlives a reload is made in :mod:`claudeproxyd.daemon`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from claudeproxyd import configured
from claudeproxyd.catalog import Catalog
from claudeproxyd.dispatch.dispatcher import Dispatcher
from claudeproxyd.dispatch.retries import RetryBudget
from claudeproxyd.dispatch.services import DispatchServices
from claudeproxyd.interfaces import IAuthenticator
from claudeproxyd.providers import ExecutorServices, Upstreams
from claudeproxyd.routing import Router
from claudeproxyd.web.access import Authenticators, BrowserGuard, TrustedProxies
from claudeproxyd.web.gateway import AdminGateway, Limits, PublicGateway

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.accounts.keys import RuntimeKeys
    from claudeproxyd.config.loading import Loaded
    from claudeproxyd.config.schema import Config
    from claudeproxyd.dispatch.limiting import LimitAdmission
    from claudeproxyd.dispatch.relay import Relay
    from claudeproxyd.dispatch.served_models import ServedModels
    from claudeproxyd.interfaces import IAttemptJournal, IUsageSink
    from claudeproxyd.leases import Exhausted
    from claudeproxyd.messages.corrections import Corrections
    from claudeproxyd.observe.access_log import AccessEntry
    from claudeproxyd.observe.capture import Captures
    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.observe.lines import Write
    from claudeproxyd.observe.metrics import Metrics
    from claudeproxyd.observe.tracing import Span
    from claudeproxyd.plugin_loader import Plugins
    from claudeproxyd.pool.service import CredentialPool
    from claudeproxyd.secrets.sources import Sources
    from claudeproxyd.web.buffers import BufferBudget


@dataclass(frozen=True, kw_only=True)
class SharedServices(ExecutorServices):
    """The services that outlive a configuration, and that each generation uses."""

    sources: Sources
    pool: CredentialPool
    models: ServedModels
    metrics: Metrics
    sinks: IUsageSink
    journal: IAttemptJournal | None
    access_log: Callable[[AccessEntry], None]
    plugins: Plugins
    limits: LimitAdmission
    export: Callable[[Span], None]
    """Takes the spans of requests."""
    keys: RuntimeKeys | None
    audit: Write
    corrections: Corrections
    captures: Captures
    connections_allowed: int
    """As many as the process has file descriptors for."""
    ready: Callable[[], bool]


class _Common(TypedDict):
    """What both gateways have; see :class:`~claudeproxyd.web.gateway.Gateway`."""

    limits: Limits
    buffers: BufferBudget
    proxies: TrustedProxies
    metrics: Metrics
    access_log: Callable[[AccessEntry], None]
    ready: Callable[[], bool]
    own_hop: bytes


class Generation:
    """The objects that serve requests under one configuration."""

    def __init__(
        self,
        reactor: Any,
        loaded: Loaded,
        authenticator: IAuthenticator,
        shared: SharedServices,
        before: Generation | None,
        keep: Sequence[str],
    ) -> None:
        """*authenticator* is that of the configured keys; *keep* names the providers whose executors are taken
        over from *before*."""
        config = loaded.config
        upstreams = Upstreams(reactor, loaded, before.upstreams if before else None, keep, shared)
        self.upstreams: Upstreams = upstreams
        self._router = Router(config.models, config.providers)
        self.relays: set[Relay] = set() if before is None else before.relays
        """Open streams, those of earlier generations included."""
        self.catalog: Catalog = Catalog(
            reactor,
            config.models,
            config.providers,
            upstreams.executors,
            configured.credentials(config, shared.sources),
            None if before is None else before.catalog,
        )
        self.dispatching: DispatchServices = self._make_dispatching(reactor, loaded, shared)
        common = _common(config, shared)
        self.public = self._make_public(config, authenticator, shared, common)
        self.admin = AdminGateway(
            authenticator=configured.operators(config),
            guard=BrowserGuard(check_host=not config.asks_operators, check_origin=True, has_page=True),
            audit=shared.audit,
            **common,
        )

    def _make_dispatching(self, clock: IReactorTime, loaded: Loaded, shared: SharedServices) -> DispatchServices:
        config = loaded.config
        prices = configured.prices_of(loaded)
        shared.limits.prices, shared.limits.routes = prices, self._router.routes
        return DispatchServices(
            clock=clock,
            pool=shared.pool,
            router=self._router,
            models=shared.models,
            executors=self.upstreams.executors,
            sinks=shared.sinks,
            journal=shared.journal,
            tracer=configured.tracer_of(loaded, shared.export),
            steps=shared.plugins.steps,
            settings=config.pool,
            streaming=config.streaming,
            timeouts=self.upstreams.timeouts,
            total=config.timeouts.total,
            prices=prices,
            corrections=shared.corrections,
            budget=RetryBudget(config.pool.retry_budget),
            relays=self.relays,
        )

    def _make_public(
        self, config: Config, authenticator: IAuthenticator, shared: SharedServices, common: _Common
    ) -> PublicGateway:
        plugins = shared.plugins.providing(IAuthenticator)
        if plugins:
            # The first one's refusal is told. Where nobody is asked for a key, ours would let everybody in.
            minted = [authenticator] if config.is_keyed and shared.keys is not None else []
            asks = config.clients or config.issuers
            authenticator = Authenticators([authenticator, *plugins] if asks else [*plugins, *minted])
        return PublicGateway(
            authenticator=authenticator,
            guard=BrowserGuard(
                origins=config.server.cors_origins,
                check_host=not config.is_keyed and not config.server.open,
                check_origin=not config.is_keyed or bool(plugins),  # one may go by what browsers send by themselves
            ),
            dispatcher=Dispatcher(self.dispatching),
            catalog=self.catalog,
            captures=shared.captures,
            **common,
        )

    def outage(self, model: str) -> Exhausted | None:
        """Return why nobody serves a model that clients ask for; see ``ICredentialPool.outage``."""
        return self.dispatching.pool.outage(self._router.routes(model))

    def knows(self, model: str) -> bool:
        """Whether the operator or a provider named that model."""
        return self._router.is_named(model) or self.catalog.knows(model)

    def odd_streams(self) -> Mapping[tuple[str, ...], float]:
        """Return the number of answers that were out of order, by provider, for the counter."""
        return {(provider,): count for provider, count in self.dispatching.anomalies.items()}


class KnownModels:
    """Whether somebody named a model: by the generation in force, and by none before the first.

    The pool outlives generations and asks; a model that nobody named leaves no trace in its state.
    """

    def __init__(self) -> None:
        self.generation: Generation | None = None

    def __call__(self, model: str) -> bool:
        """Return whether the operator or a provider named *model*."""
        return self.generation is not None and self.generation.knows(model)


def _common(config: Config, shared: SharedServices) -> _Common:
    """Return what both gateways have."""
    return _Common(
        limits=Limits(
            max_request_bytes=config.server.max_request_bytes,
            max_connections=min(config.server.max_connections, shared.connections_allowed),
            request_head=config.timeouts.request_head,
            request_body=config.timeouts.request_body,
            stall=config.streaming.stall,
        ),
        buffers=shared.buffers,
        proxies=TrustedProxies(config.server.trusted_proxies),
        metrics=shared.metrics,
        access_log=shared.access_log,
        ready=shared.ready,
        own_hop=shared.own_hop,
    )


def register(metrics: Registry, in_force: Callable[[], Generation]) -> None:
    """Let *metrics* read what the generation is at that is *in_force* when they are asked for."""
    metrics.gauge("claudeproxyd_open_streams", "Streams on their way.", lambda: len(in_force().relays))
    metrics.gauge(
        "claudeproxyd_paused_streams",
        "Streams whose client does not keep up.",
        lambda: sum(relay.paused for relay in in_force().relays),
    )
    metrics.counter(
        "claudeproxyd_odd_streams_total",
        "Answers that were out of the grammar's order or of an unknown shape, by provider.",
        lambda: in_force().odd_streams(),
        ("provider",),
    )
    metrics.gauge(
        "claudeproxyd_upstream_connections",
        "Connections to upstreams, by provider and state.",
        lambda: in_force().upstreams.connections(),
        ("provider", "state"),
    )
