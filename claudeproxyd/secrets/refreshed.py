"""A secret that expires, and is fetched anew before that."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from claudeproxyd.interfaces import ISecretSource
from claudeproxyd.observe.scrub import remember
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.secrets.failures import unavailable

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Seconds that one fetch may take.
FETCH_TIMEOUT = 15.0
#: Seconds before its end at which a secret is fetched anew; a quarter of its life if that is less.
MAX_REFRESH_LEAD = 300.0
#: Seconds to the next fetch after one that failed, while the present secret is still good.
RETRY_DELAY = 30.0
#: Seconds before its end at which a secret counts as expired, since a request takes time to arrive; a tenth of its life
#: if that is less.
MAX_EXPIRY_MARGIN = 10.0


class Fetched(Protocol):
    """A secret as it was fetched."""

    @property
    def lifetime(self) -> float:
        """Seconds, from when it was asked for."""

    def members(self) -> Mapping[str, str]:
        """Return what requests are sent with."""

    def secrets(self) -> Sequence[str]:
        """Return what of that is to be masked wherever it is repeated."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it was fetched."""

    value: str = field(repr=False)
    lifetime: float
    """Seconds, from when it was asked for."""
    quota_project: str = ""
    """The project that requests are charged to, where the credential names one: Google's, of users."""

    def members(self) -> Mapping[str, str]:
        """See :class:`Fetched`."""
        members = {"bearer_token": self.value}
        return {**members, "quota_project": self.quota_project} if self.quota_project else members

    def secrets(self) -> Sequence[str]:
        """See :class:`Fetched`."""
        return [self.value]


Fetch = Callable[[], Coroutine[Any, Any, Fetched]]
"""Fetches a secret; raises :class:`~claudeproxyd.outcomes.types.AttemptFailed`."""


@implementer(ISecretSource)
class RefreshedSecret:
    """A token, or keys. There is one fetch at a time and no timer: a use near the token's end starts the next fetch."""

    refreshable = True
    _log = Logger()

    def __init__(
        self,
        name: str,
        fetch: Fetch,
        clock: IReactorTime,
        random: Random | None = None,
    ) -> None:
        """*name* is for the log."""
        self._name = name
        self._fetch = fetch
        self._clock = clock
        self._random = random or Random()
        self._members: Mapping[str, str] | None = None
        self.secrets: Sequence[str] = ()
        """What of the present members is to be masked."""
        self._ends = self._due = 0.0
        self._fetching = False
        self._waiting: list[Deferred[Mapping[str, str]]] = []

    def __repr__(self) -> str:
        return f"<RefreshedSecret {self._name}>"

    def present(self) -> Mapping[str, str] | None:
        """See the interface. Near its end the token is still returned, and the next one is being fetched."""
        now = self._clock.seconds()
        if now >= self._ends:
            return None
        if now >= self._due:
            self._begin()
        return self._members

    @property
    def left(self) -> float:
        """For how many seconds the present secret is good."""
        return max(0.0, self._ends - self._clock.seconds())

    def refresh(self) -> Deferred[Mapping[str, str]]:
        """See the interface. Cancelling stops neither the fetch nor the others that wait for it."""
        waiting: Deferred[Mapping[str, str]] = Deferred()
        self._waiting.append(waiting)
        self._begin()
        return waiting

    def _begin(self) -> None:
        if self._fetching:
            return
        self._fetching = True
        asked = self._clock.seconds()
        fetch = Deferred.fromCoroutine(self._fetch())
        fetch.addTimeout(FETCH_TIMEOUT, self._clock)
        fetch.addCallbacks(self._fetched, self._failed, callbackArgs=(asked,))

    def _fetched(self, secret: Fetched, asked: float) -> None:
        self.secrets = secret.secrets()
        remember(self.secrets)
        members = self._members = secret.members()
        self._ends = asked + secret.lifetime - min(MAX_EXPIRY_MARGIN, secret.lifetime / 10)
        self._due = asked + secret.lifetime - min(MAX_REFRESH_LEAD, secret.lifetime / 4) * self._jitter()
        self._fetching = False
        for waiting in self._take():
            waiting.callback(members)

    def _failed(self, failure: Failure) -> None:
        reason = failure.value
        if not isinstance(reason, AttemptFailed):
            reason = unavailable(f"{type(reason).__name__} {reason}")
        self._log.warn("{name}: no new token ({why})", name=self._name, why=reason.outcome.reason)
        self._due = self._clock.seconds() + RETRY_DELAY * self._jitter()
        self._fetching = False
        for waiting in self._take():
            waiting.errback(reason)

    def _take(self) -> list[Deferred[Mapping[str, str]]]:
        taken, self._waiting = self._waiting, []
        return taken

    def _jitter(self) -> float:
        """Return a factor that keeps the credentials of many daemons from asking at the same time."""
        return 1.0 - 0.25 * self._random.random()
