"""From a configuration to the objects that serve it: executors, credentials, routes, and who may call.

Everything here is made anew for each configuration, but for the executors of providers that did not change: theirs are
the connections that stay open. What outlives a reload is made in :mod:`claudeproxyd.daemon`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from socket import gethostname
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from claudeproxyd.accounts import listed_prices
from claudeproxyd.accounts.limits import Limit
from claudeproxyd.accounts.prices import NANO, OwnPrice, Price, Prices
from claudeproxyd.catalog import Catalog
from claudeproxyd.config.accounts import MEASURES, first_day, matches_of, passwords_of, place_of, zone_of
from claudeproxyd.config.diagnostics import ConfigError, Problem
from claudeproxyd.config.installed import fault
from claudeproxyd.config.keys import ADMIN
from claudeproxyd.config.secret import secrets_within
from claudeproxyd.config.state import InRedis, state_of
from claudeproxyd.config.timeouts import timeouts_for
from claudeproxyd.dispatch.dispatcher import Dispatcher
from claudeproxyd.dispatch.retries import RetryBudget
from claudeproxyd.dispatch.services import DispatchServices
from claudeproxyd.executors.services import Services
from claudeproxyd.executors.turns import Turns
from claudeproxyd.interfaces import IAuthenticator, IExecutor
from claudeproxyd.leases import Credential
from claudeproxyd.observe.tracing import TracedProvider, Tracer
from claudeproxyd.outcomes.classify import operator_rule
from claudeproxyd.principals import Principal
from claudeproxyd.routing import Router
from claudeproxyd.secrets.sources import secrets_in_key_file
from claudeproxyd.upstream.client import Origin
from claudeproxyd.upstream.proxy import proxy_secrets
from claudeproxyd.upstream.tls import TLSSettings
from claudeproxyd.web.access import (
    Authenticators,
    BrowserGuard,
    KeyAuthenticator,
    OpenAccess,
    OpenUntilMinted,
    TrustedProxies,
)
from claudeproxyd.web.gateway import AdminGateway, Limits, PublicGateway
from claudeproxyd.web.minting import Minting
from claudeproxyd.web.roles import Operator, Role
from claudeproxyd.web.tokens import TokenAuthenticator

if TYPE_CHECKING:
    from claudeproxyd.accounts.keys import RuntimeKeys
    from claudeproxyd.config.loading import Loaded
    from claudeproxyd.config.schema import Config, MintSection, Provider
    from claudeproxyd.dispatch.limiting import LimitAdmission
    from claudeproxyd.dispatch.relay import Relay
    from claudeproxyd.dispatch.served_models import ServedModels
    from claudeproxyd.interfaces import IAttemptJournal, IUsageSink
    from claudeproxyd.issuers.registry import Issuers
    from claudeproxyd.leases import Exhausted
    from claudeproxyd.messages.corrections import Corrections
    from claudeproxyd.observe.access_log import AccessEntry
    from claudeproxyd.observe.capture import Captures
    from claudeproxyd.observe.lines import Write
    from claudeproxyd.observe.metrics import Metrics
    from claudeproxyd.observe.tracing import Span
    from claudeproxyd.plugin_loader import Plugins
    from claudeproxyd.pool.service import CredentialPool
    from claudeproxyd.secrets.sources import Sources
    from claudeproxyd.translate.signatures import Signatures
    from claudeproxyd.web.buffers import BufferBudget


class Executors(Mapping[str, IExecutor]):
    """The executors of one configuration by provider, and of each later one that provider's latest.

    A request that waits across a reload may be leased a secret of the new configuration: that goes where the new one
    sends it, and nowhere else. A configuration knows what came after it and not what came before, so that each goes
    with its last request.
    """

    def __init__(self, executors: Mapping[str, IExecutor]) -> None:
        self._executors = executors
        self._successor: Executors | None = None

    def __getitem__(self, provider: str) -> IExecutor:
        """Return the provider's executor by the latest configuration that has it."""
        found = self._executors.get(provider)
        later = self._successor
        while later is not None:
            found = later._executors.get(provider, found)
            later = later._successor
        if found is None:
            raise KeyError(provider)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._executors)

    def __len__(self) -> int:
        return len(self._executors)

    def give_way(self, successor: Executors) -> None:
        """Another configuration is in force: *successor* has its executors."""
        self._successor = successor


@dataclass(frozen=True, kw_only=True)
class ExecutorServices:
    """What executors share with all others of the process."""

    buffers: BufferBudget
    own_hop: bytes
    signatures: Signatures
    turns: Turns


