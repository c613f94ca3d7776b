"""A pool that knows the weather: what could be reached at best."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.interfaces import ICredentialPool, ILease
from claudeproxyd.leases import Candidate, Credential, LeaseRequest
from claudeproxyd.outcomes.types import Outcome
from tests.dispatch.fakes import PoolWithoutOperators
from tests.weather.upstream import Ask, Weather

#: A key of which more fails is not worth the cache that it has.
ILL = 0.3


@implementer(ILease)
class OracleLease:
    """Tells its pool when it is over."""

    def __init__(self, pool: OraclePool, candidate: Candidate) -> None:
        self.candidate = candidate
        self._pool = pool

    def probe_succeeded(self) -> None:
        pass

    def release(self, outcome: Outcome) -> None:
        self._pool.serve()


@implementer(ICredentialPool)
class OraclePool(PoolWithoutOperators):
    """Grants what will not be refused for sure, at the key that fails least; who cannot be served waits."""

    def __init__(self, clock: Clock, weather: Weather, credentials: Sequence[Credential]) -> None:
        self._clock = clock
        self._weather = weather
        self._credentials = credentials
        self._next = 0
        self._waiting: deque[tuple[LeaseRequest, Ask, Deferred[Any]]] = deque()
        self._alarm: Any = None
        self.asks: dict[str, Ask] = {}
        """By client: what it asks for now."""
        self.has_cache: Callable[[int, int], bool] = lambda client, key: False
        """Whether a client's prefix is at a key."""

    def lease(self, request: LeaseRequest) -> Deferred[Any]:
        ask = self.asks[request.client]
        if not self._waiting:
            lease, wait = self._grant(request, ask)
            if lease is not None:
                return succeed(lease)
            self._wake(wait)
        deferred: Deferred[Any] = Deferred()
        self._waiting.append((request, ask, deferred))
        return deferred

    def _grant(self, request: LeaseRequest, ask: Ask) -> tuple[OracleLease | None, float]:
        now = self._clock.seconds()
        number = len(self._credentials)
        routes = {route.provider: (rank, route) for rank, route in enumerate(request.routes)}
        soonest, best, least = inf, None, (True, inf, True, True, inf)
        for turn in range(number):
            key = (self._next + turn) % number
            credential = self._credentials[key]
            rank, route = routes[credential.provider]
            wait = self._weather.refuses(ask._replace(key=key, model=route.model), now)
            share = self._weather.share(key, now)
            cold = not self.has_cache(ask.client, key)
            price = (credential in request.tried, rank, share > ILL, cold, share)
            if wait == 0.0 and price < least:
                best, least = key, price
            soonest = min(soonest, wait or inf)
        if best is None:
            return None, soonest
        self._next = best + 1
        credential = self._credentials[best]
        return OracleLease(self, Candidate(routes[credential.provider][1], credential)), 0.0

    def serve(self) -> None:
        """Something is over."""
        while self._waiting:
            request, ask, deferred = self._waiting[0]
            lease, wait = self._grant(request, ask)
            if lease is None:
                self._wake(wait)
                return
            self._waiting.popleft()
            deferred.callback(lease)
            # The attempt itself begins in the callback, so the weather knows of it when the next is asked for.

    def _wake(self, wait: float) -> None:
        if wait == inf or (self._alarm is not None and self._alarm.active()):
            return
        self._alarm = self._clock.callLater(wait + 1e-6, self.serve)

    def stopService(self) -> None:
        """Nothing more is granted."""
        self._waiting.clear()

    def ready_in(self, request: LeaseRequest) -> float | None:
        return 0.0


verifyClass(ICredentialPool, OraclePool)
verifyClass(ILease, OracleLease)
