"""What a configuration says, as those need it whom it concerns: keys, prices, limits, credentials, secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from socket import gethostname
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from claudeproxyd.accounts import listed_prices
from claudeproxyd.accounts.limits import Limit
from claudeproxyd.accounts.prices import NANO, OwnPrice, Price, Prices
from claudeproxyd.config.accounts import MEASURES, first_day, matches_of, passwords_of, place_of, zone_of
from claudeproxyd.config.keys import ADMIN
from claudeproxyd.config.secret import secrets_within
from claudeproxyd.config.state import InRedis, state_of
from claudeproxyd.interfaces import IAuthenticator
from claudeproxyd.leases import Credential
from claudeproxyd.observe.tracing import TracedProvider, Tracer
from claudeproxyd.principals import Principal
from claudeproxyd.secrets.sources import secrets_in_key_file
from claudeproxyd.upstream.proxy import proxy_secrets
from claudeproxyd.web.access import KeyAuthenticator, OpenAccess, OpenUntilMinted
from claudeproxyd.web.minting import Minting
from claudeproxyd.web.roles import Operator, Role
from claudeproxyd.web.tokens import TokenAuthenticator

if TYPE_CHECKING:
    from claudeproxyd.accounts.keys import RuntimeKeys
    from claudeproxyd.config.loading import Loaded
    from claudeproxyd.config.schema import Config, LongContextPrice, MintSection, PriceSection, Provider
    from claudeproxyd.issuers.registry import Issuers
    from claudeproxyd.observe.tracing import Span
    from claudeproxyd.secrets.sources import Sources


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
            price=_price(each, each.long_context),
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
    if not any(map(listed_prices.may_be_sold_at, base_urls.values())):
        return Prices(own)  # and the start is over a third of a second sooner
    return Prices(own, listed_prices.ListedPrices(base_urls))


def _price(of: PriceSection | LongContextPrice, beyond: LongContextPrice | None = None) -> Price:
    return Price.per_million(
        of.input,
        of.output,
        of.cache_read,
        of.cache_write,
        of.cache_write_1h,
        above=0 if beyond is None else beyond.above,
        beyond=None if beyond is None else _price(beyond),
    )


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
