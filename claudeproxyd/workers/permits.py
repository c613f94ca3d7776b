"""Limits of what is under way at once, over all workers: each holds permits, and borrows others' that are not in use.

Theory of operation. Of a limit each worker holds its share at first, and nobody says a word. A worker that is short
asks the parent, which asks the others to give up what they do not use: half of it, so that a burst takes few questions.
Where all are in use, those asked give up what comes back and they do not need; or the next that comes back, where
whoever waits holds nothing, or less by two. A permit is given up before it is given away, so that there are never more
than the limit. What a worker held when it died is free.

Clients make up names, so their limits are forgotten: where no worker has any in use, each gives up what it holds, and
goes by its share again once all have. Who needs one meanwhile asks for it, and gets what is free.

Keys are ``("credential", provider, name)``, ``("provider", name, "")`` and ``("client", name, "")``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from twisted.internet.error import ConnectionDone

from claudeproxyd.workers.channel import Refused, shielded
from claudeproxyd.workers.shares import share

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.schema import Config
    from claudeproxyd.workers.channel import ControlChannel

Key = tuple[str, str, str]
CREDENTIAL, PROVIDER, CLIENT = "credential", "provider", "client"
#: How permits are asked back: those that are not in use now; or else later, when nobody there needs them; or else the
#: next that comes back, whoever needs it; or all, where none is in use.
NOW, SPARE, DUE, ALL = "now", "spare", "due", "all"
#: Seconds that a worker's answer is waited for.
RECALL_TIMEOUT = 1.0


@dataclass
class _Limit:
    """One that somebody was short of."""

    whole: int
    count: int
    """Of workers."""
    told: dict[int, int] = field(default_factory=dict)
    """What those hold, by slot, that have asked or were asked. The others know of nothing but their shares."""
    wanting: list[int] = field(default_factory=list)
    """Slots that wait for one, the first first."""
    lock: DeferredLock = field(default_factory=DeferredLock)
    """Of those that need one at once."""
    silent: set[int] = field(default_factory=set)
    """Slots that have not answered in time, and are not asked again until they do."""
    asking: bool = False
    """The others are being asked."""
    again: bool = False
    """Something has happened meanwhile."""

    @property
    def free(self) -> int:
        """What nobody holds; below 0 after the limit was lowered."""
        return self.whole - sum(map(self.held, range(self.count)))

    @property
    def is_idle(self) -> bool:
        """Nobody holds one, and nobody is about to."""
        return not (any(map(self.held, range(self.count))) or self.lock.locked)

    def held(self, slot: int) -> int:
        """Return how many a worker holds."""
        held = self.told.get(slot)
        return share(self.whole, self.count, slot) if held is None else held

    def add(self, slot: int, number: int) -> None:
        """Have a worker hold so many more, or less; 0: it asks or is asked, and its share is what it has now."""
        self.told[slot] = self.held(slot) + number

    def is_due(self, slot: int) -> bool:
        """Whether *slot* is to give one up that it could use itself: somebody waits who has far less, or nothing."""
        has = self.held(slot)
        fewest = min((self.held(other) for other in self.wanting if other != slot), default=has)
        return self.free < 0 or has > fewest + 1 or (has > 0 and not fewest)


class PermitBook:
    """Who holds how many. Kept by the parent."""

    def __init__(self, count: int, channels: Callable[[], Mapping[int, ControlChannel]], clock: IReactorTime) -> None:
        """*channels* returns those of the workers that serve, by slot."""
        self._count = count
        self._channels = channels
        self._clock = clock
        self._limits: dict[Key, _Limit] = {}
        self._deaths: Counter[int] = Counter()
        """How many workers have died, by slot."""

    def held_by(self, slot: int) -> Mapping[Key, int]:
        """Return what a worker that begins holds, where that is not its share."""
        return {key: limit.told[slot] for key, limit in self._limits.items() if slot in limit.told}

    def died(self, slot: int) -> None:
        """Take what a worker held that is gone."""
        self._deaths[slot] += 1
        for key, limit in self._limits.items():
            limit.told[slot] = 0
            limit.silent.discard(slot)
            if slot in limit.wanting:
                limit.wanting.remove(slot)
            self._settle(key, limit)

    def changed(self, limits: Mapping[Key, int]) -> None:
        """Have other limits from now on, of those that are among *limits*."""
        for key, limit in self._limits.items():
            limit.whole = limits.get(key, limit.whole)
            self._settle(key, limit)

    def wanted(self, slot: int, key: Key, whole: int) -> None:
        """A worker waits for one."""
        limit = self._limit(slot, key, whole)
        if slot not in limit.wanting:
            limit.wanting.append(slot)
        self._settle(key, limit)

    def borrowed(self, slot: int, key: Key, whole: int) -> Deferred[int]:
        """A worker needs one now. Return how many it got; it does not wait for any that are in use."""
        limit, deaths = self._limit(slot, key, whole), self._deaths[slot]
        return limit.lock.run(lambda: Deferred.fromCoroutine(self._borrow(slot, deaths, key, limit)))

    def yielded(self, slot: int, key: Key, number: int) -> None:
        """A worker has given up some that were in use when it was asked."""
        limit = self._limits[key]
        limit.add(slot, -number)
        self._settle(key, limit)

    async def forget_idle(self) -> None:
        """Forget those of clients that nobody uses. Called from time to time, not before it is through."""
        for key, limit in [item for item in self._limits.items() if item[0][0] == CLIENT]:
            for slot in self._channels():
                await self._recall(slot, key, limit, ALL)
            channels = self._channels()
            if limit.is_idle and len(channels) == self._count:
                del self._limits[key]
                for channel in channels.values():
                    channel.tell("forgotten", (key,))

    def _limit(self, slot: int, key: Key, whole: int) -> _Limit:
        """Return that of which a worker is short."""
        limit = self._limits.get(key)
        if limit is None:
            limit = self._limits[key] = _Limit(whole, self._count)
        limit.whole = whole
        limit.add(slot, 0)
        return limit

    async def _borrow(self, slot: int, deaths: int, key: Key, limit: _Limit) -> int:
        for other in self._by_wealth(limit):
            if limit.free < 1 and other != slot:
                await self._recall(other, key, limit, NOW)
        if self._deaths[slot] != deaths:  # another one is there, which does not know of it
            self._settle(key, limit)
            return 0
        number = max(limit.free, 0)
        limit.add(slot, number)
        return number

    def _by_wealth(self, limit: _Limit) -> Sequence[int]:
        return sorted(self._channels(), key=limit.held, reverse=True)

    def _settle(self, key: Key, limit: _Limit) -> None:
        """Give what is free to those that wait, and ask the others where that is not enough."""
        channels = self._channels()
        while limit.free > 0 and limit.wanting:
            number = max(limit.free // len(limit.wanting), 1)
            slot = limit.wanting.pop(0)
            if slot in channels:
                limit.add(slot, number)
                channels[slot].tell("granted", (key, number))
        limit.again = True
        if (limit.wanting or limit.free < 0) and not limit.asking:
            limit.asking = True
            Deferred.fromCoroutine(self._ask_around(key, limit))

    async def _ask_around(self, key: Key, limit: _Limit) -> None:
        while limit.again:
            limit.again = False
            for slot in self._by_wealth(limit):
                wanted = limit.free < 0 or any(other != slot for other in limit.wanting)
                if wanted and limit.held(slot) > 0:
                    given = await self._recall(slot, key, limit, DUE if limit.is_due(slot) else SPARE)
                    if given:
                        self._settle(key, limit)
        limit.asking = False

    async def _recall(self, slot: int, key: Key, limit: _Limit, how: str) -> int:
        """Have one worker give up what it does not use. Return how many; what it says too late is counted then."""
        channel = self._channels().get(slot)
        if channel is None or slot in limit.silent:
            return 0
        limit.add(slot, 0)
        deaths = self._deaths[slot]

        def late(given: object) -> None:
            if self._deaths[slot] == deaths and self._limits.get(key) is limit:
                limit.silent.discard(slot)
                self.yielded(slot, key, cast("int", given))

        asked = shielded(channel.ask("recall", (key, limit.whole, how)), late)
        try:
            given = await asked.addTimeout(RECALL_TIMEOUT, self._clock)
        except TimeoutError:
            limit.silent.add(slot)
            return 0
        except (ConnectionDone, Refused):  # it died, and what it held is free
            return 0
        assert isinstance(given, int)
        limit.add(slot, -given)
        return given


class HeldPermits:
    """What one worker holds. Asked by its pool, and where clients are admitted."""

    def __init__(self, slot: int, count: int, channel: ControlChannel, held: Mapping[Key, int]) -> None:
        """*held*: what differs from the share."""
        self._slot = slot
        self._count = count
        self._channel = channel
        self._held = dict(held)
        self._wanting: set[Key] = set()
        self.recalled: dict[Key, str] = {}
        """What is to be given up when one comes back, and how."""
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
        had = self._held[key] = self.allowed(key, whole)
        answer = self._channel.ask("borrow", (key, whole)).addCallback(self._borrowed, key, whole)
        try:
            await shielded(answer)  # whoever needed it may leave, and what is lent is ours
        except (ConnectionDone, Refused):
            return False
        return self.allowed(key, whole) > had

    def _borrowed(self, number: object, key: Key, whole: int) -> None:
        assert isinstance(number, int)
        if number:
            self._set(key, self.allowed(key, whole) + number)

    def granted(self, key: Key, number: int) -> None:
        """The parent gives some of which this worker was short."""
        self._wanting.discard(key)
        self._set(key, self._held[key] + number)

    def recall(self, key: Key, whole: int, how: str) -> int:
        """Give up half of what is not in use, and return how many; where all are, see to it as *how* says.

        :data:`ALL`: give up everything, or nothing.
        """
        held = self._held[key] = self.allowed(key, whole)
        all_or_none = 0 if self.in_use(key) else held
        number = all_or_none if how == ALL else self._spare(key)
        if number:
            self._set(key, held - number)
        elif how in (SPARE, DUE):
            self.recalled[key] = how
        return number

    def forgotten(self, key: Key) -> None:
        """Go by the share again: no worker holds any."""
        self._held.pop(key, None)
        self.recalled.pop(key, None)

    def came_back(self, keys: Iterable[Key], *, needed: bool) -> None:
        """Give up those of *keys* that were asked for; *needed*: none of ours had a chance to take them yet."""
        for key in keys:
            if key not in self.recalled or (needed and self.recalled[key] != DUE):
                continue
            number = self._spare(key)
            if number:
                del self.recalled[key]
                self._channel.tell("yielded", (key, number))
                self._set(key, self._held[key] - number)

    def _spare(self, key: Key) -> int:
        """Return half of what is not in use, rounded up."""
        return (max(self._held[key] - self.in_use(key), 0) + 1) // 2

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

    def came_back(self, provider: str, credential: str, *, needed: bool) -> None:
        """Give up what was asked for."""
        if self._permits.recalled:
            keys = (_of_pool(provider, credential), _of_pool(provider, ""))
            self._permits.came_back(keys, needed=needed)


class SharesOfClients:
    """What a worker's admission asks; see :class:`~claudeproxyd.dispatch.admission.ClientShares`."""

    def __init__(self, permits: HeldPermits) -> None:
        self._permits = permits

    def allowed(self, client: str, whole: int) -> int:
        """Return how many of *whole* there may be. Gives up what was asked for: nobody says when one comes back."""
        key = (CLIENT, client, "")
        if self._permits.recalled:
            self._permits.came_back((key,), needed=False)
        return self._permits.allowed(key, whole)

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


def keyed(body: object) -> tuple[Any, ...]:
    """Return what a frame says of a limit: its key, which comes as a list, and the rest."""
    key, *more = cast("Sequence[Any]", body)
    return (tuple(key), *more)
