"""One cooldown, from the failure that starts it to the success that ends it. Pure: times are passed in.

A cooldown is for what does not pass by itself: a quota whose end the upstream named, a refused key, a model that is not
there, a key that takes requests and never answers. It belongs to a place: a credential, a model on it, a model on a
provider, or a provider. It is in one of two conditions:

*running*
    Nothing goes through until ``until``.
*half open*
    ``until`` has passed: ``limit`` attempts may be under way at once, and success doubles that. Where the upstream
    named the time, the first are as many as were under way when it began; else one.

Failures and successes are told apart by age: every lease has a serial number, and the cooldown notes the newest one at
the time when it was started. What comes of an older lease is news from before: its failure does not raise the level (so
ten attempts that fail together are one failure), and its success proves nothing.
"""

from __future__ import annotations

from math import inf
from random import Random
from typing import Generic, TypeVar

from claudeproxyd.outcomes.types import Kind, Outcome

#: ``limit`` where nothing is held back.
UNLIMITED = 1 << 30

#: An expiry comes later than it need by up to this share of the span …
JITTER = 0.1
#: … by less where the upstream named it: a bucket that is full again runs over …
JITTER_NAMED = 0.02
#: … and no more than so many seconds.
JITTER_MOST = 30.0

P = TypeVar("P")


class BackoffPolicy:
    """How long cooldowns last."""

    def __init__(self, max_cooldown: float, random: Random) -> None:
        self.max_cooldown = max_cooldown
        """Seconds: the cap on what an upstream may ask for."""
        self._random = random

    def duration(self, outcome: Outcome, level: int) -> float:
        """Seconds, jittered: as the upstream asked, or base · 2ⁿ up to the ceiling, *level* from 1."""
        if outcome.until_hint is not None:
            return self._jittered(min(outcome.until_hint, self.max_cooldown), JITTER_NAMED)
        ceiling = self.max_cooldown if outcome.ceiling == inf else max(outcome.base, outcome.ceiling)
        # No ceiling is 2 ** 64 bases away, and 2.0 ** 1024 overflows.
        return self._jittered(min(outcome.base * 2.0 ** min(max(level - 1, 0), 64), ceiling), JITTER)

    def _jittered(self, span: float, share: float) -> float:
        """A little longer, so that what waits for several expiries does not arrive together."""
        return span + min(span * share, JITTER_MOST) * self._random.random()


class Cooldown(Generic[P]):
    """See the module. ``place`` is the caller's own: what is held back."""

    __slots__ = (
        "before",
        "began",
        "doubled",
        "kind",
        "level",
        "limit",
        "named",
        "needed",
        "place",
        "probes",
        "reason",
        "running",
        "until",
    )

    def __init__(self, place: P) -> None:
        self.place = place
        self.kind: Kind | None = None
        """Of the failure that decided ``until``."""
        self.reason = ""
        """The upstream's own words."""
        self.level = 0
        """Failures without a success in between, those of one time counted once."""
        self.until = 0.0
        self.named = False
        """The upstream said until when."""
        self.running = False
        self.limit = UNLIMITED
        """Attempts at once, while half open."""
        self.probes = 0
        """Those under way."""
        self.before = 0
        """How many were under way when it began: that many must go through before it is forgotten."""
        self.began = -1
        """The newest lease when the level last rose."""
        self.doubled = -1
        """The newest lease when the limit was last doubled."""
        self.needed = True
        """The limit held somebody back when it was last doubled."""

    @property
    def open(self) -> bool:
        """Whether one more attempt may go."""
        return not self.running and self.probes < self.limit

    def fail(
        self, outcome: Outcome, policy: BackoffPolicy, *, now: float, serial: int, newest: int, in_flight: int
    ) -> bool:
        """An attempt failed. True when it lasts longer for it; ``until`` is then the new end.

        *serial* is its lease's number, *newest* the newest lease's; *in_flight*: attempts under way at the place.
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
        """``until`` has come: half open."""
        self.running = False
        self.limit = max(1, self.before) if self.named else 1

    def probe_succeeded(self, serial: int, newest: int) -> None:
        """An attempt's answer has begun, its probe still counted: more may go. It may break off yet."""
        # Those that were let in together double the limit together, and not each by itself.
        if self.limit == UNLIMITED or self.running or serial <= max(self.began, self.doubled):
            return
        self.doubled = newest
        self.needed = self.probes >= self.limit
        self.limit = min(self.limit * 2, UNLIMITED // 2)

    def succeed(self, serial: int, newest: int) -> bool:
        """An attempt succeeded, its probe still counted. True when nothing is left to remember."""
        if self.limit == UNLIMITED:
            return True
        if self.running or serial <= self.began:
            return False
        self.level = 0
        self.probe_succeeded(serial, newest)
        return self.limit >= self.before and not self.needed
