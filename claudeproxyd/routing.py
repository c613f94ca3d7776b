"""Model names to routes: what a client asks for, and where that leads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from claudeproxyd.globs import matches
from claudeproxyd.leases import Route

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Model, Provider

#: Model names whose routes are remembered. Clients choose the names, so there is a bound.
REMEMBERED = 1024


class Router:
    """The ``[[models]]`` and ``[[providers]]`` of one configuration, asked by dispatch for each request."""

    def __init__(self, models: Sequence[Model], providers: Sequence[Provider]) -> None:
        self._models = models
        self._by_name = {entry.name: entry for entry in reversed(models)}
        self._providers = {provider.name: provider for provider in providers}
        self._remembered: OrderedDict[str, tuple[Route, ...]] = OrderedDict()

    def routes(self, model: str) -> tuple[Route, ...]:
        """In order of preference; empty where no route leads anywhere: the model is unknown."""
        try:
            return self._remembered[model]
        except KeyError:
            found = self._remembered[model] = tuple(self._find(model))
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
            return found

    def is_named(self, model: str) -> bool:
        """Whether an operator wrote that very name down, be it what clients ask for or what an upstream calls it."""
        return any(model == entry.name or any(model == route.model for route in entry.routes) for entry in self._models)

    def _find(self, model: str) -> Sequence[Route]:
        if not self._models:
            return [Route(name, model) for name, provider in self._providers.items() if _serves(provider, model)]
        entry = self._by_name.get(model) or next((each for each in self._models if matches(model, [each.name])), None)
        if entry is None:
            return []
        routes = [
            Route(
                route.provider,
                route.model or model,
                route.max_output_tokens or None,
                route.context or None,
                route.thinking == "default",
            )
            for route in entry.routes
        ] or [Route(name, model) for name in self._providers]
        return [route for route in routes if _serves(self._providers[route.provider], route.model)]


def _serves(provider: Provider, model: str) -> bool:
    return matches(model, provider.models)
