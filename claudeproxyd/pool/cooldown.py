"""One cooldown, from the failure that starts it to the success that ends it. Pure: times are passed in.

A cooldown is for a failure that does not pass by itself: a quota whose end the upstream named, a refused key, a model
that is not there, a key that takes requests and never answers. It belongs to a scope: a credential, a model on it, a
model at a provider, or a provider. It is in one of two conditions:

*running*
    Nothing goes through until ``until``.
*half open*
    ``until`` has passed: ``limit`` attempts may be under way at once, and success doubles that. Where the upstream
    named the time, the first are as many as were under way when it began; else one.

Failures and successes are told apart by age: every lease has a serial number, and the cooldown notes the newest one at
the time when it was started. The end of an older lease is news from before: its failure does not raise the level (so
ten attempts that fail together are one failure), and its success says nothing.
"""

from __future__ import annotations

from math import inf
from random import Random
from typing import Generic, TypeVar

from claudeproxyd.outcomes.types import Kind, Outcome

#: ``limit`` where nothing is held back.
UNLIMITED = 1 << 30
#: The share of a cooldown by which it is prolonged at random, at most …
JITTER_SHARE = 0.1
#: … less where the upstream named its end: a bucket that is full again runs over …
NAMED_JITTER_SHARE = 0.02
#: … and no more than so many seconds.
MAX_JITTER_SECONDS = 30.0
#: The exponent of the doubling, at most: no ceiling is 2 ** 64 bases away, and 2.0 ** 1024 overflows.
MAX_DOUBLINGS = 64

S = TypeVar("S")


class BackoffPolicy:
    """The rule for how long cooldowns last."""

    def __init__(self, max_cooldown: float, random: Random) -> None:
        self.max_cooldown = max_cooldown
        """Seconds: the cap on what an upstream may ask for."""
        self._random = random

    def duration(self, outcome: Outcome, level: int) -> float:
        """Return seconds, jittered: as the upstream asked, or base · 2ⁿ up to the ceiling, *level* from 1."""
        if outcome.until_hint is not None:
            return self._jittered(min(outcome.until_hint, self.max_cooldown), NAMED_JITTER_SHARE)
        ceiling = self.max_cooldown if outcome.ceiling == inf else max(outcome.base, outcome.ceiling)
        return self._jittered(min(outcome.base * 2.0 ** min(max(level - 1, 0), MAX_DOUBLINGS), ceiling), JITTER_SHARE)

    def _jittered(self, seconds: float, share: float) -> float:
        """Prolong a cooldown a little, so that requests which wait for several expiries do not go together."""
        return seconds + min(seconds * share, MAX_JITTER_SECONDS) * self._random.random()


class Cooldown(Generic[S]):
    """See the module. ``scope`` is the caller's own: the part of the pool that is held back."""

    __slots__ = (
        "before",
        "began",
        "doubled",
        "kind",
        "level",
        "limit",
        "named",
        "needed",
        "probes",
        "reason",
        "running",
        "scope",
        "until",
    )

    def __init__(self, scope: S) -> None:
        self.scope = scope
        self.kind: Kind | None = None
        """The kind of the failure that decided ``until``."""
        self.reason = ""
        """The upstream's own words for it."""
        self.level = 0
        """Failures without a success in between; attempts that were under way together count once."""
        self.until = 0.0
        self.named = False
        """Whether the upstream named ``until``."""
        self.running = False
        self.limit = UNLIMITED
        """Attempts at once, while half open."""
        self.probes = 0
        """The number of these attempts under way."""
        self.before = 0
        """The number of attempts under way when it began: so many at once must succeed before it is forgotten."""
        self.began = -1
        """The number of the newest lease when the level last rose."""
        self.doubled = -1
        """The number of the newest lease when the limit was last doubled."""
        self.needed = True
        """Whether the limit held anything back when it was last doubled."""

    @property
    def open(self) -> bool:
        """Whether one more attempt may begin."""
        return not self.running and self.probes < self.limit

    def fail(
        self, outcome: Outcome, policy: BackoffPolicy, *, now: float, serial: int, newest: int, in_flight: int
    ) -> bool:
        """Count a failed attempt. Return whether the cooldown lasts longer for it: ``until`` is then the new end.

        *serial* is the lease's number, *newest* the newest lease's; *in_flight*: attempts under way with the whole
        credential, or at the whole provider.
        """
        fresh = serial > self.began
        level = self.level + fresh if self.kind is outcome.kind else 1
        until = now + policy.duration(outcome, level)
        if fresh:
            self.before = in_flight if self.limit == UNLIMITED else max(self.before, in_flight)
            self.limit = 1
            self.level = level
            self.began = newest
        if self.running and until <= self.until:
            return False
        self.kind = outcome.kind
        self.reason = outcome.reason
        self.until = until
        self.named = outcome.until_hint is not None
        self.running = until > now
        return True

    def expire(self) -> None:
        """Half-open the cooldown, since ``until`` has come."""
        self.running = False
        self.limit = max(1, self.before) if self.named else 1

    def probe_succeeded(self, serial: int, newest: int) -> None:
        """Let more attempts through, since the answer of one has begun that still counts in ``probes``."""
        # Attempts that were let in together double the limit together, and not each by itself.
        if self.limit == UNLIMITED or self.running or serial <= max(self.began, self.doubled):
            return
        self.doubled = newest
        self.needed = self.probes >= self.limit
        self.limit = min(self.limit * 2, UNLIMITED // 2)

    def succeed(self, serial: int, newest: int) -> bool:
        """Count a success, of an attempt that still counts in ``probes``. Return whether to forget the cooldown."""
        if self.limit == UNLIMITED:
            return True
        if self.running or serial <= self.began:
            return False
        self.level = 0
        self.probe_succeeded(serial, newest)
        return self.limit >= self.before and not self.needed
