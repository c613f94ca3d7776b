"""Who may use how much: rates that refill, and budgets of a day, a week or a month. Pure, in memory.

A request *reserves* what it may come to before it is sent, and the records of its attempts *settle* what it came to.
It is let in while what was used and what is reserved leave anything over: so nobody is refused while there is room, and
what is used beyond a limit is at most what was under way when it was reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from math import ceil, inf
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.accounts.prices import NANO
from claudeproxyd.accounts.windows import Window, window_of
from claudeproxyd.globs import is_glob, matches

if TYPE_CHECKING:
    from claudeproxyd.observe.usage import UsageRecord

MEASURES = ("usd", "tokens", "input_tokens", "output_tokens", "requests")
"""What limits count; input includes what caches had."""
RATES = {"minute": 60.0, "hour": 3600.0}
"""Seconds in which a rate refills."""
MAX_REMEMBERED = 10_000
"""Combinations of client, model and provider whose counters are remembered."""
KEPT_WINDOWS = 3
"""Of a budget: a clock that was set, and is set back, finds what was used then."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One of the operator's."""

    name: str
    amount: int
    """In the measure's unit; of USD nano-dollars."""
    measure: str
    """One of :data:`MEASURES`."""
    per: str
    """``minute`` and ``hour`` refill steadily; ``day``, ``week`` and ``month`` are windows."""
    match: Mapping[str, str] = field(default_factory=dict)
    """Globs by ``client``, ``label.NAME``, ``model`` and ``provider``; all have to match."""
    each: str = ""
    """What has a counter for each of its values: one of these; '': there is one for all."""
    zone: tzinfo = UTC
    warn: float = 0.8
    """The share from which on the log warns; 0: it does not."""

    @property
    def is_budget(self) -> bool:
        """Whether it is of a window, and not a rate."""
        return self.per not in RATES


class Asked(msgspec.Struct, frozen=True):
    """Who asks for what."""

    client: str
    labels: Mapping[str, str]
    model: str
    """As asked for."""
    providers: tuple[str, ...]
    """Where it may go; of an attempt, where it went."""

    def value(self, name: str) -> str:
        """Return what a limit's ``each`` has a counter by."""
        if name == "client":
            return self.client
        if name == "model":
            return self.model
        return self.labels.get(name.removeprefix("label."), "")


class Amounts(msgspec.Struct, frozen=True):
    """How much something takes."""

    nano_usd: int
    input_tokens: int
    output_tokens: int
    requests: int = 1

    def by_measure(self) -> Sequence[int]:
        """Return it in the order of :data:`MEASURES`."""
        given, made = self.input_tokens, self.output_tokens
        return (self.nano_usd, given + made, given, made, self.requests)