class Upstreams:
    """The executors of one configuration, and the connections that they use."""

    def __init__(
        self, reactor: Any, loaded: Loaded, before: Upstreams | None, keep: Sequence[str], shared: ExecutorServices
    ) -> None:
        """*keep* names the providers that are as they were in *before*."""
        config = loaded.config
        self._shared = shared
        self._origins: dict[str, list[Origin]] = {}
        self.timeouts = {provider.name: timeouts_for(provider, config, loaded.makers) for provider in config.providers}
        executors: dict[str, IExecutor] = {}
        for provider in config.providers:
            if before is not None and provider.name in keep:
                self._origins[provider.name] = before._origins[provider.name]
                executors[provider.name] = before.executors[provider.name]
            else:
                executors[provider.name] = self._made(provider, loaded, self._services(reactor, config, provider))
        self.executors: Executors = Executors(executors)

    @staticmethod
    def _made(provider: Provider, loaded: Loaded, services: Services) -> IExecutor:
        """Return the executor that the provider's kind makes. Raises ConfigError where that breaks over it."""
        try:
            return loaded.makers[provider.kind].make(provider, services)
        except Exception as error:
            what = f'provider "{provider.name}" cannot be made by kind "{provider.kind}": {fault(error)}'
            raise ConfigError([Problem(next(iter(loaded.files), "the environment"), "", what)]) from None

    def _services(self, reactor: Any, config: Config, provider: Provider) -> Services:
        origins = self._origins[provider.name] = []
        timeouts = self.timeouts[provider.name]

        def origin(base_url: str) -> Origin:
            made = Origin(
                reactor,
                base_url,
                connect_timeout=timeouts.connect,
                tls=TLSSettings(provider.tls.ca_file, provider.tls.verify),
                proxy=provider.proxy,
                max_connections=provider.max_connections,
            )
            origins.append(made)
            return made

        strip = config.server.ratelimit_headers
        return Services(
            clock=reactor,
            origin=origin,
            timeouts=timeouts,
            max_event_bytes=config.streaming.max_event_bytes,
            buffers=self._shared.buffers,
            turns=self._shared.turns,
            own_hop=self._shared.own_hop,
            signatures=self._shared.signatures,
            rules=[
                operator_rule(rule.outcome, rule.status, rule.match, rule.cooldown, rule.scope)
                for rule in provider.rules
            ],
            strip_rate_limits=strip == "strip" or (strip == "auto" and len(provider.credentials) > 1),
        )

    def connections(self) -> dict[tuple[str, ...], float]:
        """Return the number of connections by provider and state, for the gauge."""
        return {
            (provider, state): sum(getattr(origin, state) for origin in origins)
            for provider, origins in self._origins.items()
            for state in ("connections", "idle", "waiting")
        }

    def close(self, keep: Upstreams | None = None) -> None:
        """Close all connections that *keep* does not use; those in use finish first."""
        kept = {id(origin) for origins in keep._origins.values() for origin in origins} if keep is not None else set()
        for origins in self._origins.values():
            for origin in origins:
                if id(origin) not in kept:
                    origin.close()


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
        router = self._router = Router(config.models, config.providers)
        self.relays: set[Relay] = set() if before is None else before.relays
        """Open streams, those of earlier generations included."""
        self.catalog: Catalog = Catalog(
            reactor,
            config.models,
            config.providers,
            upstreams.executors,
            credentials(config, shared.sources),
            None if before is None else before.catalog,
        )
        prices = prices_of(loaded)
        shared.limits.prices, shared.limits.routes = prices, router.routes
        self.dispatching: DispatchServices = DispatchServices(
            clock=reactor,
            pool=shared.pool,
            router=router,
            models=shared.models,
            executors=upstreams.executors,
            sinks=shared.sinks,
            journal=shared.journal,
            tracer=tracer_of(loaded, shared.export),
            steps=shared.plugins.steps,
            settings=config.pool,
            streaming=config.streaming,
            timeouts=upstreams.timeouts,
            total=config.timeouts.total,
            prices=prices,
            corrections=shared.corrections,
            budget=RetryBudget(config.pool.retry_budget),
            relays=self.relays,
        )
        common: dict[str, Any] = {
            "limits": Limits(
                max_request_bytes=config.server.max_request_bytes,
                max_connections=min(config.server.max_connections, shared.connections_allowed),
                request_head=config.timeouts.request_head,
                request_body=config.timeouts.request_body,
                stall=config.streaming.stall,
            ),
            "buffers": shared.buffers,
            "proxies": TrustedProxies(config.server.trusted_proxies),
            "metrics": shared.metrics,
            "access_log": shared.access_log,
            "ready": shared.ready,
            "own_hop": shared.own_hop,
        }
        plugins = shared.plugins.providing(IAuthenticator)
        if plugins:
            # The first one's refusal is told. Where nobody is asked for a key, ours would let everybody in.
            minted = [authenticator] if config.is_keyed and shared.keys is not None else []
            asks = config.clients or config.issuers
            authenticator = Authenticators([authenticator, *plugins] if asks else [*plugins, *minted])
        self.public = PublicGateway(
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
        self.admin = AdminGateway(
            authenticator=operators(config),
            guard=BrowserGuard(check_host=not config.asks_operators, check_origin=True, has_page=True),
            audit=shared.audit,
            **common,
        )

    def outage(self, model: str) -> Exhausted | None:
        """Return why nobody serves a model that clients ask for; see ``ICredentialPool.outage``."""
        return self.dispatching.pool.outage(self._router.routes(model))

    def knows(self, model: str) -> bool:
        """Whether the operator or a provider named that model."""
        return self._router.is_named(model) or self.catalog.knows(model)


class KnownModels:
    """Whether somebody named a model: by the generation in force, and by none before the first.

    The pool outlives generations and asks; a model that nobody named leaves no trace in its state.
    """

    def __init__(self) -> None:
        self.generation: Generation | None = None

    def __call__(self, model: str) -> bool:
        """Return whether the operator or a provider named *model*."""
        return self.generation is not None and self.generation.knows(model)


def authenticator(config: Config, minted: RuntimeKeys | None, issuers: Issuers) -> IAuthenticator:
    """Return the authenticator of the configured keys, of *minted* ones, and of the tokens of *issuers*.

    Where nobody is asked for one, and no plugin for anything, it lets in everyone who reaches the listener.
    """
    if config.is_keyed:
        keys = (client.key.digest for client in config.clients)
        by_key = KeyAuthenticator(dict(zip(keys, clients(config), strict=True)), minted)
        if not config.issuers:
            return by_key
        names = {client.name for client in config.clients}
        return TokenAuthenticator(
            issuers, by_key, lambda name: name in names or (minted is not None and minted.is_live(name))
        )
    return OpenAccess() if minted is None else OpenUntilMinted(minted)


def clients(config: Config) -> Iterator[Principal]:
    """Yield the configured clients."""
    for client in config.clients:
        yield Principal(client.name, client.labels, tuple(client.models), client.max_concurrency)


def operators(config: Config) -> IAuthenticator:
    """Return the authenticator of the admin listener."""
    key = config.server.admin_key
    owner = Operator(ADMIN, role=Role.OPERATE)
    if not config.asks_operators:
        return OpenAccess(owner)
    known: dict[str, Principal] = {
        each.key.digest: Operator(each.name, role=Role[each.role.upper()], minting=_minting(each.mint))
        for each in config.operators
    }
    return KeyAuthenticator(known if key is None else {**known, key.digest: owner})


def _minting(section: MintSection | None) -> Minting | None:
    if section is None:
        return None
    names, models = tuple(section.names), tuple(section.models)
    return Minting(section.labels, names, models, section.max_concurrency, section.longest)


def prices_of(loaded: Loaded) -> Prices:
    """Return what models cost: by the configuration, and where it is installed by the published list."""
    own = [
        OwnPrice(
            price=Price.per_million(each.input, each.output, each.cache_read, each.cache_write, each.cache_write_1h),
            model=each.model,
            provider=each.provider,
            since=first_day(each.since),
        )
        for each in loaded.config.prices
    ]
    if not listed_prices.are_installed():
        return Prices(own)
    base_urls = {
        provider.name: next(iter(loaded.makers[provider.kind].base_urls(provider)), "")
        for provider in loaded.config.providers
    }
    return Prices(own, listed_prices.ListedPrices(base_urls))


def tracer_of(loaded: Loaded, export: Callable[[Span], None]) -> Tracer | None:
    """Return what requests are traced with; None: they are not. *export* takes the spans."""
    traces = loaded.config.traces
    if not traces.endpoint:
        return None
    return Tracer(
        export,
        sample=traces.sample,
        trusts_clients=traces.trust == "all" or (traces.trust == "clients" and loaded.config.is_keyed),
        propagates=traces.propagate,
        providers=_traced_providers(loaded),
    )


def _traced_providers(loaded: Loaded) -> dict[str, TracedProvider]:
    """Return how spans speak of each provider."""
    found = {}
    for provider in loaded.config.providers:
        maker = loaded.makers[provider.kind]
        url = urlsplit(next(iter(maker.base_urls(provider)), ""))
        port = url.port or {"https": 443, "http": 80}.get(url.scheme, 0)
        found[provider.name] = TracedProvider(maker.traced_as or provider.kind, url.hostname or "", port)
    return found


def limits_of(config: Config) -> list[Limit]:
    """Return the configuration's limits, as they are counted by."""
    return [
        Limit(
            name=section.name,
            amount=round(section.usd * NANO) if measure == "usd" else getattr(section, measure),
            measure=measure,
            per=section.per,
            match=matches_of(section),
            each=section.each,
            zone=zone_of(section.zone),
            warn=section.warn,
        )
        for section in config.limits
        for measure in MEASURES
        if getattr(section, measure)
    ]


def ledger_name(config: Config) -> str:
    """Return what tells its ledger from those of other daemons, which may lie on other machines."""
    place = place_of(config.accounts)
    return "" if place is None else place.where if place.dsn else f"{gethostname()}:{place.where}"


def accounts_password(config: Config) -> str:
    """Return that of the accounts' database, where it is beside its URL; or ''."""
    password = config.accounts.password
    return "" if password is None else password.reveal()


def executors_differ(old: Config, new: Config) -> bool:
    """Whether a setting changed that every executor was made with."""
    return (old.streaming.max_event_bytes, old.server.ratelimit_headers) != (
        new.streaming.max_event_bytes,
        new.server.ratelimit_headers,
    )


def serves_claude(loaded: Loaded) -> bool:
    """Whether some provider serves Claude's models, or others by their names."""
    return any(loaded.makers[provider.kind].serves_claude for provider in loaded.config.providers)


def provider_limits(config: Config) -> dict[str, int]:
    """Return how many attempts at once each provider that has a limit may have."""
    return {provider.name: provider.max_concurrency for provider in config.providers if provider.max_concurrency}


def credentials(config: Config, sources: Sources) -> list[Credential]:
    """Return every credential of every provider, in the file's order. *sources* has that configuration already."""
    return [
        Credential(
            provider=provider.name,
            name=credential.name,
            source=sources.source(provider.name, credential.name),
            weight=credential.weight,
            priority=credential.priority,
            max_concurrency=credential.max_concurrency,
            models=tuple(credential.models),
            settings=credential.own,
            disabled=credential.disabled,
        )
        for provider in config.providers
        for credential in provider.credentials
    ]


def named_models(config: Config) -> Iterator[str]:
    """Yield every model that the operator named in full: names that clients ask for, and upstreams' own."""
    for model in config.models:
        yield model.name
        yield from (route.model for route in model.routes if route.model)


#: Characters of a part of a webhook's path that is taken for a secret: shorter ones are words.
MIN_SECRET_SEGMENT = 16
#: Names of headers whose values are secret.
_TELLING = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)


