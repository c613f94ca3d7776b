"""Limits as dispatch meets them: asked ahead of each request, and told what each attempt used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil, inf
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.accounts.limits import (
    MEASURES,
    Amounts,
    Asked,
    Counter,
    OverLimit,
    Reservation,
    UsageLimits,
    amounts_of,
    asked_by,
    in_words,
    share_in_words,
)
from claudeproxyd.accounts.local_limits import LocalLimits
from claudeproxyd.accounts.prices import Prices
from claudeproxyd.dispatch.admission import REFUSED
from claudeproxyd.errors import ClaudeError, Refusal
from claudeproxyd.happenings import Happening
from claudeproxyd.interfaces import IAdmission, ILimitedPermit, ILimitStore, IPermit, IUsageSink
from claudeproxyd.observe.transitions import Transitions
from claudeproxyd.observe.usage import COUNT_TOKENS

if TYPE_CHECKING:
    from claudeproxyd.accounts.limits import UsageLimits
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.headers import Headers
    from claudeproxyd.leases import Route
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.observe.metrics import Metrics
    from claudeproxyd.observe.usage import UsageRecord

BYTES_PER_TOKEN = 4
"""Of a body, for what is reserved: what was used is settled by the upstream's count."""
UNSAID_MAX_TOKENS = 4096
"""Reserved where a request has no ``max_tokens``."""
MAX_TOKENS_SAID = 1_000_000
"""Reserved at most: no model answers with more, and a client may write any number. Others share its limits, and what is
counted elsewhere is exact up to 2⁵³."""
Count = Callable[[Callable[[UsageLimits, str], None]], Deferred[UsageLimits]]
"""Counts what was used before; tells, once, what of it waits in files and why there is no more of it yet."""


@implementer(ILimitedPermit)
class _Reserved:
    """One request's place, and what it may come to."""

    __slots__ = ("_permit", "_reservation", "_wall_clock")

    def __init__(self, reservation: Reservation, permit: IPermit, wall_clock: Callable[[], float]) -> None:
        self._reservation = reservation
        self._permit = permit
        self._wall_clock = wall_clock

    def headers(self) -> Headers:
        """See :meth:`ILimitedPermit.headers <claudeproxyd.interfaces.ILimitedPermit.headers>`."""
        return limit_headers(self._reservation.counters, self._wall_clock())

    def done(self, usage: Usage | None, outcome: str) -> None:
        """See :meth:`IPermit.done <claudeproxyd.interfaces.IPermit.done>`."""
        self._reservation.release()
        self._permit.done(usage, outcome)