class Counter:
    """How much of one limit was used by one client, team …"""

    __slots__ = (
        "_refilled",
        "_used",
        "amount",
        "begins",
        "elsewhere",
        "ends",
        "limit",
        "measure",
        "notes",
        "pace",
        "reserved",
        "spent",
        "value",
        "warned",
        "warns_from",
    )

    def __init__(self, limit: Limit, value: str) -> None:
        self.follow(limit)
        self.value = value
        """Of the limit's ``each``."""
        self.spent: float = 0
        """What counted as used when that was last asked: of a rate what has not been refilled yet."""
        self.reserved = 0
        """By requests of this process."""
        self.elsewhere = 0
        """By those of others, as far as is known."""
        self.notes: object = None
        """Those of who shares it with others."""
        self.warned = 0.0
        """The end of the window in which the log has warned."""
        self._used: dict[float, int] = {}
        """Of a budget: what was used in other windows, by their starts; of this one what was known when it was left."""
        self.begins = self.ends = 0.0
        """The window that :attr:`spent` is of, of a budget."""
        self._refilled = 0.0

    def follow(self, limit: Limit) -> None:
        """Be of that limit from now on, which counts the same: what each request asks of it is looked up once."""
        self.limit = limit
        self.measure = MEASURES.index(limit.measure)
        """Its place among them."""
        self.amount = limit.amount
        self.pace = limit.amount / RATES[limit.per] if limit.per in RATES else 0.0
        """What is refilled in a second; 0 for a budget."""
        self.warns_from = limit.warn * limit.amount if limit.warn else inf

    def used(self, now: float) -> float:
        """Return what counts as used at *now*, since the epoch."""
        self.refresh((self,), now)
        return self.spent

    @staticmethod
    def refresh(counters: Iterable[Counter], now: float) -> None:
        """Have each one's :attr:`spent` be what counts as used at *now*: in one call for all that a request meets."""
        for counter in counters:
            if counter.pace:
                if now > counter._refilled:
                    debt = counter.spent - (now - counter._refilled) * counter.pace
                    counter.spent = debt if debt > 0.0 else 0.0
                counter._refilled = now  # a clock that was set back refills nothing
            elif not counter.begins <= now < counter.ends:
                counter.window(now)

    def window(self, now: float) -> Window:
        """Return the window that *now* is in, of a budget."""
        if not self.begins <= now < self.ends:
            self._keep()
            self.begins, self.ends = window_of(self.limit.per, self.limit.zone, now)
            self.spent = self._used.get(self.begins, 0)
        return Window(self.begins, self.ends)

    def _keep(self) -> None:
        """Note what was used in the window that is left, or asked for beside others."""
        if self.spent or self.begins in self._used:
            self._set(self.begins, int(self.spent))

    def _set(self, start: float, used: int) -> None:
        is_new = start not in self._used
        self._used[start] = used
        if is_new:
            while len(self._used) > KEPT_WINDOWS:
                del self._used[min(self._used)]

    def know(self, used: float, elsewhere: int, start: float, now: float) -> None:
        """Take over what is known where it is shared: what was used, of a budget in the window of that *start*."""
        self.elsewhere = elsewhere
        if self.pace:
            self.spent, self._refilled = used, now
        elif start == self.begins:
            self.spent = int(used)
        else:
            self._set(start, int(used))

    def add(self, other: Counter, now: float, sign: int = 1) -> None:
        """Count what *other*, of the same limit, has counted, too; or, with a *sign* of -1, no more."""
        if self.pace:
            self.spent = max(0.0, self.used(now) + sign * other.used(now))
            return
        self._keep()
        for start, amount in other.used_by_window():
            self._used[start] = max(0, self._used.get(start, 0) + sign * amount)
        self.spent = self._used.get(self.begins, 0)

    @property
    def held(self) -> int:
        """What is reserved, by anybody."""
        return self.reserved + self.elsewhere

    def used_by_window(self) -> Iterable[tuple[float, int]]:
        """Return what a budget has counted, by the starts of its windows."""
        self._keep()
        return self._used.items()

    def left(self, now: float) -> float:
        """Return what may be used yet; below 0 where more was used."""
        return self.amount - self.used(now) - self.held

    def resets_at(self, now: float) -> float:
        """Return when all of it is there again: since the epoch; of a rate by what was used."""
        return now + self.used(now) / self.pace if self.pace else self.window(now).end

    def room_at(self, now: float) -> float:
        """Return when there is room again, where there is none: since the epoch.

        Of a rate by what was used: what is reserved may turn out less.
        """
        if not self.pace:
            return self.window(now).end
        return now + max(1.0, (self.used(now) + 1 - self.amount) / self.pace)

    def is_idle(self, now: float) -> bool:
        """Whether it says no more than one that was made now."""
        if self.reserved:
            return False
        if self.used(now):
            return False
        return all(each < 3 * self.begins - 2 * self.ends for each in self._used)  # a clock set back asks for the last


class OverLimit(Exception):
    """A request was refused."""

    def __init__(self, counter: Counter, counters: tuple[Counter, ...], now: float) -> None:
        super().__init__(counter.limit.name)
        self.counter = counter
        self.counters = counters
        """All that the request would have been counted by."""
        self.retry_after = ceil(counter.room_at(now) - now)
        """Seconds."""

    @classmethod
    def of(cls, full: Iterable[Counter], counters: tuple[Counter, ...], now: float) -> OverLimit:
        """Return the refusal for the one of *full* that lasts longest."""
        return cls(max(full, key=lambda counter: counter.room_at(now)), counters, now)


