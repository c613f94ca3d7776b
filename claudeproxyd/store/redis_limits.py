"""Limits that several daemons share through Redis.

Theory of operation. Every reservation is one script in Redis (:mod:`claudeproxyd.store.limit_script`), whatever number
of limits it meets, and is awaited; what was used and what is given back is told by the same script, at the end of the
reactor's turn, and waited for by nobody. The daemon's own counters (:class:`~claudeproxyd.accounts.limits.UsageLimits`)
are kept up by the answers, so that they are what Redis said last and what happened here since.

While Redis is away these counters are asked instead. Of what is left each daemon may then use its share: it counts what
it uses itself as often as there were daemons, as if all did the same. So together they stay within the limit, as far as
each knew how full it was: of counters that it uses that is asked every second. When Redis is back it is told what was
used meanwhile; what it has forgotten is told by each as well, for a daemon's total is of all that it ever used.

What a daemon that died has reserved is free when its lease is over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING
from uuid import uuid4

import hiredis
import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from claudeproxyd.accounts.limits import KEPT_WINDOWS, RATES, Counter, OverLimit, Reservation
from claudeproxyd.interfaces import ILimitStore
from claudeproxyd.store.limit_script import SCRIPT, digest_of
from claudeproxyd.store.redis_link import RedisLink

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint

    from claudeproxyd.accounts.limits import Amounts, Asked, Limit, UsageLimits
    from claudeproxyd.config.state import InRedis
    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.store.resp import RedisConnection

#: Seconds between two questions how full the counters are that are used; one without an answer by the next ends the
#: connection.
ASK_INTERVAL = 1.0
#: Seconds without a word after which a daemon is taken for dead, and what it has reserved is free.
LEASE = 10.0
#: Seconds for which a counter that nothing was asked of is still kept up.
USED_LATELY = 60.0
#: Counters of one command.
AT_ONCE = 200
#: Windows of a budget that a daemon keeps its own figures of: it tells them anew to a Redis that has forgotten them.
KEPT_FIGURES = 12
#: Characters of a client, a label or a model in a key, ahead of the digest of a longer one: clients make models up.
MAX_VALUE = 100
#: Counters that are told of at most.
MAX_LISTED = 10_000
#: Seconds that the daemon's start waits for Redis.
START_TIMEOUT = 2.0

_MICRO = 1_000_000

_encode = msgspec.json.Encoder(order="sorted").encode
_decode_listed = msgspec.json.Decoder(tuple[str, str]).decode


class _Figure:
    """What this daemon has used of one counter: of a budget in one window."""

    __slots__ = ("acknowledged", "base", "before", "told", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self.told = 0.0
        """How much of it was sent to Redis."""
        self.acknowledged = 0.0
        self.before: Counter | None = None
        """Of a rate: as it was ahead of what was used since Redis is away."""
        self.base: tuple[float, float] | None = None
        """What the ledger knew, and when."""


class _Book:
    """What this daemon has of one counter."""

    __slots__ = ("asked", "counter", "figures", "key", "listed", "name", "released")

    def __init__(self, counter: Counter, key: str, name: str) -> None:
        self.counter = counter
        self.key = key
        self.name = name
        """Of these figures: another book of the same counter, after a reload, has another."""
        self.figures: dict[float, _Figure] = {}
        """By the start of the window; of a rate one, by 0."""
        self.released = 0
        """What was given back and not told yet."""
        self.asked = 0.0
        """When a request was last counted by it."""
        self.listed = 0.0
        """Until when others find it."""

    def figure(self, start: float) -> _Figure:
        figure = self.figures.get(start)
        if figure is None:
            figure = self.figures[start] = _Figure()
            while len(self.figures) > KEPT_FIGURES:
                del self.figures[min(self.figures)]
        return figure

    def use(self, amount: int, now: float, *, is_alone: bool) -> float:
        """Count what was used. Return by what its figure is kept."""
        start = self.start(now)
        figure = self.figure(start)
        figure.total += amount
        if is_alone and figure.before is None and not self.counter.limit.is_budget:
            figure.before = Counter(self.counter.limit, "")
            figure.before.know(self.counter.used(now), 0, 0.0, now)
        return start

    def begin(self, now: float, weight: int) -> None:
        """Be told anew; of a rate's what time has not paid off meanwhile, where use counted *weight* times."""
        self.released, self.listed = 0, 0.0
        for figure in self.figures.values():
            if figure.before is not None:
                owed = self.counter.used(now) - figure.before.used(now)
                figure.total = figure.told + max(0.0, owed) / weight
                figure.before = None
            figure.told = figure.acknowledged

    def start(self, now: float) -> float:
        """Return what the figures of now are kept by."""
        return self.counter.window(now).start if self.counter.limit.is_budget else 0.0


