"""Whose fault a refusal is that may be the request's own: a 403, a 404 about a model, a challenge. Pure.

A gated beta or a file that may not be read is refused with every credential, and costs none of them anything. A
credential that may not use a model refuses everybody. What tells them apart is somebody else: another credential that
answers the same request, or another request that meets the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple, cast

from claudeproxyd.leases import LeaseRequest
from claudeproxyd.outcomes.types import Kind, Outcome
from claudeproxyd.pool.lease import Lease
from claudeproxyd.pool.places import Place

#: Seconds within which a different request must meet the same; where the model was served lately, and where it was not.
BORNE_OUT = 60.0
BORNE_OUT_UNKNOWN = 600.0
#: Seconds for which having served a model counts.
LATELY = 3600.0
#: Places that are suspected at once, at most; the oldest are forgotten.
MOST = 1000


class _Suspicion(NamedTuple):
    when: float
    who: Hashable


class Suspicions:
    """What was refused where lately, and to whom. Made and asked by the candidates."""

    def __init__(self) -> None:
        self.by_place: dict[Hashable, _Suspicion] = {}

    def in_doubt(self, lease: Lease, outcome: Outcome, now: float) -> bool:
        """Whether that failure may be the request's own doing, as far as is known by now."""
        request = lease.request
        suspects = _suspects(request)
        alike = [other for other, its in suspects if its.kind is outcome.kind and other.member is not lease.member]
        if alike and (outcome.kind is not Kind.MODEL_UNAVAILABLE or _served_lately([lease, *alike], now)):
            request.to_blame = True
            for other, its in suspects:
                self.by_place.pop(other.place(its).key, None)
            request.suspects.clear()
            return True
        if self._borne_out(lease, lease.place(outcome), now):
            return False
        request.suspects.append((lease, outcome))
        return True

    def _borne_out(self, lease: Lease, place: Place, now: float) -> bool:
        """Note who was refused; whether a different request was there lately, too."""
        who = (lease.request.client, lease.request.session)
        earlier = self.by_place.pop(place.key, None)
        within = BORNE_OUT if _served_lately([lease], now) else BORNE_OUT_UNKNOWN
        if earlier is not None and earlier.who != who and now - earlier.when <= within:
            return True
        self.by_place[place.key] = _Suspicion(now, who)
        if len(self.by_place) > MOST:
            del self.by_place[next(iter(self.by_place))]
        return False

    def accused(self, server: Lease, now: float) -> Iterator[tuple[Lease, Outcome]]:
        """A request was served after all: who refused it before is to blame, but for who served others lately."""
        request = server.request
        for lease, outcome in _suspects(request):
            if lease.member is not server.member and lease.member.index >= 0 and not _served_lately([lease], now):
                self.by_place.pop(lease.place(outcome).key, None)
                yield lease, outcome
        request.suspects.clear()

    def served(self, lease: Lease) -> None:
        """A success clears its candidate, and its provider."""
        if self.by_place:
            for place in (Place(lease.lane.roster, lease.lane, lease.member), Place(lease.lane.roster, None, None)):
                self.by_place.pop(place.key, None)


def _suspects(request: LeaseRequest) -> list[tuple[Lease, Outcome]]:
    """What of it failed in doubt. The leases are our own."""
    return cast("list[tuple[Lease, Outcome]]", request.suspects)


def _served_lately(leases: Iterable[Lease], now: float) -> bool:
    """Whether any of these candidates has the model: then who lacks it is no argument."""
    return any(now - lease.use.served <= LATELY for lease in leases)