class Reservation(msgspec.Struct, eq=False):
    """What one request may come to, in each of its counters."""

    counters: tuple[Counter, ...]
    by_measure: Sequence[int]
    """See :meth:`Amounts.by_measure`."""

    @property
    def amounts(self) -> list[tuple[Counter, int]]:
        """What is reserved with each of its counters."""
        return [(counter, self.by_measure[counter.measure]) for counter in self.counters]

    def hold(self) -> None:
        """Reserve it, once."""
        by_measure = self.by_measure
        for counter in self.counters:
            counter.reserved += by_measure[counter.measure]

    def release(self) -> None:
        """Give it back, once: what was used, records have settled."""
        by_measure = self.by_measure
        for counter in self.counters:
            counter.reserved -= by_measure[counter.measure]
        self.counters = ()


_Key = tuple[str, tuple[tuple[str, str], ...], str, tuple[str, ...]]
"""What :class:`Asked` has."""


class UsageLimits:
    """All limits, and their counters. Lives as long as the process."""

    def __init__(self, limits: Sequence[Limit] = ()) -> None:
        self._limits = tuple(limits)
        self._places, self._by_name = _Places(limits), {limit.name: limit for limit in limits}
        self.weight = 1
        """How many count what is here by themselves: each takes what it uses itself for used by all of them."""
        self._counters: dict[tuple[str, str], Counter] = {}
        self._found: dict[_Key, tuple[Counter, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._limits)

    def reload(self, limits: Sequence[Limit]) -> Sequence[Limit]:
        """Have other limits from now on. One that counts the same as before, by its name, goes on from where it is.

        Return the others.
        """
        before = self._by_name
        self._limits = tuple(limits)
        self._places, self._by_name = _Places(limits), {limit.name: limit for limit in limits}
        kept = {limit.name: limit for limit in limits if limit.name in before and _goes_on(before[limit.name], limit)}
        self._found.clear()
        self._counters = {key: counter for key, counter in self._counters.items() if key[0] in kept}
        for (name, _), counter in self._counters.items():
            counter.follow(kept[name])
        return [limit for limit in limits if limit.name not in kept]

    def counters(self, asked: Asked) -> tuple[Counter, ...]:
        """Return the counters that *asked* is counted by."""
        labels = tuple(asked.labels.items()) if asked.labels else ()
        key = (asked.client, labels, asked.model, asked.providers)
        try:
            return self._found[key]
        except KeyError:
            if len(self._found) >= MAX_REMEMBERED:
                self._found.clear()
            found = self._found[key] = tuple(
                self._counter(limit, asked.value(limit.each) if limit.each else "")
                for limit in map(self._limits.__getitem__, self._places.of(asked))
                if _matches(limit, asked)
            )
            return found

    def counter(self, name: str, value: str) -> Counter | None:
        """Return the counter that the limit of that name has for *value*; None where there is no such limit."""
        limit = self._by_name.get(name)
        return None if limit is None else self._counter(limit, value)

    def reserve(self, asked: Asked, amounts: Amounts, now: float) -> Reservation:
        """Reserve what a request may come to. Raises :class:`OverLimit`: the limit that lasts longest is used up."""
        counters, weight = self.counters(asked), self.weight
        Counter.refresh(counters, now)
        full = []
        for each in counters:
            elsewhere = each.elsewhere
            if weight > 1 and (weight - 1) * each.reserved > elsewhere:
                elsewhere = (weight - 1) * each.reserved
            if each.amount - each.spent - each.reserved - elsewhere < weight:
                full.append(each)
        if full:
            raise OverLimit.of(full, counters, now)
        reservation = Reservation(counters, amounts.by_measure())
        reservation.hold()
        return reservation

    def settle(self, asked: Asked, amounts: Amounts, now: float) -> list[Counter]:
        """Count what an attempt came to. Return the counters that have passed their share for a warning with it."""
        counters, weight = self.counters(asked), self.weight
        Counter.refresh(counters, now)
        by_measure = amounts.by_measure()
        passed = []
        for counter in counters:
            counter.spent += weight * by_measure[counter.measure]
            if counter.spent >= counter.warns_from and now >= counter.warned:
                counter.warned = counter.room_at(now)
                passed.append(counter)
        return passed

    def are_told(self, others: UsageLimits, now: float) -> None:
        """Warn no more of what has come to its share by what the same limits have counted elsewhere."""
        for counter, other in self.same(others):
            if other.used(now) >= counter.warns_from:
                counter.warned = counter.room_at(now)

    def add(self, others: UsageLimits, now: float, instead_of: UsageLimits | None = None) -> None:
        """Count what the same limits have counted elsewhere, too; *instead_of* what was added before."""
        if instead_of is not None:
            for counter, other in self.same(instead_of):
                counter.add(other, now, -1)
        for counter, other in self.same(others):
            counter.add(other, now)

    def same(self, others: UsageLimits) -> Iterator[tuple[Counter, Counter]]:
        """Yield the counters of limits that *others* has as well, each with the one there."""
        for key, other in others._counters.items():
            limit = self._by_name.get(key[0])
            if limit == other.limit:
                yield self._counter(other.limit, key[1]), other

    def forget_idle(self, now: float) -> None:
        """Drop counters that say nothing: clients may have made their values up."""
        self._found.clear()
        self._counters = {key: counter for key, counter in self._counters.items() if not counter.is_idle(now)}

    def __iter__(self) -> Iterator[Counter]:
        """Every counter that there is, in the order of the limits."""
        places = {limit.name: place for place, limit in enumerate(self._limits)}
        return iter(sorted(self._counters.values(), key=lambda each: (places[each.limit.name], each.value)))

    def _counter(self, limit: Limit, value: str) -> Counter:
        key = (limit.name, value)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = Counter(limit, value)
        return counter


class _Places:
    """Where limits are that may match: with thousands, each for one client or team, most need not be looked at."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._all: list[int] = []
        """Of those that have globs alone."""
        self._by_name: dict[str, dict[str, list[int]]] = {}
        """Of the others, by what one of their names has to be."""
        for place, limit in enumerate(limits):
            for name, glob in limit.match.items():
                if name != "provider" and not is_glob(glob):
                    self._by_name.setdefault(name, {}).setdefault(glob, []).append(place)
                    break
            else:
                self._all.append(place)

    def of(self, asked: Asked) -> list[int]:
        """Return the places of all that may match, in order."""
        found = [place for name, places in self._by_name.items() for place in places.get(asked.value(name), ())]
        return sorted([*self._all, *found])


def _goes_on(before: Limit, after: Limit) -> bool:
    return (before.measure, before.per, before.each, before.match, before.zone) == (
        after.measure,
        after.per,
        after.each,
        after.match,
        after.zone,
    )


def _matches(limit: Limit, asked: Asked) -> bool:
    for name, glob in limit.match.items():
        if name == "provider":
            if not any(matches(provider, (glob,)) for provider in asked.providers):
                return False
        elif not matches(asked.value(name), (glob,)):
            return False
    return True


def asked_by(record: UsageRecord) -> Asked:
    """Return who asked for what an attempt used."""
    return Asked(record.client, record.labels, record.model_asked, (record.provider,))


def amounts_of(record: UsageRecord) -> Amounts:
    """Return what an attempt took. What has no price costs nothing here: nobody knows what."""
    given = (record.input_tokens or 0) + (record.cache_read_tokens or 0) + (record.cache_write_tokens or 0)
    return Amounts(record.nano_usd or 0, given, record.output_tokens or 0, 1 if record.attempt == 1 else 0)


def in_words(amount: float, measure: str) -> str:
    """Return an amount as people write it."""
    if measure == "usd":
        return f"${amount / NANO:,.2f}"
    return f"{int(amount):,} {measure.replace('_', ' ')}"


def share_in_words(used: float, limit: Limit) -> str:
    """Return how much of a limit is used, as people write it."""
    amount = in_words(limit.amount, limit.measure)
    return f"{in_words(used, limit.measure) if limit.measure == 'usd' else format(int(used), ',')} of {amount}"