def _secrets_beside(provider: Provider) -> Iterator[str]:
    """Yield a provider's secrets that are in plain settings: its proxy's password, and values of headers."""
    yield from proxy_secrets(provider.proxy, os.environ)
    for name, value in provider.headers.items():
        if _TELLING.search(name) and "{client}" not in value:
            yield value.rpartition(" ")[2]  # without "Bearer"


def _secrets_of_reporting(config: Config) -> Iterator[str]:
    """Yield parts of secrets that are repeated without the rest: paths of URLs, tokens without the word ahead."""
    for hook in config.webhooks:
        url = urlsplit(hook.url.reveal() if hook.url.known else "")
        yield from (each for each in url.path.split("/") if len(each) >= MIN_SECRET_SEGMENT)
        yield from (value for _, value in parse_qsl(url.query))
    for header in config.traces.headers.values():
        yield header.reveal().rpartition(" ")[2]


def secrets_of(config: Config) -> list[str]:
    """Return every secret value of the configuration, to be masked wherever it might be written."""
    values = [secret.reveal() for secret in secrets_within(config) if secret.known]
    for provider in config.providers:
        values += _secrets_beside(provider)
        values += (value for each in provider.credentials for value in secrets_in_key_file(each))
    proxies = (config.traces.proxy, *(hook.proxy for hook in config.webhooks), *(each.proxy for each in config.issuers))
    for proxy in proxies:
        values += proxy_secrets(proxy, os.environ)
    values += _secrets_of_reporting(config)
    state = state_of(config.server.state)
    if isinstance(state, InRedis):
        values.append(state.password)
    return [*values, *passwords_of(config.accounts)]
