"""Limits of what is under way at once, over all workers: each holds permits, and borrows others' that are not in use.

Theory of operation. Of a limit each worker holds its share at first, and nobody says a word. A worker that is short
asks the parent, which asks the others to give up what they do not use: half of it, so that a burst takes few questions.
Where all are in use, those asked give up the next that comes back, unless they are short themselves and hold no more
than whoever asks. A permit is given up before it is given away, so that there are never more than the limit. What a
worker held when it died is free.

Keys are ``("credential", provider, name)``, ``("provider", name, "")`` and ``("client", name, "")``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.error import ConnectionDone

from claudeproxyd.workers.channel import Refused
from claudeproxyd.workers.shares import share

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Config
    from claudeproxyd.workers.channel import ControlChannel

Key = tuple[str, str, str]
CREDENTIAL, PROVIDER, CLIENT = "credential", "provider", "client"


@dataclass
class _Limit:
    """One that somebody was short of."""

    whole: int
    held: dict[int, int]
    """By slot."""
    wanting: list[int] = field(default_factory=list)
    """Slots that wait for one, the first first."""
    lock: DeferredLock = field(default_factory=DeferredLock)

    @property
    def free(self) -> int:
        """What nobody holds; below 0 after the limit was lowered."""
        return self.whole - sum(self.held.values())


class PermitBook:
    """Who holds how many. Kept by the parent."""

    def __init__(self, count: int, channels: Callable[[], Mapping[int, ControlChannel]]) -> None:
        """*channels* returns those of the workers that serve, by slot."""
        self._count = count
        self._channels = channels
        self._limits: dict[Key, _Limit] = {}

    def held_by(self, slot: int) -> Mapping[Key, int]:
        """Return what a worker that begins holds, where that is not its share."""
        return {key: limit.held[slot] for key, limit in self._limits.items()}

    def died(self, slot: int) -> None:
        """Take what a worker held that is gone."""
        for key, limit in self._limits.items():
            limit.held[slot] = 0
            if slot in limit.wanting:
                limit.wanting.remove(slot)
            self._serve(key, limit)

    def changed(self, limits: Mapping[Key, int]) -> None:
        """Have other limits from now on, of those that are among *limits*."""
        for key, limit in self._limits.items():
            limit.whole = limits.get(key, limit.whole)
            self._serve(key, limit)
            self._shrink(key, limit)

    def wanted(self, slot: int, key: Key, whole: int) -> None:
        """A worker waits for one."""
        limit = self._limit(key, whole)
        if slot not in limit.wanting:
            limit.wanting.append(slot)
        self._serve(key, limit)
        if limit.wanting:
            Deferred.fromCoroutine(self._collect(slot, key, limit, lasting=True))

    def borrowed(self, slot: int, key: Key, whole: int) -> Deferred[int]:
        """A worker needs one now. Return how many it got; it does not wait for any that are in use."""
        limit = self._limit(key, whole)
        return limit.lock.run(lambda: Deferred.fromCoroutine(self._borrow(slot, key, limit)))

    def yielded(self, slot: int, key: Key, number: int) -> None:
        """A worker has given up some that were in use when it was asked."""
        limit = self._limits[key]
        limit.held[slot] -= number
        self._serve(key, limit)
        self._shrink(key, limit)

    def _shrink(self, key: Key, limit: _Limit) -> None:
        if limit.free < 0:
            Deferred.fromCoroutine(self._take_back(key, limit))

    async def _take_back(self, key: Key, limit: _Limit) -> None:
        """Have workers give up what is beyond a limit that was lowered."""
        given = 1
        while given and limit.free < 0:
            given = 0
            for slot in self._channels():
                if limit.free < 0:
                    given += await self._recall(slot, key, limit, lasting=True)

    def _limit(self, key: Key, whole: int) -> _Limit:
        limit = self._limits.get(key)
        if limit is None:
            limit = self._limits[key] = _Limit(
                whole, {slot: share(whole, self._count, slot) for slot in range(self._count)}
            )
        limit.whole = whole
        return limit

    async def _borrow(self, slot: int, key: Key, limit: _Limit) -> int:
        if limit.free < 1:
            await self._collect(slot, key, limit, lasting=False)
        number = max(limit.free, 0)
        limit.held[slot] += number
        return number

    async def _collect(self, slot: int, key: Key, limit: _Limit, *, lasting: bool) -> None:
        """Have others give up what *slot* can use better; *lasting*: also what comes back later."""
        for other in sorted(self._channels(), key=lambda each: limit.held[each], reverse=True):
            if other == slot or not self._may_ask(other, slot, limit):
                continue
            given = await self._recall(other, key, limit, lasting)
            if lasting:
                self._serve(key, limit)
            if given if not lasting else slot not in limit.wanting:
                return

    async def _recall(self, slot: int, key: Key, limit: _Limit, lasting: bool) -> int:
        """Have one worker give up what it does not use. Return how many."""
        channel = self._channels().get(slot)
        if channel is None:
            return 0
        try:
            given = await channel.ask("recall", (key, limit.whole, lasting))
        except (ConnectionDone, Refused):  # it died, and what it held is free
            return 0
        assert isinstance(given, int)
        limit.held[slot] -= given
        return given

    @staticmethod
    def _may_ask(other: int, slot: int, limit: _Limit) -> bool:
        """Whether *other* has what *slot* should have."""
        has, wants = limit.held[other], limit.held[slot]
        return has > 0 and (other not in limit.wanting or has > wants + 1 or not wants)

    def _serve(self, key: Key, limit: _Limit) -> None:
        channels = self._channels()
        while limit.free > 0 and limit.wanting:
            number = max(limit.free // len(limit.wanting), 1)
            slot = limit.wanting.pop(0)
            if slot in channels:
                limit.held[slot] += number
                channels[slot].tell("granted", (key, number))


class HeldPermits:
    """What one worker holds. Asked by its pool, and where clients are admitted."""

    def __init__(self, slot: int, count: int, channel: ControlChannel, held: Mapping[Key, int]) -> None:
        """*held*: what differs from the share."""
        self._slot = slot
        self._count = count
        self._channel = channel
        self._held = dict(held)
        self._wanting: set[Key] = set()
        self.recalled: set[Key] = set()
        """What is to be given up when one comes back."""
        self.in_use: Callable[[Key], int] = lambda key: 0
        """How many are in use. Set, as is the next, by the worker's daemon."""
        self.changed: Callable[[Key, int], None] = lambda key, allowed: None
        """Called with how many there may be from now on."""

    def allowed(self, key: Key, whole: int) -> int:
        """Return how many of *whole* this worker may have in use."""
        held = self._held.get(key)
        return share(whole, self._count, self._slot) if held is None else held

    def want(self, key: Key, whole: int) -> None:
        """Have one more as soon as there is one."""
        if key not in self._wanting and self.allowed(key, whole) < whole:
            self._held[key] = self.allowed(key, whole)
            self._wanting.add(key)
            self._channel.tell("want", (key, whole))

    async def borrow(self, key: Key, whole: int) -> bool:
        """Return whether there is one more now."""
        if self.allowed(key, whole) >= whole:
            return False
        self._held[key] = self.allowed(key, whole)
        try:
            number = await self._channel.ask("borrow", (key, whole))
        except (ConnectionDone, Refused):
            return False
        assert isinstance(number, int)
        if number:
            self._set(key, self.allowed(key, whole) + number)
        return number > 0

    def granted(self, key: Key, number: int) -> None:
        """The parent gives some of which this worker was short."""
        self._wanting.discard(key)
        self._set(key, self._held[key] + number)

    def recall(self, key: Key, whole: int, lasting: bool) -> int:
        """Give up half of what is not in use. Return how many; *lasting*: where all are, then the next that is not."""
        allowed = self.allowed(key, whole)
        unused = max(allowed - self.in_use(key), 0)
        number = (unused + 1) // 2
        self._held[key] = allowed
        if number:
            self._set(key, allowed - number)
        elif lasting:
            self.recalled.add(key)
        return number

    def came_back(self, keys: Iterable[Key]) -> None:
        """Give up those of *keys* that were asked for, if one is not in use now."""
        for key in keys:
            if key in self.recalled and self.in_use(key) < self._held[key]:
                self.recalled.discard(key)
                self._set(key, self._held[key] - 1)
                self._channel.tell("yielded", (key, 1))

    def _set(self, key: Key, number: int) -> None:
        self._held[key] = number
        self.changed(key, number)