class _Shared(Reservation, eq=False):
    """A reservation that others see."""

    give_back: Callable[[Counter, int], None]

    def release(self) -> None:
        """See :meth:`Reservation.release`."""
        amounts = self.amounts
        super().release()
        for counter, amount in amounts:
            self.give_back(counter, amount)


_Part = tuple[_Book, float, int, float]
"""A book, the start of a window, what is asked for, and the total that is told."""


@implementer(ILimitStore)
class RedisLimits:
    """Counts in Redis; by itself while that is away."""

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        place: InRedis,
        limits: UsageLimits,
        wall_clock: Callable[[], float],
        ledger: str,
        script: str = SCRIPT,
    ) -> None:
        """*limits* are the daemon's, which reloads them; *ledger* names its ledger among those of other daemons."""
        self._clock = clock
        self._prefix = f"{place.prefix}limit:"
        self._listed = f"{self._prefix}counters"
        self._limits = limits
        self._wall_clock = wall_clock
        self._ledger = sha256(ledger.encode()).hexdigest()[:16]
        self._script, self._digest = script, digest_of(script)
        self._name = uuid4().hex
        self._count = 0
        """Of books, ever."""
        self._lately: OrderedDict[_Book, None] = OrderedDict()
        """Those that requests were counted by, the last one last."""
        self._changed: dict[_Book, set[float]] = {}
        """What is to be told, by windows."""
        self._timer: IDelayedCall | None = None
        self._daemons = 1
        """As last known."""
        self._starting: Deferred[None] | None = None
        self._is_started = False
        self._swept = 0.0
        self._link = RedisLink(
            clock,
            endpoint,
            place,
            "what limits count",
            self._begin,
            self._ready,
            self._go_alone,
            ASK_INTERVAL,
            ping=self._ask,
        )

    def register(self, metrics: Registry) -> None:
        """Add the metrics of the sharing."""
        metrics.gauge(
            "claudeproxyd_limits_shared",
            "Whether limits are counted in Redis; 0: by this daemon alone, which takes its share of what is left.",
            lambda: int(self._link.connection is not None),
        )

    # -- beginning and end

    def start(self) -> Deferred[None]:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`."""
        if self._is_started or not self._limits:
            return self._starting or succeed(None)
        self._is_started = True
        starting = self._starting = Deferred()
        starting.addTimeout(START_TIMEOUT, self._clock, lambda *_: None)
        self._link.start()
        return starting

    def stop(self) -> Deferred[None]:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`."""
        if not self._is_started:
            return succeed(None)
        self._is_started = False
        self._flush()
        connection = self._link.connection
        if connection is not None:
            connection.command("ZREM", f"{self._prefix}members", self._name).addErrback(lambda _: None)
        return Deferred.fromCoroutine(self._link.stop())

    async def _begin(self, connection: RedisConnection) -> None:
        await connection.command("SCRIPT", "LOAD", self._script)

    def _ready(self, connection: RedisConnection) -> None:
        """Tell all that this daemon has, ahead of whatever is asked next."""
        weight, self._limits.weight = self._limits.weight, 1
        now = self._wall_clock()
        parts = []
        for book in map(self._book, self._limits):
            book.begin(now, weight)
            held = book.counter.reserved
            parts += [self._part(book, start, held) for start in {book.start(now), *book.figures}]
        for some in _some(parts) or [[]]:
            self._send(connection, "begin", some, now).addErrback(self._failed)
        starting, self._starting = self._starting, None
        if starting is not None and not starting.called:
            starting.callback(None)

    def _go_alone(self) -> None:
        self._limits.weight = self._daemons
        self._changed.clear()

    # -- ILimitStore

    def reserve(self, asked: Asked, amounts: Amounts, now: float) -> Reservation | Awaitable[Reservation]:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`."""
        counters = self._limits.counters(asked)
        connection = self._link.connection
        if not counters:
            return Reservation((), ())
        if connection is None:
            return self._reserve_alone(asked, amounts, now)
        reservation = _Shared(counters, amounts.by_measure(), self._give_back)
        reserved: Deferred[Reservation] = Deferred()

        def answered(fits: bool) -> None:
            if fits:
                reservation.hold()
                if reserved.called:  # whoever asked has left
                    reservation.release()
                else:
                    reserved.callback(reservation)
            elif not reserved.called:
                now = self._wall_clock()
                full = [counter for counter in counters if counter.left(now) < 1] or counters
                reserved.errback(OverLimit.of(full, counters, now))

        def failed(failure: Failure) -> None:
            self._failed(failure)
            if not reserved.called:
                try:
                    reserved.callback(self._reserve_alone(asked, amounts, self._wall_clock()))
                except OverLimit as over:
                    reserved.errback(over)

        parts = []
        for counter, amount in reservation.amounts:
            book = self._book(counter)
            book.asked = now
            self._lately[book] = None
            self._lately.move_to_end(book)
            parts.append(self._part(book, book.start(now), amount))
        self._send(connection, "reserve", parts, now).addCallbacks(answered, failed)
        return reserved

    def _reserve_alone(self, asked: Asked, amounts: Amounts, now: float) -> Reservation:
        reservation = self._limits.reserve(asked, amounts, now)
        return _Shared(reservation.counters, reservation.by_measure, self._give_back)

    def _give_back(self, counter: Counter, amount: int) -> None:
        book = self._book(counter)
        book.released += amount
        self._tell(book, book.start(self._wall_clock()))

    def settle(self, asked: Asked, amounts: Amounts, now: float) -> Sequence[Counter]:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`. Each daemon warns once."""
        by_measure = amounts.by_measure()
        for counter in self._limits.counters(asked):
            book, amount = self._book(counter), by_measure[counter.measure]
            self._tell(book, book.use(amount, now, is_alone=self._link.connection is None))
        return self._limits.settle(asked, amounts, now)

    def assume(self, known: UsageLimits, now: float) -> None:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`. Redis knows better."""
        self._limits.add(known, now)

    def recall(self, counted: UsageLimits, now: float, assumed: UsageLimits | None = None) -> None:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`. What Redis has of the same ledger already stands."""
        self._limits.add(counted, now, assumed)
        for counter, other in self._limits.same(counted):
            book = self._book(counter)
            used = other.used_by_window() if counter.limit.is_budget else [(0.0, other.used(now))]
            for start, amount in used:
                book.figure(start).base = (amount, now)
                self._tell(book, start)

    def snapshot(self, now: float) -> Deferred[Sequence[Counter]]:
        """See :class:`~claudeproxyd.interfaces.ILimitStore`."""
        return Deferred.fromCoroutine(self._snapshot(now))

    async def _snapshot(self, now: float) -> Sequence[Counter]:
        connection = self._link.connection
        if connection is not None:
            try:
                found = await connection.command("ZREVRANGEBYSCORE", self._listed, "inf", now, "LIMIT", 0, MAX_LISTED)
                for name, value in map(_decode_listed, found):
                    self._limits.counter(name, value)
                for some in _some([self._part(book, book.start(now)) for book in map(self._book, self._limits)]):
                    await self._send(connection, "tell", some, now)
            except Exception:
                self._failed(Failure())
        return list(self._limits)

    # -- telling

    def _book(self, counter: Counter) -> _Book:
        book = counter.notes
        if not isinstance(book, _Book):
            self._count += 1
            key = self._prefix + _key(counter.limit, counter.value)
            book = counter.notes = _Book(counter, key, f"{self._name}:{self._count}")
        return book

    def _tell(self, book: _Book, start: float) -> None:
        if self._link.connection is not None:  # or it is told when there is one
            self._changed.setdefault(book, set()).add(start)
            if self._timer is None:
                self._timer = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._link.connection is not None:
            changed, self._changed = self._changed, {}
            parts = [self._part(book, start) for book, starts in changed.items() for start in starts]
            for some in _some(parts):
                self._send(self._link.connection, "tell", some, self._wall_clock()).addErrback(self._failed)

    def _ask(self, connection: RedisConnection) -> Deferred[object]:
        """Renew the lease, and ask how full the counters are that were used lately."""
        now = self._wall_clock()
        while self._lately and now - next(iter(self._lately)).asked > USED_LATELY:
            self._lately.popitem(last=False)
        parts = [self._part(book, book.start(now)) for book in islice(reversed(self._lately), AT_ONCE)]
        return self._send(connection, "tell", parts, now).addErrback(self._failed)

    def _part(self, book: _Book, start: float, wanted: int = 0) -> _Part:
        return book, start, wanted, book.figure(start).total

    def _send(self, connection: RedisConnection, mode: str, parts: Sequence[_Part], now: float) -> Deferred[bool]:
        """Call the script. Fires with whether all that was asked for is reserved."""
        keys: list[str] = [f"{self._prefix}members"]
        words: list[str | int | float] = [mode, self._name, int(LEASE * _MICRO)]
        for book, start, wanted, total in parts:
            figure, limit = book.figure(start), book.counter.limit
            keys += (f"{book.key}:{start:.0f}:used" if limit.is_budget else f"{book.key}:used", f"{book.key}:held")
            back = wanted if mode == "begin" else book.released
            base, since = figure.base or ("", 0.0)
            words += (
                limit.amount,
                int(RATES.get(limit.per, 0.0) * _MICRO),
                book.name,
                total,
                total - figure.told,
                _life(book, now),
                back,
                wanted,
                base,
                self._ledger,
                int(since * _MICRO),
            )
            figure.told = total
            book.released = 0
            if now >= book.listed:
                self._list(connection, book, now)
            if book in self._changed:
                self._changed[book].discard(start)
        answer = connection.command("EVALSHA", self._digest, len(keys), *keys, *words)
        return answer.addCallback(self._learn, parts, now)

    def _list(self, connection: RedisConnection, book: _Book, now: float) -> None:
        """Have others find it, who may have had nobody that it counts."""
        life = max(_life(book, now) / 1000, USED_LATELY)
        book.listed = now + life / 2
        listed = _encode((book.counter.limit.name, book.counter.value))
        if now - self._swept >= USED_LATELY:
            self._swept = now
            connection.command("ZREMRANGEBYSCORE", self._listed, "-inf", now).addErrback(self._failed)
        connection.command("ZADD", self._listed, now + life, listed).addErrback(self._failed)

    def _learn(self, answer: Sequence[bytes | int], parts: Sequence[_Part], now: float) -> bool:
        """Take over what Redis says, and what happened here since it was asked."""
        fits, daemons, *figures = answer
        self._daemons = int(daemons)
        for (book, start, _, total), used, held in zip(parts, figures[::2], figures[1::2], strict=True):
            figure = book.figure(start)
            figure.acknowledged = max(figure.acknowledged, total)
            book.counter.know(float(used) + figure.total - total, int(float(held)), start, self._wall_clock())
        return bool(fits)

    def _failed(self, failure: Failure) -> None:
        """Begin anew with a Redis that is of no use, or that has taken this daemon for dead."""
        self._go_alone()
        if failure.check(hiredis.ReplyError):
            self._link.complain(failure)
        if self._link.connection is not None:
            self._link.connection.abort()


def _some(parts: Sequence[_Part]) -> list[Sequence[_Part]]:
    return [parts[first : first + AT_ONCE] for first in range(0, len(parts), AT_ONCE)]


def _key(limit: Limit, value: str) -> str:
    """Return what every daemon knows a counter by: a limit that counts something else has another."""
    counts = (limit.name, limit.measure, limit.per, limit.each, dict(limit.match), str(limit.zone))
    whose = value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + sha256(value.encode()).hexdigest()
    return f"{sha256(_encode(counts)).hexdigest()[:16]}:{whose}"


def _life(book: _Book, now: float) -> int:
    """Return for how many milliseconds a budget's window is kept."""
    if not book.counter.limit.is_budget:
        return 0
    _, end = window = book.counter.window(now)
    return int((end - now + (KEPT_WINDOWS - 1) * (end - window.start)) * 1000)
