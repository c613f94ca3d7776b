"""Upstreams that fail in every way there is, on a clock that a simulation drives. Pure: times are passed in.

A :class:`Weather` answers each attempt as the servers behind one model would. It also says what only a weather knows,
and what the oracle is told: whether an attempt would be refused just now, and how soon that may be different.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import inf
from random import Random
from typing import NamedTuple

Headers = tuple[tuple[bytes, bytes], ...]
Spans = Callable[[float], tuple[bool, float]]
"""Says of a moment whether it is bad, and for how many seconds that lasts."""

#: Seconds that a refusal takes.
REFUSAL = 0.02
#: The wall clock when a simulation's reactor starts.
EPOCH = 1_700_000_000.0


class Ask(NamedTuple):
    """What one attempt brings."""

    key: int
    model: str
    tokens: int
    client: int


class Reply(NamedTuple):
    """How an attempt ends, when nobody cancels it."""

    after: float
    """Seconds; infinite where nothing ever comes."""
    status: int = 200
    """0: the connection is closed without an answer; -1: it could not be made."""
    headers: Headers = ()


class Latency:
    """How long good answers take: exponential, or any of a few."""

    def __init__(self, *means: float) -> None:
        self._means = means or (0.3,)

    def __call__(self, random: Random) -> float:
        return random.expovariate(1 / random.choice(self._means))

    @property
    def mean(self) -> float:
        """Seconds."""
        return sum(self._means) / len(self._means)


class Weather:
    """A good day. Each kind of weather says what is different."""

    def __init__(self, random: Random, latency: Latency) -> None:
        self.random = random
        self.latency = latency

    def reply(self, ask: Ask, now: float) -> Reply:
        """An attempt arrives."""
        return Reply(self.latency(self.random))

    def done(self, ask: Ask, now: float) -> None:
        """A good answer is over, or was cut."""

    def refuses(self, ask: Ask, now: float) -> float:
        """Seconds for which it would be refused for sure: 0 for not at all, infinite until something else is over."""
        return 0.0

    def share(self, key: int, now: float) -> float:
        """Of the attempts that are not refused for sure: how many fail with that key."""
        return 0.0


class Mishaps(Weather):
    """A share of the attempts fails by chance: of all keys, or of some."""

    def __init__(
        self,
        random: Random,
        latency: Latency,
        share: float,
        status: int,
        *,
        keys: Sequence[int] = (),
        models: Sequence[str] = (),
        clients: Sequence[int] = (),
        after: float = REFUSAL,
    ) -> None:
        super().__init__(random, latency)
        self._share = share
        self._status = status
        self._keys = keys
        self._models = models
        self._clients = clients
        self._after = after

    def reply(self, ask: Ask, now: float) -> Reply:
        if (
            (not self._models or ask.model in self._models)
            and (not self._clients or ask.client in self._clients)
            and self.random.random() < self.share(ask.key, now)
        ):
            return Reply(self._after, self._status)
        return super().reply(ask, now)

    def share(self, key: int, now: float) -> float:
        return self._share if not self._keys or key in self._keys else 0.0


class Outages(Weather):
    """Everything fails, or nearly, from time to time."""

    def __init__(
        self,
        random: Random,
        latency: Latency,
        spans: Spans,
        status: int,
        *,
        share: float = 1.0,
        after: float = REFUSAL,
        headers: Headers = (),
        keys: Sequence[int] = (),
    ) -> None:
        super().__init__(random, latency)
        self._spans = spans
        self._status = status
        self._share = share
        self._after = after
        self._headers = headers
        self._keys = keys
        self._heard = inf
        """When the first failure of the present span is home: before that nobody can know of it."""
        self._ends = 0.0

    def reply(self, ask: Ask, now: float) -> Reply:
        bad, left = self._bad(ask.key, now)
        if bad and self.random.random() < self._share:
            if now >= self._ends:
                self._heard, self._ends = now + self._after, now + left
            return Reply(self._after, self._status, self._headers)
        return super().reply(ask, now)

    def _bad(self, key: int, now: float) -> tuple[bool, float]:
        return self._spans(now) if not self._keys or key in self._keys else (False, inf)

    def refuses(self, ask: Ask, now: float) -> float:
        bad, left = self._bad(ask.key, now)
        return left if bad and self._heard <= now < self._ends else 0.0


def every(period: float, bad: float) -> Spans:
    """The first *bad* seconds of each *period*."""

    def spans(now: float) -> tuple[bool, float]:
        at = now % period
        return (True, bad - at) if at < bad else (False, period - at)

    return spans


def once(start: float, end: float) -> Spans:
    """From *start* to *end*."""

    def spans(now: float) -> tuple[bool, float]:
        return (start <= now < end, max(0.0, (end if now >= start else start) - now))

    return spans


def at_random(random: Random, good: float, bad: float, until: float) -> Spans:
    """Spans of those mean lengths, by chance."""
    ends = [random.expovariate(1 / good)]
    while ends[-1] < until:
        mean = bad if len(ends) % 2 else good
        ends.append(ends[-1] + random.expovariate(1 / mean))

    def spans(now: float) -> tuple[bool, float]:
        for number, end in enumerate(ends):
            if now < end:
                return bool(number % 2), end - now
        return False, inf

    return spans


class Caps(Weather):
    """A key takes so many attempts at once, and refuses what is more."""

    def __init__(
        self,
        random: Random,
        latency: Latency,
        cap: Callable[[float], int],
        status: int = 429,
        *,
        hint: bytes = b"",
        together: bool = False,
        keys: Sequence[int] = (),
        after: float = REFUSAL,
    ) -> None:
        """*together*: the cap is of all keys together; *keys*: only those have one."""
        super().__init__(random, latency)
        self._cap = cap
        self._status = status
        self._headers: Headers = ((b"retry-after", hint),) if hint else ()
        self._together = together
        self._keys = keys
        self._after = after
        self._under_way: dict[int, int] = {}

    def _place(self, ask: Ask) -> int:
        return 0 if self._together else ask.key

    def reply(self, ask: Ask, now: float) -> Reply:
        if self.refuses(ask, now):
            return Reply(self._after, self._status, self._headers)
        place = self._place(ask)
        self._under_way[place] = self._under_way.get(place, 0) + 1
        return super().reply(ask, now)

    def done(self, ask: Ask, now: float) -> None:
        self._under_way[self._place(ask)] -= 1

    def refuses(self, ask: Ask, now: float) -> float:
        if self._keys and ask.key not in self._keys:
            return 0.0
        return 0.0 if self._under_way.get(self._place(ask), 0) < self._cap(now) else inf


class Buckets(Weather):
    """A key has a bucket that refills: of requests, or of input tokens."""

    def __init__(
        self,
        random: Random,
        latency: Latency,
        rate: float,
        depth: float,
        *,
        hint: bytes = b"",
        tokens: bool = False,
        told: bool = False,
    ) -> None:
        """*hint*: its ``retry-after``. *told*: each answer has limit, remaining and reset as Anthropic's have."""
        super().__init__(random, latency)
        self._rate = rate
        self._depth = depth
        self._hint = hint
        self._tokens = tokens
        self._told = told
        self._levels: dict[int, tuple[float, float]] = {}

    def _level(self, key: int, now: float) -> float:
        level, at = self._levels.get(key, (self._depth, now))
        return min(self._depth, level + (now - at) * self._rate)

    def _cost(self, ask: Ask) -> float:
        return ask.tokens if self._tokens else 1.0

    def reply(self, ask: Ask, now: float) -> Reply:
        missing = self.refuses(ask, now)
        level = self._level(ask.key, now)
        if missing:
            asked: Headers = ((b"retry-after", self._hint or b"%d" % -(-missing // 1)),) if self._hint != b"-" else ()
            return Reply(REFUSAL, 429, asked + self._headers(level, now))
        level -= self._cost(ask)
        self._levels[ask.key] = (level, now)
        after, status, _ = super().reply(ask, now)
        return Reply(after, status, self._headers(level, now))

    def _headers(self, level: float, now: float) -> Headers:
        if not self._told:
            return ()
        name = b"anthropic-ratelimit-" + (b"input-tokens" if self._tokens else b"requests")
        full = datetime.fromtimestamp(EPOCH + now + (self._depth - level) / self._rate, UTC)
        return (
            (name + b"-limit", b"%d" % (self._rate * 60)),
            (name + b"-remaining", b"%d" % max(0, level)),
            (name + b"-reset", full.strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
        )

    def refuses(self, ask: Ask, now: float) -> float:
        return max(0.0, self._cost(ask) - self._level(ask.key, now)) / self._rate


class Windows(Weather):
    """A key's requests are counted by fixed windows; the refusal says when the next one begins."""

    def __init__(self, random: Random, latency: Latency, number: int, window: float) -> None:
        super().__init__(random, latency)
        self._number = number
        self._window = window
        self._used: dict[tuple[int, int], int] = {}

    def reply(self, ask: Ask, now: float) -> Reply:
        left = self.refuses(ask, now)
        if left:
            return Reply(REFUSAL, 429, ((b"retry-after", b"%d" % -(-left // 1)),))
        place = (ask.key, int(now / self._window))
        self._used[place] = self._used.get(place, 0) + 1
        return super().reply(ask, now)

    def refuses(self, ask: Ask, now: float) -> float:
        full = self._used.get((ask.key, int(now / self._window)), 0) >= self._number
        return self._window - now % self._window if full else 0.0


class Hanging(Weather):
    """Some keys take requests and never answer."""

    def __init__(self, random: Random, latency: Latency, keys: Sequence[int], until: float = inf) -> None:
        super().__init__(random, latency)
        self._keys = keys
        self._until = until

    def reply(self, ask: Ask, now: float) -> Reply:
        if ask.key in self._keys and now < self._until:
            return Reply(inf)
        return super().reply(ask, now)

    def share(self, key: int, now: float) -> float:
        return 1.0 if key in self._keys and now < self._until else 0.0


class Metastable(Weather):
    """Every attempt costs capacity, a refused one too; too many, and hardly any is answered."""

    def __init__(self, random: Random, latency: Latency, capacity: float, spans: Spans):
        super().__init__(random, latency)
        self._capacity = capacity
        self._spans = spans
        self._load = 0.0
        self._at = 0.0

    def _ease(self, now: float) -> None:
        self._load *= 0.5 ** ((now - self._at) / 0.5)
        self._at = now

    def reply(self, ask: Ask, now: float) -> Reply:
        self._ease(now)
        # The load is a mean over some 0.7 seconds, so that many attempts in it stand for one a second.
        self._load += 1
        over = self._load / 0.72 / self._capacity
        share = 1.0 if self._spans(now)[0] else 0.0 if over <= 1 else min(0.97, 3 * (over - 1))
        if self.random.random() < share:
            return Reply(REFUSAL, 503)
        return super().reply(ask, now)

    def refuses(self, ask: Ask, now: float) -> float:
        bad, left = self._spans(now)
        if bad:
            return left
        self._ease(now)
        return 0.0 if (self._load + 1) / 0.72 <= self._capacity else 0.01
