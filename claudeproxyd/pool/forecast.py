"""A forecast of when something will be ready for a request that nothing is ready for now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from math import inf
from typing import NamedTuple

from claudeproxyd.leases import Credential, Exhaustion, LeaseRequest
from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.model_credentials import ModelCredentials
from claudeproxyd.pool.provider_credentials import ProviderCredentials
from claudeproxyd.pool.scopes import ScopeCooldown


class Soonest(NamedTuple):
    """The earliest time at which a credential of a model becomes available, where all are cooling."""

    as_of: int
    """The forecast's version that it was computed for."""
    when: float
    reason: Kind | Exhaustion
    """The outcome that the deciding cooldown is due to."""
    quota: bool
    """Whether a quota holds one of them back, though perhaps not the first."""


NEVER = Soonest(-1, inf, Exhaustion.NONE, False)


class Forecast:
    """See the module. A result that took a look at all credentials of a model is kept until :meth:`outdate`."""

    def __init__(self, providers: Mapping[str, ProviderCredentials]) -> None:
        """Begin without results. *providers*: by name, as they are at any time."""
        self._providers = providers
        self._version = 0

    def outdate(self) -> None:
        """Discard what was computed: a cooldown or a credential has changed."""
        self._version += 1

    def soonest(
        self, request: LeaseRequest, without: Set[Credential], now: float
    ) -> tuple[float | None, Kind | Exhaustion]:
        """Return when the first candidate may be ready, and what holds it back.

        The moment is *now* where one is merely busy, and None where none ever will be.
        """
        models = [
            self._providers[route.provider].model(route.model)
            for route in request.routes
            if route.provider in self._providers
        ]
        among = [~model.provider.set_of(without) if without else -1 for model in models]
        usable = [model for model, some in zip(models, among, strict=True) if model.ready_or_busy() & some]
        if usable:
            downs = [model.down() if model.provider.gate_count else None for model in usable]
            if None in downs:
                return now, Exhaustion.BUSY
            down = min((gate for gate in downs if gate is not None), key=lambda gate: gate.due)
            return now if down.open else max(down.due, now), down.kind
        each = [self._soonest_of(model, some) for model, some in zip(models, among, strict=True)]
        first = min(each, key=lambda soonest: soonest.when, default=NEVER)
        if first.when == inf:
            return None, Exhaustion.DISABLED if any(model.serving for model in models) else Exhaustion.NONE
        # Whichever ends first is a matter of jitter: that a quota is used up is what a client can act on.
        return max(first.when, now), Kind.QUOTA if any(one.quota for one in each) else first.reason

    def _soonest_of(self, model: ModelCredentials, among: int) -> Soonest:
        """Return the first of *among* at a model where all are cooling. Has to look at all, so the result is kept."""
        if among == -1 and model.soonest is not None and model.soonest.as_of == self._version:
            return model.soonest
        provider = model.provider
        shared = [each for each in (provider.cooldown, model.cooldown) if each is not None and each.running]
        cooldowns, quota = shared, False
        if not provider.not_cooling & model.not_cooling & among:
            first, quota = _first_back(model, among)
            if not first:
                return NEVER
            cooldowns = shared + first
        deciding = max(cooldowns, key=lambda cooldown: cooldown.until)
        assert deciding.kind is not None
        soonest = Soonest(self._version, deciding.until, deciding.kind, quota or deciding.kind is Kind.QUOTA)
        if among == -1:
            model.soonest = soonest
        return soonest


def _first_back(model: ModelCredentials, among: int) -> tuple[list[ScopeCooldown], bool]:
    """Return the cooldowns of the credential that is available again first, and whether a quota holds any back.

    All of *among* are cooling; the list is empty where none will come back.
    """
    own, here = model.provider.cooldowns, model.cooldowns
    serving = model.serving & among
    all_serve = serving == model.provider.everyone
    best = inf
    chosen: list[ScopeCooldown] = []
    quota = False
    # One pass over perhaps ten thousand: plain on purpose.
    for pooled in {**own, **here} if own and here else own or here:
        if not pooled.enabled or not (all_serve or serving >> pooled.index & 1):
            continue
        whole = pooled.cooldown
        end = whole.until if whole is not None and whole.running else 0.0
        part = here.get(pooled) if here else None
        if part is not None and part.running and part.until > end:
            end = part.until
        running = [cooldown for cooldown in (whole, part) if cooldown is not None and cooldown.running]
        quota = quota or any(cooldown.kind is Kind.QUOTA for cooldown in running)
        if end < best:
            best, chosen = end, running
    return chosen, quota
