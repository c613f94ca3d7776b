"""Suspicion: refusals that may be the request's own fault, such as a 403, a 404 about a model, a challenge. Pure.

A gated beta or a file that may not be read is refused with every credential, and costs none of them anything. A
credential that may not use a model refuses every request. Somebody else tells the two apart: another credential that
answers the same request, or another request that meets the same refusal.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple, cast

from claudeproxyd.leases import LeaseRequest
from claudeproxyd.outcomes.types import Kind, Outcome
from claudeproxyd.pool.lease import Lease
from claudeproxyd.pool.scopes import CooldownScope

#: Seconds within which a different request must meet the same refusal, where the model was served lately …
CORROBORATION_SECONDS = 60.0
#: … and where it was not.
UNSERVED_CORROBORATION_SECONDS = 600.0
#: Seconds for which having served a model counts.
SERVED_LATELY_SECONDS = 3600.0
#: Scopes that are suspected at once; the oldest are forgotten.
MAX_SUSPECTED_SCOPES = 1000


class _Suspicion(NamedTuple):
    when: float
    client_and_session: Hashable
    """The request that was refused, as far as requests are told apart."""


class Suspicions:
    """The scopes that refused a request lately. Made and asked by the candidates."""

    def __init__(self) -> None:
        self.by_scope: dict[CooldownScope, _Suspicion] = {}

    def in_doubt(self, lease: Lease, outcome: Outcome, now: float) -> bool:
        """Return whether a failure may be the request's own fault, as far as is known by now."""
        request = lease.request
        suspects = _suspects(request)
        alike = [
            other
            for other, charge in suspects
            if charge.kind is outcome.kind and other.pair.pooled is not lease.pair.pooled
        ]
        if alike and (outcome.kind is not Kind.MODEL_UNAVAILABLE or _served_lately([lease, *alike], now)):
            request.to_blame = True
            for other, charge in suspects:
                self.by_scope.pop(other.scope(charge), None)
            request.suspects.clear()
            return True
        if self._corroborated(lease, lease.scope(outcome), now):
            return False
        request.suspects.append((lease, outcome))
        return True

    def _corroborated(self, lease: Lease, scope: CooldownScope, now: float) -> bool:
        """Note a refusal. Return whether a different request was refused lately, too."""
        refused = (lease.request.client, lease.request.session)
        earlier = self.by_scope.pop(scope, None)
        within = CORROBORATION_SECONDS if _served_lately([lease], now) else UNSERVED_CORROBORATION_SECONDS
        if earlier is not None and earlier.client_and_session != refused and now - earlier.when <= within:
            return True
        self.by_scope[scope] = _Suspicion(now, refused)
        if len(self.by_scope) > MAX_SUSPECTED_SCOPES:
            del self.by_scope[next(iter(self.by_scope))]
        return False

    def accused(self, server: Lease, now: float) -> Iterator[tuple[Lease, Outcome]]:
        """Yield the attempts that are to blame after all, since *server* served the request that they refused.

        A candidate that served the model lately is not among them.
        """
        request = server.request
        for lease, outcome in _suspects(request):
            pooled = lease.pair.pooled
            if pooled is not server.pair.pooled and pooled.index >= 0 and not _served_lately([lease], now):
                self.by_scope.pop(lease.scope(outcome), None)
                yield lease, outcome
        request.suspects.clear()

    def served(self, lease: Lease) -> None:
        """Clear the candidate of an attempt that succeeded, and its provider."""
        if self.by_scope:
            self.by_scope.pop(lease.pair, None)
            self.by_scope.pop(lease.pair.provider, None)


def _suspects(request: LeaseRequest) -> list[tuple[Lease, Outcome]]:
    """Return the attempts of *request* that failed in doubt. All leases are the pool's own."""
    return cast("list[tuple[Lease, Outcome]]", request.suspects)


def _served_lately(leases: Iterable[Lease], now: float) -> bool:
    """Return whether any of these candidates has the model: else that it is missing says nothing of the request."""
    return any(now - lease.pair.last_served <= SERVED_LATELY_SECONDS for lease in leases)