@implementer(IAdmission, IUsageSink)
class LimitAdmission:
    """Refuses what is over a limit, once another admission has let it pass.

    Lives as long as the process; prices and routes are the configuration's.
    """

    _log = Logger()

    def __init__(
        self,
        limits: UsageLimits,
        wall_clock: Callable[[], float],
        first: Callable[[ApiRequest], IPermit | Awaitable[IPermit]],
        transitions: Transitions | None = None,
        store: ILimitStore | None = None,
    ) -> None:
        """*first* is asked ahead, and its permit given back with ours. *transitions* is told what passes its share.

        *store* counts; None: this process does.
        """
        self.limits = limits
        self.store: ILimitStore = LocalLimits(limits) if store is None else store
        self._transitions = transitions or Transitions(wall_clock)
        self._first = first
        self.prices = Prices()
        """Set with each configuration, as is :attr:`routes`."""
        self.routes: Callable[[str], Sequence[Route]] = lambda model: ()
        """Where a model leads."""
        self._wall_clock = wall_clock
        self.unknown: list[str] = []
        """Why what was used before is not known, as often as it is missed."""
        self._awaited = 0
        self._waiting: list[Deferred[None]] = []

    def register(self, metrics: Metrics) -> None:
        """Have *metrics* tell how limits fare."""
        self.store.register(metrics)
        metrics.gauge(
            "claudeproxyd_limits_incomplete",
            "1 while limits do not know all that was used before the start.",
            lambda: int(bool(self.unknown)),
        )

    # -- what was used before

    def begin(self) -> None:
        """Let nobody in until limits can be counted. Called at the start, and when there may be others."""
        self.wait_for(self.store.start())

    def wait_for(self, begun: Deferred[None]) -> None:
        """Let nobody in until *begun* has fired, which never fails."""
        self._awaited += 1
        begun.addCallback(self._go_on)

    def recall(self, count: Count, *, told: bool = False) -> Deferred[None]:
        """Add what was used before, as *count* tells it. Fires, and never fails, when there is no more to wait for.

        Where the ledger cannot be asked, limits begin with what waits to be entered into it: all that was used since it
        is away. The rest is added when it is back. *told*: whoever counted it has warned of what has come to its share.
        """
        begun: Deferred[None] = Deferred()
        assumed: list[UsageLimits] = []

        def assume(waiting: UsageLimits, why: str) -> None:
            assumed.append(waiting)
            now = self._wall_clock()
            self.store.assume(waiting, now)
            if told:
                self.limits.are_told(waiting, now)
            self.unknown.append(why)
            self._log.warn(
                "limits do not know what was used before, but for what waits in files: {why}; they are put right when"
                " the ledger answers",
                why=why,
            )
            begun.callback(None)

        def recall(counted: UsageLimits) -> None:
            now = self._wall_clock()
            self.store.recall(counted, now, *assumed)
            if told:
                self.limits.are_told(counted, now)
            if assumed:
                self.unknown.pop()
                self._log.info("limits know what was used before")
            else:
                begun.callback(None)

        count(assume).addCallback(recall)
        return begun

    def _go_on(self, _: object) -> None:
        self._awaited -= 1
        if not self._awaited:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    # -- IAdmission

    def admit(self, request: ApiRequest) -> IPermit | Awaitable[IPermit]:
        """See :meth:`IAdmission.admit <claudeproxyd.interfaces.IAdmission.admit>`."""
        permit = self._first(request)
        if request.count_tokens or not self.limits:
            return permit
        if self._awaited or hasattr(permit, "__await__"):
            return self._admit_later(request, permit)
        return self._admit(request, permit)

    async def _admit_later(self, request: ApiRequest, first: IPermit | Awaitable[IPermit]) -> IPermit:
        permit = await first if isinstance(first, Awaitable) else first
        try:
            await self.counting()
        except BaseException:
            permit.done(None, REFUSED)
            raise
        admitted = self._admit(request, permit)
        return admitted if isinstance(admitted, _Reserved) else await admitted

    async def counting(self) -> None:
        """Wait until limits can be counted, where that is not yet so."""
        if self._awaited:
            waiting: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiting)
            await waiting

    def _admit(self, request: ApiRequest, permit: IPermit) -> _Reserved | Awaitable[_Reserved]:
        envelope, principal = request.envelope, request.principal
        routes = self.routes(envelope.model)
        asked = Asked(principal.name, principal.labels, envelope.model, tuple([route.provider for route in routes]))
        now = self._wall_clock()
        try:
            reserved = self.store.reserve(asked, self.estimated(request, routes, now), now)
        except OverLimit as over:
            permit.done(None, REFUSED)
            raise self.refusal(over, now) from None
        if isinstance(reserved, Reservation):
            return _Reserved(reserved, permit, self._wall_clock)
        return self._admit_once_reserved(reserved, permit, now)

    async def _admit_once_reserved(self, reserved: Awaitable[Reservation], permit: IPermit, now: float) -> _Reserved:
        try:
            return _Reserved(await reserved, permit, self._wall_clock)
        except BaseException as error:
            permit.done(None, REFUSED)
            if isinstance(error, OverLimit):
                raise self.refusal(error, now) from None
            raise

    def estimated(self, request: ApiRequest, routes: Sequence[Route], now: float) -> Amounts:
        """Return what a request may come to, at the most that its model costs anywhere."""
        envelope = request.envelope
        given = len(envelope.body) // BYTES_PER_TOKEN
        made = envelope.max_tokens or UNSAID_MAX_TOKENS
        if made > MAX_TOKENS_SAID:
            made = MAX_TOKENS_SAID
        dearest = 0
        for route in routes:
            price = self.prices.of(route.provider, route.model, envelope.model, now)
            if price is not None:
                price = price.for_input(given)
                cost = (given * price.input + made * price.output) // 1000
                if cost > dearest:
                    dearest = cost
        return Amounts(dearest, given, made)

    def refusal(self, over: OverLimit, now: float) -> ClaudeError:
        """Return what says which limit, how much, and until when: Claude Code shows it to the person."""
        counter, limit = over.counter, over.counter.limit
        whose = f" for {counter.value}" if counter.value else ""
        headers = [(b"retry-after", b"%d" % over.retry_after), *limit_headers(over.counters, now)]
        refusal = Refusal.CLIENT_LIMIT
        if limit.is_budget:
            refusal = Refusal.BUDGET
            ends = datetime.fromtimestamp(counter.resets_at(now), limit.zone)
            used = share_in_words(counter.used(now), limit)
            told = f"{used}. It begins anew on {ends:%Y-%m-%d at %H:%M} {ends.tzname()}."
            headers.append((b"x-should-retry", b"false"))
        else:
            told = (
                f"{in_words(limit.amount, limit.measure)} a {limit.per}. There is room again in {over.retry_after} s."
            )
        told = f'The limit "{limit.name}"{whose} is used up: {told}'
        return ClaudeError(429, told, headers=headers, refusal=refusal)

    # -- IUsageSink

    def record(self, record: UsageRecord) -> None:
        """See :class:`~claudeproxyd.interfaces.IUsageSink`."""
        if record.operation != COUNT_TOKENS:
            self.settle(asked_by(record), amounts_of(record))

    def settle(self, asked: Asked, amounts: Amounts) -> None:
        """Count what an attempt came to, and warn where that is much of a limit."""
        now = self._wall_clock()
        for counter in self.store.settle(asked, amounts, now):
            self._warn(counter, now)

    def _warn(self, counter: Counter, now: float) -> None:
        limit = counter.limit
        whose = f" for {counter.value}" if counter.value else ""
        share = ceil(100 * counter.used(now) / counter.amount)
        told = share_in_words(counter.used(now), limit)
        self._log.warn(
            "the limit {name}{whose} is {share} % used: {told}", name=limit.name, whose=whose, share=share, told=told
        )
        if limit.is_budget:  # a rate is at its share by the minute
            message = f"The limit {limit.name}{whose} is {share} % used: {told}."
            subject = {"limit": limit.name, limit.each: counter.value} if limit.each else {"limit": limit.name}
            self._transitions.tell(Happening.LIMIT_WARNED, message, **subject)


