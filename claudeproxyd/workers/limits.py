"""Limits and budgets over all workers: the parent has the counters, and a worker asks it for each request under any.

That costs such a request one question, and a request that nothing limits none. So they are as exact as one process's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from msgspec.structs import astuple
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from zope.interface import implementer

from claudeproxyd.accounts.limits import Amounts, Asked, OverLimit, Reservation, UsageLimits, amounts_of, asked_by
from claudeproxyd.dispatch.admission import REFUSED
from claudeproxyd.dispatch.limiting import LimitAdmission, limit_headers
from claudeproxyd.errors import ClaudeError, Refusal
from claudeproxyd.interfaces import ILimitedPermit, IPermit
from claudeproxyd.observe.usage import COUNT_TOKENS
from claudeproxyd.workers.channel import Refused, shielded

if TYPE_CHECKING:
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.headers import Headers
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.observe.usage import UsageRecord
    from claudeproxyd.workers.channel import ControlChannel

_Wire = tuple[tuple[str, dict[str, str], str, list[str]], list[int]]
"""Members of :class:`Asked`, and of :class:`Amounts`."""


class LimitsForWorkers:
    """The parent's: reserves and settles for workers."""

    def __init__(self, limits: LimitAdmission, wall_clock: Callable[[], float]) -> None:
        """*limits*: of all."""
        self._limits = limits
        self._wall_clock = wall_clock
        self._reserved: dict[ControlChannel, dict[int, Reservation]] = {}
        self._number = 0

    def reserve(self, channel: ControlChannel, body: object) -> Deferred[object]:
        """Return the number of a reservation and headers for the client; or a refusal's words and headers."""
        return Deferred.fromCoroutine(self._reserve(channel, cast("_Wire", body)))

    async def _reserve(self, channel: ControlChannel, body: _Wire) -> object:
        await self._limits.counting()
        asked, amounts = _read(body)
        now = self._wall_clock()
        try:
            reserved = self._limits.store.reserve(asked, amounts, now)
            reservation = reserved if isinstance(reserved, Reservation) else await reserved
        except OverLimit as over:
            refusal = self._limits.refusal(over, now)
            return 0, refusal.message, list(refusal.headers), refusal.refusal
        if not channel.is_open:
            reservation.release()
            raise Refused("it has ended")
        self._number += 1
        self._reserved.setdefault(channel, {})[self._number] = reservation
        return self._number, "", list(limit_headers(reservation.counters, now)), ""

    def release(self, channel: ControlChannel, number: object) -> None:
        """Give one back."""
        reservation = self._reserved.get(channel, {}).pop(cast("int", number), None)
        if reservation is not None:
            reservation.release()

    def settle(self, channel: ControlChannel, body: object) -> None:
        """Count what an attempt came to."""
        self._limits.settle(*_read(cast("_Wire", body)))

    def gone(self, channel: ControlChannel) -> None:
        """Give back all that a worker had, which has died."""
        for reservation in self._reserved.pop(channel, {}).values():
            reservation.release()


@implementer(ILimitedPermit)
class _ReservedThere:
    """One request's place, and what it may come to, at the parent."""

    __slots__ = ("_channel", "_headers", "_number", "_permit")

    def __init__(self, channel: ControlChannel, number: int, headers: Headers, permit: IPermit) -> None:
        self._channel = channel
        self._number = number
        self._headers = headers
        self._permit = permit

    def headers(self) -> Headers:
        """See :meth:`ILimitedPermit.headers <claudeproxyd.interfaces.ILimitedPermit.headers>`: as at the start."""
        return self._headers

    def done(self, usage: Usage | None, outcome: str) -> None:
        """See :meth:`IPermit.done <claudeproxyd.interfaces.IPermit.done>`."""
        self._channel.tell("release", self._number)
        self._permit.done(usage, outcome)


class LimitsByParent(LimitAdmission):
    """A worker's."""

    def __init__(
        self,
        limits: UsageLimits,
        wall_clock: Callable[[], float],
        first: Callable[[ApiRequest], IPermit | Awaitable[IPermit]],
        channel: ControlChannel,
    ) -> None:
        """*limits* are the configuration's: nothing is counted by them here."""
        super().__init__(limits, wall_clock, first)
        self._channel = channel

    def admit(self, request: ApiRequest) -> IPermit | Awaitable[IPermit]:
        """See :meth:`IAdmission.admit <claudeproxyd.interfaces.IAdmission.admit>`."""
        permit = self._first(request)
        if request.count_tokens or not self.limits:
            return permit
        return self._ask(request, permit)

    async def _ask(self, request: ApiRequest, first: IPermit | Awaitable[IPermit]) -> IPermit:
        permit = await first if isinstance(first, Awaitable) else first
        try:
            return await self._reserve(request, permit)
        except BaseException:
            permit.done(None, REFUSED)
            raise

    async def _reserve(self, request: ApiRequest, permit: IPermit) -> IPermit:
        envelope, principal = request.envelope, request.principal
        routes = self.routes(envelope.model)
        asked = Asked(principal.name, principal.labels, envelope.model, tuple([route.provider for route in routes]))
        if not self.limits.counters(asked):
            return permit
        amounts = self.estimated(request, routes, self._wall_clock())
        answered = self._channel.ask("reserve", (astuple(asked), astuple(amounts)))
        try:
            answer = await shielded(answered, self._give_back)
        except ConnectionDone:  # this worker accepts nobody any more, and the next parent counts by the ledger
            return permit
        number, message, headers, refusal = cast("tuple[int, str, list[list[bytes]], str]", answer)
        pairs = [(name, value) for name, value in headers]
        if not number:
            raise ClaudeError(429, message, headers=pairs, refusal=Refusal(refusal))
        return _ReservedThere(self._channel, number, pairs, permit)

    def _give_back(self, answer: object) -> None:
        """Nobody waits for this reservation any more."""
        number = cast("tuple[int]", answer)[0]
        if number:
            self._channel.tell("release", number)

    def record(self, record: UsageRecord) -> None:
        """See :class:`~claudeproxyd.interfaces.IUsageSink`."""
        if record.operation != COUNT_TOKENS and self.limits:
            self._channel.tell("settle", (astuple(asked_by(record)), astuple(amounts_of(record))))


def _read(body: _Wire) -> tuple[Asked, Amounts]:
    (client, labels, model, providers), amounts = body
    return Asked(client, labels, model, tuple(providers)), Amounts(*amounts)