class PoolShares:
    """What a worker's pool asks; see :class:`~claudeproxyd.pool.shares.Shares`."""

    def __init__(self, permits: HeldPermits) -> None:
        self._permits = permits

    def allowed(self, provider: str, credential: str, whole: int) -> int:
        """Return how many of *whole* there may be."""
        return self._permits.allowed(_of_pool(provider, credential), whole)

    def short(self, provider: str, credential: str, whole: int) -> None:
        """Have one more."""
        self._permits.want(_of_pool(provider, credential), whole)

    def came_back(self, provider: str, credential: str) -> None:
        """Give up what was asked for."""
        if self._permits.recalled:
            self._permits.came_back((_of_pool(provider, credential), _of_pool(provider, "")))


class SharesOfClients:
    """What a worker's admission asks; see :class:`~claudeproxyd.dispatch.admission.ClientShares`."""

    def __init__(self, permits: HeldPermits) -> None:
        self._permits = permits

    def allowed(self, client: str, whole: int) -> int:
        """Return how many of *whole* there may be."""
        return self._permits.allowed((CLIENT, client, ""), whole)

    def borrow(self, client: str, whole: int) -> Awaitable[bool]:
        """Return whether there may be one more."""
        return self._permits.borrow((CLIENT, client, ""), whole)


def _of_pool(provider: str, credential: str) -> Key:
    return (CREDENTIAL, provider, credential) if credential else (PROVIDER, provider, "")


def limits_in(config: Config) -> dict[Key, int]:
    """Return the limits that a configuration has. Minted keys have others, which their workers tell."""
    found: dict[Key, int] = {(CLIENT, client.name, ""): client.max_concurrency for client in config.clients}
    for provider in config.providers:
        found[PROVIDER, provider.name, ""] = provider.max_concurrency
        for credential in provider.credentials:
            found[CREDENTIAL, provider.name, credential.name] = credential.max_concurrency
    return found
