"""Whose fault a refusal is that may be the request's own: a 403, a 404 about a model, a challenge. Pure.

A gated beta or a file that may not be read is refused with every credential, and costs none of them anything. A
credential that may not use a model refuses everybody. What tells them apart is somebody else: another credential that
answers the same request, or another request that meets the same.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

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
    """What was refused where lately, and to whom. Places and requesters are whatever the caller compares."""

    def __init__(self) -> None:
        self.by_place: dict[Hashable, _Suspicion] = {}

    def refused(self, place: Hashable, who: Hashable, served: float, now: float) -> bool:
        """*who* was refused at *place*, which last *served* the model then. True: a different one was lately, too."""
        earlier = self.by_place.get(place)
        within = BORNE_OUT if now - served <= LATELY else BORNE_OUT_UNKNOWN
        if earlier is not None and earlier.who != who and now - earlier.when <= within:
            del self.by_place[place]
            return True
        self.by_place[place] = _Suspicion(now, who)
        if len(self.by_place) > MOST:
            del self.by_place[next(iter(self.by_place))]
        return False

    def cleared(self, place: Hashable) -> None:
        """It served somebody, or what it refused was the request's own doing."""
        self.by_place.pop(place, None)
