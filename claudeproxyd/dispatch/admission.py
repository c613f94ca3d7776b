"""How many requests a client may have: by its own limit, and by all that others ask for beside."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError
from zope.interface import implementer

from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IAdmission, ILimitedPermit, IPermit
from claudeproxyd.observe.failures import FirstFailures
from claudeproxyd.outcomes.types import Kind

if TYPE_CHECKING:
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.headers import Headers
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.principals import Principal

#: The outcome of a request that an admission or a hook did not let pass.
REFUSED = "refused"


def is_awaitable(result: object) -> bool:
    """Whether a step answers later; the standard library's own takes a microsecond for a no."""
    return hasattr(result, "__await__")


def limits_told(permit: IPermit | None) -> Headers:
    """Return the headers that tell a client of the limits that it has *permit* under."""
    return permit.headers() if ILimitedPermit.providedBy(permit) else ()


@implementer(IPermit)
class _Free:
    """Holds no place."""

    __slots__ = ()

    def done(self, usage: Usage | None, outcome: str) -> None:
        """See :meth:`IPermit.done <claudeproxyd.interfaces.IPermit.done>`."""


_FREE = _Free()


@implementer(IPermit)
class _Place:
    """One of a principal's requests."""

    __slots__ = ("_name", "_running")

    def __init__(self, running: dict[str, int], name: str) -> None:
        self._running = running
        self._name = name

    def done(self, usage: Usage | None, outcome: str) -> None:
        """See :meth:`IPermit.done <claudeproxyd.interfaces.IPermit.done>`."""
        left = self._running.pop(self._name) - 1
        if left:
            self._running[self._name] = left


class ClientShares(Protocol):
    """The part of clients' limits that this process may use, where others serve them too."""

    def allowed(self, client: str, whole: int) -> int:
        """Return how many of *whole* requests there may be."""

    def borrow(self, client: str, whole: int) -> Awaitable[bool]:
        """Return whether there may be one more, which another process could have had."""


@implementer(IAdmission)
class ConcurrencyAdmission:
    """Counts each principal's messages. It asks the principal for the limit, so one of these lasts over reloads.

    Claude Code sends dozens of count_tokens at once: they take no place.
    """

    def __init__(self, shares: ClientShares | None = None) -> None:
        """*shares*: what of clients' limits is this process's; None: all."""
        self._shares = shares
        self.running: dict[str, int] = {}
        """By principal's name; for gauges."""

    def admit(self, request: ApiRequest) -> IPermit | Awaitable[IPermit]:
        """See :meth:`IAdmission.admit <claudeproxyd.interfaces.IAdmission.admit>`."""
        if request.count_tokens:
            return _FREE
        principal = request.principal
        running = self.running.get(principal.name, 0)
        limit = principal.max_concurrency
        if limit and running >= (limit if self._shares is None else self._shares.allowed(principal.name, limit)):
            if self._shares is None:
                raise _at_its_limit(principal)
            return self._borrow(principal, self._shares)
        self.running[principal.name] = running + 1
        return _Place(self.running, principal.name)

    async def _borrow(self, principal: Principal, shares: ClientShares) -> IPermit:
        """Take a place of another process, if there is one."""
        name, limit = principal.name, principal.max_concurrency
        while self.running.get(name, 0) >= shares.allowed(name, limit):
            if not await shares.borrow(name, limit):
                raise _at_its_limit(principal)
        self.running[name] = self.running.get(name, 0) + 1
        return _Place(self.running, name)


def _at_its_limit(principal: Principal) -> ClaudeError:
    return ClaudeError(
        429,
        f"{principal.name} has {principal.max_concurrency} requests running, which is its limit",
        headers=[(b"retry-after", b"1")],
    )


@implementer(ILimitedPermit)
class _Permits:
    """Permits of several admissions."""

    __slots__ = ("_failures", "_permits")

    def __init__(self, failures: FirstFailures) -> None:
        self._failures = failures
        self._permits: list[IPermit] = []

    def add(self, permit: IPermit, admission: IAdmission) -> None:
        """Hold one more, of *admission*. Raises TypeError: it is none, so nobody was asked."""
        if not IPermit.providedBy(permit):
            raise TypeError(f"{type(admission).__name__}.admit returned {type(permit).__name__}, and no IPermit")
        self._permits.append(permit)

    def headers(self) -> Headers:
        """See :meth:`ILimitedPermit.headers <claudeproxyd.interfaces.ILimitedPermit.headers>`."""
        return [pair for permit in self._permits for pair in limits_told(permit)]

    def done(self, usage: Usage | None, outcome: str) -> None:
        """Give each back, whatever becomes of the others."""
        for permit in self._permits:
            try:
                permit.done(usage, outcome)
            except Exception:
                self._failures.note(type(permit), permit)


@implementer(IAdmission)
class Admissions:
    """Asks several, in order. One that refuses: those before it are given back, and those behind it are not asked."""

    def __init__(self, admissions: Sequence[IAdmission]) -> None:
        self._admissions = tuple(admissions)
        self._failures = FirstFailures("{who} failed when a request was over")

    async def admit(self, request: ApiRequest) -> IPermit:
        """See :meth:`IAdmission.admit <claudeproxyd.interfaces.IAdmission.admit>`."""
        permits = _Permits(self._failures)
        try:
            for admission in self._admissions:
                permit: Any = admission.admit(request)
                permits.add(await permit if is_awaitable(permit) else permit, admission)
        except ClaudeError:
            permits.done(None, REFUSED)
            raise
        except CancelledError:
            permits.done(None, Kind.CANCELLED.value)
            raise
        except BaseException:
            permits.done(None, Kind.INTERNAL.value)
            raise
        return permits
