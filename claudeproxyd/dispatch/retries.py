"""When another try is worth it, and when it must be paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.outcomes.types import AttemptFailed, Kind, Outcome, Then

if TYPE_CHECKING:
    import random

    from claudeproxyd.leases import Credential

#: Failures after which another try costs budget; moving on after quota, auth and the like is free.
_PAID = frozenset({Kind.TRANSIENT, Kind.OVERLOADED, Kind.BROKEN_STREAM, Kind.MODEL_FAULT})
#: The repetitions that stay with the lease.
_REPETITIONS = frozenset({Then.REPEAT_ONCE, Then.REFRESH_ONCE, Then.RECTIFY_ONCE})
#: Seconds between two tries on one credential: just enough that they are not one burst. Pace is the pool's.
_MAX_PAUSE_SECONDS = 0.02
#: The request is at fault where it is less likely than this that all its failures were the upstreams' …
_MIN_ODDS = 1e-4
#: … and there were so many of them.
_MIN_FAILURES = 3
#: Repetitions of a request that an upstream answered with a 200, and brought nothing for.
_MAX_PAID_REPEATS = 2


class RetryBudget:
    """Retries as a share of requests, so that a failing upstream is not met with a multiple of its load.

    A fuse: the pool's gates bound the attempts by themselves, and a share of 0 turns it off. Counted over two halves of
    a window: cheap, and never off by more than half of one.
    """

    FLOOR = 10
    WINDOW = 10.0

    def __init__(self, share: float) -> None:
        self._share = share
        self._half_ends = 0.0
        self._requests = [0, 0]
        self._retries = [0, 0]

    def request(self, now: float) -> None:
        """Count a request."""
        self._turn(now)
        self._requests[0] += 1

    def take(self, now: float) -> bool:
        """Pay for one retry; return False where nothing is left."""
        if not self._share:
            return True
        self._turn(now)
        if sum(self._retries) >= max(self.FLOOR, self._share * sum(self._requests)):
            return False
        self._retries[0] += 1
        return True

    def _turn(self, now: float) -> None:
        if now < self._half_ends:
            return
        fresh = now - self._half_ends < self.WINDOW / 2
        self._requests = [0, self._requests[0] if fresh else 0]
        self._retries = [0, self._retries[0] if fresh else 0]
        self._half_ends = now + self.WINDOW / 2


class RetryState:
    """What one request has tried so far, and what it may still try. Pure; made by dispatch."""

    def __init__(self, max_attempts: int) -> None:
        self._max_attempts = max_attempts
        self._on: list[Credential] = []
        """The credentials on which an attempt failed."""
        self.excluded: frozenset[Credential] = frozenset()
        """The credentials that are not worth a further try of this request."""
        self._repeated: list[tuple[Then, Credential | None]] = []
        self.failures: list[AttemptFailed] = []
        self.paid = 0
        """Failed attempts that an upstream has answered with a 200 all the same, and may well charge for."""

    def failed(self, credential: Credential, failure: AttemptFailed) -> None:
        """Note a failed attempt on *credential*."""
        self._on.append(credential)
        # It is kept for what it says. Its traceback leads to all that the request holds, its body above all, and back.
        failure.__traceback__ = failure.__context__ = None
        self.failures.append(failure)
        if not failure.outcome.repeatable:
            self.excluded |= {credential}

    def may_go_on(self, odds: float) -> bool:
        """Return whether ``max_attempts``, and what was paid for in vain, leave another try, and it may end otherwise.

        *odds*: how likely it is that the upstreams failed by themselves, and not the request wherever it goes.
        """
        likely = odds >= _MIN_ODDS or len(self.failures) < _MIN_FAILURES
        return self._made() < self._max_attempts and self.paid <= _MAX_PAID_REPEATS and likely

    def once(self, what: Then, credential: Credential) -> bool:
        """Return whether *what* is a repetition on the same lease that is left, and take it.

        Each is granted once in a request, a refresh once for each credential. The failed attempt is not counted yet.
        """
        if not self._is_left(what, credential) or self.paid > _MAX_PAID_REPEATS:
            return False
        self._repeated.append(_repetition(what, credential))
        return True

    def may_repeat(self, what: Then, credential: Credential) -> bool:
        """Return whether :meth:`once` would grant it after one more attempt that is paid for in vain."""
        return self._is_left(what, credential) and self.paid < _MAX_PAID_REPEATS

    def _is_left(self, what: Then, credential: Credential) -> bool:
        taken = _repetition(what, credential) in self._repeated
        return what in _REPETITIONS and not taken and self._made() + 1 < self._max_attempts

    def _made(self) -> int:
        """Return how many attempts were made."""
        return len(self.failures) + len(self._repeated)

    def pause(self, credential: Credential, jitter: random.Random) -> float:
        """Return the seconds before that credential is tried again; 0 for one not tried yet."""
        return jitter.uniform(0, _MAX_PAUSE_SECONDS) if credential in self._on else 0.0


def _repetition(what: Then, credential: Credential) -> tuple[Then, Credential | None]:
    return what, credential if what is Then.REFRESH_ONCE else None


def costs_budget(outcome: Outcome) -> bool:
    """Return whether another try after this one is paid for from the :class:`RetryBudget`."""
    return outcome.kind in _PAID
