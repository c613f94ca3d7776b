"""The executors of a configuration's providers, and the connections that they use.

Those of providers that did not change are taken over from the configuration before, and their connections stay open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claudeproxyd.config.diagnostics import ConfigError, Problem
from claudeproxyd.config.installed import fault
from claudeproxyd.config.timeouts import timeouts_for
from claudeproxyd.executors.services import Services
from claudeproxyd.executors.turns import Turns
from claudeproxyd.interfaces import IExecutor
from claudeproxyd.outcomes.classify import operator_rule
from claudeproxyd.upstream.client import Origin
from claudeproxyd.upstream.tls import TLSSettings

if TYPE_CHECKING:
    from claudeproxyd.config.loading import Loaded
    from claudeproxyd.config.schema import Config, Provider
    from claudeproxyd.sockets import Hub
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
    hub: Hub
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
                hub=self._shared.hub,
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


def executors_differ(old: Config, new: Config) -> bool:
    """Whether a setting changed that every executor was made with."""
    return (old.streaming.max_event_bytes, old.server.ratelimit_headers) != (
        new.streaming.max_event_bytes,
        new.server.ratelimit_headers,
    )