def limit_headers(counters: tuple[Counter, ...], now: float) -> Headers:
    """Return what a client is told of its limits: of each measure the one that leaves least."""
    headers: list[tuple[bytes, bytes]] = []
    for (limit, remaining, reset), counted in _told(counters):
        Counter.refresh(counted, now)
        tightest, least = counted[0], inf
        for counter in counted:
            left = counter.amount - counter.spent - counter.reserved - counter.elsewhere
            if left < least:
                tightest, least = counter, left
        amount = tightest.amount
        full_at = now + (amount - least) / tightest.pace if tightest.pace else tightest.ends
        headers += (
            (limit, b"%d" % amount),
            (remaining, b"%d" % least if least > 0 else b"0"),
            (reset, _in_rfc_3339(ceil(full_at))),
        )
    return headers


@lru_cache(1000)
def _told(counters: tuple[Counter, ...]) -> Sequence[tuple[Sequence[bytes], Sequence[Counter]]]:
    """Return the names of the headers for each measure that has such, and the counters that count it."""
    by_measure: dict[int, list[Counter]] = {}
    for counter in counters:
        if counter.limit.measure != "usd":  # there are no such headers for money
            by_measure.setdefault(counter.measure, []).append(counter)
    return [
        (
            [
                f"anthropic-ratelimit-{MEASURES[measure].replace('_', '-')}-{what}".encode()
                for what in ("limit", "remaining", "reset")
            ],
            counted,
        )
        for measure, counted in by_measure.items()
    ]


@lru_cache(256)
def _in_rfc_3339(time: int) -> bytes:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
